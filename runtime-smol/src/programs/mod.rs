//! The programs. Each is one module with `main(args) -> ExitCode`; `src/bin` holds only the calls.

pub mod args;
mod config;
mod core_dumps;
pub mod exit;
pub mod files;
pub mod identity;
mod limit_args;
pub mod new_file;
pub mod output;
mod server;
pub mod stctrl;
pub mod stdemo;
pub mod stindex;
pub mod stmgr;
pub mod stnode;
pub mod strelay;
pub mod stverify;
pub mod table;
pub mod trusted;
