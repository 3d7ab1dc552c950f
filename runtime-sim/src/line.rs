//! The first scenario: a line of friends, one or two relays, one or two federated index servers, payments of both kinds
//! between anybody and anybody, and every fault.
//!
//! | phase | what happens |
//! |---|---|
//! | safety | cards are set up, deals are ordered, faults happen; every checker looks on |
//! | liveness | everything is healed; within a bounded time everything that is open ends |
//! | probe | a payment from end to end and back, in both ways; each must be paid |
//! | rest | the books are compared node by node; then almost nothing happens any more |

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use offset_funder_sm::node::Node;
use offset_index_sm::server::ServerLimits;
use offset_protocol::app::{Command, CommitMode, IndexAddress, Name, Permissions, Refusal};
use offset_protocol::bytes::{Hash, PublicKey};
use offset_protocol::codec::List;
use offset_protocol::machine::{Duration, Instant, Seed};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::relay::RelayAddress;
use offset_relay_sm::server::Limits as RelayLimits;

use crate::card::{Card, NODE_PORT};
use crate::check::friends::Friendships;
use crate::check::restore::Restores;
use crate::check::shadow::{Ordered, Way};
use crate::check::{Invariant, Violation, report, servers, shadow};
use crate::dice::Dice;
use crate::faults::{Family, Injector, Plan, QUIET_FLUSH, Victims};
use crate::host::{HostId, Pace};
use crate::latency::Latency;
use crate::net::{Conditions, StreamCuts};
use crate::people::{App, Chore, DealId, Note, Order, Person, SharedPerson, Stage};
use crate::servers::{INDEX_CLIENT_PORT, INDEX_SERVER_PORT, Index, RELAY_PORT, Relay};
use crate::signatures::{Registry, Signatures};
use crate::trace::Keep;
use crate::world::{Counts, StepKind, World, WorldConfig};

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

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: Hash,
    /// How often things happened.
    pub counts: Counts,
    /// Faults, by family.
    pub faults: BTreeMap<Family, usize>,
    /// Deals that were paid, and that were not.
    pub deals: (usize, usize),
    /// Delivered cuts that were looked at: of friendships, of the whole network.
    pub cuts: (u64, u64),
    /// Restarts that were compared.
    pub restores: u64,
    /// From healing until nothing was open.
    pub settled_after: Duration,
}

/// After healing everything that is open ends within this time.
const SETTLE_LIMIT: Duration = Duration::from_secs(240);
/// A probe is paid within this time.
const PROBE_LIMIT: Duration = Duration::from_secs(150);
/// A probe is tried so often: connections that fell silent are found out by keepalives, and dialled again after a while.
const PROBE_TRIES: u32 = 30;
/// How often it is looked whether all is at rest.
const LOOK: Duration = Duration::from_secs(1);
/// What a buyer lets mediators have: more than they ever ask.
const MAX_FEE: u128 = 1_000_000;
/// What a probe pays, and what its way must carry: the same with all fees.
const PROBE: u128 = 7;
const PROBE_ROOM: u128 = 100;
/// Before this no deal is ordered: cards need some seconds to be set up.
const FIRST_DEAL: Duration = Duration::from_secs(5);
/// Quiet time at the end, and how many turns a host may take in it: heartbeats, keepalives, acknowledgements.
const REST: Duration = Duration::from_secs(75);
const REST_TURNS: u64 = 120;

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
            keep: Keep::Hash,
        }
    }
}

struct Line {
    world: World,
    relays: Vec<HostId>,
    indexes: Vec<HostId>,
    nodes: Vec<HostId>,
    /// The relays on which each node listens.
    homes: Vec<Vec<HostId>>,
    people: Vec<SharedPerson>,
    person_hosts: Vec<HostId>,
    /// `rates[i]`: what node `i` charges for what comes from node `i - 1`, and from node `i + 1`.
    rates: Vec<[Rate; 2]>,
    deals: BTreeMap<DealId, Ordered>,
    orders: Vec<(Instant, usize, Order)>,
    plan: Plan,
    victims: Victims,
    injector: Injector,
    friendships: Friendships,
    restores: Restores,
    currency: Currency,
    max_debt: u128,
}

