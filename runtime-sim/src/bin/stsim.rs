//! See [`offset_runtime_sim::cli`].

fn main() -> std::process::ExitCode {
    offset_runtime_sim::cli::main(std::env::args_os())
}
