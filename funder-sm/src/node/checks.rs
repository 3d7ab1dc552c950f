//! Signatures of friends' messages are checked aside: on other threads in programs, while this node goes on.
//!
//! | a friend says | what happens |
//! |---|---|
//! | a message without signature, or no message | the funder hears it at once |
//! | a batch or a reset | [`Check`] goes out; the funder hears it when [`Checked`] comes back |
//! | something more before that | it waits: the funder hears a friend's messages in their order |
//!
//! Invariants
//! 1. One check of a friend is out at a time, and what comes back after its link ended counts for nothing.
//! 2. A friend that says more than [`MAX_WAITING`] messages or [`MAX_WAITING_BYTES`] meanwhile loses its link. An honest
//!    one cannot: it may have [`WINDOW`] batches with operations that we did not acknowledge.
//! 3. Of all friends no more than [`MAX_ALL_WAITING_BYTES`] wait, and [`FAIR_WAITING_BYTES`] of each: past that the link of
//!    whoever has most waiting ends. That is no misbehaviour: it may come back at once.
//!
//! 4. In one turn of the node a friend is heard [`MAX_IN_TURN`] times over one link, however many messages it packed into
//!    what its tunnel brought: where signatures are checked on the state thread, a flood takes so much of it and no more. Who
//!    says more loses its link. An honest friend cannot: nothing that we say in a turn leaves before its end, so no more than
//!    it may have unacknowledged comes, or comes again.
//!
//! Not checked here: what a message says. The funder checks the sellers' signatures in responses itself, because it takes its
//! books to know what they are about; [`Check::run`] checks them before, for a verifier that remembers ([`Answers`]).

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::decode;
use offset_protocol::friend::{Batch, FriendMessage, Reset};
use offset_protocol::identity::{Verified, Verifier};
use offset_protocol::limits::{MAX_BATCH_BYTES, MAX_FRAME, WINDOW};

use crate::friend_channel::{MAX_UNACKED, SignedAnswer};
use crate::funder::CheckedMessage;

/// Messages of one friend that wait behind a check: the batches with operations that it may say before we acknowledge any, as
/// many acknowledgements of ours, and as many more.
pub const MAX_WAITING: usize = 3 * WINDOW;
/// Their bytes: a window of batches of the greatest size.
pub const MAX_WAITING_BYTES: usize = WINDOW * MAX_BATCH_BYTES;

/// Messages of one friend that are heard in one turn: twice what it may have unacknowledged.
pub const MAX_IN_TURN: usize = 2 * (MAX_UNACKED + WINDOW);

/// Bytes of all friends' messages that wait behind checks before whoever has most of them is cut off.
pub const MAX_ALL_WAITING_BYTES: usize = 64 << 20;
/// What everybody may have waiting all the same: two batches of the greatest size.
pub const FAIR_WAITING_BYTES: usize = 2 * MAX_BATCH_BYTES;

/// Whether [`Check::run`] checks the sellers' signatures in responses as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// For a verifier that remembers what was good: the funder asks it again.
    Checked,
    /// The funder checks them.
    Left,
}

/// Signatures to check, on any thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    number: u64,
    friend: PublicKey,
    us: PublicKey,
    signed: Signed,
    answers: Vec<SignedAnswer>,
}

/// What was checked; for [`NodeInput::Checked`](super::NodeInput::Checked).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    number: u64,
    friend: PublicKey,
    message: CheckedMessage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Signed {
    Batch(Batch),
    Reset(Reset),
}

impl Signed {
    fn check(self, friend: PublicKey, us: &PublicKey, verifier: &dyn Verifier) -> CheckedMessage {
        match self {
            Signed::Batch(batch) => Verified::check(batch, friend, us, verifier).map(CheckedMessage::Batch),
            Signed::Reset(reset) => Verified::check(reset, friend, us, verifier).map(CheckedMessage::Reset),
        }
        .unwrap_or(CheckedMessage::Forged)
    }
}

