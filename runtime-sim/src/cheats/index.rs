//! A cheating index server: the honest machine, with a filter around what it says.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::{PublicKey, TickHash};
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::index::{
    Entry, IndexToIndex, IndexToNode, MultiRoute, NodeToIndex, RequestRoutes, RoutePart, Routes,
};
use offset_protocol::limits::{MAX_AMOUNT, MAX_FRAME};
use offset_protocol::machine::{Alarm, Instant};
use offset_protocol::net::{ConnId, NetCommand, NetEvent, Purpose};

use super::bits::{bytes, noise};
use super::hand::SharedHand;
use super::{IndexTrick, Trick};
use crate::dice::Dice;
use crate::host::{Boot, Effect, HostInput, LawBroken, Process, Program};
use crate::servers::Index;

/// What is done with an answer.
const WITH_ROUTES: [IndexTrick; 4] =
    [IndexTrick::InventRoutes, IndexTrick::WrongFees, IndexTrick::BrokenRoutes, IndexTrick::NeverAnswer];
/// What is done with a report that is passed on.
const WITH_REPORTS: [IndexTrick; 3] = [IndexTrick::ForgeReports, IndexTrick::ReplayReports, IndexTrick::Stale];
/// Messages of a flood.
const FLOOD: usize = 100;
/// Old messages that are kept.
const MAX_KEPT: usize = 16;

/// An index server that cheats.
pub(crate) struct CheatingIndex {
    index: Index,
    hand: SharedHand<IndexTrick>,
}

impl CheatingIndex {
    pub(super) fn new(index: Index, hand: SharedHand<IndexTrick>) -> Self {
        CheatingIndex { index, hand }
    }
}

impl Program for CheatingIndex {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        self.index.ports()
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        self.hand.borrow_mut().start();
        let index = self.index.start(boot)?;
        let (asked, purposes, old) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Ok(Box::new(Filter { index, hand: self.hand.clone(), asked, purposes, old }))
    }
}

struct Filter {
    index: Box<dyn Process>,
    hand: SharedHand<IndexTrick>,
    /// Questions that wait for an answer.
    asked: BTreeMap<(ConnId, u64), RequestRoutes>,
    purposes: BTreeMap<ConnId, Purpose>,
    old: VecDeque<IndexToIndex>,
}

impl Process for Filter {
    fn push(&mut self, input: HostInput) {
        match &input {
            HostInput::Net(NetEvent::Incoming { conn, purpose, .. }) => {
                self.purposes.insert(*conn, *purpose);
            }
            HostInput::Net(NetEvent::Closed { conn }) => {
                self.purposes.remove(conn);
                self.asked.retain(|(of, _), _| of != conn);
            }
            HostInput::Net(NetEvent::Message { conn, bytes }) => {
                if let Ok(NodeToIndex::RequestRoutes(request)) = decode(bytes, MAX_FRAME) {
                    self.asked.insert((*conn, request.id), request);
                }
            }
            _ => {}
        }
        self.index.push(input);
    }

    fn turn(&mut self, now: Instant, dice: &mut Dice, effects: &mut Vec<Effect>) -> Result<(), LawBroken> {
        let mut wanted = Vec::new();
        self.index.turn(now, dice, &mut wanted)?;
        for effect in wanted {
            match effect {
                Effect::Net(NetCommand::Connect { conn, purpose, address, peer }) => {
                    self.purposes.insert(conn, purpose);
                    effects.push(Effect::Net(NetCommand::Connect { conn, purpose, address, peer }));
                }
                Effect::Net(NetCommand::Send { conn, bytes }) => {
                    let send = |bytes| Effect::Net(NetCommand::Send { conn, bytes });
                    effects.extend(self.said(now, conn, bytes).into_iter().map(send));
                }
                other => effects.push(other),
            }
        }
        Ok(())
    }

    fn alarm(&self) -> Option<Alarm> {
        self.index.alarm()
    }

    fn machine(&self) -> &dyn Any {
        &()
    }
}

impl Filter {
    /// What is said instead of a message.
    fn said(&mut self, now: Instant, conn: ConnId, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut said = match self.purposes.get(&conn) {
            Some(Purpose::NodeIndex) => self.on_way_to_node(now, conn, bytes),
            Some(Purpose::IndexIndex) => self.on_way_to_index(now, bytes),
            Some(Purpose::NodeRelay | Purpose::AppNode | Purpose::Friend) | None => vec![bytes],
        };
        let mut hand = self.hand.borrow_mut();
        if hand.draw(now, &[IndexTrick::Garbage]).is_some() {
            said.push(noise(&mut hand.dice));
        }
        if hand.draw(now, &[IndexTrick::Flood]).is_some() {
            let is_node = self.purposes.get(&conn) == Some(&Purpose::NodeIndex);
            said.extend((0..FLOOD).map(|_| {
                let tick = TickHash(bytes_of(&mut hand.dice));
                if is_node { encode(&IndexToNode::Tick(tick)) } else { encode(&IndexToIndex::Tick { tick, ripple: 8 }) }
            }));
        }
        said
    }

