//! A channel as those see it who look on from outside: a simulator's checkers, tests. Nothing here changes anything.

use super::Channel;

/// Where the two logs stand at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMarks {
    /// Counts resets.
    pub epoch: u64,
    /// Our last batch.
    pub made: u64,
    /// Our last batch that the friend has signed for.
    pub signed_for: u64,
    /// The friend's last batch that we applied.
    pub applied: u64,
}

impl Channel {
    /// Where the two logs stand.
    pub fn marks(&self) -> LogMarks {
        let core = &self.core;
        LogMarks { epoch: core.epoch, made: core.made.seq, signed_for: core.signed_for.seq, applied: core.applied.seq }
    }

    /// Everything that a restart must find again, as text to be compared; secrets are not in it.
    pub(crate) fn portrait(&self) -> String {
        format!(
            "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
            self.core,
            self.state,
            self.relays,
            self.currencies,
            self.unacked,
            self.crossing,
            self.old_evidence,
            self.queue.iter().collect::<Vec<_>>(),
        )
    }
}
