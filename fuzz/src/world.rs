//! A whole network from bytes: a small case of the simulator's, which runs to its end under all of its checkers.
//!
//! | bytes | decide |
//! |---|---|
//! | the first ten | who is there: nodes, friendships, relays, index servers, currencies, limits, latencies, cheaters; by the generator of scenarios, from a seed of two bytes |
//! | the others | what happens, one thing after the other: payments, changes of settings, faults of all families |
//!
//! Faults last as long as the bytes say, and the simulator heals what is left; short inputs are short lives.
//! Not decided by bytes: how long each packet takes, keys, nonces. They come from the seed, so that a change of one event leaves the
//! others as they were.

use std::path::Path;

use offset_protocol::fuzz::Choices;
use offset_protocol::machine::{Duration, Instant};
use offset_runtime_sim::case::{Case, Commit, Operation, RatePlan, Role, Setting, Timed};
use offset_runtime_sim::casefile::CaseFile;
use offset_runtime_sim::faults::{Fault, QUIET_FLUSH, QUIET_TURN};
use offset_runtime_sim::host::{CrashPoint, HostId, Trap};
use offset_runtime_sim::latency::Latency;
use offset_runtime_sim::net::Cut;
use offset_runtime_sim::replay;
use offset_runtime_sim::scenario::{self, Scenario};
use offset_runtime_sim::trace::Keep;
use offset_runtime_sim::world::Crash;

/// Things that happen in one world.
const MAX_EVENTS: usize = 120;
/// Cards are set up by then.
const FIRST: Duration = Duration::from_secs(4);
/// Everything is healed by then.
const LAST: Duration = Duration::from_secs(30);
/// From the last event until everything is healed.
const AFTER: Duration = Duration::from_secs(2);

const SCENARIO: &str = r#"
about = "A small world, in which happens what bytes say"
signatures = "cheap"
keys = "cheap"
[phases]
safety = "30s"
[money]
currencies = ["CRED", "HOUR"]
shared = "1..2"
[payments]
count = 0
[people]
accepts_reset_after = "2s..20s"
"#;

/// Runs the world that bytes say.
///
/// # Panics
/// A checker found something, or a machine panicked.
pub fn run(bytes: &[u8]) {
    if let Some(finding) = replay::find(&case(bytes)) {
        panic!("{finding}");
    }
}

/// The case that bytes say, and what is found in it.
pub fn case_file(bytes: &[u8]) -> CaseFile {
    let case = case(bytes);
    let replay = replay::run(&case, Keep::Hash);
    let event = replay.last_event();
    CaseFile::new(case, replay.finding, event)
}

/// The case that bytes say.
///
/// # Panics
/// Never: whatever bytes say is a case.
pub fn case(bytes: &[u8]) -> Case {
    let mut choices = Choices::new(bytes);
    let mut case = stage(&mut choices);
    let mut drawing = Drawing { at: Instant::ZERO + FIRST, deals: 0, cuts: 0, left: false, case: &mut case };
    for _ in 0..MAX_EVENTS {
        if choices.is_empty() || !drawing.wait(&mut choices) {
            break;
        }
        drawing.event(&mut choices);
    }
    let heal_at = drawing.at + AFTER;
    case.operations.sort_by_key(|timed| timed.at);
    case.faults.sort_by_key(|timed| timed.at);
    case.operations.retain(|timed| timed.at <= heal_at);
    case.faults.iter_mut().for_each(|timed| timed.at = timed.at.min(heal_at));
    case.heal_at = heal_at;
    case.check().expect("whatever bytes say is a case");
    case
}

/// Who is there.
fn stage(choices: &mut Choices) -> Case {
    let seed = choices.below(1 << 16);
    let kind = ["line", "star", "ring", "clique", "erdos-renyi"][choices.below(5) as usize];
    let latency = ["constant", "uniform", "log-normal", "tail"][choices.below(4) as usize];
    let limit = ["1000000", "1000..9000"][choices.below(2) as usize];
    let (rare, segments) =
        (["off", "drawn"][choices.below(2) as usize], ["whole", "anywhere"][choices.below(2) as usize]);
    let set = [
        format!("topology.kind={kind}"),
        format!("topology.nodes={}", 2 + choices.below(4)),
        format!("topology.degree={}", 2),
        format!("servers.relays={}", 1 + choices.below(3)),
        format!("servers.indexes={}", 1 + choices.below(3)),
        format!("network.latency={latency}"),
        format!("network.segments={segments}"),
        format!("money.limit={limit}"),
        format!("rare={rare}"),
        format!("cheaters.share_per_mille={}", if choices.once_in(4) { 300 } else { 0 }),
    ];
    let scenario = Scenario::parse("fuzz", SCENARIO, Path::new("."), &set).expect("the scenario is well formed");
    scenario::draw(&scenario, seed).expect("a small world can be drawn")
}

