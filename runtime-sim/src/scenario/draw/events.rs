//! What goes wrong on purpose, at a time, to somebody.

use offset_protocol::machine::{Duration, Instant};

use super::{Drawing, hubs};
use crate::case::{Case, Role, Timed};
use crate::dice::Dice;
use crate::faults::Fault;
use crate::host::HostId;
use crate::net::Cut;
use crate::scenario::ScenarioError;
use crate::scenario::field::{Field, Value};
use crate::scenario::fields::event;
use crate::scenario::read::Values;
use crate::topology::Graph;
use crate::world::Crash;

/// Cuts of events are named from here on; those of families are named below.
const FIRST_NAME: u32 = 1 << 31;
/// A split of more hosts would be more pairs than are useful.
const MOST_APART: usize = 100;

impl Drawing<'_> {
    pub(super) fn add_events(&self, case: &mut Case, graph: &Graph) -> Result<(), ScenarioError> {
        let mut names = FIRST_NAME;
        for (place, event) in self.scenario.tables("event").iter().enumerate() {
            let mut dice = self.dice(&format!("event {place}"));
            let at = Instant::ZERO + span(event, &event::AT, &mut dice);
            let lasts = span(event, &event::LASTS, &mut dice);
            let who = hosts(case, graph, &words(event, &event::WHO).join(" "), &mut dice).map_err(wrong)?;
            let what = dice.pick(&words(event, &event::WHAT)).cloned().unwrap_or_default();
            let faults = strike(&what, &who, at, lasts, &mut names)?;
            let end = case.heal_at;
            case.faults.extend(faults.into_iter().filter(|timed| timed.at <= end));
        }
        Ok(())
    }
}

fn value(table: &Values, field: &Field) -> Value {
    table.get(&*field.name).cloned().unwrap_or_else(|| field.default_value())
}

/// A number of a table, or a time in microseconds.
pub(super) fn number(table: &Values, field: &Field, dice: &mut Dice) -> u64 {
    let Value::Spans(spans) = value(table, field) else { return 0 };
    dice.pick(&spans).copied().map_or(0, |span| dice.between(span.low, span.high))
}

pub(super) fn span(table: &Values, field: &Field, dice: &mut Dice) -> Duration {
    Duration::from_micros(number(table, field, dice))
}

pub(super) fn words(table: &Values, field: &Field) -> Vec<String> {
    match value(table, field) {
        Value::Words(words) => words,
        Value::Spans(_) => Vec::new(),
    }
}

fn strike(
    what: &str,
    who: &[HostId],
    at: Instant,
    lasts: Duration,
    names: &mut u32,
) -> Result<Vec<Timed<Fault>>, ScenarioError> {
    let mut faults = Vec::new();
    let mut cut = |cut: Cut| {
        let name = *names;
        *names += 1;
        [Timed { at, what: Fault::Cut { name, cut } }, Timed { at: at + lasts, what: Fault::Heal { name } }]
    };
    match what {
        "cut-off" => return Ok(cut(Cut::Around(who.iter().copied().collect())).into()),
        "split" if who.len() > MOST_APART => {
            return Err(wrong(format!("{} hosts cannot be split from each other, {MOST_APART} at most", who.len())));
        }
        "split" => {
            for (place, &a) in who.iter().enumerate() {
                faults.extend(who[place + 1..].iter().flat_map(|&b| cut(Cut::Pair(a, b))));
            }
            return Ok(faults);
        }
        _ => {}
    }
    for &host in who {
        let fault = match what {
            "crash" => Fault::Crash { host, crash: Crash::Process, off: lasts },
            "stop" => Fault::Stop { host, off: lasts },
            "pause" => Fault::Pause { host, time: lasts },
            "roam" => Fault::Roam { host },
            "leave" => Fault::Leave { host },
            "wipe" => Fault::Wipe { host, off: lasts },
            "disk-full" => Fault::DiskFails { host, lasts },
            "restore-backup" => {
                faults.push(Timed { at: at + lasts, what: Fault::PutBack { host, off: Duration::from_secs(1) } });
                Fault::Copy { host }
            }
            _ => Fault::Crash { host, crash: Crash::Power, off: lasts },
        };
        faults.push(Timed { at, what: fault });
    }
    Ok(faults)
}

/// The hosts that a text names. See [`event::WHO`].
///
/// # Errors
/// It names nobody, as a sentence.
pub(super) fn hosts(case: &Case, graph: &Graph, who: &str, dice: &mut Dice) -> Result<Vec<HostId>, String> {
    let words: Vec<&str> = who.split_whitespace().collect();
    let all = |kind: &str| -> Option<Vec<HostId>> {
        let numbers = |count: usize, role: fn(u32) -> Role| (0..count as u32).map(|n| case.host(role(n))).collect();
        match kind {
            "relay" | "relays" => Some(numbers(case.relays.len(), Role::Relay)),
            "index" | "indexes" => Some(numbers(case.indexes.len(), Role::Index)),
            "node" | "nodes" => Some(numbers(case.nodes.len(), Role::Node)),
            "hub" | "hubs" => Some(hubs(graph).into_iter().map(|node| case.host(Role::Node(node))).collect()),
            _ => None,
        }
    };
    let unknown = || format!("{who:?} names nobody; see `stsim scenario --explain`");
    match words.as_slice() {
        ["all", kind] => all(kind).ok_or_else(unknown),
        ["any", kind] => {
            let all = all(kind).ok_or_else(unknown)?;
            Ok(dice.pick(&all).copied().into_iter().collect())
        }
        [share, "per", "mille", "of", kind] => {
            let share: u32 = share.parse().map_err(|_| unknown())?;
            let all = all(kind).ok_or_else(unknown)?;
            Ok(all.into_iter().filter(|_| dice.chance(share)).collect())
        }
        [kind, number] => {
            let all = all(kind).ok_or_else(unknown)?;
            let number: usize = number.parse().map_err(|_| unknown())?;
            let one = all.get(number).ok_or_else(|| format!("{who:?}: there are {} {kind}s only", all.len()))?;
            Ok(vec![*one])
        }
        _ => Err(unknown()),
    }
}

fn wrong(what: String) -> ScenarioError {
    ScenarioError::Value { field: "event".to_owned(), what }
}
