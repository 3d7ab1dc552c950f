//! Whether a case makes sense: every reference leads to somebody, every number is in its range, everything is in order.

use std::collections::BTreeSet;
use std::fmt::Debug;

use offset_protocol::limits::{MAX_AMOUNT, MAX_CURRENCIES, MAX_INDEX_SERVERS, MAX_RELAYS};
use offset_protocol::machine::{Duration, Instant};

use crate::case::{Case, FORMAT, NodePlan, Operation, Setting, Terms, Timed};
use crate::cheats::Play;
use crate::faults::Fault;
use crate::host::HostId;
use crate::latency::Latency;
use crate::net::{Conditions, Cut};

/// Hosts of one case. The world's trace tells so many apart.
const MAX_HOSTS: usize = 1 << 24;
/// Nothing in a case is further away, and nothing takes longer. Chosen freely: no run gets there.
const MAX_TIME: Duration = Duration::from_secs(366 * 24 * 3_600);
/// Numbers of deals are below: probes of the liveness phase are numbered from here.
const MAX_DEAL: u64 = 1 << 40;
/// Standard deviations of a log-normal delay: beyond it the arithmetic of [`Latency`] is not exact any more.
const MAX_SIGMA_MILLI: u32 = 4_000;
/// Bytes of a buffer: as much as a system gives, with room to try more.
const MAX_BUFFER: usize = 1 << 30;
/// Tricks in one list of a host. Chosen freely: more than there are.
const MAX_TRICKS: usize = 1_000;
/// Letters of a scenario's name.
const MAX_NAME: usize = 200;

/// Why a case makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCase {
    /// Of another format.
    #[error("it is of format {0}, not {FORMAT}")]
    Format(u32),
    /// Too much of something.
    #[error("{what}: {count}, at most {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How much there is.
        count: u128,
        /// How much there may be.
        most: u128,
    },
    /// Something that must be there.
    #[error("{0}")]
    Missing(&'static str),
    /// Somebody who is not there is named.
    #[error("{place}: there is no {what} {number}")]
    Nobody {
        /// Where.
        place: String,
        /// What is named.
        what: &'static str,
        /// By which number.
        number: u64,
    },
    /// Something stands there twice, or is its own partner.
    #[error("{place}: {what} {number} stands there twice")]
    Twice {
        /// Where.
        place: String,
        /// What.
        what: &'static str,
        /// Which.
        number: u64,
    },
    /// Not in order of time.
    #[error("{place}: it happens before what stands before it")]
    Order {
        /// Where.
        place: String,
    },
    /// A number that cannot be.
    #[error("{place}: {why}")]
    Value {
        /// Where.
        place: String,
        /// Why not.
        why: &'static str,
    },
}

