//! What nodes and index servers say to each other, and index servers among themselves.
//!
//! A node reports for itself: how much can be pushed to it through each friend, how much of that it would pass on, and what it
//! charges for that.
//! The report is a set of [`Entry`]s; the node signs its hash, once a heartbeat, in an [`Attestation`]. Whoever holds the
//! entries can hand them on, and whoever receives them checks one signature and one hash.
//!
//! | message | from → to | effect |
//! |---|---|---|
//! | `Tick` | server → node, server → server | names the moment; the next attestation, or tick, names it |
//! | `State` | node → server, server → server | replaces the node's report |
//! | `Delta` | node → server, server → server | changes the node's report, if the receiver holds the version it starts from |
//! | `Attestation` | node → server, server → server | the report stands as it is |
//! | `Want` | server → node, server → server | send me the whole report |
//! | `RequestRoutes` | node → server | answered by `Routes` or `Busy` with the same id |
//!
//! Freshness without clocks: a tick is a hash over random bytes and over the last tick of each neighbour
//! ([`TickInputs`]). An attestation names a tick. Where that tick is the receiver's own it is younger than that; elsewhere
//! a [`Proof`] shows, hash by hash, that a tick of the receiver went into it.
//!
//! Checked here: bounds (by the types), the order of entries ([`check_report`]), signatures and hashes. Not checked here:
//! who may report for whom, what is newer, whether a tick is still remembered; that is the index server's.

use crate::bytes::{Hash, PublicKey, Signature, TickHash};
use crate::codec::List;
use crate::context;
use crate::identity::{BadSignature, SharedSigner, Signable, Verified, Verifier};
use crate::limits::{
    FORWARD_BITS, MAX_AMOUNT, MAX_DELTA_ENTRIES, MAX_EXCLUDED_EDGES, MAX_INDEX_ENTRIES, MAX_INDEX_NEIGHBOURS,
    MAX_PROOF_LINKS, MAX_ROUTE_LEN, MAX_ROUTE_OPTIONS, MAX_SPLIT,
};
use crate::money::{Currency, Rate};

crate::wire_struct! {
    /// What a node publishes about one friend in one currency. Entries are ordered by friend, then currency.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Entry {
        /// The friend.
        pub friend: PublicKey,
        /// The currency.
        pub currency: Currency,
        /// What the friend can push to the node now, if it ends there; 0: closed. At most [`MAX_AMOUNT`].
        pub recv_capacity: u128,
        /// What of it the node would pass on: all, or a number of at most [`FORWARD_BITS`] significant bits.
        pub forward_capacity: u128,
        /// What the node charges for forwarding what comes from the friend.
        pub rate: Rate,
    }

    /// Which entry of a report.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct EntryKey {
        /// The friend.
        pub friend: PublicKey,
        /// The currency.
        pub currency: Currency,
    }

    /// A node's word that its report stands as it is, at a certain moment or later.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Attestation {
        /// Whose report.
        pub node: PublicKey,
        /// Grows with every change of the report, for the life of the node.
        pub version: u64,
        /// [`state_hash`] of the report.
        pub state_hash: Hash,
        /// The tick of its index server that the node heard last.
        pub time_hash: TickHash,
        /// The node's.
        pub signature: Signature,
    }

    /// A whole report.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct State {
        /// The node's word for it.
        pub attestation: Attestation,
        /// Strictly ascending.
        pub entries: List<Entry, MAX_INDEX_ENTRIES>,
    }

    /// What changed in a report.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Delta {
        /// The node's word for the report after the change.
        pub attestation: Attestation,
        /// The version of the report before the change.
        pub base: u64,
        /// New entries and new values, strictly ascending.
        pub set: List<Entry, MAX_DELTA_ENTRIES>,
        /// Entries that are no more, strictly ascending; none of them is in `set`.
        pub removed: List<EntryKey, MAX_DELTA_ENTRIES>,
    }

    /// What a tick is the hash of.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TickInputs {
        /// Unpredictable.
        pub random: Hash,
        /// The last tick of each neighbour of the server.
        pub neighbours: List<TickHash, MAX_INDEX_NEIGHBOURS>,
    }

    /// One hop of a payment: from a node to a friend of it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Edge {
        /// Who pushes.
        pub from: PublicKey,
        /// Who receives.
        pub to: PublicKey,
    }

    /// How could this amount travel?
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RequestRoutes {
        /// Chosen by the node; the answer repeats it.
        pub id: u64,
        /// In which currency.
        pub currency: Currency,
        /// What arrives at the destination: 1 to [`MAX_AMOUNT`].
        pub amount: u128,
        /// Who pays.
        pub source: PublicKey,
        /// Who is paid; the source itself asks for a cycle.
        pub destination: PublicKey,
        /// Not over these edges.
        pub exclude: List<Edge, MAX_EXCLUDED_EDGES>,
        /// Not for more than this in all.
        pub max_fee: Option<u128>,
    }

    /// One part of a payment: one request along one route.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RoutePart {
        /// The source first, the destination last; 2 keys or more.
        pub route: List<PublicKey, MAX_ROUTE_LEN>,
        /// What arrives by this route.
        pub amount: u128,
        /// What its mediators charge, all together.
        pub fees: u128,
    }

    /// One way to make a payment: its parts' amounts add up to what was asked.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct MultiRoute {
        /// One or more.
        pub parts: List<RoutePart, MAX_SPLIT>,
    }

    /// The answer to [`RequestRoutes`].
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Routes {
        /// Of the request.
        pub id: u64,
        /// Cheapest first; none if the server knows no way.
        pub options: List<MultiRoute, MAX_ROUTE_OPTIONS>,
        /// The server stopped searching at its limit of work: there may be more, or cheaper ones.
        pub capped: bool,
    }
}

