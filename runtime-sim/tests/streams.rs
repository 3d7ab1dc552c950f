//! The ground of the simulator by itself: tiny machines over real secure channels, every fault of the network.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::RefCell;
use std::rc::Rc;

use offset_protocol::bytes::{Hash, PublicKey};
use offset_protocol::machine::{Alarm, Duration, Instant, Machine, Seed};
use offset_protocol::net::{Address, ConnId, ConnIds, NetCommand, NetEvent, Purpose};
use offset_runtime_sim::dice::Dice;
use offset_runtime_sim::faults::{Injector, Plan, Victims};
use offset_runtime_sim::host::{Boot, Effect, HostId, HostInput, Hosted, Pace, Process, Program, Resident};
use offset_runtime_sim::keys::Keys;
use offset_runtime_sim::latency::Latency;
use offset_runtime_sim::net::{Conditions, StreamCuts};
use offset_runtime_sim::signatures::Signatures;
use offset_runtime_sim::trace::Keep;
use offset_runtime_sim::world::{StepKind, World, WorldConfig};

const PORT: u16 = 7;

/// Sends back whatever it hears.
#[derive(Default)]
struct Echo(Vec<NetCommand>);

impl Machine for Echo {
    type Input = NetEvent;
    type Output = NetCommand;
    fn handle(&mut self, _now: Instant, event: NetEvent) {
        match event {
            NetEvent::Incoming { conn, .. } => self.0.push(NetCommand::Admit { conn }),
            NetEvent::Message { conn, bytes } => self.0.push(NetCommand::Send { conn, bytes }),
            NetEvent::Opened { .. } | NetEvent::Closed { .. } => {}
        }
    }
    fn poll_output(&mut self) -> Option<NetCommand> {
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }
    fn poll_timeout(&self) -> Option<Alarm> {
        None
    }
}

impl Resident for Echo {
    fn input(input: HostInput) -> Option<NetEvent> {
        if let HostInput::Net(event) = input { Some(event) } else { None }
    }
    fn effect(output: NetCommand) -> Option<Effect> {
        Some(Effect::Net(output))
    }
}

/// Keeps eight messages of growing size under way and checks that they come back in order.
struct Caller {
    server: (PublicKey, Address),
    conns: ConnIds,
    conn: Option<ConnId>,
    redial_at: Option<Instant>,
    sent: u64,
    back: u64,
    heard: Rc<RefCell<u64>>,
    outputs: Vec<NetCommand>,
}

fn message(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number as usize % 23) * 97, number as u8);
    bytes
}

impl Caller {
    fn send(&mut self, conn: ConnId) {
        while self.sent < self.back + 8 {
            self.outputs.push(NetCommand::Send { conn, bytes: message(self.sent) });
            self.sent += 1;
        }
    }
}

impl Machine for Caller {
    type Input = HostInput;
    type Output = NetCommand;
    fn handle(&mut self, now: Instant, input: HostInput) {
        match input {
            HostInput::Net(NetEvent::Opened { conn }) => {
                (self.sent, self.back) = (0, 0);
                self.send(conn);
            }
            HostInput::Net(NetEvent::Message { conn, bytes }) => {
                assert_eq!(bytes, message(self.back), "a message came out of order or changed");
                self.back += 1;
                *self.heard.borrow_mut() += 1;
                self.send(conn);
            }
            HostInput::Net(NetEvent::Closed { conn }) => {
                assert_eq!(self.conn, Some(conn), "a connection ended that was not there");
                self.conn = None;
                self.redial_at = Some(now + Duration::from_millis(300));
            }
            _ => {}
        }
        if self.conn.is_none() && self.redial_at.is_none_or(|at| at <= now) {
            let conn = self.conns.allocate();
            self.conn = Some(conn);
            let (peer, address) = self.server.clone();
            self.outputs.push(NetCommand::Connect { conn, purpose: Purpose::AppNode, address, peer });
        }
    }
    fn poll_output(&mut self) -> Option<NetCommand> {
        if self.outputs.is_empty() { None } else { Some(self.outputs.remove(0)) }
    }
    fn poll_timeout(&self) -> Option<Alarm> {
        if self.conn.is_some() {
            return None;
        }
        Some(Alarm { at: self.redial_at.unwrap_or(Instant::ZERO), why: "redial" })
    }
}

impl Resident for Caller {
    fn input(input: HostInput) -> Option<HostInput> {
        Some(input)
    }
    fn effect(output: NetCommand) -> Option<Effect> {
        Some(Effect::Net(output))
    }
}

