//! Passing on what friends say: the node as a mediator, and the door to its own payments and invoices.
//!
//! | from a friend | and the request | effect |
//! |---|---|---|
//! | request | ends here | [`super::seller`] |
//! | request | goes on | the fee is taken out, the rest is queued for the next friend; or it is cancelled at once, with the reason |
//! | response, cancel, collect | came from a friend | passed back |
//! | response, cancel, collect | is our own | [`super::buyer`] |
//! | commit, withdrawal | goes on | passed on, once |
//!
//! Invariants:
//! 1. Where a request came from and went to is one look-up, whatever the number of friends and requests.
//! 2. No answer panics or is sent to nowhere because the friend at the other end is inconsistent, removed or unknown:
//!    [`Source::Gone`] says so in the request's own record.
//! 3. A friend speaks about the requests that it brought and about no others: an id that it repeats from another friend's
//!    request is refused, and whatever it says or loses about it touches only its own channel.
//! 4. A request whose friend upstream is gone is withdrawn downstream, so that it does not stay frozen for ever. A seller that
//!    holds a commit collects all the same; then this node is paid downstream's price by nobody: the reset terms of the channel
//!    upstream count what it had frozen as this node's.

use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::friend::Operation;
use offset_protocol::money::Currency;
use offset_protocol::payment::{Cancel, CancelReason, Collect, CommitRequest, Request, Response, Route, Withdraw};
use offset_protocol::{mutant, sometimes};

use super::Funder;
use super::buyer::PartEnd;
use super::records::{self, Source, Target, Transit};
use super::rounds::Todo;
use crate::friend_channel::{ChannelEvent, Enqueued, Origin, Refused};

impl Funder {
    /// One event of a friend's channel.
    pub(super) fn on_channel_event(&mut self, friend: PublicKey, event: ChannelEvent) {
        match event {
            ChannelEvent::Request { currency, request } => self.on_request(friend, currency, request),
            ChannelEvent::Response { currency, response } => self.on_response(currency, response),
            ChannelEvent::Cancelled { cancel, .. } => self.on_cancelled(&cancel),
            ChannelEvent::Collected { currency, collect, .. } => self.on_collected(currency, collect),
            ChannelEvent::Commit { currency, commit } => self.on_commit(friend, currency, commit),
            ChannelEvent::Withdraw { currency, withdraw } => self.on_withdraw(friend, currency, &withdraw),
            ChannelEvent::Dropped { request, why, .. } => self.on_never_sent(&request.request_id, &why),
            ChannelEvent::FriendRelays(relays) => self.on_friend_relays(friend, relays),
            ChannelEvent::RelaysAcknowledged => self.on_relays_acknowledged(friend),
            ChannelEvent::BecameInconsistent { incoming_dropped, outgoing_lost, .. } => {
                self.tell_disagreement(friend);
                self.on_channel_lost(friend, incoming_dropped, outgoing_lost);
            }
            ChannelEvent::DropLink(_) => self.drop_link(friend),
            // Only the report changes, and it does with every event.
            ChannelEvent::CurrenciesChanged
            | ChannelEvent::CurrencyRemoved(_)
            | ChannelEvent::Resumed
            | ChannelEvent::TermsChanged
            | ChannelEvent::ResetDone { .. } => {}
        }
    }

    fn on_request(&mut self, friend: PublicKey, currency: Currency, request: Request) {
        if self.transits.contains_key(&request.request_id) {
            sometimes!("funder: a friend repeats the id of another request", true);
            // An id is chosen at random once; whoever repeats it on another way gets nothing.
            self.refuse_request(friend, currency, request.request_id, CancelReason::NoRoute);
            return;
        }
        let Some(next) = request.route.first().copied() else {
            self.on_request_for_us(friend, currency, request);
            return;
        };
        let request_id = request.request_id;
        if let Err(reason) = self.forward_request(friend, next, currency, request) {
            self.refuse_request(friend, currency, request_id, reason);
        }
    }

