//! The checkers, checked: machines that are broken on purpose must be found out.
//!
//! | | |
//! |---|---|
//! | [`Mutant`] | a bug, one line in a machine, there with the cargo feature `mutants` only |
//! | [`expects`] | the invariant that it is meant to break |
//! | [`hunt`] | runs one case after the other until a checker fires |
//! | [`known`] | the case in which it was caught before |
//!
//! Whichever checker fires, the mutant is found; that it is another one than expected is worth a look, no more. A mutant
//! that is not found within its budget is a checker, or a schedule, that is missing.

mod cases;
mod known;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use offset_protocol::machine::Instant;
use offset_protocol::probe::mutate;
pub use offset_protocol::probe::{Home, Mutant};

use crate::case::Case;
use crate::check::{Invariant, Violation};
use crate::faults::Fault;
use crate::full::{self, Options, Outcome};
pub use known::known;

/// Whether machines can be broken at all: the cargo feature `mutants`.
pub const COMPILED: bool = cfg!(feature = "mutants");

/// The number of the invariant (I1 to I19) that a mutant is meant to break.
pub const fn expects(mutant: Mutant) -> u8 {
    match mutant {
        Mutant::ResponseTwice
        | Mutant::LateResponseAccepted
        | Mutant::LoopingRouteAccepted
        | Mutant::CrossingIsAnError
        | Mutant::SignTwice
        | Mutant::ResendChanged
        | Mutant::AcceptOldBatch
        | Mutant::HistoryCountedTwice
        | Mutant::ResumeIgnoresUnacked => 2,
        Mutant::IgnoreLimit
        | Mutant::LimitForgetsFrozen
        | Mutant::IgnoreLoweredLimit
        | Mutant::GuardNotKept
        | Mutant::ReserveNotKept => 3,
        Mutant::ForgetToUnfreeze => 4,
        Mutant::CollectOffByOne
        | Mutant::AnyLockOpens
        | Mutant::FeeOffByOne
        | Mutant::FeeToNextHop
        | Mutant::MaxFeeIgnored => 6,
        Mutant::ReceiptForAPart | Mutant::EveryPartComplete | Mutant::InvoicePaidTwice => 9,
        Mutant::AckNever
        | Mutant::WindowNeverFrees
        | Mutant::AnswersDropped
        | Mutant::CommitLost
        | Mutant::CancelNotPassed
        | Mutant::CommitNotPassed
        | Mutant::WithdrawNotPassed
        | Mutant::CollectWithWrongLock
        | Mutant::LinkDownSkipped
        | Mutant::SellerIgnoresWithdraw
        | Mutant::LinkEndNotTold
        | Mutant::KeepaliveNever => 10,
        Mutant::BalanceNotWritten
        | Mutant::BatchNotWritten
        | Mutant::TransitNotRemoved
        | Mutant::EventNotWritten
        | Mutant::PaidNotWritten
        | Mutant::ReleaseNotWritten
        | Mutant::SkipPersist
        | Mutant::SayBeforeDurable
        | Mutant::WriteLost => 11,
        Mutant::SwapSignInReset | Mutant::TermsForgetFrozen | Mutant::UnconfirmedSpeaks => 12,
        Mutant::GuardLeftOut
        | Mutant::RateIgnored
        | Mutant::CapacityOffByOne
        | Mutant::ExpiredEdgeKept
        | Mutant::ClosedEdgeKept
        | Mutant::FederationSilent
        | Mutant::StaleTickAccepted
        | Mutant::AttestationReplayed
        | Mutant::WantNotAsked
        | Mutant::OneSidedEdges
        | Mutant::VersionsUsedTwice
        | Mutant::HeartbeatNever
        | Mutant::RemovalNotReported
        | Mutant::EndingPassedOn => 13,
        Mutant::OldSessionKept
        | Mutant::TwoListeners
        | Mutant::TunnelsCrossed
        | Mutant::HalvesForever
        | Mutant::PlaceKept
        | Mutant::RelayNotRedialled => 14,
        Mutant::MessageTwice | Mutant::MessagesSwapped | Mutant::KeysNotSwitched | Mutant::TrailingAccepted => 15,
        Mutant::ReportChangeLost
        | Mutant::SnapshotNotComplete
        | Mutant::PermissionNotChecked
        | Mutant::ReplyTwice
        | Mutant::CommandLost => 16,
        Mutant::LeakAlarm | Mutant::QueueLimitIgnored | Mutant::ExpireNothing | Mutant::LongListAccepted => 17,
    }
}

