//! SIGINT and SIGTERM ask a program to end in order; asked again, it ends at once. SIGUSR1 asks what it has cost so far.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::programs::exit::Exit;

/// Calls `end` at the first SIGINT or SIGTERM and `report` at every SIGUSR1, on a thread of its own. A second SIGINT or
/// SIGTERM ends the process with exit 1: what is durable stays so, by way of the store.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn listen(end: impl FnOnce() + Send + 'static, report: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    let run = move || {
        let mut end = Some(end);
        for signal in signals.forever() {
            match (signal, end.take()) {
                (SIGUSR1, not_yet) => {
                    end = not_yet;
                    report();
                }
                (_, Some(end)) => end(),
                (_, None) => std::process::exit(Exit::Failed.code().into()),
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(run).map(drop)
}
