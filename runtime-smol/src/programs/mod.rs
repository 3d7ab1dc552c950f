//! The programs. Each is one module with `main(args) -> ExitCode`; `src/bin` holds only the calls.

pub mod exit;
pub mod files;
mod server;
pub mod stindex;
pub mod strelay;
pub mod trusted;