/// A mutant that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number of the case: [`case`] draws it.
    pub number: u64,
    /// What a checker said.
    pub violation: Violation,
}

/// The case of a number: small, and of another kind for every few numbers.
pub fn case(number: u64) -> Case {
    cases::draw(number)
}

/// Runs the cases of these numbers until one finds the mutant out.
pub fn hunt(mutant: Mutant, numbers: Range<u64>) -> Option<Found> {
    hunt_in(mutant, numbers, case)
}

/// Like [`hunt`], in cases of the caller's.
pub fn hunt_in(mutant: Mutant, mut numbers: Range<u64>, draw: impl Fn(u64) -> Case) -> Option<Found> {
    numbers.find_map(|number| {
        let violation = find(Some(mutant), &draw(number))?;
        Some(Found { number, violation })
    })
}

/// Runs a case with machines that have this bug, or none; gives the first invariant that does not hold. A machine that
/// panics has broken a law. Where an old database was put back, nothing is asked about what stays open, nor what people say: a
/// person whose node forgot a deal waits for it, or wonders.
pub fn find(mutant: Option<Mutant>, case: &Case) -> Option<Violation> {
    let _broken = Broken::new(mutant);
    let result = catch_unwind(AssertUnwindSafe(|| full::run(case, &Options::default())));
    let violation = match result {
        Ok(Ok(outcome)) => unnoticed(&outcome),
        Ok(Err(violation)) => Some(violation),
        Err(panic) => {
            let what = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let what = format!("a panic: {}", what.unwrap_or("without words"));
            Some(Violation { invariant: Invariant::Laws, at: Instant::ZERO, host: None, what })
        }
    };
    let forgets = case.faults.iter().any(|fault| matches!(fault.what, Fault::PutBack { .. }));
    let of_people = |violation: &Violation| matches!(violation.invariant, Invariant::Resolution | Invariant::People);
    violation.filter(|violation| !(forgets && of_people(violation)))
}

/// Whoever plays a trick is found out.
fn unnoticed(outcome: &Outcome) -> Option<Violation> {
    let what = cases::unnoticed(&outcome.cheats)?;
    Some(Violation { invariant: Invariant::Logs, at: Instant::ZERO + outcome.simulated, host: None, what })
}

/// The machines of this thread have a bug as long as this lives.
struct Broken;

impl Broken {
    fn new(mutant: Option<Mutant>) -> Self {
        mutate(mutant);
        Broken
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        mutate(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_machines_are_not_found_out_whatever_rare_thing_they_do() {
        for number in 0..30 {
            assert_eq!(find(None, &case(number)), None, "case {number}");
        }
    }

    #[test]
    #[cfg(feature = "mutants")]
    fn broken_machines_are_found_out_and_the_thread_is_clean_afterwards() {
        for mutant in [Mutant::ForgetToUnfreeze, Mutant::SignTwice, Mutant::CollectOffByOne, Mutant::BatchNotWritten] {
            assert!(hunt(mutant, 0..20).is_some(), "{mutant:?}");
        }
        assert_eq!(find(None, &case(0)), None);
    }

    #[test]
    #[cfg(not(feature = "mutants"))]
    fn without_the_feature_no_machine_is_broken() {
        assert_eq!(hunt(Mutant::ForgetToUnfreeze, 0..3), None);
    }
}
