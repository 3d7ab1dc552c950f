//! A stranger: a host that is nobody's friend, connects to whoever listens, and says what nobody should.
//!
//! It has an identity as everybody has, and no right to anything. What it opens it closes again after a while, so that it
//! does not run out of connections before it has tried everything.

use std::any::Any;
use std::collections::BTreeMap;

use offset_protocol::app::{AppMessage, Command};
use offset_protocol::bytes::{CommandId, PaymentId, PublicKey, TickHash};
use offset_protocol::channel::{ChannelConfig, SecureChannel};
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::identity::SharedSigner;
use offset_protocol::index::{
    Attestation, Entry, IndexToIndex, IndexToNode, NodeToIndex, RequestRoutes, State, state_hash,
};
use offset_protocol::limits::{MAX_AMOUNT, MAX_FRAME};
use offset_protocol::machine::{Alarm, Duration, Instant, Rng, Seed};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::net::{Address, ConnId, ConnIds, NetCommand, NetEvent, Purpose};
use offset_protocol::relay::{RejectReason, ToRelay};

use super::bits::{bytes, noise};
use super::hand::SharedHand;
use super::{STRANGER_TRICKS, StrangerTrick, Trick};
use crate::dice::Dice;
use crate::host::{Boot, Effect, HostInput, LawBroken, Process, Program};

/// A stranger looks for an opportunity so often.
const LOOK: Duration = Duration::from_millis(250);
/// What it opened it closes after this long; a report is kept up longer.
const KEEPS: Duration = Duration::from_secs(8);
const KEEPS_REPORT: Duration = Duration::from_secs(120);
/// Connections of a flood, and of all.
const FLOOD: usize = 40;
const MAX_CONNS: usize = 200;
/// Bytes of a frame that is too long.
const OVERSIZE: usize = 60_000;

/// Somebody who listens.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where.
    pub(crate) address: Address,
    /// Who.
    pub(crate) key: PublicKey,
    /// For what.
    pub(crate) purpose: Purpose,
}

/// What a stranger has heard of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rumours {
    /// Who listens.
    pub(crate) targets: Vec<Target>,
    /// Nodes and other strangers.
    pub(crate) keys: Vec<PublicKey>,
    /// What they pay with.
    pub(crate) currencies: Vec<Currency>,
}

/// A stranger's program.
pub(crate) struct Stranger {
    hand: SharedHand<StrangerTrick>,
    rumours: Rumours,
}

impl Stranger {
    pub(super) fn new(hand: SharedHand<StrangerTrick>, rumours: Rumours) -> Self {
        Stranger { hand, rumours }
    }
}

impl Program for Stranger {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        Vec::new()
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        self.hand.borrow_mut().start();
        Ok(Box::new(Attack {
            hand: self.hand.clone(),
            rumours: self.rumours.clone(),
            signer: boot.signer,
            rng: boot.seed.rng(),
            ids: ConnIds::lane(0, 1),
            open: BTreeMap::new(),
            heard: Vec::new(),
            looks_at: boot.now,
            version: 0,
        }))
    }
}

struct Session {
    trick: StrangerTrick,
    target: Target,
    closes_at: Instant,
}

struct Attack {
    hand: SharedHand<StrangerTrick>,
    rumours: Rumours,
    signer: SharedSigner,
    rng: Rng,
    ids: ConnIds,
    open: BTreeMap<ConnId, Session>,
    heard: Vec<NetEvent>,
    looks_at: Instant,
    version: u64,
}

impl Process for Attack {
    fn push(&mut self, input: HostInput) {
        if let HostInput::Net(event) = input {
            self.heard.push(event);
        }
    }

    fn turn(&mut self, now: Instant, _dice: &mut Dice, effects: &mut Vec<Effect>) -> Result<(), LawBroken> {
        for event in std::mem::take(&mut self.heard) {
            match event {
                NetEvent::Opened { conn } => self.on_opened(conn, effects),
                NetEvent::Message { conn, bytes } => self.on_message(conn, &bytes, effects),
                NetEvent::Closed { conn } => {
                    self.open.remove(&conn);
                }
                NetEvent::Incoming { .. } => {}
            }
        }
        if self.looks_at <= now {
            self.looks_at = now + LOOK;
            let due = self.open.iter().filter(|(_, session)| session.closes_at <= now).map(|(conn, _)| *conn);
            let due: Vec<ConnId> = due.collect();
            for conn in due {
                self.open.remove(&conn);
                effects.push(Effect::Net(NetCommand::Close { conn }));
            }
            let tricks = self.hand.borrow_mut().draw_all(now, STRANGER_TRICKS);
            tricks.into_iter().for_each(|trick| self.play(now, trick, effects));
        }
        Ok(())
    }

