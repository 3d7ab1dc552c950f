//! Bugs on purpose. A simulation whose checkers do not notice one of them lacks a checker, or the schedules to meet it.

use std::cell::Cell;

/// The part of the house that a mutant breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// `offset-protocol`.
    Protocol,
    /// `offset-funder-sm`.
    Funder,
    /// `offset-relay-sm`.
    Relay,
    /// `offset-index-sm`.
    Index,
    /// What a runtime promises to the machines.
    Runtime,
}

macro_rules! mutants {
    ($($home:ident { $(#[doc = $what:literal] $name:ident,)+ })+) => {
        /// A bug on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[doc = $what] $name,)+)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Mutant] = &[$($(Mutant::$name,)+)+];

            /// Its name, as it is written in the sources.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Mutant::$name => stringify!($name),)+)+ }
            }

            /// What is wrong with it, in one line.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $($(Mutant::$name => $what.trim_ascii_start(),)+)+ }
            }

            /// The part that it breaks.
            #[must_use]
            pub const fn home(self) -> Home {
                match self { $($(Mutant::$name => Home::$home,)+)+ }
            }
        }
    };
}

mutants! {
    Funder {
        /// A cancelled request stays in the frozen sum.
        ForgetToUnfreeze,
        /// A request is accepted, however much the friend owes already.
        IgnoreLimit,
        /// A limit counts what is owed, and not what is frozen on top of it.
        LimitForgetsFrozen,
        /// Requests of others may hold all that a friend may push.
        GuardLeftOut,
        /// What requests of others may hold is published, and not kept to.
        GuardNotKept,
        /// What a node keeps of a line for its own payments beyond the friend is passed on for others.
        ReserveNotKept,
        /// A limit can be raised, but never lowered.
        IgnoreLoweredLimit,
        /// A collect moves one less than was frozen, at both ends.
        CollectOffByOne,
        /// A collect is taken whatever its locks are.
        AnyLockOpens,
        /// A second response replaces the first.
        ResponseTwice,
        /// A response to a request that is not open is passed over in silence.
        LateResponseAccepted,
        /// A route may meet a node twice.
        LoopingRouteAccepted,
        /// A commit or withdrawal that crossed the end of its request breaks the channel.
        CrossingIsAnError,
        /// A batch takes the number of the one before, if that is not acknowledged yet.
        SignTwice,
        /// A batch is signed anew when it is sent again.
        ResendChanged,
        /// A batch that was applied before is applied again.
        AcceptOldBatch,
        /// What the friend acknowledged counts twice in what it knew.
        HistoryCountedTwice,
        /// After a resume nothing is sent again.
        ResumeIgnoresUnacked,
        /// Nobody ever acknowledges by itself.
        AckNever,
        /// The alarm of an acknowledgement stays when it is sent.
        LeakAlarm,
        /// An acknowledged batch keeps its place in the window.
        WindowNeverFrees,
        /// A link that goes takes the answers with it that were never signed.
        AnswersDropped,
        /// A queue of requests has no end.
        QueueLimitIgnored,
        /// A commit is taken out of the queue and not signed.
        CommitLost,
        /// Whoever accepts reset terms takes their balances as its own.
        SwapSignInReset,
        /// Reset terms leave out what was frozen.
        TermsForgetFrozen,
        /// Whoever accepted reset terms signs batches before the friend confirmed.
        UnconfirmedSpeaks,
        /// Balances are not written.
        BalanceNotWritten,
        /// Batches that wait for an acknowledgement are not written.
        BatchNotWritten,
        /// A request that has ended stays in the database.
        TransitNotRemoved,
        /// An event that is to be kept is not written.
        EventNotWritten,
        /// That a payment has ended is not written.
        PaidNotWritten,
        /// Nothing is written at all.
        SkipPersist,
        /// What a round says leaves before it is durable.
        SayBeforeDurable,
        /// A mediator takes one less than its fee.
        FeeOffByOne,
        /// A mediator leaves its fee to the next hop.
        FeeToNextHop,
        /// The node publishes that it charges nothing.
        RateIgnored,
        /// A mediator keeps a cancel to itself.
        CancelNotPassed,
        /// A mediator keeps a commit to itself.
        CommitNotPassed,
        /// A mediator keeps a withdrawal to itself.
        WithdrawNotPassed,
        /// A mediator collects with the locks swapped.
        CollectWithWrongLock,
        /// The funder does not hear that a link went down.
        LinkDownSkipped,
        /// That a commit was handed out is not written.
        ReleaseNotWritten,
        /// A buyer makes a receipt of whatever part is collected last.
        ReceiptForAPart,
        /// A buyer takes any fee.
        MaxFeeIgnored,
        /// A seller says of every part that it completes the payment.
        EveryPartComplete,
        /// A seller takes a second payment of one invoice.
        InvoicePaidTwice,
        /// A seller does not let go of a withdrawn request.
        SellerIgnoresWithdraw,
        /// Apps hear of a friend once, and of no change after.
        ReportChangeLost,
        /// A new session is not told of one friend.
        SnapshotNotComplete,
        /// The index hears of one more than a friend can push.
        CapacityOffByOne,
        /// A session that another takes over from stays open.
        OldSessionKept,
        /// The end of a link is not told to the funder.
        LinkEndNotTold,
        /// An app may do anything.
        PermissionNotChecked,
        /// A command is answered twice.
        ReplyTwice,
        /// A command that comes while another is under way is forgotten.
        CommandLost,
    }
    Relay {
        /// A new listener does not end the older one of its identity.
        TwoListeners,
        /// An accepted call is joined with another caller, if one waits.
        TunnelsCrossed,
        /// Half a tunnel has no deadline.
        HalvesForever,
        /// The place of half a tunnel is not given back.
        PlaceKept,
        /// A relay that was lost is not called again.
        RelayNotRedialled,
    }
    Index {
        /// No node ever falls silent.
        ExpireNothing,
        /// The edges of a silent node stay in the graph.
        ExpiredEdgeKept,
        /// An edge that its owner no longer reports stays in the graph.
        ClosedEdgeKept,
        /// Reports are not handed on to other servers.
        FederationSilent,
        /// A report is fresh whatever tick it names.
        StaleTickAccepted,
        /// A report that was heard before counts as new.
        AttestationReplayed,
        /// A server does not ask for a report that it lacks.
        WantNotAsked,
        /// An edge is used that only one end reports.
        OneSidedEdges,
        /// After a restart a node numbers its reports from the start.
        VersionsUsedTwice,
        /// A node does not say that its report still stands.
        HeartbeatNever,
        /// A node does not report that an edge is gone.
        RemovalNotReported,
        /// What may end at a node is offered for what goes on from there.
        EndingPassedOn,
    }
    Protocol {
        /// A message of a secure channel is delivered twice.
        MessageTwice,
        /// Of two messages that arrive together the second is delivered first.
        MessagesSwapped,
        /// Whoever began an exchange of keys goes on with the old ones.
        KeysNotSwitched,
        /// No keepalive is ever sent.
        KeepaliveNever,
        /// A list may be longer than its bound.
        LongListAccepted,
        /// A message may be followed by other bytes.
        TrailingAccepted,
    }
    Runtime {
        /// The disk loses the last of several changes.
        WriteLost,
    }
}

impl Mutant {
    /// The mutant of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

thread_local! {
    static PRESENT: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// From now on the machines of this thread have this bug, or none. Without the feature `mutants` it changes nothing.
pub fn mutate(mutant: Option<Mutant>) {
    PRESENT.set(mutant);
}

/// Whether the machines of this thread have this bug.
#[inline]
#[must_use]
pub fn is_on(mutant: Mutant) -> bool {
    PRESENT.get() == Some(mutant)
}

/// Without the feature no machine has any.
#[inline(always)]
#[must_use]
pub const fn is_off(_: Mutant) -> bool {
    false
}
