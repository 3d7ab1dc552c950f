//! See [`offset_runtime_smol::programs::stindex`].

use std::process::ExitCode;

fn main() -> ExitCode {
    offset_runtime_smol::programs::stindex::main(std::env::args_os())
}