/// Shows that an attestation is younger than a tick of the receiver. The first link hashes to the attestation's tick, each
/// other one to a tick that the link before it names; the last one names a tick of the receiver. No link at all: the
/// attestation names a tick of the receiver.
pub type Proof = List<TickInputs, MAX_PROOF_LINKS>;

crate::wire_enum! {
    /// What a node says to an index server.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum NodeToIndex {
        /// My whole report.
        1 = State(State),
        /// My report changed.
        2 = Delta(Delta),
        /// My report stands as it is.
        3 = Attestation(Attestation),
        /// How could this amount travel?
        4 = RequestRoutes(RequestRoutes),
    }

    /// What an index server says to a node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum IndexToNode {
        /// The moment that the next attestation names.
        1 = Tick(TickHash),
        /// Send me your whole report.
        2 = Want,
        /// This amount could travel so.
        3 = Routes(Routes),
        /// You ask too often.
        4 = Busy {
            /// Of the request.
            id: u64,
        },
        /// I know a later word of yours than what you just said: your memory is of an earlier day.
        5 = Later(Attestation),
    }

    /// What an index server says to another one.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum IndexToIndex {
        /// The moment that your next tick names.
        1 = Tick {
            /// My last tick.
            tick: TickHash,
            /// Above 0: a server has a new neighbour, and whoever hears this makes a tick out of turn and passes one less
            /// on, so that proofs reach the new neighbour from afar without a heartbeat for each server between. At most
            /// [`MAX_PROOF_LINKS`]; more counts as that.
            ripple: u8,
        },
        /// A node's whole report; the answer to `Want`.
        2 = State {
            /// The report.
            state: State,
            /// That it is fresh.
            proof: Proof,
        },
        /// A node's report changed.
        3 = Delta {
            /// The change.
            delta: Delta,
            /// That it is fresh.
            proof: Proof,
        },
        /// A node's report stands as it is.
        4 = Attestation {
            /// The node's word.
            attestation: Attestation,
            /// That it is fresh.
            proof: Proof,
        },
        /// Send me this node's whole report.
        5 = Want {
            /// Whose.
            node: PublicKey,
        },
        /// I know a later word of this node than what you just said: whoever it speaks to may show it what it forgot.
        6 = Later(Attestation),
    }
}

