//! What a peer said, checked as far as that can be done without knowing anything: on any thread, before the server sees it.
//!
//! | checked here | because |
//! |---|---|
//! | that it is a message | decoding a report costs more than taking it in |
//! | the form of a report | |
//! | the signature of an attestation | some 50 microseconds each |
//! | that a whole report has the hash that its node signed | a hash over up to 8,192 entries |
//! | that a proof hangs together | a hash for each link |
//!
//! The first of these that does not hold is what the server ends the connection for. A [`Heard`] cannot exist unchecked.
//!
//! Not checked here: whether the peer may say it, and whether it is news.

use offset_protocol::bytes::{PublicKey, TickHash};
use offset_protocol::codec::decode;
use offset_protocol::identity::Verifier;
use offset_protocol::index::{Attestation, IndexToIndex, NodeToIndex, Proof, RequestRoutes, proven_ticks, state_hash};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::net::Purpose;

use super::Misbehaviour;
use super::reports::Report;

/// A message whose checks are done, or what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard(Word);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Node(Result<NodeWord, Misbehaviour>),
    Server(Result<ServerWord, Misbehaviour>),
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeWord {
    Request(RequestRoutes),
    Report(Checked),
}

/// What another server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerWord {
    Tick { tick: TickHash, ripple: u8 },
    Want { node: PublicKey },
    Later(Attestation),
    Report(Checked),
}

/// A report whose checks are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) report: Report,
    pub(super) proof: Proof,
    /// The ticks that the proof leads to.
    pub(super) ticks: Vec<TickHash>,
}

impl Heard {
    /// Decodes and checks a message from a connection for `purpose`. `None`: index servers do not speak for that.
    pub fn check(purpose: Purpose, bytes: &[u8], verifier: &dyn Verifier) -> Option<Heard> {
        match purpose {
            Purpose::NodeIndex => Some(Heard(Word::Node(from_node(bytes, verifier)))),
            Purpose::IndexIndex => Some(Heard(Word::Server(from_server(bytes, verifier)))),
            Purpose::NodeRelay | Purpose::AppNode | Purpose::Friend => None,
        }
    }

    /// Whether the server ends the connection for it: nothing that comes behind it on the same connection is heard.
    pub fn is_last(&self) -> bool {
        matches!(self.0, Word::Node(Err(_)) | Word::Server(Err(_)))
    }

    /// Whether there was nothing to check but its form: no signature, no hash.
    pub fn is_light(&self) -> bool {
        match &self.0 {
            Word::Node(word) => matches!(word, Ok(NodeWord::Request(_)) | Err(Misbehaviour::Malformed(_))),
            Word::Server(word) => {
                let light = |word: &ServerWord| matches!(word, ServerWord::Tick { .. } | ServerWord::Want { .. });
                word.as_ref().map_or_else(|bad| matches!(bad, Misbehaviour::Malformed(_)), light)
            }
        }
    }

    /// `None` if it was not a node's connection that this came from.
    pub(super) fn into_node_word(self) -> Option<Result<NodeWord, Misbehaviour>> {
        match self.0 {
            Word::Node(word) => Some(word),
            Word::Server(_) => None,
        }
    }

    /// `None` if it was not a server's connection that this came from.
    pub(super) fn into_server_word(self) -> Option<Result<ServerWord, Misbehaviour>> {
        match self.0 {
            Word::Server(word) => Some(word),
            Word::Node(_) => None,
        }
    }
}

fn from_node(bytes: &[u8], verifier: &dyn Verifier) -> Result<NodeWord, Misbehaviour> {
    let report = match decode(bytes, MAX_FRAME)? {
        NodeToIndex::RequestRoutes(request) => return Ok(NodeWord::Request(request)),
        NodeToIndex::State(state) => Report::State(state),
        NodeToIndex::Delta(delta) => Report::Delta(delta),
        NodeToIndex::Attestation(attestation) => Report::Attestation(attestation),
    };
    Ok(NodeWord::Report(Checked::check(report, Proof::new(), verifier)?))
}

fn from_server(bytes: &[u8], verifier: &dyn Verifier) -> Result<ServerWord, Misbehaviour> {
    let (report, proof) = match decode(bytes, MAX_FRAME)? {
        IndexToIndex::Tick { tick, ripple } => return Ok(ServerWord::Tick { tick, ripple }),
        IndexToIndex::Want { node } => return Ok(ServerWord::Want { node }),
        IndexToIndex::Later(attestation) => {
            attestation.verify(verifier)?;
            return Ok(ServerWord::Later(attestation));
        }
        IndexToIndex::State { state, proof } => (Report::State(state), proof),
        IndexToIndex::Delta { delta, proof } => (Report::Delta(delta), proof),
        IndexToIndex::Attestation { attestation, proof } => (Report::Attestation(attestation), proof),
    };
    Ok(ServerWord::Report(Checked::check(report, proof, verifier)?))
}

