//! A cheating relay: the honest machine decides who is joined with whom, but the frames of tunnels pass through our hands.
//!
//! The machine is never told to let go of a tunnel to its host: we forward each frame, or do something else with it.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::{decode, encode};
use offset_protocol::machine::{Alarm, Duration, Instant};
use offset_protocol::net::{ConnId, NetCommand, NetEvent, Purpose};
use offset_protocol::relay::{FailReason, FromRelay, LimitScope, MAX_RELAY_MESSAGE, RelayShare, ToRelay};

use super::hand::SharedHand;
use super::{RelayTrick, Trick, bits};
use crate::dice::Dice;
use crate::host::{Boot, Effect, HostInput, LawBroken, Process, Program};
use crate::servers::Relay;

/// What is done with a frame.
const WITH_FRAMES: [RelayTrick; 5] = [
    RelayTrick::DropFrame,
    RelayTrick::DelayFrame,
    RelayTrick::RepeatFrame,
    RelayTrick::CrossFrame,
    RelayTrick::TamperFrame,
];
/// A frame is held up for this long at the most.
const LONGEST_DELAY: Duration = Duration::from_secs(3);

/// A relay that cheats.
pub(crate) struct CheatingRelay {
    relay: Relay,
    hand: SharedHand<RelayTrick>,
}

impl CheatingRelay {
    pub(super) fn new(relay: Relay, hand: SharedHand<RelayTrick>) -> Self {
        CheatingRelay { relay, hand }
    }
}

impl Program for CheatingRelay {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        self.relay.ports()
    }

    fn drains(&self) -> bool {
        self.relay.drains()
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        self.hand.borrow_mut().start();
        let relay = self.relay.start(boot)?;
        Ok(Box::new(Filter {
            relay,
            hand: self.hand.clone(),
            now: Instant::ZERO,
            peers: BTreeMap::new(),
            listeners: BTreeSet::new(),
            joined: BTreeMap::new(),
            heard: Vec::new(),
            delayed: VecDeque::new(),
        }))
    }
}

struct Filter {
    relay: Box<dyn Process>,
    hand: SharedHand<RelayTrick>,
    now: Instant,
    peers: BTreeMap<ConnId, PublicKey>,
    listeners: BTreeSet<ConnId>,
    /// The other half of each tunnel.
    joined: BTreeMap<ConnId, ConnId>,
    /// What happened and was not looked at.
    heard: Vec<HostInput>,
    /// Frames, with the connection that they go out on.
    delayed: VecDeque<(Instant, ConnId, Vec<u8>)>,
}

impl Process for Filter {
    fn push(&mut self, input: HostInput) {
        self.heard.push(input);
    }

    fn turn(&mut self, now: Instant, dice: &mut Dice, effects: &mut Vec<Effect>) -> Result<(), LawBroken> {
        self.now = now;
        for input in std::mem::take(&mut self.heard) {
            match input {
                HostInput::Net(event) => self.on_net(event, effects),
                other => self.relay.push(other),
            }
        }
        self.let_go(effects);
        let mut wanted = Vec::new();
        self.relay.turn(now, dice, &mut wanted)?;
        for effect in wanted {
            match effect {
                Effect::Join { a, b } => {
                    self.joined.extend([(a, b), (b, a)]);
                    effects.extend([Effect::Resume { conn: a }, Effect::Resume { conn: b }]);
                }
                other => effects.push(other),
            }
        }
        Ok(())
    }

    fn alarm(&self) -> Option<Alarm> {
        let delayed = self.delayed.front().map(|(at, ..)| Alarm { at: *at, why: "cheater: a frame" });
        Alarm::earliest(self.relay.alarm(), delayed)
    }

    fn machine(&self) -> &dyn Any {
        &()
    }
}

impl Filter {
    fn draw(&self, among: &[RelayTrick]) -> Option<RelayTrick> {
        self.hand.borrow_mut().draw(self.now, among)
    }

    fn on_net(&mut self, event: NetEvent, effects: &mut Vec<Effect>) {
        match event {
            NetEvent::Message { conn, bytes } => match self.joined.get(&conn).copied() {
                Some(other) => {
                    effects.push(Effect::Resume { conn });
                    self.on_frame(other, bytes, effects);
                }
                None => self.on_request(conn, bytes, effects),
            },
            NetEvent::Closed { conn } => self.on_closed(conn, effects),
            NetEvent::Incoming { conn, peer, .. } => {
                self.peers.insert(conn, peer);
                self.relay.push(HostInput::Net(event));
            }
            NetEvent::Opened { .. } => self.relay.push(HostInput::Net(event)),
        }
    }