impl Case {
    /// Whether the case makes sense.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), BadCase> {
        if self.format != FORMAT {
            return Err(BadCase::Format(self.format));
        }
        at_most("letters of the scenario's name", self.scenario.chars().count(), MAX_NAME)?;
        let apps = [self.nodes.len(), self.strangers.len(), self.guests.len()];
        let hosts = [self.relays.len(), self.indexes.len(), self.nodes.len()].into_iter().chain(apps);
        at_most("hosts", hosts.fold(0, usize::saturating_add), MAX_HOSTS - 1)?;
        at_most("currencies", self.currencies.len(), MAX_CURRENCIES)?;
        distinct("currencies", "currency", self.currencies.iter())?;
        check_conditions(&self.conditions)?;
        check_latency("the way of a note", &self.note)?;
        check_time("heal_at", self.heal_at)?;
        for (number, node) in self.nodes.iter().enumerate() {
            self.check_node(number, node)?;
        }
        for (number, guest) in self.guests.iter().enumerate() {
            known(&|| format!("guest {number}"), "node", guest.node, self.nodes.len())?;
        }
        self.check_tricks()?;
        self.check_friendships()?;
        self.check_operations()?;
        self.check_faults()
    }

    fn check_node(&self, number: usize, node: &NodePlan) -> Result<(), BadCase> {
        let place = || format!("node {number}");
        self.check_relays(&place, &node.relays)?;
        self.check_indexes(&place, &node.indexes)?;
        node.accepts_reset_after.map_or(Ok(()), |after| check_duration(&place, after))
    }

    fn check_relays(&self, place: &dyn Fn() -> String, relays: &[u32]) -> Result<(), BadCase> {
        at_most("relays of a node", relays.len(), MAX_RELAYS)?;
        relays.iter().try_for_each(|&relay| known(place, "relay", relay, self.relays.len()))?;
        distinct(&place(), "relay", relays.iter())
    }

    fn check_indexes(&self, place: &dyn Fn() -> String, indexes: &[u32]) -> Result<(), BadCase> {
        at_most("index servers of a node", indexes.len(), MAX_INDEX_SERVERS)?;
        indexes.iter().try_for_each(|&index| known(place, "index server", index, self.indexes.len()))?;
        distinct(&place(), "index server", indexes.iter())
    }

    fn check_tricks(&self) -> Result<(), BadCase> {
        for (number, relay) in self.relays.iter().enumerate() {
            let place = || format!("relay {number}");
            right(&place, relay.cheat.index.is_empty(), "a relay plays no tricks of index servers")?;
            check_plays(&place, &relay.cheat.relay)?;
        }
        for (number, index) in self.indexes.iter().enumerate() {
            let place = || format!("index server {number}");
            right(&place, index.cheat.relay.is_empty(), "an index server plays no tricks of relays")?;
            check_plays(&place, &index.cheat.index)?;
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let place = || format!("node {number}");
            check_plays(&place, &node.cheat.friend)?;
            check_plays(&place, &node.cheat.person)?;
            check_plays(&place, &node.cheat.report)?;
        }
        let mut strangers = self.strangers.iter().enumerate();
        strangers.try_for_each(|(number, stranger)| check_plays(&|| format!("stranger {number}"), &stranger.cheat))
    }

    fn check_friendships(&self) -> Result<(), BadCase> {
        let mut pairs = BTreeSet::new();
        for (number, pair) in self.friendships.iter().enumerate() {
            let place = || format!("friendship {number}");
            known(&place, "node", pair.a, self.nodes.len())?;
            known(&place, "node", pair.b, self.nodes.len())?;
            if pair.a == pair.b || !pairs.insert((pair.a.min(pair.b), pair.a.max(pair.b))) {
                return Err(BadCase::Twice { place: place(), what: "node", number: pair.b.into() });
            }
            distinct(&place(), "currency", pair.terms.iter().map(|terms| terms.currency))?;
            pair.terms.iter().try_for_each(|terms| self.check_terms(&place, terms))?;
        }
        Ok(())
    }

    fn check_terms(&self, place: &dyn Fn() -> String, terms: &Terms) -> Result<(), BadCase> {
        known(place, "currency", terms.currency, self.currencies.len())?;
        check_amount(place, terms.a_grants)?;
        check_amount(place, terms.b_grants)
    }

    fn check_operations(&self) -> Result<(), BadCase> {
        check_order("operation", &self.operations)?;
        let mut deals = BTreeSet::new();
        for (number, timed) in self.operations.iter().enumerate() {
            let place = || format!("operation {number}");
            match &timed.what {
                Operation::Pay { deal, buyer, seller, currency, amount, max_fee, tries, patience, .. } => {
                    known(&place, "node", *buyer, self.nodes.len())?;
                    known(&place, "node", *seller, self.nodes.len())?;
                    known(&place, "currency", *currency, self.currencies.len())?;
                    check_amount(&place, *amount)?;
                    check_amount(&place, *max_fee)?;
                    check_duration(&place, *patience)?;
                    right(&place, buyer != seller, "nobody buys from itself")?;
                    right(&place, *tries > 0, "a buyer tries once at least")?;
                    right(&place, *deal < MAX_DEAL, "numbers of deals are below 2^40")?;
                    if !deals.insert(*deal) {
                        return Err(BadCase::Twice { place: place(), what: "deal", number: *deal });
                    }
                }
                // Of a deal that is not there nothing is paid.
                Operation::PayAgain { buyer, .. } => known(&place, "node", *buyer, self.nodes.len())?,
                Operation::Configure { node, setting } => {
                    known(&place, "node", *node, self.nodes.len())?;
                    self.check_setting(&place, *node, setting)?;
                }
            }
        }
        Ok(())
    }

    fn check_setting(&self, place: &dyn Fn() -> String, node: u32, setting: &Setting) -> Result<(), BadCase> {
        let friend = |friend: u32| {
            known(place, "node", friend, self.nodes.len())?;
            right(place, friend != node, "nobody is a friend of itself")
        };
        let currency = |currency: u32| known(place, "currency", currency, self.currencies.len());
        match setting {
            Setting::Grant { friend: other, currency: place_of, max_debt } => {
                friend(*other)?;
                currency(*place_of)?;
                check_amount(place, *max_debt)
            }
            Setting::Charge { friend: other, currency: place_of, .. }
            | Setting::Open { friend: other, currency: place_of }
            | Setting::Close { friend: other, currency: place_of } => {
                friend(*other)?;
                currency(*place_of)
            }
            Setting::Enable { friend: other }
            | Setting::Disable { friend: other }
            | Setting::Remove { friend: other } => friend(*other),
            Setting::Relays { relays } => self.check_relays(place, relays),
            Setting::Indexes { indexes } => self.check_indexes(place, indexes),
        }
    }

    fn check_faults(&self) -> Result<(), BadCase> {
        check_order("fault", &self.faults)?;
        let mut cuts = BTreeSet::new();
        for (number, timed) in self.faults.iter().enumerate() {
            let place = || format!("fault {number}");
            let host = |host: &HostId| known(&place, "host", host.0, self.hosts() as usize);
            match &timed.what {
                Fault::Reset { .. } | Fault::Swallow { .. } => {}
                Fault::Connect { refused_per_mille, hanging_per_mille } => {
                    let most = (*refused_per_mille).max(*hanging_per_mille);
                    right(&place, most <= 1_000, "there are a thousand in a thousand")?;
                }
                Fault::Cut { name, cut } => {
                    if !cuts.insert(*name) {
                        return Err(BadCase::Twice { place: place(), what: "cut", number: (*name).into() });
                    }
                    match cut {
                        Cut::Around(hosts) => hosts.iter().try_for_each(host)?,
                        Cut::OneWay { from, to } => from.iter().chain(to).try_for_each(host)?,
                        Cut::Pair(a, b) => [a, b].into_iter().try_for_each(host)?,
                    }
                }
                Fault::Heal { name } if cuts.contains(name) => {}
                Fault::Heal { name } => {
                    return Err(BadCase::Nobody { place: place(), what: "cut", number: (*name).into() });
                }
                Fault::Disk { host: of, flush: latency } | Fault::Pace { host: of, turn: latency } => {
                    host(of)?;
                    check_latency(&place(), latency)?;
                }
                Fault::Clog { host: of, extra: time }
                | Fault::Crash { host: of, off: time, .. }
                | Fault::Pause { host: of, time }
                | Fault::Stop { host: of, off: time }
                | Fault::DiskFails { host: of, lasts: time }
                | Fault::PutBack { host: of, off: time }
                | Fault::Wipe { host: of, off: time } => {
                    host(of)?;
                    check_duration(&place, *time)?;
                }
                Fault::Wall { host: of, by_ms } => {
                    host(of)?;
                    check_duration(&place, Duration::from_millis(by_ms.unsigned_abs()))?;
                }
                Fault::Trap { host: of, .. }
                | Fault::Roam { host: of }
                | Fault::Leave { host: of }
                | Fault::Copy { host: of } => host(of)?,
            }
        }
        Ok(())
    }
}

