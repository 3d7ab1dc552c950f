//! People and servers that play known tricks.

use std::fmt::Debug;

use offset_protocol::machine::Instant;
use serde::Serialize;

use super::Drawing;
use super::events::{hosts, number, span, words};
use crate::case::{Case, Fidelity, Role};
use crate::cheats::{FRIEND_TRICKS, INDEX_TRICKS, PERSON_TRICKS, Play, RELAY_TRICKS, REPORT_TRICKS};
use crate::scenario::ScenarioError;
use crate::scenario::field::file_name;
use crate::scenario::fields::cheater;
use crate::topology::Graph;

impl Drawing<'_> {
    pub(super) fn add_cheaters(&self, case: &mut Case, graph: &Graph) -> Result<(), ScenarioError> {
        let cheaters = self.scenario.tables("cheater");
        if case.fidelity == Fidelity::Funds && !cheaters.is_empty() {
            return Err(wrong("there are cheaters at fidelity \"full\" only".to_owned()));
        }
        for (place, cheater) in cheaters.iter().enumerate() {
            let mut dice = self.dice(&format!("cheater {place}"));
            let who = hosts(case, graph, &words(cheater, &cheater::WHO).join(" "), &mut dice).map_err(wrong)?;
            let from = Instant::ZERO + span(cheater, &cheater::FROM, &mut dice);
            let per_mille = number(cheater, &cheater::PER_MILLE, &mut dice) as u32;
            let tricks = words(cheater, &cheater::TRICKS);
            if tricks.is_empty() {
                return Err(wrong(format!("the [[cheater]] number {} plays no tricks", place + 1)));
            }
            let roles: Vec<Role> = who.into_iter().filter_map(|host| case.role(host)).collect();
            for role in roles {
                for trick in &tricks {
                    if !add(case, role, trick, (per_mille, from)) {
                        return Err(wrong(format!("{trick:?} is no trick of {role}")));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether somebody in this role can play a trick of this name; if so, it does.
fn add(case: &mut Case, role: Role, name: &str, how: (u32, Instant)) -> bool {
    match role {
        Role::Node(n) => {
            let cheat = &mut case.nodes[n as usize].cheat;
            play(&mut cheat.friend, FRIEND_TRICKS, name, how)
                || play(&mut cheat.person, PERSON_TRICKS, name, how)
                || play(&mut cheat.report, REPORT_TRICKS, name, how)
        }
        Role::Relay(n) => play(&mut case.relays[n as usize].cheat.relay, RELAY_TRICKS, name, how),
        Role::Index(n) => play(&mut case.indexes[n as usize].cheat.index, INDEX_TRICKS, name, how),
        Role::Person(_) | Role::Stranger(_) | Role::Guest(_) => false,
    }
}

fn play<T: Copy + Serialize + Debug>(
    plays: &mut Vec<Play<T>>,
    all: &[T],
    name: &str,
    (per_mille, from): (u32, Instant),
) -> bool {
    let trick = all.iter().find(|trick| file_name(*trick) == name).copied();
    plays.extend(trick.map(|trick| Play { trick, per_mille, from }));
    trick.is_some()
}

fn wrong(what: String) -> ScenarioError {
    ScenarioError::Value { field: "cheater".to_owned(), what }
}