    fn on_closed(&mut self, conn: ConnId, effects: &mut Vec<Effect>) {
        self.peers.remove(&conn);
        self.listeners.remove(&conn);
        if let Some(other) = self.joined.remove(&conn) {
            self.joined.remove(&other);
            self.relay.push(HostInput::JoinEnded { a: conn, b: other });
            effects.push(Effect::Net(NetCommand::Close { conn: other }));
        }
        self.relay.push(HostInput::Net(NetEvent::Closed { conn }));
    }

    /// What a connection is for.
    fn on_request(&mut self, conn: ConnId, bytes: Vec<u8>, effects: &mut Vec<Effect>) {
        let send = |message: &FromRelay| Effect::Net(NetCommand::Send { conn, bytes: encode(message) });
        match self.draw(&[RelayTrick::Refuse, RelayTrick::Forget]) {
            Some(RelayTrick::Refuse) => {
                effects.push(send(&FromRelay::Failed { reason: FailReason::Busy { limit: LimitScope::Total } }));
                return effects.push(Effect::Net(NetCommand::Close { conn }));
            }
            // It says yes to whatever was asked, and that was all.
            Some(_) if decode(&bytes, MAX_RELAY_MESSAGE) == Ok(ToRelay::Listen) => {
                let share = RelayShare { halves: 1, tunnel_ends: 1, bytes_per_s: 1, burst_bytes: 1 };
                return effects.push(send(&FromRelay::Listening { share }));
            }
            Some(_) => return effects.push(send(&FromRelay::Ready)),
            None => {}
        }
        if decode(&bytes, MAX_RELAY_MESSAGE) == Ok(ToRelay::Listen) {
            self.listeners.insert(conn);
        }
        self.relay.push(HostInput::Net(NetEvent::Message { conn, bytes }));
        self.invent_call(effects);
    }

    /// Somebody hears of a call: of a node that is known here, or of nobody.
    fn invent_call(&mut self, effects: &mut Vec<Effect>) {
        if self.listeners.is_empty() || self.draw(&[RelayTrick::InventCalls]).is_none() {
            return;
        }
        let mut hand = self.hand.borrow_mut();
        let listeners: Vec<ConnId> = self.listeners.iter().copied().collect();
        let known: Vec<PublicKey> = self.peers.values().copied().collect();
        let Some(&conn) = hand.dice.pick(&listeners) else { return };
        let stranger = PublicKey(bits::bytes(&mut hand.dice));
        let from = if hand.dice.chance(500) { hand.dice.pick(&known).copied().unwrap_or(stranger) } else { stranger };
        effects.push(Effect::Net(NetCommand::Send { conn, bytes: encode(&FromRelay::Incoming { from }) }));
    }

    fn on_frame(&mut self, to: ConnId, mut bytes: Vec<u8>, effects: &mut Vec<Effect>) {
        let mut to = to;
        match self.draw(&WITH_FRAMES) {
            Some(RelayTrick::DropFrame) => return,
            Some(RelayTrick::DelayFrame) => {
                let until = self.now + self.hand.borrow_mut().dice.duration(Duration::ZERO, LONGEST_DELAY);
                let until = self.delayed.back().map_or(until, |(before, ..)| until.max(*before));
                return self.delayed.push_back((until, to, bytes));
            }
            Some(RelayTrick::RepeatFrame) => self.pass_on(to, bytes.clone(), effects),
            Some(RelayTrick::CrossFrame) => {
                let others: Vec<ConnId> = self.joined.keys().copied().filter(|other| *other != to).collect();
                to = self.hand.borrow_mut().dice.pick(&others).copied().unwrap_or(to);
            }
            Some(RelayTrick::TamperFrame) if !bytes.is_empty() => {
                let bit = self.hand.borrow_mut().dice.below(8 * bytes.len() as u64) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            _ => {}
        }
        self.pass_on(to, bytes, effects);
    }

    /// Never before a frame that waits for the same connection.
    fn pass_on(&mut self, to: ConnId, bytes: Vec<u8>, effects: &mut Vec<Effect>) {
        match self.delayed.iter().rfind(|(_, other, _)| *other == to) {
            Some(_) => {
                let until = self.delayed.back().map_or(self.now, |(until, ..)| *until);
                self.delayed.push_back((until, to, bytes));
            }
            None => effects.push(Effect::Net(NetCommand::Send { conn: to, bytes })),
        }
    }

    fn let_go(&mut self, effects: &mut Vec<Effect>) {
        while self.delayed.front().is_some_and(|(until, ..)| *until <= self.now) {
            let Some((_, conn, bytes)) = self.delayed.pop_front() else { return };
            effects.push(Effect::Net(NetCommand::Send { conn, bytes }));
        }
    }
}

/// As evidence names it.
pub(super) const fn name(trick: RelayTrick) -> Trick {
    Trick::Relay(trick)
}