/// A report that breaks a rule of its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReport {
    /// Entries are not strictly ascending by friend and currency.
    #[error("the entries of a report are not in order")]
    Order,
    /// A node lists itself.
    #[error("a report names its own node as a friend")]
    Itself,
    /// A capacity above [`MAX_AMOUNT`].
    #[error("a capacity in a report is larger than 2^100")]
    Capacity,
    /// More is passed on than can be pushed, or a number with too many digits.
    #[error("a report passes on more than it takes, or states that too finely")]
    Forward,
    /// An entry is both set and removed.
    #[error("a delta sets and removes the same entry")]
    SetAndRemoved,
}

/// A proof whose links do not hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("link {link} of a proof of freshness does not hash to what names it")]
pub struct BrokenProof {
    /// The first bad link, from 0.
    pub link: usize,
}

/// What an [`Entry`] says under its [`EntryKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryValue {
    /// What the friend can push to the node, if it ends there.
    pub recv_capacity: u128,
    /// What of it the node would pass on.
    pub forward_capacity: u128,
    /// What the node charges for that.
    pub rate: Rate,
}

impl EntryKey {
    /// The entry that says this under this key.
    pub fn entry(self, value: EntryValue) -> Entry {
        let (EntryKey { friend, currency }, EntryValue { recv_capacity, forward_capacity, rate }) = (self, value);
        Entry { friend, currency, recv_capacity, forward_capacity, rate }
    }
}

impl Entry {
    /// Which entry this is.
    pub fn key(&self) -> EntryKey {
        EntryKey { friend: self.friend, currency: self.currency }
    }

    /// What it says.
    pub fn value(&self) -> EntryValue {
        let Entry { recv_capacity, forward_capacity, rate, .. } = *self;
        EntryValue { recv_capacity, forward_capacity, rate }
    }

    /// The entry of a node that would pass on `most` at most: it states the largest number that it can.
    #[must_use]
    pub fn forwarding(self, most: u128) -> Entry {
        let finest = (u128::BITS - most.leading_zeros()).saturating_sub(FORWARD_BITS);
        let rounded = most >> finest << finest;
        Entry { forward_capacity: if most < self.recv_capacity { rounded } else { self.recv_capacity }, ..self }
    }
}

/// Checks the form of a report, or of the part of a delta that sets entries, of `node`.
///
/// # Errors
/// [`BadReport`] names the rule that it breaks.
pub fn check_report(node: &PublicKey, entries: &[Entry]) -> Result<(), BadReport> {
    if entries.windows(2).any(|pair| pair[0].key() >= pair[1].key()) {
        return Err(BadReport::Order);
    }
    if entries.iter().any(|entry| entry.friend == *node) {
        return Err(BadReport::Itself);
    }
    if entries.iter().any(|entry| entry.recv_capacity > MAX_AMOUNT) {
        return Err(BadReport::Capacity);
    }
    if entries.iter().any(|entry| entry.forwarding(entry.forward_capacity) != *entry) {
        return Err(BadReport::Forward);
    }
    Ok(())
}

impl State {
    /// Checks the form of the report; not its signature or hash.
    ///
    /// # Errors
    /// [`BadReport`] names the rule that it breaks.
    pub fn check(&self) -> Result<(), BadReport> {
        check_report(&self.attestation.node, &self.entries)
    }
}

impl Delta {
    /// Checks the form of the change; not its signature or hash.
    ///
    /// # Errors
    /// [`BadReport`] names the rule that it breaks.
    pub fn check(&self) -> Result<(), BadReport> {
        check_report(&self.attestation.node, &self.set)?;
        if self.removed.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(BadReport::Order);
        }
        if self.removed.iter().any(|key| self.set.binary_search_by_key(key, Entry::key).is_ok()) {
            return Err(BadReport::SetAndRemoved);
        }
        Ok(())
    }

    /// The report after the change: `before` (in order) with entries set and removed. Removing what is not there changes nothing.
    pub fn apply(&self, before: &[Entry]) -> Vec<Entry> {
        let mut after = Vec::with_capacity(before.len() + self.set.len());
        let mut set = self.set.iter().peekable();
        for old in before {
            while let Some(new) = set.next_if(|new| new.key() < old.key()) {
                after.push(*new);
            }
            if let Some(new) = set.next_if(|new| new.key() == old.key()) {
                after.push(*new);
            } else if self.removed.binary_search(&old.key()).is_err() {
                after.push(*old);
            }
        }
        after.extend(set);
        after
    }
}

