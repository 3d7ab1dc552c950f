//! What a cheater knows of a channel: both logs and the totals, followed from outside, so that it can make batches that get
//! past everything but what is wrong with them on purpose.
//!
//! Followed from the first batch of an epoch on: whatever passes is believed. Only sums are kept, no rules are checked.

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::{Hash, PublicKey, RequestId, ResetToken, Signature};
use offset_protocol::codec::{Blob, encode};
use offset_protocol::friend::{
    Batch, Body, CurrencyTotals, Header, Operation, Reset, ResetTerms, Resume, batch_hash, body_hash, genesis_head,
    next_head, totals_hash,
};
use offset_protocol::identity::{SharedSigner, Signable};
use offset_protocol::money::Currency;
use offset_protocol::payment::{Request, Response};

/// Own batches that are kept for resending: as many as an honest friend may leave without an acknowledgement, and more.
const MAX_KEPT: usize = 128;

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) seq: u64,
    pub(super) head: Hash,
}

/// A request that has not ended.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) request: Request,
    pub(super) response: Option<Response>,
}

/// Requests by currency and id.
pub(super) type OpenRequests = BTreeMap<(Currency, RequestId), Open>;

/// One channel, as the cheater at one end knows it.
pub(super) struct Shadow {
    signer: SharedSigner,
    us: PublicKey,
    friend: PublicKey,
    pub(super) epoch: u64,
    /// Our last batch, and the one before it.
    pub(super) made: Mark,
    pub(super) before: Mark,
    /// The friend's last batch.
    pub(super) applied: Mark,
    totals: BTreeMap<Currency, CurrencyTotals>,
    /// Requests that we sent, and that the friend sent.
    pub(super) outgoing: OpenRequests,
    pub(super) incoming: OpenRequests,
    kept: VecDeque<(u64, Batch)>,
    /// What our last list of currencies named.
    pub(super) said: Vec<Currency>,
    /// Terms that either side stated.
    pub(super) ours: Option<ResetTerms>,
    pub(super) theirs: Option<ResetTerms>,
}

impl Shadow {
    pub(super) fn new(signer: SharedSigner, friend: PublicKey) -> Self {
        let us = signer.public_key();
        let nothing = Mark { seq: 0, head: Hash([0; 32]) };
        let mut shadow = Shadow {
            signer,
            us,
            friend,
            epoch: 0,
            made: nothing,
            before: nothing,
            applied: nothing,
            totals: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            kept: VecDeque::new(),
            said: Vec::new(),
            ours: None,
            theirs: None,
        };
        shadow.start(0, &ResetToken([0; 32]));
        shadow
    }

    fn start(&mut self, epoch: u64, token: &ResetToken) {
        self.epoch = epoch;
        self.made = Mark { seq: 0, head: genesis_head(&self.us, &self.friend, epoch, token) };
        self.before = self.made;
        self.applied = Mark { seq: 0, head: genesis_head(&self.friend, &self.us, epoch, token) };
        self.totals.clear();
        self.outgoing.clear();
        self.incoming.clear();
        self.kept.clear();
    }

    // -- what passes

    /// A batch of ours leaves. What was made before changes nothing.
    pub(super) fn on_made(&mut self, batch: &Batch) {
        let (Ok(header), Ok(body)) = (batch.decode_header(), batch.decode_body()) else { return };
        if header.epoch != self.epoch || header.seq <= self.made.seq {
            return;
        }
        self.before = self.made;
        self.made = Mark { seq: header.seq, head: header.head };
        self.keep(header.seq, batch.clone());
        for (currency, operation) in operations(&body) {
            self.apply(Side::Ours, currency, operation);
        }
        if let Some(currencies) = body.currencies {
            self.said = currencies.to_vec();
        }
    }

    /// A batch of the friend arrives.
    pub(super) fn on_applied(&mut self, batch: &Batch) {
        let (Ok(header), Ok(body)) = (batch.decode_header(), batch.decode_body()) else { return };
        if header.epoch != self.epoch || header.seq <= self.applied.seq {
            return;
        }
        self.applied = Mark { seq: header.seq, head: header.head };
        for (currency, operation) in operations(&body) {
            self.apply(Side::Friends, currency, operation);
        }
    }

    /// One of the two accepted terms.
    pub(super) fn on_reset(&mut self, reset: &Reset) {
        let names = |terms: &&ResetTerms| terms.epoch == reset.epoch && terms.reset_token == reset.reset_token;
        let ours = self.ours.as_ref().filter(names).map(|terms| (terms.clone(), 1));
        let theirs = self.theirs.as_ref().filter(names).map(|terms| (terms.clone(), -1));
        let Some((terms, sign)) = ours.or(theirs) else { return };
        self.start(terms.epoch, &terms.reset_token);
        for stated in &terms.balances {
            let balance = stated.balance.saturating_mul(sign);
            let totals = CurrencyTotals { currency: stated.currency, balance, out_frozen: 0, in_frozen: 0 };
            self.totals.insert(stated.currency, totals);
        }
    }