    fn alarm(&self) -> Option<Alarm> {
        Some(Alarm { at: self.looks_at, why: "stranger: look for an opportunity" })
    }

    fn machine(&self) -> &dyn Any {
        &()
    }
}

impl Attack {
    fn target(&self, wanted: impl Fn(Purpose) -> bool) -> Option<Target> {
        let targets: Vec<&Target> = self.rumours.targets.iter().filter(|target| wanted(target.purpose)).collect();
        self.hand.borrow_mut().dice.pick(&targets).copied().cloned()
    }

    fn play(&mut self, now: Instant, trick: StrangerTrick, effects: &mut Vec<Effect>) {
        let only_index = matches!(trick, StrangerTrick::NeverRead | StrangerTrick::Sybil);
        let Some(target) = self.target(|purpose| !only_index || purpose == Purpose::NodeIndex) else { return };
        let times = if trick == StrangerTrick::Flood { FLOOD } else { 1 };
        for _ in 0..times {
            if self.open.len() >= MAX_CONNS {
                return;
            }
            self.connect(now, trick, target.clone(), effects);
        }
    }

    fn connect(&mut self, now: Instant, trick: StrangerTrick, target: Target, effects: &mut Vec<Effect>) {
        if trick == StrangerTrick::Sybil && self.open.values().any(|session| session.trick == trick) {
            return;
        }
        let conn = self.ids.allocate();
        let keeps = if trick == StrangerTrick::Sybil { KEEPS_REPORT } else { KEEPS };
        let Target { address, key: peer, purpose } = target.clone();
        let raw = |bytes| Effect::Raw { conn, bytes };
        let call = |purpose| Effect::Net(NetCommand::Connect { conn, purpose, address: address.clone(), peer });
        let raw_call = Effect::RawConnect { conn, address: address.clone() };
        match trick {
            StrangerTrick::Garbage => {
                let bytes = noise(&mut self.hand.borrow_mut().dice);
                effects.extend([raw_call, raw(bytes)]);
            }
            StrangerTrick::Oversize => effects.extend([raw_call, raw(vec![0xff; OVERSIZE])]),
            StrangerTrick::HalfHandshake => {
                let bytes = self.half_a_handshake(now, purpose, peer);
                effects.extend([raw_call, raw(bytes)]);
            }
            StrangerTrick::Silence | StrangerTrick::Flood => effects.push(raw_call),
            StrangerTrick::OtherPurpose => effects.push(call(other_than(purpose))),
            StrangerTrick::Nonsense | StrangerTrick::Impostor | StrangerTrick::NeverRead | StrangerTrick::Sybil => {
                effects.push(call(purpose));
            }
        }
        self.open.insert(conn, Session { trick, target, closes_at: now + keeps });
    }

    /// A first message, whole or cut off.
    fn half_a_handshake(&mut self, now: Instant, purpose: Purpose, peer: PublicKey) -> Vec<u8> {
        let seed: Seed = self.rng.seed();
        let mut first = Vec::new();
        SecureChannel::initiator(ChannelConfig { purpose, signer: self.signer.clone(), seed }, peer, now)
            .start(now, &mut first);
        let keeps = self.hand.borrow_mut().dice.between(1, first.len() as u64) as usize;
        first.truncate(keeps);
        first
    }

    /// The handshake is done: what follows is not what the other expects.
    fn on_opened(&mut self, conn: ConnId, effects: &mut Vec<Effect>) {
        let Some(Session { trick, target, .. }) = self.open.get(&conn) else { return };
        let (trick, target) = (*trick, target.clone());
        let send = |bytes| Effect::Net(NetCommand::Send { conn, bytes });
        match trick {
            StrangerTrick::Nonsense | StrangerTrick::OtherPurpose => {
                let bytes = noise(&mut self.hand.borrow_mut().dice);
                effects.push(send(bytes));
            }
            StrangerTrick::Impostor => effects.extend(self.claims(&target).into_iter().map(send)),
            StrangerTrick::NeverRead => {
                effects.push(Effect::Deafen { conn });
                effects.extend((0..100).filter_map(|id| self.question(id)).map(|question| send(encode(&question))));
            }
            StrangerTrick::Garbage
            | StrangerTrick::HalfHandshake
            | StrangerTrick::Silence
            | StrangerTrick::Flood
            | StrangerTrick::Oversize
            | StrangerTrick::Sybil => {}
        }
    }

