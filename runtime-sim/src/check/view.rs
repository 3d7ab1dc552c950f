//! One end of a friendship, as plain values: what the checkers look at. Made from a channel of a real funder; tests make
//! them by hand, lies included.

use std::collections::BTreeMap;

use offset_funder_sm::friend_channel::{Channel, Standing};
use offset_funder_sm::funder::Funder;
use offset_funder_sm::funder::records::kind;
use offset_protocol::bytes::{InvoiceId, PublicKey, RequestId, ResetToken, Signature};
use offset_protocol::friend::{Batch, Operation, ResetTerms, body_hash};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::payment::Request;
use offset_protocol::persist::Change;

/// Names an epoch: two ends that show the same one began it on the same terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochId {
    /// Counts resets.
    pub number: u64,
    /// Of the terms; zeros if no reset began it.
    pub token: ResetToken,
}

impl Default for EpochId {
    fn default() -> Self {
        EpochId { number: 0, token: ResetToken([0; 32]) }
    }
}

/// What a request asks to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it freezes: payment and the fees that are left.
    pub frozen: u128,
    /// What the seller gets.
    pub payment: u128,
    /// What is paid by it.
    pub invoice: InvoiceId,
    /// Whom the receiver passes it on to; `None`: the receiver is the seller.
    pub next: Option<PublicKey>,
}

/// An operation that moves something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Opens a request.
    Request(Asked),
    /// Ends one of the friend's, paid.
    Collect,
    /// Ends one of the friend's, not paid.
    Cancel,
}

/// An operation that moves something, in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// In which currency.
    pub currency: Currency,
    /// Of which request.
    pub id: RequestId,
    /// How.
    pub act: Act,
}

/// A batch that its maker holds because the friend has not signed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchView {
    /// Its number.
    pub seq: u64,
    /// Covers everything in it.
    pub signature: Signature,
    /// What it moves, in order.
    pub moves: Vec<Move>,
}

/// One currency at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrencyView {
    /// Which.
    pub currency: Currency,
    /// Positive: the friend owes this end.
    pub balance: i128,
    /// Frozen by what this end sent.
    pub out_frozen: u128,
    /// Frozen by what it received.
    pub in_frozen: u128,
    /// The part of that which was not refused.
    pub accepted_frozen: u128,
    /// The part of that which goes on from this end.
    pub forwarded_frozen: u128,
    /// How many requests of others are to go on from the friend, those included that wait to be sent, and what they freeze.
    pub passed_on: (usize, u128),
    /// What the friend may owe.
    pub max_debt: u128,
    /// What is charged for what comes from the friend.
    pub rate: Rate,
}

/// One end of a friendship.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// Whose.
    pub friend: PublicKey,
    /// In which epoch it is.
    pub epoch: EpochId,
    /// The last batch that this end made.
    pub made: u64,
    /// The last of those that the friend has signed for.
    pub signed_for: u64,
    /// The friend's last batch that this end applied.
    pub applied: u64,
    /// What this end made and holds, from the number on that was asked for.
    pub batches: Vec<BatchView>,
    /// How many requests are open that it sent, and that it received.
    pub open: (usize, usize),
    /// By name.
    pub currencies: Vec<CurrencyView>,
    /// Why nothing moves and this end's terms, if it is so.
    pub dispute: Option<(String, ResetTerms)>,
}

impl ChannelView {
    /// What a channel of this funder shows; of its batches those from number `from` on.
    pub fn of(funder: &Funder, channel: &Channel, from: u64) -> Self {
        let marks = channel.marks();
        let mut batches: Vec<BatchView> = channel
            .unacked()
            .rev()
            .take_while(|(seq, _)| *seq >= from)
            .map(|(seq, batch)| BatchView { seq, signature: batch.signature, moves: moves(batch) })
            .collect();
        batches.reverse();
        let passed_on = passed_on(funder, channel);
        let currencies = channel.currencies().map(|report| CurrencyView {
            currency: report.currency,
            balance: report.balance,
            out_frozen: report.out_frozen,
            in_frozen: report.in_frozen,
            accepted_frozen: channel.accepted_frozen(&report.currency),
            forwarded_frozen: channel.forwarded_frozen(&report.currency),
            passed_on: passed_on.get(&report.currency).copied().unwrap_or_default(),
            max_debt: report.max_debt,
            rate: report.rate,
        });
        ChannelView {
            friend: channel.friend(),
            epoch: EpochId { number: marks.epoch, token: channel.reset_token() },
            made: marks.made,
            signed_for: marks.signed_for,
            applied: marks.applied,
            batches,
            open: channel.open_requests(),
            currencies: currencies.collect(),
            dispute: match channel.standing() {
                Standing::Consistent { .. } => None,
                Standing::Inconsistent { why, ours, .. } => Some((why.to_string(), ours.clone())),
            },
        }
    }
}

/// How many requests of others are to go on from a friend, one by one, and what they freeze.
fn passed_on(funder: &Funder, channel: &Channel) -> BTreeMap<Currency, (usize, u128)> {
    let mut passed_on: BTreeMap<Currency, (usize, u128)> = BTreeMap::new();
    let of_others = |request: &Request| funder.is_of_others(&request.request_id);
    for (currency, request) in channel.onward_requests().filter(|(_, request)| of_others(request)) {
        let (count, frozen) = passed_on.entry(currency).or_default();
        *count += 1;
        *frozen = frozen.saturating_add(request.dest_payment).saturating_add(request.left_fees);
    }
    passed_on
}

/// Whether the body of a batch is the one that its header names.
pub fn is_whole(batch: &Batch) -> bool {
    batch.decode_header().is_ok_and(|header| header.body_hash == body_hash(&batch.body))
}

fn moves(batch: &Batch) -> Vec<Move> {
    let mut moves = Vec::new();
    for group in batch.decode_body().into_iter().flat_map(|body| body.operations) {
        for operation in &group.operations {
            let currency = group.currency;
            let one = |id, act| Move { currency, id, act };
            match operation {
                Operation::Request(request) => {
                    let frozen = request.dest_payment.saturating_add(request.left_fees);
                    let next = request.route.first().copied();
                    let (payment, invoice) = (request.dest_payment, request.invoice_id);
                    let asked = Asked { frozen, payment, invoice, next };
                    moves.push(one(request.request_id, Act::Request(asked)));
                }
                Operation::Collect(collect) => moves.push(one(collect.request_id, Act::Collect)),
                Operation::Cancel(cancel) => moves.push(one(cancel.request_id, Act::Cancel)),
                Operation::Response(_) | Operation::Commit(_) | Operation::Withdraw(_) => {}
            }
        }
    }
    moves
}

/// The friends whose channels changed with a write of a funder: no more and no fewer, because a channel writes down
/// whatever changes in it, and says nothing before. Looks at the keys only; `changes` are sorted by key.
pub fn touched(changes: &[Change]) -> Vec<PublicKey> {
    let mut friends: Vec<PublicKey> = Vec::new();
    for change in changes {
        let Some((&first, rest)) = change.key.split_first() else { continue };
        if first != kind::CHANNEL && first != kind::FRIEND {
            continue;
        }
        let Some(Ok(key)) = rest.get(..PublicKey::SIZE).map(<[u8; PublicKey::SIZE]>::try_from) else { continue };
        if friends.last() != Some(&PublicKey(key)) {
            friends.push(PublicKey(key));
        }
    }
    friends.sort_unstable();
    friends.dedup();
    friends
}
