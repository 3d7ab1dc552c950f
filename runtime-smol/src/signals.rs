//! SIGINT and SIGTERM ask a program to end in order; asked again, it ends at once.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::programs::exit::Exit;

/// Calls `asked` at the first signal, on a thread of its own. A second one ends the process with exit 1: what is durable
/// stays so, by way of the store.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn on_end(asked: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let wait = move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            asked();
        }
        if signals.next().is_some() {
            std::process::exit(Exit::Failed.code().into());
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}