impl Check {
    /// How many signatures there are at most.
    pub fn signatures(&self) -> usize {
        1 + self.answers.len()
    }

    /// Checks.
    pub fn run(self, verifier: &dyn Verifier, answers: Answers) -> Checked {
        let Check { number, friend, us, signed, answers: signed_answers } = self;
        let message = signed.check(friend, &us, verifier);
        if message != CheckedMessage::Forged && answers == Answers::Checked {
            for SignedAnswer { seller, hash, signature } in &signed_answers {
                // The funder finds a bad one, and says what comes of it.
                let _ = verifier.verify(seller, hash, signature);
            }
        }
        Checked { number, friend, message }
    }
}

/// A friend's message, opened.
pub(super) enum Opened {
    /// The funder can hear it.
    Plain(CheckedMessage),
    /// To be checked first.
    Signed(Signatures),
}

/// What has to be checked of a message.
pub(super) struct Signatures(Signed);

impl Signatures {
    /// Checks at once, on this thread.
    pub(super) fn check(self, friend: PublicKey, us: &PublicKey, verifier: &dyn Verifier) -> CheckedMessage {
        self.0.check(friend, us, verifier)
    }

    /// The batch, if it is one.
    pub(super) fn batch(&self) -> Option<&Batch> {
        match &self.0 {
            Signed::Batch(batch) => Some(batch),
            Signed::Reset(_) => None,
        }
    }
}

/// Decodes a friend's message.
pub(super) fn open(bytes: &[u8]) -> Opened {
    match decode(bytes, MAX_FRAME) {
        Ok(FriendMessage::Resume(resume)) => Opened::Plain(CheckedMessage::Resume(resume)),
        Ok(FriendMessage::Inconsistent(terms)) => Opened::Plain(CheckedMessage::Inconsistent(terms)),
        Ok(FriendMessage::Limits(limits)) => Opened::Plain(CheckedMessage::Limits(limits)),
        Ok(FriendMessage::Batch(batch)) => Opened::Signed(Signatures(Signed::Batch(batch))),
        Ok(FriendMessage::Reset(reset)) => Opened::Signed(Signatures(Signed::Reset(reset))),
        Err(_) => Opened::Plain(CheckedMessage::Unreadable),
    }
}

/// What may happen with a message that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is its turn.
    Now(Vec<u8>),
    /// It waits.
    Later,
    /// An honest friend would not have so many.
    TooMany,
}

/// The checks that are out, and what waits behind them.
#[derive(Debug, Default)]
pub(super) struct Checks {
    last: u64,
    /// Friends with a check out.
    out: BTreeMap<PublicKey, Out>,
    /// Bytes that wait, of all of them.
    bytes: usize,
    /// How many messages of each friend it was the turn of, in this turn of the node.
    heard: BTreeMap<PublicKey, usize>,
}

