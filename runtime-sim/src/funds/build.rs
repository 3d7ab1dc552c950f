//! From a case to a world of funders: keys, nodes, friendships.
//!
//! | set up | how | for |
//! |---|---|---|
//! | [`SetUp::AsEvents`](super::SetUp) | every node's person gives all commands at the beginning; links come up as they do | small worlds: faults may strike meanwhile |
//! | [`SetUp::Before`](super::SetUp) | the same commands; then two friends at a time say what they have to say, at once and in a world of their own, before time begins | large worlds |
//!
//! Either way the very machines set themselves up: nothing is written into them from outside.

use std::collections::VecDeque;

use offset_funder_sm::funder::{Funder, FunderConfig, FunderInput, FunderOutput};
use offset_protocol::app::{Command, IndexAddress, Name};
use offset_protocol::bytes::{CommandId, PublicKey};
use offset_protocol::codec::List;
use offset_protocol::friend::FriendMessage;
use offset_protocol::index::{Entry, EntryKey};
use offset_protocol::limits::ACK_DELAY;
use offset_protocol::machine::{Instant, Machine, Seed, turn};
use offset_protocol::money::Currency;

use super::event::Report;
use super::faults::needs_disk;
use super::links::{Link, Side};
use super::people::People;
use super::watch::Watcher;
use super::world::{Node, Parts, Rare, World};
use super::{Laws, Options, SetUp};
use crate::case::{Case, Operation, Role, Setting, Terms};
use crate::check::{Invariant, Violation};
use crate::clock::Clock;
use crate::dice::Dice;
use crate::keys::Keys;
use crate::signatures::{Registry, Signatures};
use crate::trace::Trace;

/// The app of all people.
const APP: PublicKey = PublicKey([0xa0; 32]);
/// Where time begins for nodes that were set up before it.
const BEGINNING: Instant = Instant::from_micros(2 * ACK_DELAY.as_micros());

/// The name by which friends call a node.
pub(super) fn name_of(node: u32) -> Name {
    Name::new(&node.to_string()).unwrap_or_default()
}

/// The world of a case, set up or about to be.
pub(super) fn build(case: &Case, options: &Options) -> Result<World, Violation> {
    let seed = Seed::from_number(case.seed);
    let registry = Registry::new(Signatures::Cheap, Keys::Cheap, &seed);
    let keys: Vec<PublicKey> = (0..case.nodes.len() as u32).map(|node| registry.numbered(node).public_key()).collect();
    let currencies: Vec<Currency> = case.currencies.iter().map(|name| name.0).collect();
    let mut nodes = Vec::with_capacity(keys.len());
    for node in 0..keys.len() as u32 {
        nodes.push(new_node(case, &registry, &seed, node)?);
    }
    let present = |node: u32| case.is_present(Role::Node(node));
    let links: Vec<Link> = case
        .friendships
        .iter()
        .filter(|pair| present(pair.a) && present(pair.b) && pair.a != pair.b)
        .map(|pair| Link::new(pair.a, pair.b))
        .collect();
    let people = People::new(APP, currencies, case.note, Dice::new(&seed, "people"), keys.len());
    let watcher = Watcher::new(options, &keys);
    let mut world = World::new(Parts {
        people,
        nodes,
        keys,
        links,
        first_host: case.host(Role::Node(0)).0,
        index_hosts: case.host(Role::Index(0)).0..case.host(Role::Node(0)).0,
        watcher,
        latency: case.conditions.latency,
        laws: Laws { every: options.laws_every, dice: Dice::new(&seed, "laws") },
        trace: Trace::new(options.keep),
        registry,
        seed,
    });
    give_disks(&mut world, case, options);
    set_up(&mut world, case, options)?;
    Ok(world)
}

fn new_node(case: &Case, registry: &Registry, seed: &Seed, node: u32) -> Result<Node, Violation> {
    let drift = case.nodes.get(node as usize).map_or(0, |plan| plan.drift_ppm);
    let config = FunderConfig { signer: registry.numbered(node), seed: seed_of(seed, node, 0) };
    let funder = Funder::restore(config, []).map_err(|error| Violation {
        invariant: Invariant::Laws,
        at: Instant::ZERO,
        host: Some(case.host(Role::Node(node))),
        what: error.to_string(),
    })?;
    Ok(Node::new(funder, Clock::new(Instant::ZERO, drift, 0)))
}

/// The randomness of a node's life.
pub(super) fn seed_of(seed: &Seed, node: u32, life: u32) -> Seed {
    seed.fork(&format!("node {node} {life}"))
}

