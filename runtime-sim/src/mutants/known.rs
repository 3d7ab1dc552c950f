//! The case in which each mutant was caught when somebody last looked: where to look first.
//!
//! Made by `stsim mutants --json` from the first case on. Another number is no mistake, only slower: whoever hunts goes on
//! with all the others.

use super::Mutant;

/// Where this mutant was caught; `None` if it is new.
pub fn known(mutant: Mutant) -> Option<u64> {
    CAUGHT.iter().find(|(name, _)| *name == mutant.name()).map(|(_, number)| *number)
}

const CAUGHT: &[(&str, u64)] = &[
    ("ForgetToUnfreeze", 0),
    ("IgnoreLimit", 44),
    ("LimitForgetsFrozen", 44),
    ("GuardLeftOut", 0),
    ("GuardNotKept", 8),
    ("ReserveNotKept", 92),
    ("IgnoreLoweredLimit", 8),
    ("CollectOffByOne", 0),
    ("AnyLockOpens", 52),
    ("ResponseTwice", 28),
    ("LateResponseAccepted", 3),
    ("LoopingRouteAccepted", 4),
    ("CrossingIsAnError", 1),
    ("SignTwice", 0),
    ("ResendChanged", 11),
    ("AcceptOldBatch", 55),
    ("HistoryCountedTwice", 0),
    ("ResumeIgnoresUnacked", 0),
    ("AckNever", 0),
    ("LeakAlarm", 0),
    ("WindowNeverFrees", 1),
    ("AnswersDropped", 7),
    ("QueueLimitIgnored", 68),
    ("CommitLost", 0),
    ("SwapSignInReset", 6),
    ("TermsForgetFrozen", 4),
    ("UnconfirmedSpeaks", 1),
    ("BalanceNotWritten", 0),
    ("BatchNotWritten", 0),
    ("TransitNotRemoved", 0),
    ("EventNotWritten", 1),
    ("PaidNotWritten", 0),
    ("SkipPersist", 0),
    ("SayBeforeDurable", 8),
    ("FeeOffByOne", 1),
    ("FeeToNextHop", 1),
    ("RateIgnored", 0),
    ("CancelNotPassed", 11),
    ("CommitNotPassed", 0),
    ("WithdrawNotPassed", 11),
    ("CollectWithWrongLock", 0),
    ("LinkDownSkipped", 0),
    ("ReleaseNotWritten", 1),
    ("ReceiptForAPart", 11),
    ("MaxFeeIgnored", 35),
    ("EveryPartComplete", 74),
    ("InvoicePaidTwice", 23),
    ("SellerIgnoresWithdraw", 0),
    ("ReportChangeLost", 0),
    ("SnapshotNotComplete", 0),
    ("CapacityOffByOne", 0),
    ("OldSessionKept", 0),
    ("LinkEndNotTold", 0),
    ("PermissionNotChecked", 8),
    ("ReplyTwice", 0),
    ("CommandLost", 0),
    ("TwoListeners", 0),
    ("TunnelsCrossed", 74),
    ("HalvesForever", 0),
    ("PlaceKept", 0),
    ("RelayNotRedialled", 0),
    ("ExpireNothing", 8),
    ("ExpiredEdgeKept", 8),
    ("ClosedEdgeKept", 0),
    ("FederationSilent", 0),
    ("StaleTickAccepted", 0),
    ("AttestationReplayed", 1),
    ("WantNotAsked", 0),
    ("OneSidedEdges", 0),
    ("VersionsUsedTwice", 0),
    ("HeartbeatNever", 0),
    ("RemovalNotReported", 26),
    ("EndingPassedOn", 1),
    ("MessageTwice", 0),
    ("MessagesSwapped", 0),
    ("KeysNotSwitched", 10),
    ("KeepaliveNever", 0),
    ("LongListAccepted", 5),
    ("TrailingAccepted", 8),
    ("WriteLost", 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_mutant_and_every_mutant_is_known() {
        assert!(CAUGHT.iter().all(|(name, _)| Mutant::named(name).is_some()));
        assert_eq!(Mutant::ALL.iter().find(|mutant| known(**mutant).is_none()), None);
    }
}