    fn on_way_to_node(&mut self, now: Instant, conn: ConnId, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let Ok(IndexToNode::Routes(routes)) = decode(&bytes, MAX_FRAME) else { return vec![bytes] };
        let Some(request) = self.asked.remove(&(conn, routes.id)) else { return vec![bytes] };
        let mut hand = self.hand.borrow_mut();
        let options = match hand.draw(now, &WITH_ROUTES) {
            Some(IndexTrick::NeverAnswer) => return Vec::new(),
            Some(IndexTrick::InventRoutes) => invented(&mut hand.dice, &request),
            Some(IndexTrick::WrongFees) => with_wrong_fees(&mut hand.dice, &routes),
            Some(IndexTrick::BrokenRoutes) => broken(&mut hand.dice, &request, &routes),
            _ => return vec![bytes],
        };
        let options = List::truncated(options);
        vec![encode(&IndexToNode::Routes(Routes { id: routes.id, options, capped: routes.capped }))]
    }

    fn on_way_to_index(&mut self, now: Instant, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let Ok(message) = decode::<IndexToIndex>(&bytes, MAX_FRAME) else { return vec![bytes] };
        if matches!(message, IndexToIndex::Tick { .. } | IndexToIndex::Want { .. } | IndexToIndex::Later(_)) {
            return vec![bytes];
        }
        let mut hand = self.hand.borrow_mut();
        if self.old.len() < MAX_KEPT {
            self.old.push_back(message.clone());
        }
        match hand.draw(now, &WITH_REPORTS) {
            Some(IndexTrick::Stale) => Vec::new(),
            Some(IndexTrick::ReplayReports) => {
                let place = hand.dice.below(self.old.len() as u64) as usize;
                vec![bytes, encode(&self.old[place])]
            }
            Some(IndexTrick::ForgeReports) => vec![encode(&forged(message))],
            _ => vec![bytes],
        }
    }
}

fn bytes_of<const N: usize>(dice: &mut Dice) -> [u8; N] {
    bytes(dice)
}

/// The same report with more capacity, or a later version; the signature stays.
fn forged(message: IndexToIndex) -> IndexToIndex {
    match message {
        IndexToIndex::State { mut state, proof } => {
            state.entries.iter_mut().for_each(boast);
            IndexToIndex::State { state, proof }
        }
        IndexToIndex::Delta { mut delta, proof } => {
            delta.set.iter_mut().for_each(boast);
            IndexToIndex::Delta { delta, proof }
        }
        IndexToIndex::Attestation { mut attestation, proof } => {
            attestation.version += 1;
            IndexToIndex::Attestation { attestation, proof }
        }
        other @ (IndexToIndex::Tick { .. } | IndexToIndex::Want { .. } | IndexToIndex::Later(_)) => other,
    }
}

fn boast(entry: &mut Entry) {
    (entry.recv_capacity, entry.forward_capacity) = (MAX_AMOUNT, MAX_AMOUNT);
}

fn one_part(route: Vec<PublicKey>, amount: u128, fees: u128) -> MultiRoute {
    MultiRoute { parts: List::truncated(vec![RoutePart { route: List::truncated(route), amount, fees }]) }
}

/// Routes that do not exist: straight, and through nobody.
fn invented(dice: &mut Dice, request: &RequestRoutes) -> Vec<MultiRoute> {
    let (source, destination, amount) = (request.source, request.destination, request.amount);
    let nobody = PublicKey(bytes(dice));
    vec![one_part(vec![source, destination], amount, 0), one_part(vec![source, nobody, destination], amount, 0)]
}

fn with_wrong_fees(dice: &mut Dice, routes: &Routes) -> Vec<MultiRoute> {
    let fees = *dice.pick(&[0, 1, 1 << 40, MAX_AMOUNT, u128::MAX]).unwrap_or(&0);
    let mut options = routes.options.to_vec();
    for part in options.iter_mut().flat_map(|option| option.parts.iter_mut()) {
        part.fees = fees;
    }
    options
}

/// What no honest server says: nothing at all, circles, strangers' routes, amounts that do not add up.
fn broken(dice: &mut Dice, request: &RequestRoutes, routes: &Routes) -> Vec<MultiRoute> {
    let (source, destination, amount) = (request.source, request.destination, request.amount);
    let nobody = PublicKey(bytes(dice));
    let mut options = routes.options.to_vec();
    match dice.below(6) {
        0 => vec![MultiRoute { parts: List::new() }],
        1 => vec![one_part(vec![source, destination, source, destination], amount, 0)],
        2 => vec![one_part(vec![nobody, destination], amount, 0)],
        3 => vec![one_part(vec![source], amount, 0)],
        4 => vec![one_part(vec![source, destination], *dice.pick(&[0, 1, u128::MAX]).unwrap_or(&0), u128::MAX)],
        _ => {
            for part in options.iter_mut().flat_map(|option| option.parts.iter_mut()) {
                part.amount = part.amount.saturating_add(u128::from(dice.between(1, 1_000)));
            }
            options
        }
    }
}

/// As evidence names it.
pub(super) const fn name(trick: IndexTrick) -> Trick {
    Trick::Index(trick)
}