struct EchoProgram;

impl Program for EchoProgram {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        vec![(PORT, Purpose::AppNode)]
    }
    fn start(&mut self, _boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        Ok(Box::new(Hosted::new(Echo::default(), Vec::new())))
    }
}

struct CallerProgram {
    server: (PublicKey, Address),
    heard: Rc<RefCell<u64>>,
}

impl Program for CallerProgram {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        Vec::new()
    }
    fn start(&mut self, _boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        let caller = Caller {
            server: self.server.clone(),
            conns: ConnIds::lane(0, 1),
            conn: None,
            redial_at: None,
            sent: 0,
            back: 0,
            heard: self.heard.clone(),
            outputs: Vec::new(),
        };
        Ok(Box::new(Hosted::new(caller, vec![HostInput::Tick])))
    }
}

fn at(s: u64) -> Instant {
    Instant::from_micros(s * 1_000_000)
}

fn config(dice: &mut Dice) -> WorldConfig {
    let conditions = Conditions {
        latency: Latency::LogNormal { median: Duration::from_millis(15), sigma_milli: 500 },
        bandwidth: [0, 200_000][dice.below(2) as usize],
        send_buffer: dice.between(500, 65_536) as usize,
        receive_buffer: dice.between(500, 65_536) as usize,
        cuts: [StreamCuts::Whole, StreamCuts::Anywhere][dice.below(2) as usize],
    };
    let note = Latency::Constant(Duration::from_secs(1));
    WorldConfig { signatures: Signatures::Cheap, keys: Keys::Real, conditions, note, keep: Keep::Hash }
}

/// Runs one server and three callers; gives what each caller heard while faults happened and after, and the trace's hash.
fn run(number: u64, with_faults: bool) -> (Vec<(u64, u64)>, Hash) {
    let seed = Seed::from_number(number);
    let mut dice = Dice::new(&seed, "test");
    let mut world = World::new(&seed, config(&mut dice));
    let pace = Pace {
        turn: Latency::Uniform { low: Duration::ZERO, high: Duration::from_micros(300) },
        flush: Latency::Constant(Duration::from_millis(1)),
    };
    let server = world.add_host(Box::new(EchoProgram), pace, 0, 0);
    let address = (world.key_of(server), World::address_of(server, PORT));
    let heard: Vec<_> = (0..3).map(|_| Rc::new(RefCell::new(0))).collect();
    let mut hosts = vec![server];
    for (n, heard) in heard.iter().enumerate() {
        let program = CallerProgram { server: address.clone(), heard: heard.clone() };
        hosts.push(world.add_host(Box::new(program), pace, 300 * n as i32 - 200, 0));
    }
    for &host in &hosts {
        world.boot_after(host, Duration::ZERO);
    }
    // Nobody has a disk here, so nobody loses one or leaves for good.
    let victims = Victims { hosts: hosts.clone(), with_disk: Vec::new() };
    let plan = if with_faults { Plan::draw(&mut dice, &victims, at(1), at(60)) } else { Plan::default() };
    for (step, (at, _)) in plan.faults.iter().enumerate() {
        world.plan_at(*at, step as u32);
    }
    let mut injector = Injector::default();
    while let Some(step) = world.step(at(60)).unwrap() {
        if let StepKind::Plan(number) = step.kind {
            injector.inject(&mut world, &plan.faults[number as usize].1);
        }
    }
    injector.heal(&mut world, &victims);
    let middle: Vec<_> = heard.iter().map(|heard| *heard.borrow()).collect();
    world.run_until(at(120)).unwrap();
    let end = heard.iter().map(|heard| *heard.borrow());
    (middle.into_iter().zip(end).collect(), world.trace_hash())
}

#[test]
fn a_quiet_network_carries_everything() {
    let (heard, _) = run(1, false);
    assert!(heard.iter().all(|(middle, end)| *middle > 1_000 && end > middle), "{heard:?}");
}

#[test]
fn streams_survive_every_fault_and_flow_again_after_healing() {
    for seed in 0..5 {
        let (heard, _) = run(seed, true);
        assert!(heard.iter().all(|(middle, end)| *end > middle + 50), "seed {seed}: {heard:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 4] {
        assert_eq!(run(seed, true), run(seed, true));
    }
    assert_ne!(run(3, true).1, run(4, true).1);
}

#[test]
fn hosts_have_the_names_that_addresses_use() {
    assert_eq!(World::address_of(HostId(3), PORT).as_str(), "h3:7");
}
