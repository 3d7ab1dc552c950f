//! Cheaters: each trick is played, what should notice it does, and the honest keep every invariant.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, and figures for whoever runs them")]

use std::collections::BTreeMap;

use offset_protocol::machine::{Duration, Instant, Seed};
use offset_runtime_sim::case::{Case, NodeCheat, Operation, StrangerPlan};
use offset_runtime_sim::cheats::{
    Evidence, FRIEND_TRICKS, FriendTrick, INDEX_TRICKS, IndexTrick, PERSON_TRICKS, PersonTrick, Play, RELAY_TRICKS,
    REPORT_TRICKS, ReportTrick, STRANGER_TRICKS, Shares, StrangerTrick, Trick, draw,
};
use offset_runtime_sim::dice::Dice;
use offset_runtime_sim::full::{self, Options};
use offset_runtime_sim::keys::Keys;
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
        keys: Keys::Cheap,
        keep: Keep::Hash,
    };
    line::case(number, &spec)
}

fn run(case: &Case) -> Evidence {
    full::run(case, &Options::default()).unwrap_or_else(|broken| panic!("seed {}: {broken}", case.seed)).cheats
}

/// The one in the middle plays one trick, in world after world until it has shown what it should.
fn run_friend_trick(trick: FriendTrick, per_mille: u32, shows: impl Fn(&Evidence) -> bool) -> Evidence {
    let mut all = Evidence::default();
    for number in 0..40 {
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
        if all.played.contains_key(&Trick::Friend(trick)) && shows(&all) {
            break;
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
    /// The link ends.
    Dropped,
    /// Nothing: the trick is harmless, or only time shows it.
    Nothing,
}

/// What should show, trick by trick.
fn sign(trick: FriendTrick) -> Sign {
    use FriendTrick as T;
    use Sign::{Dropped, Inconsistent, Nothing, Refused};
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
        T::Garbage | T::GarbageInTunnel | T::ResumeTwice | T::BatchBeforeResume => Dropped,
        T::Delay
        | T::RepeatBatch
        | T::ReplayBatch
        | T::Ignore
        | T::HangUp
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
        let shows = |evidence: &Evidence| match sign(trick) {
            Sign::Inconsistent(why) => evidence.noticed.contains_key(&format!("inconsistent: {why}")),
            Sign::Refused(why) => evidence.noticed.contains_key(&format!("refused: {why}")),
            Sign::Dropped => evidence.noticed.contains_key("the link was dropped"),
            Sign::Nothing => true,
        };
        let evidence = run_friend_trick(trick, 200, shows);
        assert!(evidence.played.contains_key(&Trick::Friend(trick)), "{trick:?} was not played");
        assert!(shows(&evidence), "{trick:?} shows as {:?}", evidence.noticed);
    }
}

/// A world without faults: two relays and two index servers, of which the second cheats or not.
fn four(number: u64) -> Case {
    let spec = LineSpec {
        nodes: 4,
        relays: 2,
        indexes: 2,
        deals: 14,
        max_debt: 100_000,
        safety: Duration::from_secs(40),
        weather: Weather::Fair,
        signatures: Signatures::Cheap,
        keys: Keys::Cheap,
        keep: Keep::Hash,
    };
    let mut case = line::case(number, &spec);
    for node in &mut case.nodes {
        (node.relays, node.indexes) = (vec![1, 0], vec![1, 0]);
    }
    case
}

fn play<T>(trick: T, per_mille: u32) -> Play<T> {
    Play { trick, per_mille, from: Instant::ZERO + Duration::from_secs(2) }
}

/// Asks whether an honest host noticed something of this kind.
fn assert_noticed(evidence: &Evidence, what: &str) {
    assert!(evidence.noticed.keys().any(|noticed| noticed.contains(what)), "no {what:?} in {:?}", evidence.noticed);
}

/// Runs some worlds until the trick has been played in one of them; what was noticed in all.
fn run_until_played(trick: Trick, make: impl Fn(u64) -> Case) -> Evidence {
    let mut all = Evidence::default();
    for number in 0..8 {
        let evidence = run(&make(number));
        for (what, count) in evidence.noticed {
            *all.noticed.entry(what).or_default() += count;
        }
        for (trick, count) in evidence.played {
            *all.played.entry(trick).or_default() += count;
        }
        if all.played.contains_key(&trick) && number > 0 {
            break;
        }
    }
    println!("{trick}: {:?} {:?}", all.played, all.noticed);
    assert!(all.played.contains_key(&trick), "{trick} was not played");
    all
}

#[test]
fn every_trick_of_a_person_is_played() {
    for &trick in PERSON_TRICKS {
        let evidence = run_until_played(Trick::Person(trick), |number| {
            let mut case = four(number);
            case.nodes[1].cheat = NodeCheat { person: vec![play(trick, 1_000)], ..NodeCheat::default() };
            // Some buyers want more than anybody can pay, and give up.
            for timed in case.operations.iter_mut().step_by(3) {
                if let Operation::Pay { amount, .. } = &mut timed.what {
                    *amount = 1_000_000_000;
                }
            }
            case
        });
        if trick == PersonTrick::BentCommit {
            assert_noticed(&evidence, "complained: Collect came to Refused(BadCommit");
        }
    }
}

#[test]
fn every_trick_of_a_reporting_node_is_played() {
    for &trick in REPORT_TRICKS {
        let evidence = run_until_played(Trick::Report(trick), |number| {
            let mut case = four(number);
            case.nodes[1].cheat = NodeCheat { report: vec![play(trick, 500)], ..NodeCheat::default() };
            case
        });
        match trick {
            // Signatures are looked at before anything is known of the speaker.
            ReportTrick::ForOther | ReportTrick::ForgedReport => assert_noticed(&evidence, "bad signature"),
            ReportTrick::InventedCapacity
            | ReportTrick::HiddenFees
            | ReportTrick::OldReport
            | ReportTrick::FloodQuestions => {}
        }
    }
}

#[test]
fn every_trick_of_a_relay_is_played() {
    for &trick in RELAY_TRICKS {
        run_until_played(Trick::Relay(trick), |number| {
            let mut case = four(number);
            case.relays[1].cheat.relay = vec![play(trick, 200)];
            case
        });
    }
}

#[test]
fn every_trick_of_an_index_server_is_played() {
    for &trick in INDEX_TRICKS {
        let evidence = run_until_played(Trick::Index(trick), |number| {
            let mut case = four(number);
            case.indexes[1].cheat.index = vec![play(trick, 400)];
            case
        });
        match trick {
            IndexTrick::ForgeReports => assert_noticed(&evidence, "misbehaviour: a report"),
            IndexTrick::Garbage => assert_noticed(&evidence, "malformed message"),
            IndexTrick::InventRoutes
            | IndexTrick::WrongFees
            | IndexTrick::BrokenRoutes
            | IndexTrick::NeverAnswer
            | IndexTrick::ReplayReports
            | IndexTrick::Stale
            | IndexTrick::Flood => {}
        }
    }
}

#[test]
fn every_trick_of_a_stranger_is_played() {
    for &trick in STRANGER_TRICKS {
        let evidence = run_until_played(Trick::Stranger(trick), |number| {
            let mut case = four(number);
            let strangers = if trick == StrangerTrick::Sybil { 2 } else { 1 };
            let stranger = StrangerPlan { cheat: vec![play(trick, 200)], ..StrangerPlan::default() };
            case.strangers = vec![stranger; strangers];
            case
        });
        match trick {
            StrangerTrick::Nonsense => assert_noticed(&evidence, "malformed message"),
            StrangerTrick::Impostor => assert_noticed(&evidence, "the server is not trusted"),
            StrangerTrick::Garbage
            | StrangerTrick::HalfHandshake
            | StrangerTrick::Silence
            | StrangerTrick::Flood
            | StrangerTrick::OtherPurpose
            | StrangerTrick::Oversize
            | StrangerTrick::NeverRead
            | StrangerTrick::Sybil => {}
        }
    }
}

#[test]
fn a_world_with_cheaters_is_the_same_each_time() {
    let mut case = four(7);
    draw(&mut Dice::new(&Seed::from_number(7), "cheats"), &mut case, &Shares { nodes_per_mille: 900, ..Shares::SWARM });
    let run = || full::run(&case, &Options::default()).unwrap();
    let (first, second) = (run(), run());
    assert!(!first.cheats.played.is_empty());
    assert_eq!(first, second);
}

/// Seeds to run, by the environment; a few if it says nothing.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("OFFSET_CHEAT_FROM").unwrap_or(0);
    first..first + number("OFFSET_CHEAT_SEEDS").unwrap_or(12)
}

#[test]
fn small_worlds_survive_every_fault_and_every_cheater() {
    let mut broken = Vec::new();
    let mut all: BTreeMap<Trick, u64> = BTreeMap::new();
    for number in seeds() {
        let seed = Seed::from_number(number);
        let spec = LineSpec { nodes: 3 + (number % 4) as u32, relays: 2, indexes: 2, ..LineSpec::small(&seed) };
        let mut case = line::case(number, &spec);
        draw(&mut Dice::new(&seed, "cheats"), &mut case, &Shares::SWARM);
        let run = || full::run(&case, &Options::default());
        match std::panic::catch_unwind(run) {
            Ok(Ok(outcome)) => {
                outcome.cheats.played.into_iter().for_each(|(trick, count)| *all.entry(trick).or_default() += count);
            }
            Ok(Err(violation)) if std::env::var_os("OFFSET_CHEAT_SHOW").is_some() => {
                println!("{case:#?}");
                broken.push(format!("seed {number}: {violation}"));
            }
            Ok(Err(violation)) => broken.push(format!("seed {number}: {violation}")),
            Err(_) => broken.push(format!("seed {number}: a panic")),
        }
    }
    println!("{} tricks were played in {:?}: {all:?}", all.len(), seeds());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