/// Runs the world that grows from `number`.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run(number: u64, spec: &LineSpec) -> Result<Outcome, Violation> {
    let seed = Seed::from_number(number);
    let mut line = Line::build(&seed, spec);
    let healed_at = Instant::ZERO + spec.safety;
    line.run_until(healed_at)?;
    let victims = line.victims.clone();
    line.injector.heal(&mut line.world, &victims);
    let settled_after = line.settle(SETTLE_LIMIT)?;
    line.probe()?;
    line.check_books()?;
    line.rest()?;
    line.check_after_rest()?;
    let stages: Vec<bool> = line.deals.iter().map(|(deal, ordered)| line.is_paid(*deal, ordered)).collect();
    let paid = stages.iter().filter(|paid| **paid).count();
    Ok(Outcome {
        hash: line.world.trace_hash(),
        counts: line.world.counts(),
        faults: line.injector.counts().clone(),
        deals: (paid, stages.len() - paid),
        cuts: line.friendships.looked_at(),
        restores: line.restores.compared(),
        settled_after,
    })
}

/// Names longer than a name may be do not occur here.
fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_default()
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

impl Line {
    fn build(seed: &Seed, spec: &LineSpec) -> Line {
        let mut dice = Dice::new(seed, "build");
        let note = Latency::Uniform { low: Duration::from_millis(100), high: Duration::from_secs(2) };
        let config =
            WorldConfig { signatures: spec.signatures, conditions: draw_conditions(&mut dice), note, keep: spec.keep };
        let registry = Registry::new(spec.signatures, seed);
        let mut world = World::new(seed, config);
        let hosts = |from: u32, count: u32| (from..from + count).map(HostId).collect::<Vec<_>>();
        let relays = hosts(0, spec.relays);
        let indexes = hosts(spec.relays, spec.indexes);
        let nodes = hosts(spec.relays + spec.indexes, spec.nodes);
        let person_hosts = hosts(spec.relays + spec.indexes + spec.nodes, spec.nodes);
        for _ in &relays {
            world.add_host(Box::new(Relay { limits: RelayLimits::default() }), pace(), drift(&mut dice), 0);
        }
        for &index in &indexes {
            let others = indexes.iter().filter(|other| **other != index);
            let trusted = others.map(|&o| (world.key_of(o), World::address_of(o, INDEX_SERVER_PORT))).collect();
            world.add_host(Box::new(Index { trusted, limits: ServerLimits::default() }), pace(), drift(&mut dice), 0);
        }
        for &person in &person_hosts {
            let card = Card { apps: vec![(world.key_of(person), Permissions::ALL)] };
            world.add_host(Box::new(card), pace(), drift(&mut dice), 0);
        }
        let mut people = Vec::new();
        for (&node, &host) in nodes.iter().zip(&person_hosts) {
            let (key, address) = (world.key_of(node), World::address_of(node, NODE_PORT));
            let person_seed = seed.fork("people").fork(&host.to_string());
            let person = Person::new(host, key, address, registry.identity(&host.to_string()), &person_seed);
            let person = SharedPerson(Rc::new(RefCell::new(person)));
            world.add_host(Box::new(App(person.clone())), pace(), drift(&mut dice), 0);
            people.push(person);
        }
        let all = hosts(0, world.hosts() as u32);
        for &host in &all {
            let delay = dice.duration(Duration::ZERO, Duration::from_millis(500));
            world.boot_after(host, delay);
        }
        let victims = Victims { with_disk: nodes.clone(), hosts: all };
        let friendships = Friendships::new(&world, &nodes);
        let mut line = Line {
            world,
            homes: nodes.iter().map(|_| subset(&mut dice, &relays)).collect(),
            relays,
            indexes,
            nodes,
            people,
            person_hosts,
            rates: Vec::new(),
            deals: BTreeMap::new(),
            orders: Vec::new(),
            plan: Plan::default(),
            victims,
            injector: Injector::default(),
            friendships,
            restores: Restores::new(16),
            currency: "CRED".parse().unwrap_or_else(|_| unreachable!("the name of a currency")),
            max_debt: spec.max_debt,
        };
        line.set_up_cards(&mut dice);
        line.draw_deals(&mut dice, spec);
        if spec.weather == Weather::Foul {
            // In half of the runs the cards are set up in peace.
            let from = Instant::ZERO + if dice.chance(500) { FIRST_DEAL } else { Duration::from_millis(600) };
            line.plan = Plan::draw(&mut dice, &line.victims, from, Instant::ZERO + spec.safety);
        }
        line.schedule();
        line
    }