    /// Right messages that this stranger has no right to.
    fn claims(&self, target: &Target) -> Vec<Vec<u8>> {
        let mut hand = self.hand.borrow_mut();
        let victim = hand.dice.pick(&self.rumours.keys).copied().unwrap_or(target.key);
        match target.purpose {
            Purpose::NodeRelay => {
                let first = match hand.dice.below(4) {
                    0 => ToRelay::Accept { from: victim },
                    1 => ToRelay::Connect { to: victim },
                    2 => ToRelay::Reject { from: victim, reason: RejectReason::Busy },
                    _ => ToRelay::Listen,
                };
                vec![encode(&first), encode(&ToRelay::Reject { from: victim, reason: RejectReason::Unknown })]
            }
            Purpose::NodeIndex => vec![encode(&NodeToIndex::State(State {
                attestation: Attestation {
                    node: victim,
                    ..Attestation::sign(&self.signer, u64::MAX, state_hash(&[]), TickHash(bytes(&mut hand.dice)))
                },
                entries: List::new(),
            }))],
            Purpose::IndexIndex => {
                vec![encode(&IndexToIndex::Tick { tick: TickHash(bytes(&mut hand.dice)), ripple: u8::MAX })]
            }
            Purpose::AppNode => {
                let id = CommandId(bytes(&mut hand.dice));
                let command = Command::PaymentStatus { payment_id: PaymentId(bytes(&mut hand.dice)) };
                vec![encode(&AppMessage::Command { id, command })]
            }
            Purpose::Friend => Vec::new(),
        }
    }

    fn question(&self, id: u64) -> Option<NodeToIndex> {
        let (first, last) = (self.rumours.keys.first()?, self.rumours.keys.last()?);
        Some(NodeToIndex::RequestRoutes(RequestRoutes {
            id,
            currency: *self.rumours.currencies.first()?,
            amount: 1,
            source: *first,
            destination: *last,
            exclude: List::new(),
            max_fee: None,
        }))
    }

    /// As a node among invented friends: a report for each tick.
    fn on_message(&mut self, conn: ConnId, bytes: &[u8], effects: &mut Vec<Effect>) {
        let is_sybil = self.open.get(&conn).is_some_and(|session| session.trick == StrangerTrick::Sybil);
        let Ok(IndexToNode::Tick(tick)) = decode(bytes, MAX_FRAME) else { return };
        if !is_sybil {
            return;
        }
        self.version += 1;
        let us = self.signer.public_key();
        let friends = self.rumours.keys.iter().filter(|key| **key != us);
        let (recv_capacity, forward_capacity, rate) = (MAX_AMOUNT, MAX_AMOUNT, Rate::ZERO);
        let mut entries: Vec<Entry> = friends
            .flat_map(|friend| self.rumours.currencies.iter().map(|currency| (*friend, *currency)))
            .map(|(friend, currency)| Entry { friend, currency, recv_capacity, forward_capacity, rate })
            .collect();
        entries.sort_unstable();
        let attestation = Attestation::sign(&self.signer, self.version, state_hash(&entries), tick);
        let state = NodeToIndex::State(State { attestation, entries: List::truncated(entries) });
        effects.push(Effect::Net(NetCommand::Send { conn, bytes: encode(&state) }));
    }
}

const fn other_than(purpose: Purpose) -> Purpose {
    match purpose {
        Purpose::NodeRelay => Purpose::NodeIndex,
        Purpose::NodeIndex => Purpose::IndexIndex,
        Purpose::IndexIndex => Purpose::AppNode,
        Purpose::AppNode => Purpose::Friend,
        Purpose::Friend => Purpose::NodeRelay,
    }
}

/// As evidence names it.
pub(super) const fn name(trick: StrangerTrick) -> Trick {
    Trick::Stranger(trick)
}
