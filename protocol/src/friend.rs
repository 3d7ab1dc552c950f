//! What two friends say to each other: batches of two signed logs, and how a link comes up again.
//!
//! | message | from | effect |
//! |---|---|---|
//! | [`Resume`] | both, first on every link | each resends what the other has not applied |
//! | [`Batch`] | both, whenever there is something to say | operations, acknowledgement, evidence |
//! | [`Inconsistent`](FriendMessage::Inconsistent) | who noticed | states the terms on which it would begin again |
//! | [`Reset`] | who accepted the other's terms | a new epoch begins |
//! | [`Limits`](FriendMessage::Limits) | both, before all else on every link and when they change | a hint for what each passes on |
//!
//! A signature covers the bytes that travelled: a receiver hashes what it received and never encodes it again.

use crate::bytes::{Hash, PublicKey, ResetToken, Signature};
use crate::codec::{self, Blob, DecodeError, List};
use crate::context;
use crate::identity::Signable;
use crate::limits::{MAX_BATCH_BYTES, MAX_BATCH_OPS, MAX_CURRENCIES, MAX_RELAYS};
use crate::money::Currency;
use crate::payment::{Cancel, Collect, CommitRequest, Request, Response, Withdraw};
use crate::relay::RelayAddress;
use crate::{wire_enum, wire_struct};

/// Bytes of an encoded [`Header`]: five numbers of at most 9 bytes and four hashes, with room to grow.
pub const MAX_HEADER_BYTES: usize = 256;

wire_enum! {
    /// One change of the state that two friends share.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Operation {
        /// Freezes credits on the way to the seller.
        1 = Request(Request),
        /// The seller's answer on the way to the buyer.
        2 = Response(Response),
        /// Ends a request without paying it.
        3 = Cancel(Cancel),
        /// The buyer's secret on the way to the seller.
        4 = Commit(CommitRequest),
        /// The buyer's wish to cancel, on the way to the seller.
        5 = Withdraw(Withdraw),
        /// Both secrets: the frozen credits move.
        6 = Collect(Collect),
    }

    /// A message between friends, inside their own secure channel.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum FriendMessage {
        /// Where we stand.
        1 = Resume(Resume),
        /// News.
        2 = Batch(Batch),
        /// The channel carries no operations any more; our terms for a new beginning.
        3 = Inconsistent(ResetTerms),
        /// We accept your terms.
        4 = Reset(Reset),
        /// What you may owe us, in all currencies that we list. Not part of any log: a hint for what you pass on to us.
        5 = Limits(List<CurrencyLimit, MAX_CURRENCIES>),
    }
}

wire_struct! {
    /// The operations of one currency, in order.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CurrencyOperations {
        /// The currency.
        pub currency: Currency,
        /// What happens in it.
        pub operations: List<Operation, MAX_BATCH_OPS>,
    }

    /// The content of a batch. All groups together have at most [`MAX_BATCH_OPS`] operations.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Body {
        /// Operations by currency; a currency stands here once.
        pub operations: List<CurrencyOperations, MAX_CURRENCIES>,
        /// My relays, all of them, if they changed.
        pub relays: Option<List<RelayAddress, MAX_RELAYS>>,
        /// The currencies that I list, all of them, if they changed.
        pub currencies: Option<List<Currency, MAX_CURRENCIES>>,
    }

    /// What a batch's signature covers: these two histories happened, and they leave these totals.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Header {
        /// Counts resets.
        pub epoch: u64,
        /// Counts my batches in this epoch; the first is 1.
        pub seq: u64,
        /// The last batch of the friend that I had applied.
        pub ack: u64,
        /// Of this batch.
        pub body_hash: Hash,
        /// Of my log, this batch included.
        pub head: Hash,
        /// Of the friend's log at `ack`.
        pub friend_head: Hash,
        /// Of all totals after this batch, from the sender's side: [`totals_hash`].
        pub totals_hash: Hash,
    }

    /// One entry of a friend's log, as it travels.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Batch {
        /// An encoded [`Header`].
        pub header: Blob<MAX_HEADER_BYTES>,
        /// An encoded [`Body`].
        pub body: Blob<MAX_BATCH_BYTES>,
        /// The sender's, over sender, receiver and the header's bytes.
        pub signature: Signature,
    }

    /// Where one end stands: the first message of both on a new link.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Resume {
        /// Counts resets.
        pub epoch: u64,
        /// The last batch of the friend that I applied.
        pub in_seq: u64,
        /// The head of the friend's log there.
        pub in_head: Hash,
        /// My last batch.
        pub out_seq: u64,
    }

    /// What bounds requests between sender and receiver in one currency, as the sender has it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CurrencyLimit {
        /// The currency.
        pub currency: Currency,
        /// What the receiver may owe the sender.
        pub max_debt: u128,
        /// Whether the sender passes on no more to the receiver, for others, than they may hold for good.
        pub is_lasting: bool,
    }

    /// One currency's totals, as seen from one side.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CurrencyTotals {
        /// The currency.
        pub currency: Currency,
        /// Positive: the friend owes this side.
        pub balance: i128,
        /// Frozen by requests that this side sent.
        pub out_frozen: u128,
        /// Frozen by requests that this side received.
        pub in_frozen: u128,
    }

    /// One currency's balance in reset terms, as seen by the side that states them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CurrencyBalance {
        /// The currency.
        pub currency: Currency,
        /// Positive: the friend owes this side.
        pub balance: i128,
    }

    /// On what terms one side would begin again.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ResetTerms {
        /// The epoch that would begin.
        pub epoch: u64,
        /// Names these terms.
        pub reset_token: ResetToken,
        /// What each currency would stand at, sorted by currency.
        pub balances: List<CurrencyBalance, MAX_CURRENCIES>,
    }

    /// The other side's terms, accepted.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Reset {
        /// Of the accepted terms.
        pub epoch: u64,
        /// Of the accepted terms.
        pub reset_token: ResetToken,
        /// Of the side that accepts, over sender, receiver, epoch and token.
        pub signature: Signature,
    }
}

