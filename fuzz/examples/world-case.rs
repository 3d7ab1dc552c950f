//! What the simulator makes of an input of the target `world`: `world-case FILE` prints the case as a case file, with what was
//! found in it. `stsim replay` shows it, `stsim shrink` makes it smaller, `runtime-sim/cases` keeps it.

use std::path::PathBuf;
use std::process::ExitCode;

use offset_fuzz::world::case_file;

#[allow(clippy::print_stdout, clippy::print_stderr)] // a program
fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: world-case FILE");
        return ExitCode::from(2);
    };
    match std::fs::read(&path) {
        Ok(bytes) => {
            print!("{}", case_file(&bytes).to_json());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
