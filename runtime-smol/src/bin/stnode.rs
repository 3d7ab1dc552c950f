//! See [`offset_runtime_smol::programs::stnode`].

use std::process::ExitCode;

fn main() -> ExitCode {
    offset_runtime_smol::programs::stnode::main(std::env::args_os())
}