struct Drawing<'c> {
    case: &'c mut Case,
    at: Instant,
    deals: u64,
    cuts: u32,
    left: bool,
}

impl Drawing<'_> {
    /// Time passes until the next event; false: there is none any more.
    fn wait(&mut self, choices: &mut Choices) -> bool {
        let byte = u64::from(choices.byte());
        let gap = if byte < 200 { Duration::from_millis(byte * 4) } else { Duration::from_millis((byte - 199) * 100) };
        self.at += gap;
        self.at < Instant::ZERO + LAST
    }

    fn event(&mut self, choices: &mut Choices) {
        match choices.below(32) {
            0..=9 => self.pay(choices),
            10 => {
                let deal = choices.below(self.deals.max(1));
                let buyer = self.node(choices);
                self.operate(Operation::PayAgain { buyer, deal });
            }
            11 | 12 => self.change(choices),
            13..=16 => self.break_links(choices),
            17..=20 => self.break_hosts(choices),
            21..=23 => self.slow_down(choices),
            24..=26 => self.cut(choices),
            27 => {
                let (host, lasts) = (self.card(choices), lasts(choices));
                self.fault(Fault::DiskFails { host, lasts });
            }
            28..=31 => self.lose(choices),
            _ => {}
        }
    }

    fn operate(&mut self, what: Operation) {
        self.case.operations.push(Timed { at: self.at, what });
    }

    fn fault(&mut self, what: Fault) {
        self.case.faults.push(Timed { at: self.at, what });
    }

    /// What ends a fault that begins now.
    fn end(&mut self, after: Duration, what: Fault) {
        self.case.faults.push(Timed { at: self.at + after, what });
    }

    fn node(&self, choices: &mut Choices) -> u32 {
        choices.below(self.case.nodes.len() as u64) as u32
    }

    /// A host with a disk.
    fn card(&self, choices: &mut Choices) -> HostId {
        self.case.host(Role::Node(self.node(choices)))
    }

    fn host(&self, choices: &mut Choices) -> HostId {
        HostId(choices.below(self.case.hosts().into()) as u32)
    }

    fn pay(&mut self, choices: &mut Choices) {
        let (buyer, currency) = (self.node(choices), choices.below(self.case.currencies.len() as u64) as u32);
        let nodes = self.case.nodes.len() as u64;
        let seller = ((u64::from(buyer) + 1 + choices.below(nodes - 1)) % nodes) as u32;
        let amount = match choices.below(8) {
            0 => 1 + u128::from(choices.below(60_000)),
            _ => 1 + 8 * u128::from(choices.byte()),
        };
        let manner = choices.byte();
        let pay = Operation::Pay {
            deal: self.deals,
            buyer,
            seller,
            currency,
            amount,
            max_fee: amount / 4 + 20,
            commit: if manner.is_multiple_of(2) { Commit::InBand } else { Commit::ByHand },
            tries: 1 + u32::from(manner / 2 % 4),
            patience: Duration::from_secs(1 + u64::from(manner / 8)),
        };
        self.deals += 1;
        self.operate(pay);
    }

    /// Somebody changes a setting, and what is shut is opened again.
    fn change(&mut self, choices: &mut Choices) {
        let Some(place) = choices.place(self.case.friendships.len()) else { return };
        let pair = &self.case.friendships[place];
        let (node, friend) = if choices.flip() { (pair.a, pair.b) } else { (pair.b, pair.a) };
        let Some(currency) = choices.place(pair.terms.len()).map(|place| pair.terms[place].currency) else { return };
        let (setting, undo) = match choices.below(6) {
            0 => (Setting::Grant { friend, currency, max_debt: 40 * u128::from(choices.byte()) }, None),
            1 => {
                let rate = RatePlan { mul: u32::from(choices.byte()) << 20, add: choices.below(4) as u32 };
                (Setting::Charge { friend, currency, rate }, None)
            }
            2 => (Setting::Close { friend, currency }, Some(Setting::Open { friend, currency })),
            3 => (Setting::Relays { relays: some(self.case.relays.len(), choices) }, None),
            4 => (Setting::Indexes { indexes: some(self.case.indexes.len(), choices) }, None),
            _ => (Setting::Disable { friend }, Some(Setting::Enable { friend })),
        };
        self.operate(Operation::Configure { node, setting });
        if let Some(setting) = undo {
            let at = self.at + lasts(choices);
            self.case.operations.push(Timed { at, what: Operation::Configure { node, setting } });
        }
    }

    fn break_links(&mut self, choices: &mut Choices) {
        match choices.below(8) {
            0..=3 => self.fault(Fault::Reset { nth: choices.byte().into() }),
            4 => self.fault(Fault::Swallow { nth: choices.byte().into() }),
            5 => {
                let fault = Fault::Connect {
                    refused_per_mille: choices.below(500) as u32,
                    hanging_per_mille: choices.below(300) as u32,
                };
                self.fault(fault);
                self.end(lasts(choices), Fault::Connect { refused_per_mille: 0, hanging_per_mille: 0 });
            }
            _ => {
                let host = self.host(choices);
                self.fault(Fault::Roam { host });
            }
        }
    }

    fn break_hosts(&mut self, choices: &mut Choices) {
        match choices.below(8) {
            0..=2 => {
                let (host, point) = (self.card(choices), CrashPoint::ALL[choices.below(5) as usize]);
                let after = choices.below(12) as u32;
                self.fault(Fault::Trap { host, trap: Trap { point, after } });
            }
            3..=5 => {
                let host = self.host(choices);
                let crash = if choices.flip() { Crash::Process } else { Crash::Power };
                let off = lasts(choices);
                self.fault(Fault::Crash { host, crash, off });
            }
            6 => {
                let host = self.host(choices);
                let off = lasts(choices);
                self.fault(Fault::Stop { host, off });
            }
            _ => {
                let host = self.host(choices);
                let time = lasts(choices);
                self.fault(Fault::Pause { host, time });
            }
        }
    }

    fn slow_down(&mut self, choices: &mut Choices) {
        let high = Duration::from_millis(20 + 8 * u64::from(choices.byte()));
        let slow = Latency::Uniform { low: Duration::ZERO, high };
        let (begin, end) = match choices.below(4) {
            0 => {
                let host = self.host(choices);
                (Fault::Clog { host, extra: high }, Fault::Clog { host, extra: Duration::ZERO })
            }
            1 => {
                let host = self.card(choices);
                (Fault::Disk { host, flush: slow }, Fault::Disk { host, flush: QUIET_FLUSH })
            }
            2 => {
                let host = self.host(choices);
                (Fault::Pace { host, turn: slow }, Fault::Pace { host, turn: QUIET_TURN })
            }
            _ => {
                let (host, by_ms) = (self.host(choices), i64::from(choices.byte()) * 20_000 - 2_560_000);
                return self.fault(Fault::Wall { host, by_ms });
            }
        };
        self.fault(begin);
        self.end(lasts(choices), end);
    }

    fn cut(&mut self, choices: &mut Choices) {
        let (a, b) = (self.host(choices), self.host(choices));
        let cut = match choices.below(3) {
            0 => Cut::Around([a].into()),
            1 => Cut::OneWay { from: [a].into(), to: [b].into() },
            _ => Cut::Pair(a, b),
        };
        let name = self.cuts;
        self.cuts += 1;
        self.fault(Fault::Cut { name, cut });
        self.end(lasts(choices), Fault::Heal { name });
    }

    /// What a disk, or a whole node, loses.
    fn lose(&mut self, choices: &mut Choices) {
        let host = self.card(choices);
        match choices.below(8) {
            0..=3 => self.fault(Fault::Copy { host }),
            4 | 5 => self.fault(Fault::PutBack { host, off: lasts(choices) }),
            6 => self.fault(Fault::Wipe { host, off: lasts(choices) }),
            // A network of which a quarter has left is another network.
            _ if !self.left && self.case.nodes.len() >= 4 => {
                self.left = true;
                self.fault(Fault::Leave { host });
            }
            _ => {}
        }
    }
}

/// Mostly short.
fn lasts(choices: &mut Choices) -> Duration {
    let byte = u64::from(choices.byte());
    Duration::from_millis(if byte < 128 { 1 + byte * 4 } else { (byte - 127) * 100 })
}

/// At least one of so many servers.
fn some(count: usize, choices: &mut Choices) -> Vec<u32> {
    let mask = choices.byte();
    let first = choices.place(count).unwrap_or(0);
    (0..count).filter(|place| *place == first || mask >> place & 1 == 1).map(|place| place as u32).collect()
}