/// The hash of a report: the number of entries, then of each the friend, the currency, the two capacities, the rate's `mul`
/// and `add`. The entries are in order, see [`check_report`].
pub fn state_hash(entries: &[Entry]) -> Hash {
    let mut hasher = context::INDEX_STATE.hasher();
    hasher.u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    for entry in entries {
        hasher.fixed(&entry.friend.0).bytes(entry.currency.as_str().as_bytes()).u128(entry.recv_capacity);
        hasher.u128(entry.forward_capacity).u32(entry.rate.mul).u32(entry.rate.add);
    }
    hasher.finish()
}

impl Attestation {
    /// Signs that the report of the signer stands at this version and hash.
    pub fn sign(signer: &SharedSigner, version: u64, state_hash: Hash, time_hash: TickHash) -> Self {
        let node = signer.public_key();
        let mut attestation = Attestation { node, version, state_hash, time_hash, signature: Signature([0; 64]) };
        attestation.signature = signer.sign(&attestation.hash());
        attestation
    }

    /// What the node signs: node, version, state hash, time hash.
    pub fn hash(&self) -> Hash {
        let mut hasher = context::INDEX_ATTESTATION.hasher();
        hasher.fixed(&self.node.0).u64(self.version).fixed(&self.state_hash.0).fixed(&self.time_hash.0);
        hasher.finish()
    }

    /// Checks the node's signature; on any thread.
    ///
    /// # Errors
    /// [`BadSignature`] if the node did not sign this.
    pub fn verify(self, verifier: &dyn Verifier) -> Result<Verified<Attestation>, BadSignature> {
        let node = self.node;
        Verified::check(self, node, &node, verifier)
    }
}

impl Signable for Attestation {
    /// An attestation is for everybody: neither `by` nor `to` goes in, the node does.
    fn signed_hash(&self, _by: &PublicKey, _to: &PublicKey) -> Hash {
        self.hash()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }
}

impl TickInputs {
    /// The tick: the random bytes, the number of neighbours' ticks, each of them.
    pub fn hash(&self) -> TickHash {
        let mut hasher = context::INDEX_TICK.hasher();
        hasher.fixed(&self.random.0).u32(u32::try_from(self.neighbours.len()).unwrap_or(u32::MAX));
        for tick in &self.neighbours {
            hasher.fixed(&tick.0);
        }
        TickHash(hasher.finish().0)
    }
}