/// Disks for nodes that may stop or stand still, and for a sample; all others remember nothing.
fn give_disks(world: &mut World, case: &Case, options: &Options) {
    let mut dice = Dice::new(&world.seed, "disks");
    let mut with_disk: Vec<bool> = world.nodes.iter().map(|_| dice.chance(options.sampled_per_mille)).collect();
    for timed in &case.faults {
        if let Some(node) = needs_disk(&timed.what).and_then(|host| host.0.checked_sub(world.first_host))
            && let Some(disk) = with_disk.get_mut(node as usize)
        {
            *disk = true;
        }
    }
    let all_are_read = world.watcher.reads_records();
    for (node, with_disk) in world.nodes.iter_mut().zip(with_disk) {
        if with_disk {
            node.rare = Some(Box::new(Rare::default()));
        }
        if let Some(funder) = &mut node.funder {
            // People here hear replies and events, and nobody reads reports.
            funder.tell_no_reports();
            if !with_disk && !all_are_read {
                funder.keep_no_records();
            }
        }
    }
}

fn set_up(world: &mut World, case: &Case, options: &Options) -> Result<(), Violation> {
    for timed in &case.operations {
        if let Operation::Configure { node, setting: Setting::Grant { friend, .. } } = &timed.what {
            world.watcher.limits_changed.insert((*node, *friend));
        }
    }
    match options.set_up {
        SetUp::AsEvents => {
            let friends = FriendsOf::new(case);
            for node in present(case) {
                world.errands.extend(friends.commands(case, world, node).into_iter().map(set_up_command));
                world.run_errands(node)?;
            }
            Ok(())
        }
        SetUp::Before => Before { world, inbox: VecDeque::new() }.run(case),
    }
}

fn set_up_command(command: Command) -> FunderInput {
    FunderInput::Command { app: APP, id: CommandId([0; CommandId::SIZE]), command }
}

fn present(case: &Case) -> impl Iterator<Item = u32> {
    (0..case.nodes.len() as u32).filter(|node| case.is_present(Role::Node(*node)))
}

/// Which friendships each node has, and on which side of them it is: what it is told is made only when it is told, for all
/// commands of a large world together take more room than its nodes.
struct FriendsOf {
    /// Where a node's friendships begin; one more for the end.
    starts: Vec<u32>,
    /// Places in the case, in its order.
    friendships: Vec<(u32, Side)>,
}

impl FriendsOf {
    fn new(case: &Case) -> Self {
        let nodes = case.nodes.len();
        let is_there = |node: u32| (node as usize) < nodes && case.is_present(Role::Node(node));
        let real = |a: u32, b: u32| a != b && is_there(a) && is_there(b);
        let all = || case.friendships.iter().zip(0u32..).filter(|(pair, _)| real(pair.a, pair.b));
        let mut starts = vec![0u32; nodes + 1];
        for node in all().flat_map(|(pair, _)| [pair.a, pair.b]) {
            starts[node as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut friendships = vec![(0, Side::A); starts[nodes] as usize];
        for (pair, place) in all() {
            for (node, side) in [(pair.a, Side::A), (pair.b, Side::B)] {
                friendships[next[node as usize] as usize] = (place, side);
                next[node as usize] += 1;
            }
        }
        FriendsOf { starts, friendships }
    }

    /// What a node is told.
    fn commands(&self, case: &Case, world: &World, node: u32) -> Vec<Command> {
        let mut commands = vec![use_the_index()];
        let own = self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize;
        for &(place, side) in &self.friendships[own] {
            let pair = &case.friendships[place as usize];
            let friend = match side {
                Side::A => pair.b,
                Side::B => pair.a,
            };
            befriend(&mut commands, case, world, friend, &pair.terms, side);
        }
        commands
    }
}

fn use_the_index() -> Command {
    // There is one, and nobody dials it: the key is of no account.
    let server = IndexAddress { public_key: PublicKey([0x1d; 32]), address: offset_protocol::net::Address::default() };
    Command::AddIndex { server, name: Name::default() }
}

fn befriend(into: &mut Vec<Command>, case: &Case, world: &World, friend: u32, terms: &[Terms], side: Side) {
    let name = name_of(friend);
    let public_key = world.keys[friend as usize];
    into.push(Command::AddFriend { public_key, relays: List::new(), name: name.clone() });
    for terms in terms {
        let Some(currency) = case.currencies.get(terms.currency as usize).map(|name| name.0) else { continue };
        let (max_debt, rate) = match side {
            Side::A => (terms.a_grants, terms.a_charges),
            Side::B => (terms.b_grants, terms.b_charges),
        };
        into.push(Command::OpenCurrency { name: name.clone(), currency });
        into.push(Command::SetMaxDebt { name: name.clone(), currency, max_debt });
        into.push(Command::SetRate { name: name.clone(), currency, rate: rate.into() });
    }
}

/// Nodes that set themselves up before time begins.
struct Before<'w> {
    world: &'w mut World,
    /// What was said: to whom, by whom.
    inbox: VecDeque<(u32, PublicKey, FriendMessage)>,
}

impl Before<'_> {
    fn run(mut self, case: &Case) -> Result<(), Violation> {
        let friends = FriendsOf::new(case);
        for node in present(case) {
            let commands = friends.commands(case, self.world, node);
            self.talk(node, Instant::ZERO, commands.into_iter().map(set_up_command).collect())?;
        }
        drop(friends);
        for link in 0..self.world.links.len() {
            let (a, b) = self.world.links[link].connect();
            for (node, friend) in [(a, b), (b, a)] {
                let friend = self.world.keys[friend as usize];
                self.talk(node, Instant::ZERO, vec![FunderInput::LinkUp { friend }])?;
            }
            self.deliver(Instant::ZERO)?;
        }
        // Acknowledgements are due; whoever hears one has nothing to say to it.
        for node in 0..self.world.nodes.len() as u32 {
            let due = |world: &World| world.funder(node).and_then(Machine::poll_timeout);
            while let Some(alarm) = due(self.world) {
                self.talk(node, alarm.at, vec![FunderInput::Tick])?;
                self.deliver(alarm.at)?;
            }
        }
        self.world.now = BEGINNING;
        Ok(())
    }