    fn forward_request(
        &mut self,
        friend: PublicKey,
        next: PublicKey,
        currency: Currency,
        mut request: Request,
    ) -> Result<(), CancelReason> {
        let rate = self.friends.get(&friend).and_then(|friend| friend.channel.currency(&currency));
        let rate = rate.map(|currency| currency.rate).unwrap_or_default();
        let fee = rate.fee(request.dest_payment).map_err(|_| CancelReason::Fee)?;
        let fee = if mutant!(FeeOffByOne) { fee.saturating_sub(1) } else { fee };
        sometimes!("funder: a request has too little left for the fee", request.left_fees < fee);
        let left_fees = request.left_fees.checked_sub(fee).ok_or(CancelReason::Fee)?;
        request.left_fees = if mutant!(FeeToNextHop) { request.left_fees } else { left_fees };
        request.route = Route::truncated(request.route.iter().skip(1).copied());
        let request_id = request.request_id;
        let next_friend = self.friends.get_mut(&next).ok_or(CancelReason::NoRoute)?;
        // A friend that does not say where it stands is as good as gone: nothing waits for it.
        if !next_friend.online || !next_friend.channel.is_resumed() {
            sometimes!("funder: a request comes for a friend that is offline", true);
            return Err(CancelReason::Offline);
        }
        let queued = next_friend.channel.enqueue(currency, Origin::Forwarded, Operation::Request(request));
        queued.map_err(|refused| refused.cancel_reason())?;
        self.touch(next);
        let (from, to) = (Source::Friend(friend), Target::Friend(next));
        self.put_transit(request_id, Transit { currency, from, to, committed: false, withdrawn: false });
        Ok(())
    }

    fn on_response(&mut self, currency: Currency, response: Response) {
        let Some(transit) = self.transits.get(&response.request_id) else { return };
        match transit.from {
            Source::Payment(payment_id) => self.on_own_response(payment_id, response),
            Source::Friend(friend) => self.answer(friend, currency, Operation::Response(response)),
            Source::Gone => {}
        }
    }

    fn on_cancelled(&mut self, cancel: &Cancel) {
        self.pass_cancel(&cancel.request_id, cancel.reason, Some(cancel.hops));
    }

    /// A queued request that will never be sent.
    fn on_never_sent(&mut self, request_id: &RequestId, why: &Refused) {
        self.pass_cancel(request_id, why.cancel_reason(), None);
    }

    /// Ends a transit whose way ahead has ended. `hops`: of the cancel that came, `None` if none came.
    fn pass_cancel(&mut self, request_id: &RequestId, reason: CancelReason, hops: Option<u8>) {
        let Some(transit) = self.remove_transit(request_id) else { return };
        match transit.from {
            Source::Payment(payment_id) => {
                let end = PartEnd { request_id: *request_id, reason, hops };
                self.todo.push_back(Todo::PartEnded(payment_id, end));
            }
            Source::Friend(_) if mutant!(CancelNotPassed) => {}
            Source::Friend(friend) => {
                let hops = hops.map_or(0, |hops| hops.saturating_add(1));
                let cancel = Cancel { request_id: *request_id, reason, hops };
                self.answer(friend, transit.currency, Operation::Cancel(cancel));
            }
            Source::Gone => sometimes!("funder: a cancel comes for a request of nobody", true),
        }
    }

    fn on_collected(&mut self, currency: Currency, mut collect: Collect) {
        let Some(transit) = self.remove_transit(&collect.request_id) else { return };
        if mutant!(CollectWithWrongLock) {
            std::mem::swap(&mut collect.src_plain_lock, &mut collect.dest_plain_lock);
        }
        match transit.from {
            Source::Payment(payment_id) => self.on_own_collected(payment_id, &collect),
            Source::Friend(friend) => self.answer(friend, currency, Operation::Collect(collect)),
            Source::Gone => sometimes!("funder: a collect comes for a request of nobody", true),
        }
    }

    /// Whether `friend` brought this request. One that repeats an id has the same id open until our cancel is signed.
    pub(super) fn was_brought_by(&self, friend: PublicKey, currency: Currency, request_id: &RequestId) -> bool {
        let transit = self.transits.get(request_id);
        transit.is_some_and(|transit| transit.from == Source::Friend(friend) && transit.currency == currency)
    }

    fn on_commit(&mut self, friend: PublicKey, currency: Currency, commit: CommitRequest) {
        if !self.was_brought_by(friend, currency, &commit.request_id) {
            return;
        }
        let Some(transit) = self.transits.get_mut(&commit.request_id) else { return };
        sometimes!("funder: a commit comes after a withdrawal was passed on", transit.withdrawn);
        match transit.to {
            Target::Invoice(invoice_id) => self.on_commit_for_us(invoice_id, &commit.src_plain_lock),
            Target::Friend(_) if transit.committed || mutant!(CommitNotPassed) => {}
            Target::Friend(next) => {
                transit.committed = true;
                self.save_transit(&commit.request_id);
                self.follow(next, currency, Origin::Forwarded, Operation::Commit(commit));
            }
        }
    }

    fn on_withdraw(&mut self, friend: PublicKey, currency: Currency, withdraw: &Withdraw) {
        if !self.was_brought_by(friend, currency, &withdraw.request_id) {
            return;
        }
        let Some(transit) = self.transits.get(&withdraw.request_id) else { return };
        match transit.to {
            Target::Invoice(invoice_id) => self.on_withdraw_for_us(invoice_id, &withdraw.request_id),
            Target::Friend(next) => self.withdraw_ahead(&withdraw.request_id, next),
        }
    }