    /// Every person's list of things to set up.
    fn set_up_cards(&mut self, dice: &mut Dice) {
        let relay_address = |world: &World, host: HostId| RelayAddress {
            public_key: world.key_of(host),
            address: World::address_of(host, RELAY_PORT),
        };
        for n in 0..self.nodes.len() {
            self.rates.push([draw_rate(dice), draw_rate(dice)]);
            let mut chores = Vec::new();
            for &relay in &self.homes[n] {
                let command =
                    Command::AddRelay { relay: relay_address(&self.world, relay), name: name(&relay.to_string()) };
                chores.push(Chore { command, done_if: Some(Refusal::KeyTaken(Name::default())) });
            }
            for index in subset(dice, &self.indexes) {
                let server = IndexAddress {
                    public_key: self.world.key_of(index),
                    address: World::address_of(index, INDEX_CLIENT_PORT),
                };
                let command = Command::AddIndex { server, name: name(&index.to_string()) };
                chores.push(Chore { command, done_if: Some(Refusal::KeyTaken(Name::default())) });
            }
            for (neighbour, rate) in [(n.checked_sub(1), self.rates[n][0]), (Some(n + 1), self.rates[n][1])] {
                let Some(host) = neighbour.and_then(|m| self.nodes.get(m)).copied() else { continue };
                let homes = neighbour.map(|m| self.homes[m].as_slice()).unwrap_or_default();
                let addresses = homes.iter().map(|&relay| relay_address(&self.world, relay)).collect::<Vec<_>>();
                chores.extend(self.befriend(self.world.key_of(host), &name(&host.to_string()), addresses, rate));
            }
            for chore in chores {
                self.people[n].0.borrow_mut().add_chore(chore);
            }
        }
    }

    fn befriend(&self, public_key: PublicKey, name: &Name, relays: Vec<RelayAddress>, rate: Rate) -> Vec<Chore> {
        let (name, currency) = (name.clone(), self.currency);
        let chore = |command| Chore { command, done_if: None };
        vec![
            Chore {
                command: Command::AddFriend { public_key, relays: List::truncated(relays), name: name.clone() },
                done_if: Some(Refusal::KeyTaken(Name::default())),
            },
            chore(Command::EnableFriend { name: name.clone() }),
            chore(Command::OpenCurrency { name: name.clone(), currency }),
            chore(Command::SetMaxDebt { name: name.clone(), currency, max_debt: self.max_debt }),
            chore(Command::SetRate { name, currency, rate }),
        ]
    }

    fn draw_deals(&mut self, dice: &mut Dice, spec: &LineSpec) {
        for number in 0..spec.deals {
            let at = Instant::ZERO + dice.duration(FIRST_DEAL, spec.safety);
            let buyer = dice.below(self.nodes.len() as u64) as usize;
            let step = dice.between(1, self.nodes.len() as u64 - 1) as usize;
            let seller = (buyer + step) % self.nodes.len();
            let mode = if dice.chance(500) { CommitMode::ByHand } else { CommitMode::InBand };
            let amount = u128::from(dice.between(1, 3_000));
            let tries = dice.between(1, 3) as u32;
            let patience = Duration::from_secs(dice.between(4, 40));
            let order = self.order(DealId(number.into()), (buyer, seller), amount, mode, (tries, patience));
            self.orders.push((at, buyer, order));
        }
    }

