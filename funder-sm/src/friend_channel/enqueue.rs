//! What the node wants to say waits here until the next batch.
//!
//! Everything is checked on the way in, against the ledger and against what waits already, so that it can be signed when
//! its turn comes. What makes a queued request impossible afterwards (the link goes, a currency closes) takes it out at once.

use offset_protocol::friend::Operation;
use offset_protocol::limits::MAX_PENDING;
use offset_protocol::money::Currency;
use offset_protocol::payment::{Cancel, CancelReason, Collect, CommitRequest, Request, Response, Withdraw};
use offset_protocol::{mutant, sometimes};

use super::queue::{Class, Waiting};
use super::{Channel, ChannelEvent, CurrencyState, Enqueued, Listing, Origin, Refused, State};
use crate::ledger::guard::{OTHERS_PLACES, OWN_REQUESTS};
use crate::ledger::{Unsendable, check_request};

/// Sending.
impl Channel {
    /// Whether a request in this currency could be taken for sending now. The friend's limit for us is not asked.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub fn can_push(&self, currency: &Currency) -> Result<(), Refused> {
        self.check_pushing(currency).map(|_| ())
    }

    /// Takes an operation for sending, each once; nothing has changed if it is refused. Responses, cancels and collects
    /// speak of requests of the friend, the others of ours.
    ///
    /// # Errors
    /// [`Refused`]. Answers, commits and withdrawals are never refused for lack of room.
    pub fn enqueue(&mut self, currency: Currency, origin: Origin, operation: Operation) -> Result<Enqueued, Refused> {
        match &operation {
            Operation::Request(request) => self.check_new_request(&currency, origin, request)?,
            Operation::Response(response) => self.check_response(&currency, response)?,
            Operation::Cancel(cancel) => self.check_cancel(&currency, cancel)?,
            Operation::Collect(collect) => self.check_collect(&currency, collect)?,
            Operation::Commit(commit) => self.check_commit(&currency, commit)?,
            Operation::Withdraw(withdraw) => {
                if let Some(request) = self.undo_request(&currency, withdraw) {
                    sometimes!("channel: a request is withdrawn before it was signed", true);
                    return Ok(Enqueued::Undone(request));
                }
                self.check_withdraw(&currency, withdraw)?;
            }
        }
        let class = Class::of(origin, &operation);
        self.queue.push(class, Waiting { currency, operation });
        Ok(Enqueued::Queued)
    }

    /// Takes all requests that were never signed out of the queue and gives them back as [`ChannelEvent::Dropped`].
    pub fn drop_unsent_requests(&mut self, why: Refused, events: &mut Vec<ChannelEvent>) {
        self.drop_requests_where(|_| true, why, events);
    }

    pub(super) fn drop_requests_where(
        &mut self,
        wanted: impl Fn(&Currency) -> bool,
        why: Refused,
        events: &mut Vec<ChannelEvent>,
    ) {
        for (key, currency, request) in self.queue.take_requests(wanted) {
            sometimes!("channel: a queued request goes with its link", why == Refused::Offline);
            sometimes!("channel: a queued request goes with its currency", why == Refused::Closed);
            events.push(ChannelEvent::Dropped { currency, request, origin: key.class.origin(), why });
        }
    }

    /// Queues our own refusal of a request that we have just applied.
    pub(super) fn cancel_refused(&mut self, currency: Currency, cancel: Cancel) {
        self.queue.push(Class::Answer, Waiting { currency, operation: Operation::Cancel(cancel) });
    }

    fn check_pushing(&self, currency: &Currency) -> Result<&CurrencyState, Refused> {
        match &self.state {
            State::Inconsistent(_) => return Err(Refused::Inconsistent),
            State::Unconfirmed(_) => return Err(Refused::Offline),
            State::Consistent => {}
        }
        if self.link.is_none() {
            return Err(Refused::Offline);
        }
        let state = self.currencies.get(currency).ok_or(Refused::UnknownCurrency)?;
        if matches!(state.config.listing, Listing::Unlisted) {
            return Err(Refused::UnknownCurrency);
        }
        if !state.is_open() {
            return Err(Refused::Closed);
        }
        if !state.config.friend_lists {
            return Err(Refused::NotListed);
        }
        Ok(state)
    }

    fn check_new_request(&self, currency: &Currency, origin: Origin, request: &Request) -> Result<(), Refused> {
        let state = self.check_pushing(currency)?;
        let frozen = check_request(request, &self.us, &self.friend).map_err(Unsendable::from)?;
        let waiting = self.queue.outgoing(&(*currency, request.request_id));
        if waiting.request.is_some() || state.ledger.outgoing().contains_key(&request.request_id) {
            return Err(Unsendable::Repeated.into());
        }
        if self.queue.is_full(origin) {
            return Err(Refused::Full);
        }
        let before = self.queue.requests(currency);
        if origin == Origin::Forwarded {
            let open = state.ledger.outgoing().len() + before.count;
            let is_beyond = !request.route.is_empty() && self.is_beyond_others(currency, state, frozen);
            sometimes!("channel: what is left of a line is kept for the node's own requests", is_beyond);
            if open >= MAX_PENDING - OWN_REQUESTS || is_beyond {
                sometimes!("channel: what is left is kept for the node's own requests", true);
                return Err(Refused::Full);
            }
        }
        state.ledger.check_room_out(frozen, before.count, before.frozen)?;
        Ok(())
    }

    /// Whether one more request of others that goes on from the friend would take what is kept for our own (SPEC 9.12).
    fn is_beyond_others(&self, currency: &Currency, state: &CurrencyState, frozen: u128) -> bool {
        let (open, waiting) = (state.ledger.onward(), self.queue.requests(currency).onward);
        let held = open.frozen.saturating_add(waiting.frozen).saturating_add(frozen);
        let line = state.ledger.line_ahead(self.friends_limit(currency));
        let most = self.allowance_ahead(currency).of(line);
        let is_beyond = held > most && !mutant!(GuardLeftOut) || open.count + waiting.count >= OTHERS_PLACES;
        is_beyond && !mutant!(ReserveNotKept)
    }

    /// The currency of an open request.
    fn state_of(&self, currency: &Currency) -> Result<&CurrencyState, Refused> {
        match &self.state {
            State::Inconsistent(_) => Err(Refused::Inconsistent),
            State::Consistent | State::Unconfirmed(_) => {
                self.currencies.get(currency).ok_or(Refused::Ledger(Unsendable::UnknownRequest))
            }
        }
    }

    fn check_response(&self, currency: &Currency, response: &Response) -> Result<(), Refused> {
        let state = self.state_of(currency)?;
        let waiting = self.queue.incoming(&(*currency, response.request_id));
        if waiting.response.is_some() || waiting.end.is_some() {
            return Err(Unsendable::Repeated.into());
        }
        Ok(state.ledger.check_response(&response.request_id)?)
    }

    fn check_cancel(&self, currency: &Currency, cancel: &Cancel) -> Result<(), Refused> {
        let state = self.state_of(currency)?;
        if !state.ledger.incoming().contains_key(&cancel.request_id) {
            return Err(Unsendable::UnknownRequest.into());
        }
        if self.queue.incoming(&(*currency, cancel.request_id)).end.is_some() {
            return Err(Unsendable::Repeated.into());
        }
        Ok(())
    }

    fn check_collect(&self, currency: &Currency, collect: &Collect) -> Result<(), Refused> {
        let state = self.state_of(currency)?;
        let waiting = self.queue.incoming(&(*currency, collect.request_id));
        if waiting.end.is_some() {
            return Err(Unsendable::Repeated.into());
        }
        let response = waiting.response.and_then(|key| self.queue.get(&key)).and_then(|waiting| {
            if let Operation::Response(response) = &waiting.operation { Some(response) } else { None }
        });
        Ok(state.ledger.check_collect(collect, response)?)
    }

    fn check_commit(&self, currency: &Currency, commit: &CommitRequest) -> Result<(), Refused> {
        let state = self.state_of(currency)?;
        if self.queue.outgoing(&(*currency, commit.request_id)).commit.is_some() {
            return Err(Unsendable::Repeated.into());
        }
        Ok(state.ledger.check_commit(commit)?)
    }

    fn check_withdraw(&self, currency: &Currency, withdraw: &Withdraw) -> Result<(), Refused> {
        let state = self.state_of(currency)?;
        let waiting = self.queue.outgoing(&(*currency, withdraw.request_id));
        if waiting.commit.is_some() {
            return Err(Unsendable::WrongStage.into());
        }
        if waiting.withdraw.is_some() {
            return Err(Unsendable::Repeated.into());
        }
        Ok(state.ledger.check_withdraw(&withdraw.request_id)?)
    }

    /// The request that a withdrawal is about, taken out of the queue if it still waits there.
    fn undo_request(&mut self, currency: &Currency, withdraw: &Withdraw) -> Option<Request> {
        let key = self.queue.outgoing(&(*currency, withdraw.request_id)).request?;
        match self.queue.remove(key)?.operation {
            Operation::Request(request) => Some(request),
            Operation::Response(_)
            | Operation::Cancel(_)
            | Operation::Commit(_)
            | Operation::Withdraw(_)
            | Operation::Collect(_) => None,
        }
    }
}

/// The refusal that travels back to the friend at once.
pub(super) fn refusal(request_id: offset_protocol::bytes::RequestId, reason: CancelReason) -> Cancel {
    Cancel { request_id, reason, hops: 0 }
}
