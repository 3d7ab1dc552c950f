//! What a cheating node tells index servers: a filter around what its honest index client says.

use std::collections::BTreeSet;

use offset_protocol::bytes::{PublicKey, TickHash};
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::identity::SharedSigner;
use offset_protocol::index::{Attestation, Delta, Entry, NodeToIndex, RequestRoutes, State, state_hash};
use offset_protocol::limits::{MAX_AMOUNT, MAX_FRAME};
use offset_protocol::machine::Instant;
use offset_protocol::money::Rate;
use offset_protocol::net::{ConnId, NetCommand, Purpose};

use super::hand::SharedHand;
use super::{ReportTrick, Trick};
use crate::host::Effect;

/// Questions of a flood: more than a server's burst.
const FLOOD: u64 = 300;
/// Numbers of questions that the node's own client never uses.
const FIRST_QUESTION: u64 = 1 << 60;

/// The filter.
pub(super) struct Reports {
    hand: SharedHand<ReportTrick>,
    signer: SharedSigner,
    conns: BTreeSet<ConnId>,
    /// The true report, as the client last told it.
    entries: Vec<Entry>,
    old: Option<State>,
    /// The moment that the client named last.
    time: TickHash,
}

impl Reports {
    pub(super) fn new(hand: SharedHand<ReportTrick>, signer: SharedSigner) -> Self {
        Reports { hand, signer, conns: BTreeSet::new(), entries: Vec::new(), old: None, time: TickHash([0; 32]) }
    }

    /// What leaves instead of an effect of the node.
    pub(super) fn pass(&mut self, now: Instant, effect: Effect, effects: &mut Vec<Effect>) {
        match effect {
            Effect::Net(NetCommand::Connect { conn, purpose: Purpose::NodeIndex, address, peer }) => {
                self.conns.insert(conn);
                effects.push(Effect::Net(NetCommand::Connect { conn, purpose: Purpose::NodeIndex, address, peer }));
            }
            Effect::Net(NetCommand::Send { conn, bytes }) if self.conns.contains(&conn) => {
                let said = decode(&bytes, MAX_FRAME)
                    .map_or(vec![bytes], |message| self.said(now, message).iter().map(encode).collect());
                effects.extend(said.into_iter().map(|bytes| Effect::Net(NetCommand::Send { conn, bytes })));
            }
            other => effects.push(other),
        }
    }

    fn said(&mut self, now: Instant, message: NodeToIndex) -> Vec<NodeToIndex> {
        let mut said = match message {
            NodeToIndex::State(state) => {
                self.entries = state.entries.to_vec();
                let lies = self.lies(now);
                let attestation = self.attest(&state.attestation, &lies);
                let state = State { attestation, entries: List::truncated(lies) };
                vec![NodeToIndex::State(self.old.get_or_insert(state.clone()).clone()), NodeToIndex::State(state)]
            }
            NodeToIndex::Delta(delta) => {
                self.entries = delta.apply(&self.entries);
                let lies = self.lies(now);
                let attestation = self.attest(&delta.attestation, &lies);
                let set: Vec<Entry> = delta
                    .set
                    .iter()
                    .filter_map(|entry| lies.iter().find(|lie| lie.key() == entry.key()))
                    .copied()
                    .collect();
                vec![NodeToIndex::Delta(Delta { attestation, set: List::truncated(set), ..delta })]
            }
            NodeToIndex::Attestation(attestation) => {
                let lies = self.lies(now);
                vec![NodeToIndex::Attestation(self.attest(&attestation, &lies))]
            }
            question @ NodeToIndex::RequestRoutes(_) => vec![question],
        };
        let mut hand = self.hand.borrow_mut();
        // The first state is kept above; whether it is said again is decided here.
        let replays = hand.draw(now, &[ReportTrick::OldReport]).is_some();
        if said.len() > 1 && !replays {
            said.remove(0);
        }
        if hand.draw(now, &[ReportTrick::ForOther]).is_some()
            && let Some(other) = self.entries.first().map(|entry| entry.friend)
        {
            said.push(in_the_name_of(other, &self.signer, self.time));
        }
        if hand.draw(now, &[ReportTrick::ForgedReport]).is_some() {
            let mut attestation = Attestation::sign(&self.signer, u64::MAX, state_hash(&[]), self.time);
            attestation.signature.0[0] ^= 1;
            said.push(NodeToIndex::Attestation(attestation));
        }
        if hand.draw(now, &[ReportTrick::FloodQuestions]).is_some() {
            said.extend((0..FLOOD).filter_map(|number| self.question(number)));
        }
        said
    }

    /// The report as it is told.
    fn lies(&self, now: Instant) -> Vec<Entry> {
        let mut lies = self.entries.clone();
        let mut hand = self.hand.borrow_mut();
        if hand.draw(now, &[ReportTrick::InventedCapacity]).is_some() {
            let all = MAX_AMOUNT;
            lies.iter_mut().for_each(|entry| (entry.recv_capacity, entry.forward_capacity) = (all, all));
        }
        if hand.draw(now, &[ReportTrick::HiddenFees]).is_some() {
            lies.iter_mut().for_each(|entry| entry.rate = Rate::ZERO);
        }
        lies
    }

    fn attest(&mut self, honest: &Attestation, lies: &[Entry]) -> Attestation {
        self.time = honest.time_hash;
        Attestation::sign(&self.signer, honest.version, state_hash(lies), honest.time_hash)
    }

    fn question(&self, number: u64) -> Option<NodeToIndex> {
        let entry = self.entries.first()?;
        Some(NodeToIndex::RequestRoutes(RequestRoutes {
            id: FIRST_QUESTION + number,
            currency: entry.currency,
            amount: 1,
            source: self.signer.public_key(),
            destination: entry.friend,
            exclude: List::new(),
            max_fee: None,
        }))
    }
}

/// A report that somebody else should have signed.
fn in_the_name_of(node: PublicKey, signer: &SharedSigner, time: TickHash) -> NodeToIndex {
    let attestation = Attestation::sign(signer, u64::MAX, state_hash(&[]), time);
    NodeToIndex::State(State { attestation: Attestation { node, ..attestation }, entries: List::new() })
}

/// As evidence names it.
pub(super) const fn name(trick: ReportTrick) -> Trick {
    Trick::Report(trick)
}
