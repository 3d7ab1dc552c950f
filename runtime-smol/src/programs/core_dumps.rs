//! No image of a program that holds a private key is left behind when it crashes.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Tells the system to write no core file of this process, nor of those that it starts, for good. Every program that may read a
/// private key calls it before anything else. A handler that the system pipes images to decides for itself: systemd's keeps
/// none of a process with this limit.
pub(super) fn forbid() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // To lower a limit is everybody's right.
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "a crash may leave a file with this program's keys");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getrlimit;

    #[test]
    fn the_limit_cannot_be_raised_again() {
        forbid();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }
}