    fn withdraw_ahead(&mut self, request_id: &RequestId, next: PublicKey) {
        let Some(transit) = self.transits.get_mut(request_id) else { return };
        if transit.withdrawn || transit.committed || mutant!(WithdrawNotPassed) {
            return;
        }
        transit.withdrawn = true;
        let currency = transit.currency;
        self.save_transit(request_id);
        let withdraw = Withdraw { request_id: *request_id };
        self.follow(next, currency, Origin::Forwarded, Operation::Withdraw(withdraw));
    }

    /// A channel is inconsistent or its friend removed: nothing travels over it any more.
    pub(super) fn on_channel_lost(
        &mut self,
        friend: PublicKey,
        incoming: Vec<(Currency, RequestId)>,
        outgoing: Vec<(Currency, RequestId)>,
    ) {
        for (currency, request_id) in incoming {
            if self.was_brought_by(friend, currency, &request_id) {
                self.on_upstream_gone(&request_id);
            }
        }
        for (_, request_id) in outgoing {
            self.pass_cancel(&request_id, CancelReason::Removed, None);
        }
    }

    fn on_upstream_gone(&mut self, request_id: &RequestId) {
        let Some(transit) = self.transits.get_mut(request_id) else { return };
        transit.from = Source::Gone;
        sometimes!(
            "funder: a mediator loses the friend that brought a request",
            matches!(transit.to, Target::Friend(_))
        );
        sometimes!("funder: a mediator loses the friend that brought a committed request", transit.committed);
        match transit.to {
            Target::Invoice(invoice_id) => {
                self.remove_transit(request_id);
                self.on_part_gone(invoice_id, request_id);
            }
            Target::Friend(next) => {
                self.save_transit(request_id);
                self.withdraw_ahead(request_id, next);
            }
        }
    }

    /// Cancels a request that a friend brought.
    pub(super) fn refuse_request(
        &mut self,
        friend: PublicKey,
        currency: Currency,
        request_id: RequestId,
        reason: CancelReason,
    ) {
        self.answer(friend, currency, Operation::Cancel(Cancel { request_id, reason, hops: 0 }));
    }

    /// Queues an answer to a request that `friend` brought. If the channel is gone, so is the request.
    pub(super) fn answer(&mut self, friend: PublicKey, currency: Currency, operation: Operation) {
        let Some(state) = self.friends.get_mut(&friend) else { return };
        let collects = match &operation {
            Operation::Collect(collect) => Some(collect.request_id),
            Operation::Request(_)
            | Operation::Response(_)
            | Operation::Cancel(_)
            | Operation::Commit(_)
            | Operation::Withdraw(_) => None,
        };
        if state.channel.enqueue(currency, Origin::Forwarded, operation).is_ok() {
            if let Some(request_id) = collects {
                state.collecting.push_back((currency, request_id));
            }
            self.touch(friend);
        }
    }

    /// Queues a request of our own.
    pub(super) fn request_own(&mut self, friend: PublicKey, currency: Currency, request: Request) {
        let request_id = request.request_id;
        let refused = match self.friends.get_mut(&friend) {
            Some(state) => state.channel.enqueue(currency, Origin::Own, Operation::Request(request)).err(),
            None => Some(Refused::Offline),
        };
        match refused {
            None => self.touch(friend),
            Some(why) => self.on_never_sent(&request_id, &why),
        }
    }

    /// Queues a commit or a withdrawal behind its request, which is of the same origin.
    pub(super) fn follow(&mut self, friend: PublicKey, currency: Currency, origin: Origin, operation: Operation) {
        let Some(state) = self.friends.get_mut(&friend) else { return };
        match state.channel.enqueue(currency, origin, operation) {
            Ok(Enqueued::Queued) => self.touch(friend),
            Ok(Enqueued::Undone(request)) => {
                self.touch(friend);
                self.pass_cancel(&request.request_id, CancelReason::Withdrawn, None);
            }
            // The request has ended or was committed: there is nothing left to say about it.
            Err(_) => {}
        }
    }

    pub(super) fn put_transit(&mut self, request_id: RequestId, transit: Transit) {
        self.changes.put(records::transit_key(&request_id), &transit);
        self.transits.insert(request_id, transit);
    }

    fn save_transit(&mut self, request_id: &RequestId) {
        if let Some(transit) = self.transits.get(request_id) {
            self.changes.put(records::transit_key(request_id), transit);
        }
    }

    pub(super) fn remove_transit(&mut self, request_id: &RequestId) -> Option<Transit> {
        let transit = self.transits.remove(request_id)?;
        if !mutant!(TransitNotRemoved) {
            self.changes.remove(records::transit_key(request_id));
        }
        Some(transit)
    }
}
