//! See [`offset_runtime_smol::programs::stctrl`].

fn main() -> std::process::ExitCode {
    offset_runtime_smol::programs::stctrl::main(std::env::args_os())
}
