//! Worlds of funders: payments, faults, the same again.
#![allow(clippy::unwrap_used)]

use offset_protocol::machine::{Duration, Instant, Seed};
use offset_runtime_sim::bench::network::Network;
use offset_runtime_sim::case::{Case, Operation, Role, Setting, Timed};
use offset_runtime_sim::check::Violation;
use offset_runtime_sim::dice::Dice;
use offset_runtime_sim::faults::{Family, Plan, Rage, Victims};
use offset_runtime_sim::funds::{Options, Outcome, SetUp, Shadow, run, run_recorded};
use offset_runtime_sim::host::HostId;
use offset_runtime_sim::result::{Record, Recorder};
use offset_runtime_sim::topology::Shape;
use offset_runtime_sim::trace::{Keep, Trace, first_difference};

struct Ended {
    result: Result<Outcome, Violation>,
    record: Record,
    trace: Trace,
}

fn run_told(case: &Case, options: &Options) -> Ended {
    let mut recorder = Recorder::default();
    let (result, trace) = run_recorded(case, options, &mut recorder, &mut |_| {});
    Ended { result, record: recorder.finish(), trace }
}

fn network(shape: Shape, nodes: u32, payments: u64, seed: u64) -> Case {
    Network { shape, nodes, payments, per_second: 20, seed }.case().unwrap()
}

/// The same network with everything that can go wrong among funders.
fn foul(shape: Shape, nodes: u32, payments: u64, seed: u64) -> Case {
    let mut case = network(shape, nodes, payments, seed);
    let hosts: Vec<HostId> = (0..nodes).map(|node| case.host(Role::Node(node))).collect();
    let victims = Victims { with_disk: hosts.clone(), hosts };
    let families = [
        (Family::Crash, 3_000),
        (Family::Trap, 1_500),
        (Family::Cut, 3_000),
        (Family::Swizzle, 20_000),
        (Family::Flap, 10_000),
        (Family::Reset, 700),
        (Family::Swallow, 2_000),
        (Family::Pause, 2_000),
        (Family::SlowDisk, 2_000),
        (Family::Clog, 2_000),
        (Family::Roam, 2_000),
        (Family::Stop, 5_000),
        (Family::DiskFail, 9_000),
    ];
    let rages = families.map(|(family, ms)| Rage { family, every: Duration::from_millis(ms) });
    let mut dice = Dice::new(&Seed::from_number(seed), "faults");
    let from = Instant::ZERO + Duration::from_millis(600);
    let plan = Plan::draw_from(&mut dice, &victims, &rages, from, case.heal_at);
    case.faults = plan.faults.into_iter().map(|(at, what)| Timed { at, what }).collect();
    case
}

#[test]
fn payments_along_a_line_of_three_are_paid_and_nothing_is_left_of_them() {
    let case = network(Shape::Line, 3, 60, 1);
    for set_up in [SetUp::AsEvents, SetUp::Before] {
        let ended = run_told(&case, &Options { set_up, ..Options::small() });
        let outcome = ended.result.unwrap();
        let payments = &ended.record.payments;
        assert_eq!((payments.ordered, payments.paid), (60, 60), "{:?}", payments.failed);
        assert!(ended.record.hops.high() == 2 && ended.record.fees.count() == 60);
        assert!(outcome.looked_at.0 > 40 && outcome.looked_at.1 > 10, "{outcome:?}");
    }
}

#[test]
fn a_network_of_fifty_pays_whatever_way_it_was_set_up() {
    let case = network(Shape::ErdosRenyi { degree: 5 }, 50, 300, 2);
    for set_up in [SetUp::AsEvents, SetUp::Before] {
        let ended = run_told(&case, &Options { set_up, ..Options::small() });
        ended.result.unwrap();
        let payments = &ended.record.payments;
        assert_eq!((payments.ordered, payments.open()), (300, 0));
        assert!(payments.paid >= 290, "{payments:?}");
    }
}

#[test]
fn money_survives_everything_that_can_go_wrong() {
    let mut crashes = 0;
    for seed in 0..6 {
        let case = foul(Shape::ErdosRenyi { degree: 4 }, 12, 200, seed);
        let ended = run_told(&case, &Options::small());
        let outcome = ended.result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let payments = &ended.record.payments;
        assert_eq!((payments.ordered, payments.open()), (200, 0));
        assert!(payments.paid > 40, "seed {seed}: {payments:?}");
        crashes += outcome.counts.crashes;
        assert_eq!(outcome.counts.passed_over, 0, "{outcome:?}");
    }
    assert!(crashes > 60, "{crashes}");
}

#[test]
fn settings_change_while_payments_run() {
    let mut case = network(Shape::Ring, 8, 200, 3);
    let mut dice = Dice::new(&Seed::from_number(3), "settings");
    for n in 0..60u64 {
        let node = dice.below(8) as u32;
        let friend = (node + 1) % 8;
        let setting = match n % 6 {
            0 => Setting::Grant { friend, currency: 0, max_debt: dice.between(0, 200_000).into() },
            1 => Setting::Charge { friend, currency: 0, rate: Default::default() },
            2 => Setting::Close { friend, currency: 0 },
            3 => Setting::Open { friend, currency: 0 },
            4 => Setting::Disable { friend },
            _ => Setting::Enable { friend },
        };
        let at = Instant::from_micros(5_000_000 + n * 160_000);
        case.operations.push(Timed { at, what: Operation::Configure { node, setting } });
    }
    case.operations.sort_by_key(|timed| timed.at);
    let ended = run_told(&case, &Options::small());
    ended.result.unwrap();
    assert_eq!(ended.record.payments.open(), 0);
    assert!(ended.record.payments.paid > 50, "{:?}", ended.record.payments);
}

#[test]
fn the_same_case_is_the_same_run_and_another_seed_is_another() {
    let options = Options { keep: Keep::Lines, ..Options::small() };
    let case = foul(Shape::BarabasiAlbert { links: 2 }, 20, 150, 5);
    let (one, two) = (run_told(&case, &options), run_told(&case, &options));
    assert_eq!(first_difference(&one.trace, &two.trace), None);
    assert_eq!(one.result.unwrap(), two.result.unwrap());
    assert_eq!(one.record, two.record);
    let other = foul(Shape::BarabasiAlbert { links: 2 }, 20, 150, 6);
    assert_ne!(run_told(&other, &options).trace.hash(), two.trace.hash());
}

#[test]
fn who_looks_on_changes_nothing_of_what_happens() {
    let case = network(Shape::ErdosRenyi { degree: 5 }, 30, 200, 7);
    let seen = Options { look_every: None, ..Options::small() };
    let unseen = Options { watch: offset_runtime_sim::full::Watch::AtTheEnd, ..seen };
    let bare = Options { shadow: Shadow::NotKept, sampled_per_mille: 0, laws_every: 0, ..unseen };
    let hashes = [seen, unseen, bare].map(|options| run(&case, &options).unwrap().hash);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
}