    fn apply(&mut self, by: Side, currency: Currency, operation: &Operation) {
        let totals =
            self.totals.entry(currency).or_insert(CurrencyTotals { currency, balance: 0, out_frozen: 0, in_frozen: 0 });
        // Of the requests that this operation opens, answers or ends; and what it does to their opener's balance.
        let opens = matches!(operation, Operation::Request(_));
        let ours = (by == Side::Ours) == opens;
        let (requests, frozen, sign) = if ours {
            (&mut self.outgoing, &mut totals.out_frozen, -1)
        } else {
            (&mut self.incoming, &mut totals.in_frozen, 1)
        };
        match operation {
            Operation::Request(request) => {
                *frozen = frozen.saturating_add(sum(request));
                requests.insert((currency, request.request_id), Open { request: request.clone(), response: None });
            }
            Operation::Response(response) => {
                if let Some(open) = requests.get_mut(&(currency, response.request_id)) {
                    open.response = Some(response.clone());
                }
            }
            Operation::Cancel(cancel) => {
                if let Some(open) = requests.remove(&(currency, cancel.request_id)) {
                    *frozen = frozen.saturating_sub(sum(&open.request));
                }
            }
            Operation::Collect(collect) => {
                if let Some(open) = requests.remove(&(currency, collect.request_id)) {
                    let amount = sum(&open.request);
                    *frozen = frozen.saturating_sub(amount);
                    totals.balance = totals.balance.saturating_add(sign * i128::try_from(amount).unwrap_or(0));
                }
            }
            Operation::Commit(_) | Operation::Withdraw(_) => {}
        }
    }

    fn keep(&mut self, seq: u64, batch: Batch) {
        self.kept.push_back((seq, batch));
        if self.kept.len() > MAX_KEPT {
            self.kept.pop_front();
        }
    }

    // -- what can be said

    /// Our batches after `seq`.
    pub(super) fn kept_after(&self, seq: u64) -> Vec<Batch> {
        self.kept.iter().filter(|(kept, _)| *kept > seq).map(|(_, batch)| batch.clone()).collect()
    }

    /// The `nth` of our batches that are kept, counted round.
    pub(super) fn kept(&self, nth: u64) -> Option<&Batch> {
        let place = nth.checked_rem(self.kept.len() as u64)?;
        self.kept.get(place as usize).map(|(_, batch)| batch)
    }

    /// Where we stand.
    pub(super) fn resume(&self) -> Resume {
        Resume { epoch: self.epoch, in_seq: self.applied.seq, in_head: self.applied.head, out_seq: self.made.seq }
    }

    /// What the friend owes us, by currency.
    pub(super) fn totals(&self) -> impl Iterator<Item = &CurrencyTotals> {
        self.totals.values()
    }

    /// Makes the next batch of our log, and takes it for made.
    pub(super) fn forge(&mut self, body: &Body) -> Batch {
        self.forge_spoiled(encode(body), body, |_| {})
    }

    /// Makes the next batch with other bytes than its body's, or a spoiled header.
    pub(super) fn forge_spoiled(&mut self, bytes: Vec<u8>, body: &Body, spoil: impl FnOnce(&mut Header)) -> Batch {
        for (currency, operation) in operations(body) {
            self.apply(Side::Ours, currency, operation);
        }
        let body_hash = body_hash(&bytes);
        let mark = Mark { seq: self.made.seq.saturating_add(1), head: next_head(&self.made.head, &body_hash) };
        let mut header = self.header(mark, body_hash);
        spoil(&mut header);
        self.before = self.made;
        self.made = mark;
        let batch = self.seal(encode(&header), bytes);
        self.keep(mark.seq, batch.clone());
        batch
    }

    /// Another batch under the number of our last one.
    pub(super) fn forge_again(&self, body: &Body) -> Batch {
        let bytes = encode(body);
        let body_hash = body_hash(&bytes);
        let mark = Mark { seq: self.made.seq, head: next_head(&self.before.head, &body_hash) };
        self.seal(encode(&self.header(mark, body_hash)), bytes)
    }

    fn header(&self, mark: Mark, body_hash: Hash) -> Header {
        Header {
            epoch: self.epoch,
            seq: mark.seq,
            ack: self.applied.seq,
            body_hash,
            head: mark.head,
            friend_head: self.applied.head,
            totals_hash: totals_hash(self.totals.values()),
        }
    }

    /// Signs whatever is in it.
    pub(super) fn seal(&self, header: Vec<u8>, body: Vec<u8>) -> Batch {
        let signature = self.signer.sign(&batch_hash(&self.us, &self.friend, &header));
        Batch {
            header: Blob::try_from(header).unwrap_or_default(),
            body: Blob::try_from(body).unwrap_or_default(),
            signature,
        }
    }

    /// Our word that we accept these terms.
    pub(super) fn accept(&self, epoch: u64, reset_token: ResetToken) -> Reset {
        let mut reset = Reset { epoch, reset_token, signature: Signature([0; Signature::SIZE]) };
        reset.signature = self.signer.sign(&reset.signed_hash(&self.us, &self.friend));
        reset
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    Friends,
}

fn sum(request: &Request) -> u128 {
    request.dest_payment.saturating_add(request.left_fees)
}

fn operations(body: &Body) -> impl Iterator<Item = (Currency, &Operation)> {
    body.operations.iter().flat_map(|group| group.operations.iter().map(move |operation| (group.currency, operation)))
}
