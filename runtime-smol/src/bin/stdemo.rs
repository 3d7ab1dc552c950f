//! See [`offset_runtime_smol::programs::stdemo`].

fn main() -> std::process::ExitCode {
    offset_runtime_smol::programs::stdemo::main(std::env::args_os())
}
