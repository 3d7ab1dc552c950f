//! A world, built as a case describes it: hosts, people, and what each person does to set up the card.

use std::cell::RefCell;
use std::rc::Rc;

use offset_index_sm::server::ServerLimits;
use offset_protocol::app::Permissions;
use offset_protocol::machine::{Duration, Seed};
use offset_protocol::net::Purpose;
use offset_relay_sm::server::Limits as RelayLimits;

use super::settings;
use crate::card::{Card, NODE_PORT};
use crate::case::{Case, GuestPlan, Right, Role};
use crate::cheats::{self, Rumours, SharedEvidence, Target};
use crate::dice::Dice;
use crate::faults::QUIET_FLUSH;
use crate::guests::{Guest, GuestApp, SharedGuest};
use crate::host::{HostId, Pace, Program};
use crate::latency::Latency;
use crate::people::{App, Person, SharedPerson};
use crate::servers::{INDEX_CLIENT_PORT, INDEX_SERVER_PORT, Index, RELAY_PORT, Relay};
use crate::trace::Keep;
use crate::world::{World, WorldConfig};

/// Hosts start within this time.
const START: Duration = Duration::from_millis(500);
/// Lines that a request's first search may look at. Chosen freely: so few that in these small networks some need another.
const QUICK_WORK: u64 = 30;

/// The world of a case, its people by node, and its guests. Its cheaters say what they do in `evidence`.
pub(super) fn build(
    case: &Case,
    keep: Keep,
    evidence: &SharedEvidence,
) -> (World, Vec<SharedPerson>, Vec<SharedGuest>) {
    let seed = Seed::from_number(case.seed);
    let config = WorldConfig {
        signatures: case.signatures,
        keys: case.keys,
        conditions: case.conditions,
        note: case.note,
        keep,
    };
    let mut world = World::new(&seed, config);
    add_servers(case, &mut world, &seed, evidence);
    add_nodes(case, &mut world, &seed, evidence);
    let people = add_people(case, &mut world, &seed, evidence);
    add_strangers(case, &mut world, &seed, evidence);
    let guests = add_guests(case, &mut world, &seed);
    boot(case, &mut world, &seed);
    (world, people, guests)
}

fn pace() -> Pace {
    Pace { turn: Latency::Uniform { low: Duration::ZERO, high: Duration::from_micros(400) }, flush: QUIET_FLUSH }
}

/// The dice of a cheater.
fn dice_of(seed: &Seed, host: HostId) -> Dice {
    Dice::new(&seed.fork("cheats"), &host.to_string())
}

fn add_servers(case: &Case, world: &mut World, seed: &Seed, evidence: &SharedEvidence) {
    for (number, plan) in (0..).zip(&case.relays) {
        let relay = Relay { limits: RelayLimits::default() };
        let dice = || dice_of(seed, case.host(Role::Relay(number)));
        let program: Box<dyn Program> = match plan.cheat.is_honest() {
            true => Box::new(relay),
            false => cheats::relay(relay, &plan.cheat, dice(), evidence),
        };
        world.add_host(program, pace(), plan.drift_ppm, 0);
    }
    for (number, plan) in (0..).zip(&case.indexes) {
        let others = (0..case.indexes.len() as u32).filter(|&other| other != number);
        let trusted = others
            .map(|other| case.host(Role::Index(other)))
            .map(|host| (world.key_of(host), World::address_of(host, INDEX_SERVER_PORT)))
            .collect();
        let index = Index { trusted, limits: ServerLimits { quick_work: QUICK_WORK, ..ServerLimits::default() } };
        let dice = || dice_of(seed, case.host(Role::Index(number)));
        let program: Box<dyn Program> = match plan.cheat.is_honest() {
            true => Box::new(index),
            false => cheats::index(index, &plan.cheat, dice(), evidence),
        };
        world.add_host(program, pace(), plan.drift_ppm, 0);
    }
}

fn add_nodes(case: &Case, world: &mut World, seed: &Seed, evidence: &SharedEvidence) {
    for (number, plan) in (0..).zip(&case.nodes) {
        let mut apps = vec![(world.key_of(case.host(Role::Person(number))), Permissions::ALL)];
        let guests = (0..).zip(&case.guests).filter(|(_, guest)| guest.node == number);
        let rights = |guest: &GuestPlan| Right::permissions(&guest.may);
        apps.extend(guests.map(|(guest, plan)| (world.key_of(case.host(Role::Guest(guest))), rights(plan))));
        let host = case.host(Role::Node(number));
        let program: Box<dyn Program> = match plan.cheat.is_honest() {
            true => Box::new(Card { apps }),
            false => cheats::card(apps, &plan.cheat, world.signer_of(host), &dice_of(seed, host), evidence),
        };
        world.add_host(program, pace(), plan.drift_ppm, 0);
    }
}

