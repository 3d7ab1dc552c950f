//! The first scenario: a line of friends, one or two relays, one or two federated index servers, payments of both kinds
//! between anybody and anybody, and every fault.

use offset_protocol::machine::{Duration, Instant, Seed};

use crate::case::{
    Case, Commit, CurrencyName, FORMAT, Fidelity, Friendship, NodePlan, Operation, Rare, RatePlan, Role, ServerPlan,
    Setting, Terms, Timed,
};
use crate::check::Violation;
use crate::dice::Dice;
use crate::faults::{Plan, Victims};
use crate::full::{self, Options, Outcome};
use crate::host::HostId;
use crate::keys::Keys;
use crate::latency::Latency;
use crate::net::{Conditions, StreamCuts};
use crate::signatures::Signatures;
use crate::trace::Keep;

/// What one run is made of. Everything in it is drawn from the seed, so a run is named by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineSpec {
    /// Nodes in the line.
    pub nodes: u32,
    /// Relays.
    pub relays: u32,
    /// Index servers, all of which trust each other.
    pub indexes: u32,
    /// Deals that are ordered while faults happen.
    pub deals: u32,
    /// What every friend may owe: little in some runs, so that limits are felt.
    pub max_debt: u128,
    /// How long faults happen.
    pub safety: Duration,
    /// Whether there are faults.
    pub weather: Weather,
    /// Which signatures.
    pub signatures: Signatures,
    /// How channels agree on keys.
    pub keys: Keys,
    /// What the trace keeps.
    pub keep: Keep,
}

/// Whether anything goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// A plan drawn from the seed.
    Foul,
}

/// What a buyer lets mediators have: more than they ever ask.
const MAX_FEE: u128 = 1_000_000;
/// Before this no deal is ordered: cards need some seconds to be set up.
const FIRST_DEAL: Duration = Duration::from_secs(5);

impl LineSpec {
    /// A small world: a few seconds of work for a hundred of them.
    pub fn small(seed: &Seed) -> Self {
        let mut dice = Dice::new(seed, "line");
        LineSpec {
            nodes: dice.between(3, 5) as u32,
            relays: dice.between(1, 2) as u32,
            indexes: dice.between(1, 2) as u32,
            deals: dice.between(4, 14) as u32,
            max_debt: if dice.chance(400) { dice.between(1_000, 9_000).into() } else { 1_000_000 },
            safety: Duration::from_secs(dice.between(30, 60)),
            weather: Weather::Foul,
            signatures: if dice.chance(50) { Signatures::Real } else { Signatures::Cheap },
            keys: if dice.chance(50) { Keys::Real } else { Keys::Cheap },
            keep: Keep::Hash,
        }
    }
}

/// Runs the world that grows from `number`.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run(number: u64, spec: &LineSpec) -> Result<Outcome, Violation> {
    full::run(&case(number, spec), &Options { keep: spec.keep, ..Options::default() })
}

/// The case that grows from `number`.
pub fn case(number: u64, spec: &LineSpec) -> Case {
    let seed = Seed::from_number(number);
    let mut dice = Dice::new(&seed, "build");
    let mut case = Case {
        format: FORMAT,
        scenario: "line".to_owned(),
        seed: number,
        fidelity: Fidelity::Full,
        signatures: spec.signatures,
        keys: spec.keys,
        rare: if spec.weather == Weather::Foul { Rare::Drawn } else { Rare::Off },
        conditions: draw_conditions(&mut dice),
        note: Latency::Uniform { low: Duration::from_millis(100), high: Duration::from_secs(2) },
        currencies: "CRED".parse().map(CurrencyName).into_iter().collect(),
        relays: Vec::new(),
        indexes: Vec::new(),
        nodes: Vec::new(),
        strangers: Vec::new(),
        guests: Vec::new(),
        friendships: Vec::new(),
        operations: Vec::new(),
        faults: Vec::new(),
        heal_at: Instant::ZERO + spec.safety,
    };
    case.relays.extend((0..spec.relays).map(|_| server(&mut dice)));
    case.indexes.extend((0..spec.indexes).map(|_| server(&mut dice)));
    for _ in 0..spec.nodes {
        case.nodes.push(NodePlan {
            drift_ppm: drift(&mut dice),
            relays: subset(&mut dice, spec.relays),
            indexes: subset(&mut dice, spec.indexes),
            accepts_reset_after: dice.chance(700).then(|| Duration::from_secs(dice.between(2, 15))),
            ..NodePlan::default()
        });
    }
    for a in 1..spec.nodes {
        let terms = Terms {
            currency: 0,
            a_grants: spec.max_debt,
            b_grants: spec.max_debt,
            a_charges: draw_rate(&mut dice),
            b_charges: draw_rate(&mut dice),
        };
        case.friendships.push(Friendship { a: a - 1, b: a, terms: vec![terms] });
    }
    draw_deals(&mut case, &mut dice, spec);
    if spec.weather == Weather::Foul && dice.chance(500) {
        draw_settings(&mut case, &mut dice);
    }
    case.operations.sort_by_key(|timed| timed.at);
    if spec.weather == Weather::Foul {
        draw_faults(&mut case, &mut dice);
    }
    case
}

