//! See [`offset_runtime_sim::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    offset_runtime_sim::cli::main(std::env::args_os())
}
