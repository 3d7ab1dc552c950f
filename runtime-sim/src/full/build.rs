//! A world, built as a case describes it: hosts, people, and what each person does to set up the card.

use std::cell::RefCell;
use std::rc::Rc;

use offset_index_sm::server::ServerLimits;
use offset_protocol::app::Permissions;
use offset_protocol::machine::{Duration, Seed};
use offset_relay_sm::server::Limits as RelayLimits;

use super::settings;
use crate::card::{Card, NODE_PORT};
use crate::case::{Case, Role};
use crate::cheats::SharedEvidence;
use crate::cheats::card::CheatingCard;
use crate::cheats::friend::SharedCheater;
use crate::dice::Dice;
use crate::faults::QUIET_FLUSH;
use crate::host::{Pace, Program};
use crate::latency::Latency;
use crate::people::{App, Person, SharedPerson};
use crate::servers::{INDEX_SERVER_PORT, Index, Relay};
use crate::signatures::Registry;
use crate::trace::Keep;
use crate::world::{World, WorldConfig};

/// Hosts start within this time.
const START: Duration = Duration::from_millis(500);

/// The world of a case, and its people by node. Its cheaters say what they do in `evidence`.
pub(super) fn build(case: &Case, keep: Keep, evidence: &SharedEvidence) -> (World, Vec<SharedPerson>) {
    let seed = Seed::from_number(case.seed);
    let config = WorldConfig { signatures: case.signatures, conditions: case.conditions, note: case.note, keep };
    let mut world = World::new(&seed, config);
    add_servers(case, &mut world);
    let people = add_people(case, &mut world, &seed, evidence);
    boot(case, &mut world, &seed);
    (world, people)
}

fn pace() -> Pace {
    Pace { turn: Latency::Uniform { low: Duration::ZERO, high: Duration::from_micros(400) }, flush: QUIET_FLUSH }
}

fn add_servers(case: &Case, world: &mut World) {
    for relay in &case.relays {
        world.add_host(Box::new(Relay { limits: RelayLimits::default() }), pace(), relay.drift_ppm, 0);
    }
    for (number, index) in case.indexes.iter().enumerate() {
        let others = (0..case.indexes.len()).filter(|&other| other != number);
        let trusted = others
            .map(|other| case.host(Role::Index(other as u32)))
            .map(|host| (world.key_of(host), World::address_of(host, INDEX_SERVER_PORT)))
            .collect();
        world.add_host(Box::new(Index { trusted, limits: ServerLimits::default() }), pace(), index.drift_ppm, 0);
    }
}

fn add_people(case: &Case, world: &mut World, seed: &Seed, evidence: &SharedEvidence) -> Vec<SharedPerson> {
    let numbers = || 0..case.nodes.len() as u32;
    let registry = Registry::new(case.signatures, seed);
    for (number, node) in numbers().zip(&case.nodes) {
        let apps = vec![(world.key_of(case.host(Role::Person(number))), Permissions::ALL)];
        let name = case.host(Role::Node(number)).to_string();
        let card: Box<dyn Program> = if node.cheat.is_honest() {
            Box::new(Card { apps })
        } else {
            let dice = Dice::new(&seed.fork("cheats"), &name);
            let plays = node.cheat.friend.clone();
            let cheater = SharedCheater::new(registry.identity(&name), plays, dice, evidence.clone());
            Box::new(CheatingCard { apps, cheater })
        };
        world.add_host(card, pace(), node.drift_ppm, 0);
    }
    let mut people = Vec::new();
    for (number, plan) in numbers().zip(&case.nodes) {
        let (node, host) = (case.host(Role::Node(number)), case.host(Role::Person(number)));
        let (key, address) = (world.key_of(node), World::address_of(node, NODE_PORT));
        let person_seed = seed.fork("people").fork(&host.to_string());
        let mut person = Person::new(host, key, address, registry.identity(&host.to_string()), &person_seed);
        person.set_reset_patience(plan.accepts_reset_after);
        let person = SharedPerson(Rc::new(RefCell::new(person)));
        world.add_host(Box::new(App(person.clone())), pace(), 0, 0);
        people.push(person);
    }
    for (number, list) in settings::set_up(case, world).into_iter().enumerate() {
        people[number].0.borrow_mut().set_up(list);
    }
    people
}

fn boot(case: &Case, world: &mut World, seed: &Seed) {
    let mut dice = Dice::new(seed, "boot");
    for number in 0..case.hosts() {
        let host = crate::host::HostId(number);
        let delay = dice.duration(Duration::ZERO, START);
        match case.role(host) {
            Some(role) if case.is_present(role) => world.boot_after(host, delay),
            Some(_) | None => world.retire(host),
        }
    }
}