#[derive(Debug)]
struct Out {
    number: u64,
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Checks {
    /// A friend said something.
    pub(super) fn turn_of(&mut self, friend: &PublicKey, bytes: Vec<u8>) -> Turn {
        let Some(out) = self.out.get_mut(friend) else {
            let heard = self.heard.entry(*friend).or_default();
            *heard += 1;
            return if *heard <= MAX_IN_TURN { Turn::Now(bytes) } else { Turn::TooMany };
        };
        let own = out.bytes + bytes.len();
        if out.waiting.len() >= MAX_WAITING || own > MAX_WAITING_BYTES {
            return Turn::TooMany;
        }
        self.bytes += bytes.len();
        out.bytes = own;
        out.waiting.push_back(bytes);
        Turn::Later
    }

    /// Whose link must end for there is no room for what waits: not who spoke last, which may be anybody, but who has most.
    pub(super) fn fullest(&self) -> Option<PublicKey> {
        if self.bytes <= MAX_ALL_WAITING_BYTES {
            return None;
        }
        let (friend, out) = self.out.iter().max_by_key(|(_, out)| out.bytes)?;
        (out.bytes > FAIR_WAITING_BYTES).then_some(*friend)
    }

    /// A check goes out. None of this friend may be.
    pub(super) fn begin(
        &mut self,
        us: PublicKey,
        friend: PublicKey,
        what: Signatures,
        answers: Vec<SignedAnswer>,
    ) -> Check {
        self.last += 1;
        let number = self.last;
        let out = self.out.entry(friend).or_insert_with(|| Out { number, waiting: VecDeque::new(), bytes: 0 });
        out.number = number;
        Check { number, friend, us, signed: what.0, answers }
    }

    /// A check is over; what it was about, if that still counts.
    pub(super) fn end(&mut self, checked: Checked) -> Option<(PublicKey, CheckedMessage)> {
        let Checked { number, friend, message } = checked;
        let counts = self.out.get(&friend).is_some_and(|out| out.number == number);
        counts.then_some((friend, message))
    }

    /// The next message of a friend whose check is over; without one nothing is out any more.
    pub(super) fn next(&mut self, friend: &PublicKey) -> Option<Vec<u8>> {
        let out = self.out.get_mut(friend)?;
        match out.waiting.pop_front() {
            Some(bytes) => {
                out.bytes -= bytes.len();
                self.bytes -= bytes.len();
                Some(bytes)
            }
            None => {
                self.out.remove(friend);
                None
            }
        }
    }

    /// A turn of the node is over.
    pub(super) fn end_turn(&mut self) {
        self.heard.clear();
    }

    /// The link ended: what is out and what waits counts for nothing.
    pub(super) fn forget(&mut self, friend: &PublicKey) {
        self.heard.remove(friend);
        self.bytes -= self.out.remove(friend).map_or(0, |out| out.bytes);
    }

    /// Friends with a check out.
    #[cfg(any(test, feature = "probes"))]
    pub(super) fn friends(&self) -> impl Iterator<Item = &PublicKey> {
        self.out.keys()
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::bytes::{Hash, ResetToken, Signature};
    use offset_protocol::codec::encode;
    use offset_protocol::friend::{Resume, batch_hash};
    use offset_protocol::identity::{Identity, Signer};

    use super::*;

    fn identity(n: u8) -> Identity {
        Identity::from_private_key(&[n; 32])
    }

    fn us() -> PublicKey {
        identity(1).public_key()
    }

    fn batch(by: &Identity, n: u8) -> Vec<u8> {
        let signature = by.sign(&batch_hash(&by.public_key(), &us(), &[n]));
        let (header, body) = (vec![n].try_into().unwrap(), vec![2].try_into().unwrap());
        encode(&FriendMessage::Batch(Batch { header, body, signature }))
    }

    fn signed(bytes: &[u8]) -> Signatures {
        match open(bytes) {
            Opened::Signed(what) => what,
            Opened::Plain(message) => panic!("{message:?} has no signature"),
        }
    }

    fn header(message: &CheckedMessage) -> u8 {
        match message {
            CheckedMessage::Batch(batch) => batch.header[0],
            other => panic!("{other:?} is no batch"),
        }
    }

    #[test]
    fn what_a_friend_did_not_sign_comes_back_as_forged() {
        let (friend, mut checks) = (identity(2), Checks::default());
        let reset = Reset { epoch: 1, reset_token: ResetToken([1; 32]), signature: Signature([0; 64]) };
        for forged in [batch(&identity(3), 1), encode(&FriendMessage::Reset(reset))] {
            let check = checks.begin(us(), friend.public_key(), signed(&forged), Vec::new());
            let (_, message) = checks.end(check.run(&friend, Answers::Checked)).unwrap();
            assert_eq!(message, CheckedMessage::Forged);
        }
        assert!(matches!(open(b"noise"), Opened::Plain(CheckedMessage::Unreadable)));
        let resume = Resume { epoch: 0, in_seq: 0, in_head: Hash([0; 32]), out_seq: 0 };
        assert!(matches!(open(&encode(&FriendMessage::Resume(resume))), Opened::Plain(CheckedMessage::Resume(_))));
    }

    #[test]
    fn messages_of_a_friend_keep_their_order_and_friends_do_not_wait_for_each_other() {
        let (a, b, mut checks) = (identity(2), identity(3), Checks::default());
        let first = checks.begin(us(), a.public_key(), signed(&batch(&a, 1)), Vec::new());
        assert_eq!(checks.turn_of(&a.public_key(), batch(&a, 2)), Turn::Later);
        assert_eq!(checks.turn_of(&a.public_key(), b"x".to_vec()), Turn::Later);
        let Turn::Now(of_b) = checks.turn_of(&b.public_key(), batch(&b, 9)) else { panic!("b waits for a") };
        let other = checks.begin(us(), b.public_key(), signed(&of_b), Vec::new());
        // The other's comes back first.
        let (friend, message) = checks.end(other.run(&b, Answers::Left)).unwrap();
        assert_eq!((friend, header(&message), checks.next(&friend)), (b.public_key(), 9, None));
        let (friend, message) = checks.end(first.run(&a, Answers::Left)).unwrap();
        assert_eq!((friend, header(&message)), (a.public_key(), 1));
        let second = checks.next(&friend).unwrap();
        let second = checks.begin(us(), friend, signed(&second), Vec::new());
        assert_eq!(checks.turn_of(&friend, b"y".to_vec()), Turn::Later);
        assert_eq!(header(&checks.end(second.run(&a, Answers::Left)).unwrap().1), 2);
        assert_eq!(checks.next(&friend), Some(b"x".to_vec()));
        assert_eq!(checks.next(&friend), Some(b"y".to_vec()));
        assert_eq!((checks.next(&friend), checks.friends().count()), (None, 0));
    }

    /// Found by a reviewer: with few cores nothing bounded how long a turn took that was full of one friend's signatures.
    #[test]
    fn in_a_turn_a_friend_is_heard_so_often_and_others_all_the_same() {
        let (key, other, mut checks) = (identity(2).public_key(), identity(3).public_key(), Checks::default());
        let mut heard = || (0..).take_while(|_| checks.turn_of(&key, vec![1]) == Turn::Now(vec![1])).count();
        assert_eq!(heard(), MAX_IN_TURN);
        assert_eq!(heard(), 0);
        assert_eq!(checks.turn_of(&other, vec![2]), Turn::Now(vec![2]));
        checks.end_turn();
        assert_eq!(checks.turn_of(&key, vec![3]), Turn::Now(vec![3]));
        // What it says on its next link is counted anew.
        (1..MAX_IN_TURN).for_each(|_| drop(checks.turn_of(&key, vec![1])));
        checks.forget(&key);
        assert_eq!(checks.turn_of(&key, vec![4]), Turn::Now(vec![4]));
    }

    #[test]
    fn what_comes_back_after_its_link_ended_counts_for_nothing() {
        let (friend, mut checks) = (identity(2), Checks::default());
        let key = friend.public_key();
        let old = checks.begin(us(), key, signed(&batch(&friend, 1)), Vec::new());
        assert_eq!(checks.turn_of(&key, batch(&friend, 2)), Turn::Later);
        checks.forget(&key);
        let Turn::Now(again) = checks.turn_of(&key, batch(&friend, 3)) else {
            panic!("a new link waits for an old one")
        };
        let new = checks.begin(us(), key, signed(&again), Vec::new());
        assert_eq!(checks.end(old.run(&friend, Answers::Left)), None);
        assert_eq!(header(&checks.end(new.run(&friend, Answers::Left)).unwrap().1), 3);
        assert_eq!(checks.next(&key), None);
        let late = Checked { number: 9, friend: key, message: CheckedMessage::Forged };
        assert_eq!(checks.end(late), None);
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes() {
        let (friend, mut checks) = (identity(2), Checks::default());
        let key = friend.public_key();
        for (size, most) in [(1, MAX_WAITING), (MAX_BATCH_BYTES, WINDOW)] {
            checks.begin(us(), key, signed(&batch(&friend, 1)), Vec::new());
            for _ in 0..most {
                assert_eq!(checks.turn_of(&key, vec![0; size]), Turn::Later);
            }
            assert_eq!(checks.turn_of(&key, vec![0; size]), Turn::TooMany);
            checks.forget(&key);
        }
    }

    /// Found by a reviewer: whoever spoke next was cut off, and shunned, for what others had waiting.
    #[test]
    fn when_too_much_waits_of_all_friends_whoever_has_most_is_cut_off() {
        let (signer, mut checks) = (identity(2), Checks::default());
        let friend = |n: usize| PublicKey(std::array::from_fn(|at| n.to_le_bytes()[at % 8]));
        let says = |checks: &mut Checks, n: usize, batches: usize| {
            if !checks.out.contains_key(&friend(n)) {
                checks.begin(us(), friend(n), signed(&batch(&signer, 1)), Vec::new());
            }
            (0..batches).for_each(|_| assert_eq!(checks.turn_of(&friend(n), vec![0; MAX_BATCH_BYTES]), Turn::Later));
        };
        let (honest, floods) = (100, MAX_ALL_WAITING_BYTES / MAX_WAITING_BYTES);
        says(&mut checks, honest, 2 * FAIR_WAITING_BYTES / MAX_BATCH_BYTES);
        for n in 0..floods {
            assert_eq!(checks.fullest(), None);
            says(&mut checks, n, WINDOW);
        }
        // The one with little speaks last, and another goes; and so on, as long as too much waits.
        says(&mut checks, honest, 1);
        let fullest = checks.fullest().unwrap();
        assert_ne!(fullest, friend(honest));
        checks.forget(&fullest);
        assert_eq!(checks.fullest(), None);
        assert!(checks.bytes <= MAX_ALL_WAITING_BYTES && checks.out[&friend(honest)].bytes > 0);
        (0..=honest).for_each(|n| checks.forget(&friend(n)));
        assert_eq!((checks.bytes, checks.friends().count()), (0, 0));
        // Everybody may have a little.
        let many = 2 * MAX_ALL_WAITING_BYTES / FAIR_WAITING_BYTES;
        (0..many).for_each(|n| says(&mut checks, n, FAIR_WAITING_BYTES / MAX_BATCH_BYTES));
        assert_eq!(checks.fullest(), None);
        says(&mut checks, 7, 1);
        assert_eq!(checks.fullest(), Some(friend(7)));
    }

    #[test]
    fn answers_are_checked_only_for_who_remembers_and_a_bad_one_is_left_to_the_funder() {
        struct Counting(Identity, std::sync::atomic::AtomicU32);
        impl Verifier for Counting {
            fn verify(
                &self,
                key: &PublicKey,
                hash: &Hash,
                s: &Signature,
            ) -> Result<(), offset_protocol::identity::BadSignature> {
                self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                self.0.verify(key, hash, s)
            }
        }
        let (friend, mut checks) = (identity(2), Checks::default());
        let bad = SignedAnswer { seller: us(), hash: Hash([1; 32]), signature: Signature([1; 64]) };
        for (answers, calls) in [(Answers::Checked, 3), (Answers::Left, 1)] {
            let counting = Counting(identity(1), 0.into());
            let check =
                checks.begin(us(), friend.public_key(), signed(&batch(&friend, 1)), vec![bad.clone(), bad.clone()]);
            let (_, message) = checks.end(check.run(&counting, answers)).unwrap();
            assert_eq!((header(&message), counting.1.into_inner()), (1, calls));
        }
    }
}