fn draw_faults(case: &mut Case, dice: &mut Dice) {
    // In half of the runs the cards are set up in peace.
    let from = Instant::ZERO + if dice.chance(500) { FIRST_DEAL } else { Duration::from_millis(600) };
    let hosts: Vec<HostId> = (0..case.hosts()).map(HostId).collect();
    let with_disk = hosts.iter().copied().filter(|host| matches!(case.role(*host), Some(Role::Node(_)))).collect();
    let plan = Plan::draw(dice, &Victims { hosts, with_disk }, from, case.heal_at);
    case.faults = plan.faults.into_iter().map(|(at, what)| Timed { at, what }).collect();
}

fn draw_deals(case: &mut Case, dice: &mut Dice, spec: &LineSpec) {
    for deal in 0..spec.deals {
        let at = Instant::ZERO + dice.duration(FIRST_DEAL, spec.safety);
        let buyer = dice.below(spec.nodes.into()) as u32;
        let step = dice.between(1, u64::from(spec.nodes) - 1) as u32;
        let what = Operation::Pay {
            deal: deal.into(),
            buyer,
            seller: (buyer + step) % spec.nodes,
            currency: 0,
            amount: dice.between(1, 3_000).into(),
            max_fee: MAX_FEE,
            commit: if dice.chance(500) { Commit::ByHand } else { Commit::InBand },
            tries: dice.between(1, 3) as u32,
            patience: Duration::from_secs(dice.between(4, 40)),
        };
        case.operations.push(Timed { at, what });
    }
}

/// People change their minds while payments run.
fn draw_settings(case: &mut Case, dice: &mut Dice) {
    for _ in 0..dice.between(1, 8) {
        let at = Instant::ZERO + dice.duration(FIRST_DEAL, case.heal_at.since(Instant::ZERO));
        let Some(pair) = dice.pick(&case.friendships) else { return };
        let (node, friend) = if dice.chance(500) { (pair.a, pair.b) } else { (pair.b, pair.a) };
        let later = at + dice.duration(Duration::from_millis(10), Duration::from_secs(15));
        let (setting, then) = draw_setting(case, dice, friend);
        let configure = |at, setting| Timed { at, what: Operation::Configure { node, setting } };
        case.operations.push(configure(at, setting));
        case.operations.extend(then.filter(|_| dice.chance(700)).map(|setting| configure(later, setting)));
    }
}

/// A setting, and what undoes it, if anything does.
fn draw_setting(case: &Case, dice: &mut Dice, friend: u32) -> (Setting, Option<Setting>) {
    let currency = 0;
    match dice.below(20) {
        0..=5 => {
            let max_debt = dice.between(1_000_000, 2_000_000).into();
            (Setting::Grant { friend, currency, max_debt }, None)
        }
        6..=9 => (Setting::Charge { friend, currency, rate: draw_rate(dice) }, None),
        10..=12 => (Setting::Close { friend, currency }, Some(Setting::Open { friend, currency })),
        13..=15 => (Setting::Disable { friend }, Some(Setting::Enable { friend })),
        16..=17 => (Setting::Relays { relays: subset(dice, case.relays.len() as u32) }, None),
        18 => (Setting::Indexes { indexes: subset(dice, case.indexes.len() as u32) }, None),
        _ => (Setting::Remove { friend }, None),
    }
}

fn draw_conditions(dice: &mut Dice) -> Conditions {
    let ms = Duration::from_millis;
    let latency = match dice.below(4) {
        0 => Latency::Constant(ms(dice.between(1, 60))),
        1 => Latency::Uniform { low: ms(1), high: ms(dice.between(2, 120)) },
        2 => Latency::LogNormal { median: ms(dice.between(2, 40)), sigma_milli: 600 },
        _ => Latency::Tail { low: ms(1), high: ms(20), slow_per_mille: 10, slow: ms(1_500) },
    };
    Conditions {
        latency,
        bandwidth: if dice.chance(250) { 50_000 } else { 0 },
        send_buffer: if dice.chance(250) { dice.between(600, 4_000) as usize } else { 65_536 },
        receive_buffer: if dice.chance(250) { dice.between(600, 4_000) as usize } else { 65_536 },
        cuts: if dice.chance(400) { StreamCuts::Anywhere } else { StreamCuts::Whole },
    }
}

fn server(dice: &mut Dice) -> ServerPlan {
    ServerPlan { drift_ppm: drift(dice), ..ServerPlan::default() }
}

/// Clocks of ordinary machines, and now and then a bad one.
fn drift(dice: &mut Dice) -> i32 {
    let most = if dice.chance(50) { 20_000 } else { 100 };
    dice.between(0, 2 * most) as i32 - most as i32
}

pub(crate) fn draw_rate(dice: &mut Dice) -> RatePlan {
    RatePlan { mul: if dice.chance(500) { 0 } else { dice.below(1 << 26) as u32 }, add: dice.below(4) as u32 }
}

/// One of the numbers below `count` at least.
fn subset(dice: &mut Dice, count: u32) -> Vec<u32> {
    let first = dice.below(u64::from(count.max(1))) as u32;
    let mut chosen = vec![first];
    chosen.extend((0..count).filter(|&other| other != first).filter(|_| dice.chance(500)));
    chosen
}