    fn deliver(&mut self, at: Instant) -> Result<(), Violation> {
        while let Some((to, friend, message)) = self.inbox.pop_front() {
            let message = self.world.checked(to, friend, message);
            self.talk(to, at, vec![FunderInput::Friend { friend, message }])?;
        }
        Ok(())
    }

    /// One turn, with a disk that takes no time.
    fn talk(&mut self, node: u32, at: Instant, mut inputs: Vec<FunderInput>) -> Result<(), Violation> {
        let from = self.world.keys[node as usize];
        let mut report = Report { from: node, anew: false, set: Vec::new(), removed: Vec::new() };
        while !inputs.is_empty() {
            let state = &mut self.world.nodes[node as usize];
            let Some(funder) = &mut state.funder else { return Ok(()) };
            let mut outputs = Vec::new();
            turn(funder, at, inputs.drain(..), |output| outputs.push(output));
            for output in outputs {
                match output {
                    FunderOutput::Persist { revision, changes } => {
                        self.world.watcher.on_write(&changes);
                        if let Some(rare) = &mut state.rare {
                            rare.disk.write(revision, changes);
                            rare.disk.flush(revision);
                        }
                        inputs.push(FunderInput::Durable(revision));
                    }
                    FunderOutput::Friend { friend, message } => {
                        let to = crate::signatures::number_in(&friend);
                        self.inbox.extend(to.map(|to| (to, from, message)));
                    }
                    FunderOutput::SetEntry(entry) => report.set.push(entry),
                    FunderOutput::RemoveEntry { friend, currency } => {
                        report.set.retain(|entry| (entry.friend, entry.currency) != (friend, currency));
                        report.removed.push(EntryKey { friend, currency });
                    }
                    FunderOutput::DropLink { .. }
                    | FunderOutput::Reply { .. }
                    | FunderOutput::Event { .. }
                    | FunderOutput::Report(_)
                    | FunderOutput::Snapshot { .. }
                    | FunderOutput::SideRecordDurable { .. }
                    | FunderOutput::FindRoutes { .. }
                    | FunderOutput::EdgeFailed { .. }
                    | FunderOutput::Listen { .. }
                    | FunderOutput::StopListening { .. }
                    | FunderOutput::KeepLink { .. }
                    | FunderOutput::StopLink { .. }
                    | FunderOutput::UseIndex { .. }
                    | FunderOutput::StopIndex { .. }
                    | FunderOutput::Disagrees(_) => {}
                }
            }
            self.world.check_after_turn(node)?;
        }
        // Of several values of one entry the last counts.
        report.set.reverse();
        report.set.sort_by_key(Entry::key);
        report.set.dedup_by_key(|entry| entry.key());
        self.world.index.report(&from, &report);
        Ok(())
    }
}