impl Checked {
    /// What costs least first.
    fn check(report: Report, proof: Proof, verifier: &dyn Verifier) -> Result<Self, Misbehaviour> {
        report.check()?;
        let attestation = report.attestation();
        let ticks = proven_ticks(&attestation.time_hash, &proof)?;
        attestation.verify(verifier)?;
        if let Report::State(state) = &report
            && state_hash(&state.entries) != attestation.state_hash
        {
            return Err(Misbehaviour::StateHash);
        }
        Ok(Checked { report, proof, ticks })
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::bytes::Hash;
    use offset_protocol::codec::{List, encode};
    use offset_protocol::identity::Ed25519;
    use offset_protocol::index::{Delta, State, TickInputs};

    use super::*;
    use crate::world::{entry, signer};

    fn state() -> State {
        let entries = List::truncated([entry(2, 5)]);
        State { attestation: Attestation::sign(&signer(1), 1, state_hash(&entries), TickHash([1; 32])), entries }
    }

    fn node(message: &NodeToIndex) -> Result<NodeWord, Misbehaviour> {
        Heard::check(Purpose::NodeIndex, &encode(message), &Ed25519).unwrap().into_node_word().unwrap()
    }

    fn server(message: &IndexToIndex) -> Result<ServerWord, Misbehaviour> {
        Heard::check(Purpose::IndexIndex, &encode(message), &Ed25519).unwrap().into_server_word().unwrap()
    }

    #[test]
    fn what_is_right_passes_with_the_ticks_that_it_can_be_judged_by() {
        let Ok(NodeWord::Report(checked)) = node(&NodeToIndex::State(state())) else { panic!() };
        assert_eq!((checked.report, checked.ticks), (Report::State(state()), vec![TickHash([1; 32])]));
        let link = TickInputs { random: Hash([1; 32]), neighbours: List::truncated([TickHash([7; 32])]) };
        let attestation = Attestation::sign(&signer(1), 1, Hash([0; 32]), link.hash());
        let proof = Proof::truncated([link]);
        let Ok(ServerWord::Report(checked)) = server(&IndexToIndex::Attestation { attestation, proof }) else {
            panic!()
        };
        assert_eq!(checked.ticks, [TickHash([7; 32])]);
    }

    #[test]
    fn whatever_is_wrong_is_found_without_knowing_anything() {
        let forged = Attestation { version: 2, ..state().attestation };
        let bad = |word: Result<NodeWord, Misbehaviour>| word.err();
        let signature = Some(Misbehaviour::Signature(offset_protocol::identity::BadSignature));
        assert_eq!(bad(node(&NodeToIndex::Attestation(forged))), signature);
        assert_eq!(bad(node(&NodeToIndex::State(State { attestation: forged, ..state() }))), signature);
        let delta = Delta { attestation: forged, base: 1, set: List::new(), removed: List::new() };
        assert_eq!(bad(node(&NodeToIndex::Delta(delta))), signature);
        assert_eq!(server(&IndexToIndex::Later(forged)).err(), signature);
        let another = State { entries: List::truncated([entry(2, 6)]), ..state() };
        assert_eq!(bad(node(&NodeToIndex::State(another))), Some(Misbehaviour::StateHash));
        let itself = State { entries: List::truncated([entry(1, 6)]), ..state() };
        assert!(matches!(bad(node(&NodeToIndex::State(itself))), Some(Misbehaviour::Report(_))));
        let link = TickInputs { random: Hash([1; 32]), neighbours: List::new() };
        let broken = IndexToIndex::State { state: state(), proof: Proof::truncated([link]) };
        assert!(matches!(server(&broken), Err(Misbehaviour::Proof(_))));
        let light = |message: &NodeToIndex| {
            let heard = Heard::check(Purpose::NodeIndex, &encode(message), &Ed25519).unwrap();
            (heard.is_light(), heard.is_last())
        };
        assert_eq!(light(&NodeToIndex::State(state())), (false, false));
        assert_eq!(light(&NodeToIndex::Attestation(forged)), (false, true));
        let garbage = Heard::check(Purpose::NodeIndex, &[9; 9], &Ed25519).unwrap().into_node_word().unwrap();
        assert!(matches!(garbage, Err(Misbehaviour::Malformed(_))));
    }

    #[test]
    fn what_a_node_says_is_no_word_of_a_server() {
        let heard = Heard::check(Purpose::NodeIndex, &encode(&NodeToIndex::State(state())), &Ed25519).unwrap();
        assert_eq!(heard.into_server_word(), None);
        assert_eq!(Heard::check(Purpose::Friend, &[], &Ed25519), None);
    }
}