fn check_plays<T>(place: &dyn Fn() -> String, plays: &[Play<T>]) -> Result<(), BadCase> {
    at_most("tricks of a host", plays.len(), MAX_TRICKS)?;
    for play in plays {
        right(place, play.per_mille <= 1_000, "there are a thousand in a thousand")?;
        check_time(&place(), play.from)?;
    }
    Ok(())
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), BadCase> {
    let too_many = BadCase::TooMany { what, count: count as u128, most: most as u128 };
    if count <= most { Ok(()) } else { Err(too_many) }
}

fn known(place: &dyn Fn() -> String, what: &'static str, number: u32, count: usize) -> Result<(), BadCase> {
    let nobody = || BadCase::Nobody { place: place(), what, number: number.into() };
    if (number as usize) < count { Ok(()) } else { Err(nobody()) }
}

fn right(place: &dyn Fn() -> String, is_right: bool, why: &'static str) -> Result<(), BadCase> {
    if is_right { Ok(()) } else { Err(BadCase::Value { place: place(), why }) }
}

/// Everything in a list stands there once; the one that does not is named by its place.
fn distinct<T: Ord + Debug>(place: &str, what: &'static str, list: impl Iterator<Item = T>) -> Result<(), BadCase> {
    let mut seen = BTreeSet::new();
    for (number, item) in list.enumerate() {
        if !seen.insert(item) {
            return Err(BadCase::Twice { place: place.to_owned(), what, number: number as u64 });
        }
    }
    Ok(())
}

