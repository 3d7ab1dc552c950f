//! Cases and what happens in them, in words.

use offset_protocol::machine::Instant;

use crate::case::{Case, Commit, Operation, Role, Setting};
use crate::faults::Fault;
use crate::host::{CrashPoint, HostId};
use crate::net::Cut;
use crate::world::Crash;

/// A time, in seconds.
pub fn time(at: Instant) -> String {
    let us = at.as_micros();
    format!("{}.{:06} s", us / 1_000_000, us % 1_000_000)
}

/// A step of the plan of a case: its operations, then its faults.
pub fn step(case: &Case, step: usize) -> String {
    match (case.operations.get(step), step.checked_sub(case.operations.len()).and_then(|n| case.faults.get(n))) {
        (Some(timed), _) => operation(case, &timed.what),
        (None, Some(timed)) => fault(case, &timed.what),
        (None, None) => format!("step {step} of the plan"),
    }
}

/// What a person does.
pub fn operation(case: &Case, operation: &Operation) -> String {
    let currency =
        |place: &u32| case.currencies.get(*place as usize).map(|name| name.0.to_string()).unwrap_or_default();
    let (node, setting) = match operation {
        Operation::Pay { deal, buyer, seller, currency: place, amount, commit, .. } => {
            let how = match commit {
                Commit::ByHand => "by hand",
                Commit::InBand => "in band",
            };
            return format!("deal {deal}: node {buyer} pays node {seller} {amount} {}, {how}", currency(place));
        }
        Operation::PayAgain { buyer, deal } => return format!("node {buyer} pays for deal {deal} once more"),
        Operation::Configure { node, setting } => (node, setting),
    };
    let what = match setting {
        Setting::Grant { friend, currency: place, max_debt } => {
            format!("lets node {friend} owe {max_debt} {}", currency(place))
        }
        Setting::Charge { friend, currency: place, .. } => {
            format!("changes what node {friend} pays it in {}", currency(place))
        }
        Setting::Open { friend, currency: place } => format!("opens {} with node {friend}", currency(place)),
        Setting::Close { friend, currency: place } => format!("closes {} with node {friend}", currency(place)),
        Setting::Enable { friend } => format!("enables node {friend}"),
        Setting::Disable { friend } => format!("disables node {friend}"),
        Setting::Remove { friend } => format!("ends its friendship with node {friend}"),
        Setting::Relays { relays } => format!("listens on relays {relays:?} only"),
        Setting::Indexes { indexes } => format!("uses index servers {indexes:?} only"),
    };
    format!("node {node} {what}")
}

/// What goes wrong.
pub fn fault(case: &Case, fault: &Fault) -> String {
    let name = |host: &HostId| host_name(case, *host);
    let ms = |time: &offset_protocol::machine::Duration| format!("{} ms", time.as_micros() / 1_000);
    match fault {
        Fault::Reset { .. } => "a connection breaks".to_owned(),
        Fault::Swallow { .. } => "a connection falls silent".to_owned(),
        Fault::Connect { refused_per_mille: 0, hanging_per_mille: 0 } => "connections can be made again".to_owned(),
        Fault::Connect { refused_per_mille, hanging_per_mille } => {
            format!("of 1000 new connections {refused_per_mille} are refused, {hanging_per_mille} hang")
        }
        Fault::Cut { name: number, cut } => format!("cut {number}: {}", cut_words(case, cut)),
        Fault::Heal { name } => format!("cut {name} ends"),
        Fault::Clog { host, extra } if extra.as_micros() == 0 => format!("{} is no longer slowed", name(host)),
        Fault::Clog { host, extra } => format!("all packets of {} take {} longer", name(host), ms(extra)),
        Fault::Crash { host, crash, off } => {
            let how = match crash {
                Crash::Process => "crashes",
                Crash::Power => "loses its power",
            };
            format!("{} {how} for {}", name(host), ms(off))
        }
        Fault::Trap { host, trap } => {
            let point = match trap.point {
                CrashPoint::Written => "after a write was begun",
                CrashPoint::Flushed => "after a write is durable",
                CrashPoint::Said => "after it said what a write allowed",
                CrashPoint::Sent => "after it sent something",
                CrashPoint::SentAhead => "after it sent something, losing a write",
            };
            format!("{} will crash {point}, {} later", name(host), trap.after)
        }
        Fault::Pause { host, time } => format!("{} stands still for {}", name(host), ms(time)),
        Fault::Disk { host, .. } => format!("the disk of {} changes its pace", name(host)),
        Fault::Wall { host, by_ms } => format!("the wall clock of {} jumps by {by_ms} ms", name(host)),
        Fault::Stop { host, off } => format!("{} is stopped for {}", name(host), ms(off)),
        Fault::DiskFails { host, lasts } => format!("writes of {} fail for {}", name(host), ms(lasts)),
        Fault::Roam { host } => format!("{} changes its network", name(host)),
        Fault::Pace { host, .. } => format!("{} changes its pace", name(host)),
        Fault::Leave { host } => format!("{} leaves for good", name(host)),
        Fault::Copy { host } => format!("the disk of {} is copied", name(host)),
        Fault::PutBack { host, off } => format!("{} gets its old disk back, off for {}", name(host), ms(off)),
        Fault::Wipe { host, off } => format!("the disk of {} is wiped, off for {}", name(host), ms(off)),
    }
}

fn cut_words(case: &Case, cut: &Cut) -> String {
    let names = |hosts: &std::collections::BTreeSet<HostId>| {
        hosts.iter().map(|host| host_name(case, *host)).collect::<Vec<_>>().join(", ")
    };
    match cut {
        Cut::Around(hosts) => format!("{} cut off", names(hosts)),
        Cut::OneWay { from, to } => format!("nothing from {} to {}", names(from), names(to)),
        Cut::Pair(a, b) => format!("nothing between {} and {}", host_name(case, *a), host_name(case, *b)),
    }
}

/// What a host is.
pub fn host_name(case: &Case, host: HostId) -> String {
    case.role(host).map_or_else(|| host.to_string(), |role: Role| role.to_string())
}
