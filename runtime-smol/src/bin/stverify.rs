//! See [`offset_runtime_smol::programs::stverify`].

fn main() -> std::process::ExitCode {
    offset_runtime_smol::programs::stverify::main(std::env::args_os())
}