    fn order(
        &mut self,
        deal: DealId,
        (buyer, seller): (usize, usize),
        amount: u128,
        mode: CommitMode,
        (tries, patience): (u32, Duration),
    ) -> Order {
        let way = self.way(buyer, seller);
        self.deals.insert(deal, Ordered { buyer, seller, currency: self.currency, amount, way });
        Order {
            deal,
            seller: self.person_hosts[seller],
            currency: self.currency,
            amount,
            max_fee: MAX_FEE,
            mode,
            tries,
            patience,
        }
    }

    /// The only way from one node to another, with what its mediators charge.
    fn way(&self, buyer: usize, seller: usize) -> Way {
        let mut steps: Vec<usize> = (buyer.min(seller)..=buyer.max(seller)).collect();
        let from = if buyer < seller { 0 } else { 1 };
        if buyer > seller {
            steps.reverse();
        }
        let mediators = steps.get(1..steps.len() - 1).unwrap_or_default();
        Way {
            nodes: steps.iter().map(|&n| self.nodes[n]).collect(),
            rates: mediators.iter().map(|&n| self.rates[n][from]).collect(),
        }
    }

    /// Orders first, then faults, as steps of the world's plan.
    fn schedule(&mut self) {
        let orders = self.orders.iter().map(|(at, _, _)| *at);
        let faults = self.plan.faults.iter().map(|(at, _)| *at);
        for (step, at) in orders.chain(faults).enumerate() {
            self.world.plan_at(at, step as u32);
        }
    }

    fn on_plan(&mut self, step: usize) {
        if let Some((_, buyer, order)) = self.orders.get(step) {
            let (host, note) = (self.person_hosts[*buyer], Note::Order(order.clone()));
            self.world.tell(host, note);
        } else if let Some((_, fault)) = self.plan.faults.get(step - self.orders.len()) {
            self.injector.inject(&mut self.world, fault);
        }
    }

    fn run_until(&mut self, until: Instant) -> Result<(), Violation> {
        loop {
            let step = self.world.step(until).map_err(|broken| Violation {
                invariant: Invariant::Laws,
                at: broken.at,
                host: None,
                what: broken.to_string(),
            })?;
            let Some(step) = step else { break };
            match step.kind {
                StepKind::Plan(number) => self.on_plan(number as usize),
                StepKind::Turn { wrote } => {
                    self.friendships.check(&self.world, step.host)?;
                    if wrote {
                        self.restores.check(&self.world, step.host)?;
                    }
                }
                StepKind::Network | StepKind::Flushed | StepKind::Booted | StepKind::Crashed | StepKind::Stale => {}
            }
        }
        self.world.wait_until(until);
        Ok(())
    }

    /// Runs until nothing is open; gives how long that took.
    fn settle(&mut self, limit: Duration) -> Result<Duration, Violation> {
        let began = self.world.now();
        loop {
            self.run_until(self.world.now() + LOOK)?;
            match shadow::check_at_rest(&self.world, &self.nodes, &self.people) {
                Ok(()) => return Ok(self.world.now().since(began)),
                Err(stuck) if self.world.now() > began + limit => return Err(stuck),
                Err(_) => {}
            }
        }
    }

    /// A payment from end to end and one back, in both ways.
    fn probe(&mut self) -> Result<(), Violation> {
        let last = self.nodes.len() - 1;
        let probes = [(0, last, CommitMode::ByHand), (last, 0, CommitMode::InBand)];
        for (number, (buyer, seller, mode)) in probes.into_iter().enumerate() {
            let deal = DealId(1_000_000 + number as u64);
            if self.room(&self.way(buyer, seller)) < PROBE_ROOM {
                // Whoever could pay has done so: an honest network refuses.
                continue;
            }
            let order = self.order(deal, (buyer, seller), PROBE, mode, (PROBE_TRIES, Duration::from_secs(20)));
            let host = self.person_hosts[buyer];
            self.world.tell(host, Note::Order(order));
            let limit = self.world.now() + PROBE_LIMIT;
            while !self.is_paid(deal, &self.deals[&deal]) {
                let stuck = self.world.now() > limit || self.has_failed(deal, buyer);
                if stuck {
                    let person = self.people[buyer].0.borrow();
                    let what = format!("the probe {:?} was not paid", person.deals().purchases().last());
                    return Err(Violation {
                        invariant: Invariant::Resolution,
                        at: self.world.now(),
                        host: Some(host),
                        what,
                    });
                }
                self.run_until(self.world.now() + LOOK)?;
            }
        }
        self.settle(PROBE_LIMIT).map(|_| ())
    }