fn check_order<T>(what: &str, list: &[Timed<T>]) -> Result<(), BadCase> {
    let mut before = Instant::ZERO;
    for (number, timed) in list.iter().enumerate() {
        check_time(what, timed.at)?;
        if timed.at < before {
            return Err(BadCase::Order { place: format!("{what} {number}") });
        }
        before = timed.at;
    }
    Ok(())
}

fn check_amount(place: &dyn Fn() -> String, amount: u128) -> Result<(), BadCase> {
    right(place, amount <= MAX_AMOUNT, "no amount is above 2^100")
}

fn check_duration(place: &dyn Fn() -> String, time: Duration) -> Result<(), BadCase> {
    right(place, time <= MAX_TIME, "nothing takes longer than a year")
}

fn check_time(place: &str, at: Instant) -> Result<(), BadCase> {
    check_duration(&|| place.to_owned(), at.since(Instant::ZERO))
}

fn check_conditions(conditions: &Conditions) -> Result<(), BadCase> {
    let Conditions { latency, send_buffer, receive_buffer, .. } = conditions;
    check_latency("the way of a packet", latency)?;
    for buffer in [*send_buffer, *receive_buffer] {
        right(&|| "conditions".to_owned(), (1..=MAX_BUFFER).contains(&buffer), "a buffer has 1 to 2^30 bytes")?;
    }
    Ok(())
}

fn check_latency(place: &str, latency: &Latency) -> Result<(), BadCase> {
    let named = || place.to_owned();
    let longest = match *latency {
        Latency::Constant(delay) => delay,
        Latency::Uniform { low, high } => {
            right(&named, low <= high, "the shortest delay is above the longest")?;
            high
        }
        Latency::Exponential { mean } => mean,
        Latency::LogNormal { median, sigma_milli } => {
            right(&named, sigma_milli <= MAX_SIGMA_MILLI, "sigma_milli is above 4000")?;
            median
        }
        Latency::Tail { low, high, slow_per_mille, slow } => {
            right(&named, low <= high, "the shortest delay is above the longest")?;
            right(&named, slow_per_mille <= 1_000, "there are a thousand in a thousand")?;
            high.max(slow)
        }
    };
    check_duration(&named, longest)
}

#[cfg(test)]
mod tests;