/// The hash of a batch's body.
pub fn body_hash(body: &[u8]) -> Hash {
    context::FRIEND_BODY.hasher().bytes(body).finish()
}

/// The head of a log after a batch with this body.
pub fn next_head(previous: &Hash, body_hash: &Hash) -> Hash {
    context::FRIEND_HEAD.hasher().fixed(&previous.0).fixed(&body_hash.0).finish()
}

/// The head of `sender`'s log to `receiver` before the first batch of an epoch; `reset_token` is zeros in an epoch that no
/// reset began.
pub fn genesis_head(sender: &PublicKey, receiver: &PublicKey, epoch: u64, reset_token: &ResetToken) -> Hash {
    let (lower, higher) = if sender < receiver { (sender, receiver) } else { (receiver, sender) };
    context::FRIEND_GENESIS
        .hasher()
        .fixed(&lower.0)
        .fixed(&higher.0)
        .u64(epoch)
        .fixed(&reset_token.0)
        .u8(u8::from(sender > receiver))
        .finish()
}

/// The hash of all totals that are not zero. `totals` must be sorted by currency.
pub fn totals_hash<'a>(totals: impl IntoIterator<Item = &'a CurrencyTotals>) -> Hash {
    let mut hasher = context::FRIEND_TOTALS.hasher();
    for totals in totals.into_iter().filter(|totals| !totals.is_zero()) {
        hasher
            .bytes(totals.currency.as_str().as_bytes())
            .i128(totals.balance)
            .u128(totals.out_frozen)
            .u128(totals.in_frozen);
    }
    hasher.finish()
}

impl CurrencyTotals {
    /// Whether nothing stands in this currency; such totals are not hashed.
    pub const fn is_zero(&self) -> bool {
        self.balance == 0 && self.out_frozen == 0 && self.in_frozen == 0
    }

    /// The same totals, from the other side. `None` only for a balance of `i128::MIN`, which no ledger reaches.
    pub fn mirrored(&self) -> Option<CurrencyTotals> {
        let balance = self.balance.checked_neg()?;
        Some(CurrencyTotals { balance, out_frozen: self.in_frozen, in_frozen: self.out_frozen, ..*self })
    }
}

impl Batch {
    /// The header, decoded.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no header.
    pub fn decode_header(&self) -> Result<Header, DecodeError> {
        codec::decode(&self.header, MAX_HEADER_BYTES)
    }

    /// The body, decoded. The caller checks its hash against the header and its number of operations.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no body.
    pub fn decode_body(&self) -> Result<Body, DecodeError> {
        codec::decode(&self.body, MAX_BATCH_BYTES)
    }
}

/// The hash that signs a batch with these header bytes.
pub fn batch_hash(sender: &PublicKey, receiver: &PublicKey, header: &[u8]) -> Hash {
    context::FRIEND_BATCH.hasher().fixed(&sender.0).fixed(&receiver.0).bytes(header).finish()
}

impl Signable for Batch {
    fn signed_hash(&self, by: &PublicKey, to: &PublicKey) -> Hash {
        batch_hash(by, to, &self.header)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }
}

impl Signable for Reset {
    fn signed_hash(&self, by: &PublicKey, to: &PublicKey) -> Hash {
        context::FRIEND_RESET.hasher().fixed(&by.0).fixed(&to.0).u64(self.epoch).fixed(&self.reset_token.0).finish()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }
}

wire_struct! {
    /// A friend's last signed header with the totals that it states: evidence that anyone can check with two public keys.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Evidence {
        /// Who signed.
        pub sender: PublicKey,
        /// To whom.
        pub receiver: PublicKey,
        /// An encoded [`Header`].
        pub header: Blob<MAX_HEADER_BYTES>,
        /// The signature.
        pub signature: Signature,
        /// The totals behind the header's hash, from the sender's side, sorted by currency.
        pub totals: List<CurrencyTotals, MAX_CURRENCIES>,
    }
}

/// Why a piece of evidence proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEvidence {
    /// The header cannot be read.
    #[error("the header is malformed: {0}")]
    Header(DecodeError),
    /// The sender did not sign this header for this receiver.
    #[error("the sender's signature does not match")]
    BadSignature,
    /// The totals are not those of the header.
    #[error("the totals are not those that were signed")]
    OtherTotals,
}

impl Evidence {
    /// Checks the signature and the totals; gives the header.
    ///
    /// # Errors
    /// [`BadEvidence`] names the first thing that does not fit.
    pub fn verify(&self, verifier: &dyn crate::identity::Verifier) -> Result<Header, BadEvidence> {
        let hash = batch_hash(&self.sender, &self.receiver, &self.header);
        verifier.verify(&self.sender, &hash, &self.signature).map_err(|_| BadEvidence::BadSignature)?;
        let header: Header = codec::decode(&self.header, MAX_HEADER_BYTES).map_err(BadEvidence::Header)?;
        let sorted = self.totals.windows(2).all(|pair| pair[0].currency < pair[1].currency);
        if !sorted || totals_hash(self.totals.iter()) != header.totals_hash {
            return Err(BadEvidence::OtherTotals);
        }
        Ok(header)
    }
}