    /// What a way can carry, as its nodes know it: on a line that is the maximum flow.
    fn room(&self, way: &Way) -> u128 {
        let hop = |pair: &[HostId]| {
            let from = self.world.key_of(pair[0]);
            let node = self.world.machine::<Node>(pair[1])?;
            let channel = node.money().channels().find(|channel| channel.friend() == from)?;
            Some(channel.recv_capacity(&self.currency))
        };
        way.nodes.windows(2).map(|pair| hop(pair).unwrap_or(0)).min().unwrap_or(0)
    }

    fn is_paid(&self, deal: DealId, ordered: &Ordered) -> bool {
        let person = self.people[ordered.buyer].0.borrow();
        person.deals().purchases().any(|(id, bought)| id == deal && matches!(bought.stage, Stage::Paid { .. }))
    }

    fn has_failed(&self, deal: DealId, buyer: usize) -> bool {
        let person = self.people[buyer].0.borrow();
        person.deals().purchases().any(|(id, bought)| id == deal && matches!(bought.stage, Stage::Failed(_)))
    }

    fn check_books(&mut self) -> Result<(), Violation> {
        // What is at rest at the nodes may still be on its way to the people.
        self.run_until(self.world.now() + Duration::from_secs(3))?;
        shadow::check(&self.world, &self.nodes, &self.people, &self.deals)
    }

    /// What apps show, what index servers hold and what relays carry is what it should be. Only after a rest: a connection
    /// that fell silent has to be found out, and small changes are told to index servers with the next heartbeat.
    fn check_after_rest(&self) -> Result<(), Violation> {
        self.friendships.check_all_delivered(&self.world)?;
        for (&node, person) in self.nodes.iter().zip(&self.people) {
            report::check(&self.world, node, person)?;
        }
        servers::check_indexes(&self.world, &self.indexes, &self.nodes)?;
        let listeners: Vec<usize> =
            self.relays.iter().map(|relay| self.homes.iter().filter(|homes| homes.contains(relay)).count()).collect();
        servers::check_relays(&self.world, &self.relays, &listeners, self.nodes.len() - 1)
    }

    /// Almost nothing happens when nobody wants anything.
    fn rest(&mut self) -> Result<(), Violation> {
        let before = self.world.counts().turns;
        self.run_until(self.world.now() + REST)?;
        let turns = self.world.counts().turns - before;
        if turns > REST_TURNS * self.world.hosts() as u64 {
            let what = format!("{turns} turns of {} hosts in a minute of rest", self.world.hosts());
            return Err(Violation { invariant: Invariant::Resolution, at: self.world.now(), host: None, what });
        }
        Ok(())
    }
}

fn pace() -> Pace {
    Pace { turn: Latency::Uniform { low: Duration::ZERO, high: Duration::from_micros(400) }, flush: QUIET_FLUSH }
}

/// Clocks of ordinary machines, and now and then a bad one.
fn drift(dice: &mut Dice) -> i32 {
    let most = if dice.chance(50) { 20_000 } else { 100 };
    dice.between(0, 2 * most) as i32 - most as i32
}

fn draw_rate(dice: &mut Dice) -> Rate {
    Rate { mul: if dice.chance(500) { 0 } else { dice.below(1 << 26) as u32 }, add: dice.below(4) as u32 }
}

/// One of them at least.
fn subset(dice: &mut Dice, hosts: &[HostId]) -> Vec<HostId> {
    let first = dice.below(hosts.len() as u64) as usize;
    let mut chosen: Vec<_> = hosts.get(first).copied().into_iter().collect();
    chosen.extend(hosts.iter().copied().filter(|host| *host != hosts[first]).filter(|_| dice.chance(500)));
    chosen
}
