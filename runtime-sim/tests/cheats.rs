//! Cheaters: each trick is played, what should notice it does, and the honest keep every invariant.
#![allow(clippy::unwrap_used)]

use offset_protocol::machine::{Duration, Instant};
use offset_runtime_sim::case::{Case, NodeCheat};
use offset_runtime_sim::cheats::{Evidence, FRIEND_TRICKS, FriendTrick, Play, Trick};
use offset_runtime_sim::full::{self, Options};
use offset_runtime_sim::line::{self, LineSpec, Weather};
use offset_runtime_sim::signatures::Signatures;
use offset_runtime_sim::trace::Keep;

/// Three friends in a line, without faults.
fn three(number: u64) -> Case {
    let spec = LineSpec {
        nodes: 3,
        relays: 1,
        indexes: 1,
        deals: 12,
        max_debt: 100_000,
        safety: Duration::from_secs(30),
        weather: Weather::Fair,
        signatures: Signatures::Cheap,
        keep: Keep::Hash,
    };
    line::case(number, &spec)
}

fn run(case: &Case) -> Evidence {
    full::run(case, &Options::default()).unwrap_or_else(|broken| panic!("seed {}: {broken}", case.seed)).cheats
}

/// The one in the middle plays one trick.
fn run_friend_trick(trick: FriendTrick, per_mille: u32) -> Evidence {
    let mut all = Evidence::default();
    for number in 0..4 {
        let mut case = three(number);
        let play = Play { trick, per_mille, from: Instant::ZERO + Duration::from_secs(6) };
        // Some tricks need links that come up again.
        let hang_up = Play { trick: FriendTrick::HangUp, per_mille: 20, ..play };
        case.nodes[1].cheat = NodeCheat { friend: vec![play, hang_up], ..NodeCheat::default() };
        case.nodes[1].accepts_reset_after = Some(Duration::from_secs(3));
        let evidence = run(&case);
        for (trick, count) in evidence.played {
            *all.played.entry(trick).or_default() += count;
        }
        for (what, count) in evidence.noticed {
            *all.noticed.entry(what).or_default() += count;
        }
    }
    all
}

/// What an honest friend makes of a trick.
enum Sign {
    /// The channel becomes inconsistent, for this reason.
    Inconsistent(&'static str),
    /// A request is cancelled, for this reason.
    Refused(&'static str),
    /// Nothing: the trick is harmless, or only time shows it.
    Nothing,
}

/// What should show, trick by trick.
fn sign(trick: FriendTrick) -> Sign {
    use FriendTrick as T;
    use Sign::{Inconsistent, Nothing, Refused};
    match trick {
        T::DropBatch => Inconsistent("Gap"),
        T::BadSignature => Inconsistent("BadSignature"),
        T::ResumeAhead => Inconsistent("ResumeBeyond"),
        T::ResumeOldEpoch => Inconsistent("ResumeEpoch"),
        T::ResumeForgetful => Inconsistent("ResumeLost"),
        T::TwoBatches => Inconsistent("TwoBatches"),
        T::WrongTotals => Inconsistent("OtherTotals"),
        T::WrongHead => Inconsistent("OtherHead"),
        T::WrongFriendHead => Inconsistent("OtherFriendHead"),
        T::AckBeyond => Inconsistent("AckBeyond"),
        T::AckBackwards => Inconsistent("AckBackwards"),
        T::OtherBody => Inconsistent("OtherBody"),
        T::MalformedBody | T::OverlongRoute => Inconsistent("MalformedBody"),
        T::MalformedHeader => Inconsistent("MalformedHeader"),
        T::OldEpoch => Inconsistent("OtherEpoch"),
        T::BeyondLimit => Refused("Capacity"),
        T::InventedRoute => Refused("NoRoute"),
        T::FloodRequests => Refused("UnknownInvoice"),
        T::LoopingRoute => Inconsistent("operation: Request(Route)"),
        T::RepeatedId => Inconsistent("operation: RepeatedRequest"),
        T::ZeroAmount | T::HugeAmount => Inconsistent("operation: Request(Amounts)"),
        T::UnlistedCurrency => Inconsistent("operation: NotListed"),
        T::ResponseToNothing | T::ResponseAfterCancel | T::WithdrawOthers => Inconsistent("operation: UnknownRequest"),
        T::ResponseTwice => Inconsistent("operation: Twice"),
        T::ForgedResponse => Inconsistent("operation: BadSignature"),
        T::CollectWrongSecret | T::CommitWrongLock => Inconsistent("operation: WrongLock"),
        T::CollectUnanswered => Inconsistent("operation: WrongStage"),
        T::RemoveInUse => Inconsistent("RemovedInUse(CRED)"),
        T::WrongTerms | T::EndlessTerms => Inconsistent("Declared"),
        T::UnknownReset => Inconsistent("UnknownReset"),
        T::Delay
        | T::RepeatBatch
        | T::ReplayBatch
        | T::Ignore
        | T::Garbage
        | T::GarbageInTunnel
        | T::HangUp
        | T::ResumeTwice
        | T::BatchBeforeResume
        | T::CancelAnswered
        | T::CancelAll
        | T::WithholdResponse
        | T::WithholdCollect
        | T::FloodBatches
        | T::FloodRelays
        | T::FloodCurrencies => Nothing,
    }
}

#[test]
fn every_trick_of_a_friend_is_played_and_shows_where_it_must() {
    for &trick in FRIEND_TRICKS {
        let evidence = run_friend_trick(trick, 200);
        assert!(evidence.played.contains_key(&Trick::Friend(trick)), "{trick:?} was not played");
        let shows = match sign(trick) {
            Sign::Inconsistent(why) => evidence.noticed.contains_key(&format!("inconsistent: {why}")),
            Sign::Refused(why) => evidence.noticed.contains_key(&format!("refused: {why}")),
            Sign::Nothing => true,
        };
        assert!(shows, "{trick:?} shows as {:?}", evidence.noticed);
    }
}