fn add_people(case: &Case, world: &mut World, seed: &Seed, evidence: &SharedEvidence) -> Vec<SharedPerson> {
    let mut people = Vec::new();
    for (number, plan) in (0..).zip(&case.nodes) {
        let (node, host) = (case.host(Role::Node(number)), case.host(Role::Person(number)));
        let (key, address) = (world.key_of(node), World::address_of(node, NODE_PORT));
        let person_seed = seed.fork("people").fork(&host.to_string());
        let mut person = Person::new(host, key, address, world.signer_of(host), &person_seed);
        person.set_reset_patience(plan.accepts_reset_after);
        let person = SharedPerson(Rc::new(RefCell::new(person)));
        let app = App(person.clone());
        let program: Box<dyn Program> = match plan.cheat.is_honest() {
            true => Box::new(app),
            false => cheats::app(app, &plan.cheat, dice_of(seed, host), evidence),
        };
        world.add_host(program, pace(), 0, 0);
        people.push(person);
    }
    for (number, list) in settings::set_up(case, world).into_iter().enumerate() {
        people[number].0.borrow_mut().set_up(list);
    }
    people
}

fn add_strangers(case: &Case, world: &mut World, seed: &Seed, evidence: &SharedEvidence) {
    let rumours = rumours(case, world);
    for (number, plan) in (0..).zip(&case.strangers) {
        let dice = dice_of(seed, case.host(Role::Stranger(number)));
        world.add_host(cheats::stranger(&plan.cheat, rumours.clone(), dice, evidence), pace(), 0, 0);
    }
}

fn add_guests(case: &Case, world: &mut World, seed: &Seed) -> Vec<SharedGuest> {
    let mut guests = Vec::new();
    for (number, plan) in (0..).zip(&case.guests) {
        let (node, host) = (case.host(Role::Node(plan.node)), case.host(Role::Guest(number)));
        let (key, address) = (world.key_of(node), World::address_of(node, NODE_PORT));
        let currency = case.currencies.first().map(|name| name.0);
        let guest_seed = seed.fork("guests").fork(&host.to_string());
        let guest = Guest::new(key, address, Right::permissions(&plan.may), currency, &guest_seed);
        let guest = SharedGuest(Rc::new(RefCell::new(guest)));
        world.add_host(Box::new(GuestApp(guest.clone())), pace(), 0, 0);
        guests.push(guest);
    }
    guests
}

/// Strangers know who listens where: tickets are handed around.
fn rumours(case: &Case, world: &World) -> Rumours {
    let mut rumours = Rumours { currencies: case.currencies.iter().map(|name| name.0).collect(), ..Rumours::default() };
    for role in (0..case.hosts()).filter_map(|host| case.role(HostId(host))) {
        let ports: &[(u16, Purpose)] = match role {
            Role::Relay(_) => &[(RELAY_PORT, Purpose::NodeRelay)],
            Role::Index(_) => &[(INDEX_CLIENT_PORT, Purpose::NodeIndex), (INDEX_SERVER_PORT, Purpose::IndexIndex)],
            Role::Node(_) => &[(NODE_PORT, Purpose::AppNode)],
            Role::Person(_) | Role::Stranger(_) | Role::Guest(_) => &[],
        };
        let host = case.host(role);
        let key = world.key_of(host);
        let listens = |&(port, purpose)| Target { address: World::address_of(host, port), key, purpose };
        rumours.targets.extend(ports.iter().map(listens));
        if matches!(role, Role::Node(_) | Role::Stranger(_)) {
            rumours.keys.push(key);
        }
    }
    rumours
}

fn boot(case: &Case, world: &mut World, seed: &Seed) {
    let mut dice = Dice::new(seed, "boot");
    for number in 0..case.hosts() {
        let host = HostId(number);
        let delay = dice.duration(Duration::ZERO, START);
        match case.role(host) {
            Some(role) if case.is_present(role) => world.boot_after(host, delay),
            Some(_) | None => world.retire(host),
        }
    }
}