/// The ticks one of which the receiver of a proof must know as its own, for the attestation that names `time_hash` to be
/// fresh: those of the last link, or `time_hash` itself where there is no link.
///
/// # Errors
/// [`BrokenProof`] if a link does not hash to what names it.
pub fn proven_ticks(time_hash: &TickHash, proof: &Proof) -> Result<Vec<TickHash>, BrokenProof> {
    let mut named: &[TickHash] = std::slice::from_ref(time_hash);
    for (link, inputs) in proof.iter().enumerate() {
        if !named.contains(&inputs.hash()) {
            return Err(BrokenProof { link });
        }
        named = &inputs.neighbours;
    }
    Ok(named.to_vec())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::{decode, encode};
    use crate::identity::{Ed25519, Identity};
    use crate::limits::{MAX_CURRENCY_LEN, MAX_FRAME};

    fn entry(friend: u8, currency: &str, recv_capacity: u128) -> Entry {
        let currency = currency.parse().unwrap();
        let (friend, rate) = (PublicKey([friend; 32]), Rate { mul: 1, add: 2 });
        Entry { friend, currency, recv_capacity, forward_capacity: recv_capacity, rate }
    }

    fn attestation() -> Attestation {
        let signer: SharedSigner = Arc::new(Identity::from_private_key(&[1; 32]));
        Attestation::sign(&signer, 7, state_hash(&[]), TickHash([3; 32]))
    }

    fn delta(set: Vec<Entry>, removed: Vec<EntryKey>) -> Delta {
        Delta {
            attestation: attestation(),
            base: 1,
            set: List::try_from(set).unwrap(),
            removed: List::try_from(removed).unwrap(),
        }
    }

    #[test]
    fn an_attestation_holds_for_every_field_it_states() {
        let good = attestation();
        assert!(good.verify(&Ed25519).is_ok());
        for bad in [
            Attestation { version: 8, ..good },
            Attestation { state_hash: Hash([0; 32]), ..good },
            Attestation { time_hash: TickHash([0; 32]), ..good },
            Attestation { node: PublicKey([4; 32]), ..good },
        ] {
            assert_eq!(bad.verify(&Ed25519), Err(BadSignature));
        }
    }

    #[test]
    fn every_field_of_every_entry_goes_into_the_state_hash() {
        let base = [entry(1, "USD", 5), entry(2, "USD", 6)];
        let mut other = base;
        other[1].rate.add += 1;
        assert_ne!(state_hash(&base), state_hash(&other));
        assert_ne!(state_hash(&base), state_hash(&base[..1]));
        assert_ne!(state_hash(&base), state_hash(&[base[0], entry(2, "EUR", 6)]));
        assert_ne!(state_hash(&base), state_hash(&[base[0], entry(2, "USD", 7)]));
        assert_ne!(state_hash(&base), state_hash(&[base[0], base[1].forwarding(5)]));
    }

    #[test]
    fn a_report_out_of_order_or_about_itself_or_too_large_is_refused() {
        let node = PublicKey([9; 32]);
        assert_eq!(check_report(&node, &[entry(1, "EUR", 1), entry(1, "USD", MAX_AMOUNT)]), Ok(()));
        assert_eq!(check_report(&node, &[entry(1, "USD", 1), entry(1, "USD", 1)]), Err(BadReport::Order));
        assert_eq!(check_report(&node, &[entry(2, "USD", 1), entry(1, "USD", 1)]), Err(BadReport::Order));
        assert_eq!(check_report(&node, &[entry(9, "USD", 1)]), Err(BadReport::Itself));
        assert_eq!(check_report(&node, &[entry(1, "USD", MAX_AMOUNT + 1)]), Err(BadReport::Capacity));
        let both = delta(vec![entry(1, "USD", 1)], vec![entry(1, "USD", 1).key()]);
        assert_eq!(both.check(), Err(BadReport::SetAndRemoved));
    }

    #[test]
    fn what_is_passed_on_is_a_part_of_what_is_taken_and_stated_as_finely_as_may_be() {
        let node = PublicKey([9; 32]);
        let stated = |recv, most| entry(1, "USD", recv).forwarding(most).forward_capacity;
        assert_eq!((stated(30, 10), stated(30, 0), stated(30, 30), stated(30, 31), stated(0, 1)), (10, 0, 30, 30, 0));
        let finest = (1 << FORWARD_BITS) - 1;
        assert_eq!((stated(MAX_AMOUNT, finest), stated(MAX_AMOUNT, finest + 2)), (finest, finest + 1));
        assert_eq!(stated(MAX_AMOUNT - 1, MAX_AMOUNT - 1), MAX_AMOUNT - 1, "all is always statable");
        for less in 0..100 {
            for recv in [MAX_AMOUNT >> less, (MAX_AMOUNT >> less) - 1, (MAX_AMOUNT >> less) / 7 * 5] {
                let third = recv / 3;
                let entry = entry(1, "USD", recv).forwarding(third);
                assert_eq!(check_report(&node, &[entry]), Ok(()));
                assert!(entry.forward_capacity <= third && third - entry.forward_capacity <= third >> 23, "{entry:?}");
            }
        }
        for forward_capacity in [MAX_AMOUNT - 1, MAX_AMOUNT + 1, finest + 2, u128::MAX] {
            let entry = Entry { forward_capacity, ..entry(1, "USD", MAX_AMOUNT) };
            assert_eq!(check_report(&node, &[entry]), Err(BadReport::Forward), "{forward_capacity}");
        }
        let hostile = Entry { forward_capacity: 6, ..entry(1, "USD", 5) };
        assert_eq!(delta(vec![hostile], vec![]).check(), Err(BadReport::Forward));
    }

    #[test]
    fn a_delta_sets_inserts_and_removes_in_order() {
        let before = [entry(2, "USD", 1), entry(4, "USD", 1), entry(6, "USD", 1)];
        let set = vec![entry(1, "USD", 9), entry(4, "USD", 9), entry(5, "USD", 9), entry(7, "USD", 9)];
        let after = delta(set, vec![entry(3, "USD", 0).key(), entry(6, "USD", 0).key()]).apply(&before);
        let expected =
            [entry(1, "USD", 9), entry(2, "USD", 1), entry(4, "USD", 9), entry(5, "USD", 9), entry(7, "USD", 9)];
        assert_eq!(after, expected);
    }

    #[test]
    fn a_proof_leads_link_by_link_to_a_tick_of_the_receiver() {
        let tick = |random: u8, neighbours: &[TickHash]| TickInputs {
            random: Hash([random; 32]),
            neighbours: List::try_from(neighbours.to_vec()).unwrap(),
        };
        let mine = TickHash([1; 32]);
        let middle = tick(2, &[TickHash([8; 32]), mine]);
        let first = tick(3, &[TickHash([9; 32]), middle.hash()]);
        let proof = List::try_from(vec![first.clone(), middle.clone()]).unwrap();
        assert!(proven_ticks(&first.hash(), &proof).unwrap().contains(&mine));
        assert_eq!(proven_ticks(&mine, &Proof::new()), Ok(vec![mine]));
        assert_eq!(proven_ticks(&middle.hash(), &proof), Err(BrokenProof { link: 0 }));
        let swapped = List::try_from(vec![first.clone(), tick(4, &[mine])]).unwrap();
        assert_eq!(proven_ticks(&first.hash(), &swapped), Err(BrokenProof { link: 1 }));
    }

    #[test]
    fn the_largest_report_and_the_largest_delta_fit_one_message() {
        let name = "x".repeat(MAX_CURRENCY_LEN);
        let largest = |n: usize| Entry {
            friend: PublicKey([(n % 251) as u8; 32]),
            currency: name.parse().unwrap(),
            recv_capacity: u128::MAX,
            forward_capacity: u128::MAX,
            rate: Rate { mul: u32::MAX, add: u32::MAX },
        };
        let link = TickInputs {
            random: Hash([0; 32]),
            neighbours: List::truncated((0..MAX_INDEX_NEIGHBOURS).map(|_| TickHash([0; 32]))),
        };
        let proof = Proof::truncated((0..MAX_PROOF_LINKS).map(|_| link.clone()));
        let entries = List::truncated((0..MAX_INDEX_ENTRIES).map(largest));
        let state = IndexToIndex::State { state: State { attestation: attestation(), entries }, proof: proof.clone() };
        let set = (0..MAX_DELTA_ENTRIES).map(largest).collect::<Vec<_>>();
        let removed = set.iter().map(Entry::key).collect();
        let delta = IndexToIndex::Delta { delta: delta(set, removed), proof };
        for message in [state, delta] {
            let bytes = encode(&message);
            assert!(bytes.len() <= MAX_FRAME, "{} bytes", bytes.len());
            assert_eq!(decode::<IndexToIndex>(&bytes, MAX_FRAME), Ok(message));
        }
    }

    #[test]
    fn one_entry_one_neighbour_one_link_too_many_is_refused() {
        let short = encode(&vec![TickHash([0; 32]); MAX_INDEX_NEIGHBOURS + 1]);
        assert!(decode::<List<TickHash, MAX_INDEX_NEIGHBOURS>>(&short, MAX_FRAME).is_err());
        let link = TickInputs { random: Hash([0; 32]), neighbours: List::new() };
        assert!(decode::<Proof>(&encode(&vec![link; MAX_PROOF_LINKS + 1]), MAX_FRAME).is_err());
    }
}
