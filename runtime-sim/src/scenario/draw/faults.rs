//! What goes wrong by chance: families of faults, each with dice of its own, and phones that come and go.

use offset_protocol::machine::Instant;

use super::{Drawing, node_host, unless_never};
use crate::case::{Case, Role, Timed};
use crate::faults::{FAMILIES, Fault, Plan, Rage, Victims};
use crate::host::HostId;
use crate::scenario::field::family_name;
use crate::scenario::fields;

/// Cuts are named by number within a case; each family has so many of its own.
const NAMES: u32 = 10_000_000;

impl Drawing<'_> {
    pub(super) fn add_faults(&self, case: &mut Case) {
        let may_happen = self.scenario.words(&fields::FAMILIES_ON);
        let off = self.per_mille(&fields::OFF);
        let from = Instant::ZERO + self.time(&fields::FAULTS_FROM);
        let victims = victims(case);
        for (place, family) in (0..).zip(FAMILIES) {
            let name = family_name(family);
            let mut switch = self.dice(&format!("faults.{name}: off"));
            if !may_happen.contains(&name) || switch.chance(off) {
                continue;
            }
            let Some(every) = unless_never(self.once(&fields::rate_of(family))) else { continue };
            let mut dice = self.dice(&format!("faults.{name}: all"));
            let plan = Plan::draw_from(&mut dice, &victims, &[Rage { family, every }], from, case.heal_at);
            let faults = plan.faults.into_iter().map(|(at, what)| Timed { at, what: renamed(what, place * NAMES) });
            // What begins at the end is healed at once.
            case.faults.extend(faults.filter(|timed| timed.at <= case.heal_at));
        }
    }

    /// Programs of phones are stopped and started again.
    pub(super) fn add_phones(&self, case: &mut Case) {
        let (share, mut dice) = (self.per_mille(&fields::PHONES), self.dice("people: phones"));
        let (mut online, mut offline) = (self.source(&fields::ONLINE), self.source(&fields::OFFLINE));
        for node in 0..case.nodes.len() as u32 {
            if !dice.chance(share) {
                continue;
            }
            let mut at = Instant::ZERO + online.time();
            while at < case.heal_at {
                let off = offline.time().min(case.heal_at.since(at));
                let what = Fault::Stop { host: node_host(case, node), off };
                case.faults.push(Timed { at, what });
                at = at + off + online.time();
            }
        }
    }
}

/// Everybody; nodes have disks.
fn victims(case: &Case) -> Victims {
    let hosts: Vec<HostId> = (0..case.hosts()).map(HostId).collect();
    let with_disk = (0..case.nodes.len() as u32).map(|node| case.host(Role::Node(node))).collect();
    Victims { hosts, with_disk }
}

/// Names of cuts moved, so that those of different families are different.
fn renamed(fault: Fault, by: u32) -> Fault {
    match fault {
        Fault::Cut { name, cut } => Fault::Cut { name: name + by, cut },
        Fault::Heal { name } => Fault::Heal { name: name + by },
        other => other,
    }
}
