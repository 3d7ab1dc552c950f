//! The programs. Each is one module with `main(args) -> ExitCode`; `src/bin` holds only the calls.

pub mod exit;
