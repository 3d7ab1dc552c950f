//! See [`offset_runtime_smol::programs::strelay`].

use std::process::ExitCode;

fn main() -> ExitCode {
    offset_runtime_smol::programs::strelay::main(std::env::args_os())
}
