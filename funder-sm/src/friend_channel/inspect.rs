//! A channel looked at without believing it: see [`crate::inspection`] for what is checked.

use std::collections::BTreeMap;

use offset_protocol::bytes::RequestId;
use offset_protocol::friend::{Operation, batch_hash, body_hash, genesis_head, next_head, totals_hash};
use offset_protocol::identity::{Signable, Verifier};
use offset_protocol::limits::{MAX_AMOUNT, MAX_PENDING};
use offset_protocol::money::Currency;
use offset_protocol::payment::{Response, ResponseTerms};

use super::queue::{Class, Waiting, request_id};
use super::{Channel, CurrencyState, State};
use crate::inspection::{Check, Inspection};
use crate::ledger::{Delta, MAX_INCOMING, OpenRequest, check_request};

/// A channel, and what is found of it.
struct Look<'a> {
    channel: &'a Channel,
    verifier: &'a dyn Verifier,
    to: &'a mut Inspection,
}

impl Channel {
    /// Checks every signature, hash and sum of this channel.
    pub(crate) fn inspect(&self, verifier: &dyn Verifier, to: &mut Inspection) {
        let mut look = Look { channel: self, verifier, to };
        look.logs();
        look.evidence();
        look.batches();
        look.state();
        for (currency, state) in self.currencies.iter() {
            look.currency(currency, state);
        }
        look.queue();
    }
}

