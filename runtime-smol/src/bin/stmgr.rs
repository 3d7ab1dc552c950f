//! See [`offset_runtime_smol::programs::stmgr`].

fn main() -> std::process::ExitCode {
    offset_runtime_smol::programs::stmgr::main(std::env::args_os())
}