impl Look<'_> {
    fn check(&mut self, check: Check, is_right: bool, what: impl std::fmt::Display) {
        let friend = self.channel.friend;
        self.to.check(check, is_right, || format!("the channel with friend {friend}: {what}"));
    }

    /// Where both logs stand.
    fn logs(&mut self) {
        let (channel, core) = (self.channel, &self.channel.core);
        let genesis = |from, to| genesis_head(from, to, core.epoch, &core.reset_token);
        let ours = genesis(&channel.us, &channel.friend);
        for mark in [core.made, core.signed_for] {
            self.check(Check::Hash, mark.seq > 0 || mark.head == ours, "our log begins with another head");
        }
        let theirs = genesis(&channel.friend, &channel.us);
        let begins = core.applied.seq > 0 || core.applied.head == theirs;
        self.check(Check::Hash, begins, "the friend's log begins with another head");
        self.check(Check::Fit, core.signed_for.seq <= core.made.seq, "the friend has signed for more than we made");
    }

    /// The friend's last signatures.
    fn evidence(&mut self) {
        let (channel, core) = (self.channel, &self.channel.core);
        if let Some(old) = channel.old_evidence.as_deref() {
            self.to.count("signed statements of friends");
            let result = old.verify(self.verifier);
            self.check(
                Check::Signature,
                result.is_ok(),
                format_args!("the friend's last signature before a reset: {result:?}"),
            );
            let is_theirs = old.sender == channel.friend && old.receiver == channel.us;
            self.check(Check::Fit, is_theirs, "the signature kept from before a reset is of somebody else");
        }
        if core.evidence.is_none() {
            let is_new = core.applied.seq == 0 || matches!(channel.state, State::Inconsistent(_));
            return self.check(Check::Fit, is_new, "the friend's signature of its last batch is missing");
        }
        self.to.count("signed statements of friends");
        // `evidence` puts the totals to it that we think the friend signed.
        let Some(evidence) = channel.evidence() else { return };
        let header = match evidence.verify(self.verifier) {
            Ok(header) => header,
            Err(why) => return self.check(Check::Signature, false, format_args!("the friend's last signature: {why}")),
        };
        self.check(Check::Signature, true, "");
        let place = (header.epoch, header.seq) == (core.epoch, core.applied.seq);
        self.check(Check::Fit, place, "the friend's last signature is of another batch");
        self.check(
            Check::Hash,
            header.head == core.applied.head,
            "the friend's log ends with another head than it signed",
        );
        let knows = header.ack == core.signed_for.seq && header.friend_head == core.signed_for.head;
        self.check(Check::Hash, knows, "the friend has signed for another log of ours");
    }

    /// Our batches that the friend has not signed for.
    fn batches(&mut self) {
        let (channel, core) = (self.channel, &self.channel.core);
        let (mut head, mut ack) = (core.signed_for.head, 0);
        let last = channel.unacked.len();
        for (number, unacked) in channel.unacked.iter().enumerate() {
            self.to.count("batches that wait for a signature");
            let seq = unacked.mark.seq;
            let Ok(header) = unacked.batch.decode_header() else {
                self.check(Check::Fit, false, format_args!("our batch {seq} cannot be read"));
                continue;
            };
            let signed = batch_hash(&channel.us, &channel.friend, &unacked.batch.header);
            let is_ours = self.verifier.verify(&channel.us, &signed, &unacked.batch.signature).is_ok();
            self.check(Check::Signature, is_ours, format_args!("we did not sign our batch {seq}"));
            let body = body_hash(&unacked.batch.body);
            self.check(
                Check::Hash,
                body == header.body_hash,
                format_args!("our batch {seq} has another body than we signed"),
            );
            head = next_head(&head, &body);
            self.check(
                Check::Hash,
                head == header.head,
                format_args!("our batch {seq} does not follow the one before"),
            );
            let fits = header.epoch == core.epoch && header.ack >= ack && header.ack <= core.applied.seq;
            self.check(Check::Fit, fits, format_args!("our batch {seq} acknowledges what it cannot"));
            ack = header.ack;
            if number + 1 == last && header.ack == core.applied.seq {
                let totals: Vec<_> =
                    channel.currencies.iter().map(|(currency, state)| state.ledger.totals().named(*currency)).collect();
                let states = totals_hash(&totals) == header.totals_hash;
                self.check(Check::Hash, states, format_args!("our batch {seq} states other totals than we have"));
            }
        }
        self.check(Check::Hash, head == core.made.head, "our log ends with another head than its last batch");
    }

    fn state(&mut self) {
        let (channel, core) = (self.channel, &self.channel.core);
        match &channel.state {
            State::Consistent => self.to.count("consistent channels"),
            State::Unconfirmed(unconfirmed) => {
                self.to.count("channels whose reset is not confirmed");
                let (reset, theirs) = (&unconfirmed.reset, &unconfirmed.theirs);
                let signed = reset.signed_hash(&channel.us, &channel.friend);
                let is_ours = self.verifier.verify(&channel.us, &signed, &reset.signature).is_ok();
                self.check(Check::Signature, is_ours, "we did not sign our acceptance");
                let fits = (reset.epoch, reset.reset_token) == (theirs.epoch, theirs.reset_token)
                    && (core.epoch, core.reset_token) == (theirs.epoch, theirs.reset_token);
                self.check(Check::Fit, fits, "we accepted other terms than those that we began on");
            }
            State::Inconsistent(dispute) => {
                self.to.count("inconsistent channels");
                let mut epochs = std::iter::once(&dispute.ours).chain(&dispute.theirs).map(|terms| terms.epoch);
                let later = epochs.all(|epoch| epoch > core.epoch);
                self.check(Check::Fit, later, "reset terms name an epoch that is over");
                let idle = channel.unacked.is_empty() && channel.open_requests() == (0, 0);
                self.check(Check::Fit, idle, "it is inconsistent, and something is open still");
            }
        }
    }

    fn currency(&mut self, currency: &Currency, state: &CurrencyState) {
        let channel = self.channel;
        let totals = state.ledger.totals();
        self.to.count("currencies of friends");
        let standing = self.to.currencies.entry(*currency).or_default();
        standing.friends += 1;
        standing.balance = standing.balance.saturating_add(totals.balance);
        standing.out_frozen = standing.out_frozen.saturating_add(totals.out_frozen);
        standing.in_frozen = standing.in_frozen.saturating_add(totals.in_frozen);
        let in_range = totals.balance.unsigned_abs() <= MAX_AMOUNT;
        self.check(Check::Fit, in_range, format_args!("the balance in {currency} is beyond all amounts"));
        let (outgoing, incoming) = (state.ledger.outgoing(), state.ledger.incoming());
        let within = outgoing.len() <= MAX_PENDING && incoming.len() <= MAX_INCOMING;
        self.check(Check::Fit, within, format_args!("more requests are open in {currency} than there may be"));
        let out = sum(outgoing.values().map(|open| open.frozen()));
        self.check(
            Check::Sum,
            out == Some(totals.out_frozen),
            format_args!("our requests in {currency} do not add up to what they freeze"),
        );
        let inc = sum(incoming.values().map(|open| open.frozen()));
        self.check(
            Check::Sum,
            inc == Some(totals.in_frozen),
            format_args!("the friend's requests in {currency} do not add up to what they freeze"),
        );
        let deltas = channel.unacked.iter().flat_map(|unacked| &unacked.deltas);
        let change = deltas.filter(|(of, _)| of == currency).fold(Delta::ZERO, |sum, (_, delta)| sum.and(delta));
        let follows = state.seen.after(&change) == Some(*totals);
        self.check(
            Check::Sum,
            follows,
            format_args!("the totals in {currency} do not follow from what the friend knew"),
        );
        for (id, open) in outgoing.iter() {
            self.open_request(currency, id, open, Direction::Out);
        }
        for (id, open) in incoming.iter() {
            self.open_request(currency, id, open, Direction::In);
        }
    }

    fn open_request(&mut self, currency: &Currency, id: &RequestId, open: &OpenRequest, direction: Direction) {
        let channel = self.channel;
        let (us, friend) = (&channel.us, &channel.friend);
        let ((from, to), thing) = match direction {
            Direction::Out => ((us, friend), "open requests, ours"),
            Direction::In => ((friend, us), "open requests, friends'"),
        };
        self.to.count(thing);
        self.check(
            Check::Fit,
            open.request.request_id == *id,
            format_args!("the request {id} has another name inside"),
        );
        let valid = check_request(&open.request, from, to);
        self.check(Check::Fit, valid.is_ok(), format_args!("the request {id}: {valid:?}"));
        let told = open.told <= channel.core.made.seq && (direction == Direction::In || open.told > 0);
        self.check(Check::Fit, told, format_args!("the request {id} was told in a batch that we have not made"));
        let stage = match (&open.response, open.refused) {
            (None, false) => !open.committed,
            (None, true) => !open.committed && direction == Direction::In,
            (Some(_), refused) => !refused,
        };
        self.check(Check::Fit, stage, format_args!("the request {id} is at an impossible stage"));
        if let Some(response) = &open.response {
            self.response(currency, open, response, direction);
        }
    }

    fn response(&mut self, currency: &Currency, open: &OpenRequest, response: &Response, direction: Direction) {
        let at_end = match direction {
            Direction::Out => &self.channel.friend,
            Direction::In => &self.channel.us,
        };
        let seller = open.request.route.last().unwrap_or(at_end);
        let terms = ResponseTerms::new(&open.request, response, *currency).hash();
        let id = response.request_id;
        let fits = id == open.request.request_id;
        self.check(Check::Fit, fits, format_args!("an answer stands at another request than {id}"));
        let is_sellers = self.verifier.verify(seller, &terms, &response.signature).is_ok();
        self.check(
            Check::Signature,
            is_sellers,
            format_args!("the seller did not sign the answer to the request {id}"),
        );
    }

    /// What waits to be signed: each about a request that is open, or waits before it.
    fn queue(&mut self) {
        let channel = self.channel;
        let mut responses: BTreeMap<(Currency, RequestId), &Response> = BTreeMap::new();
        for (key, Waiting { currency, operation }) in channel.queue.iter() {
            self.to.count("operations that wait");
            let id = request_id(operation);
            let class = key.class == Class::of(key.class.origin(), operation);
            self.check(Check::Fit, class, format_args!("an operation about the request {id} waits in the wrong queue"));
            let Some(state) = channel.currencies.get(currency) else {
                self.check(Check::Fit, false, format_args!("an operation waits in {currency}, which has no record"));
                continue;
            };
            let waits = channel.queue.outgoing(&(*currency, id)).request.is_some();
            let fits = match operation {
                Operation::Request(request) => {
                    check_request(request, &channel.us, &channel.friend).is_ok()
                        && !state.ledger.outgoing().contains_key(&id)
                }
                Operation::Response(_) => state.ledger.check_response(&id).is_ok(),
                Operation::Cancel(_) => state.ledger.incoming().contains_key(&id),
                Operation::Commit(_) | Operation::Withdraw(_) => waits || state.ledger.outgoing().contains_key(&id),
                Operation::Collect(collect) => {
                    let response = responses.get(&(*currency, id)).copied();
                    let opens = state.ledger.check_collect(collect, response).is_ok();
                    self.check(Check::Hash, opens, format_args!("the locks of the request {id} do not open"));
                    true
                }
            };
            self.check(Check::Fit, fits, format_args!("what waits to be said about the request {id} cannot be said"));
            if let Operation::Response(response) = operation {
                responses.insert((*currency, id), response);
                if let Some(open) = channel.incoming(currency, &id) {
                    self.response(currency, open, response, Direction::In);
                }
            }
        }
    }
}

/// `None` if they do not fit.
fn sum(mut frozen: impl Iterator<Item = u128>) -> Option<u128> {
    frozen.try_fold(0, u128::checked_add)
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}
