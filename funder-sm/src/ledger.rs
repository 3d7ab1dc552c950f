//! One currency of one friendship: a balance, what is frozen both ways, and the open requests. Pure arithmetic.
//!
//! | operation | we sign it | the friend signed it |
//! |---|---|---|
//! | `Request` | freezes, opens outgoing | freezes, opens incoming; beyond what we grant it is marked refused |
//! | `Response` | incoming is answered | outgoing is answered, if the seller signed it |
//! | `Cancel` | unfreezes, ends incoming | unfreezes, ends outgoing |
//! | `Collect` | the friend owes us more, ends incoming | we owe the friend more, ends outgoing, if both locks open |
//! | `Commit`, `Withdraw` | marks outgoing | marks incoming, unless our answer crossed it |
//!
//! Invariants:
//! 1. `out_frozen` and `in_frozen` are the sums of `dest_payment + left_fees` over the open requests of that direction.
//! 2. A request is accepted only if `balance + accepted in_frozen`, itself included, is at most `max_debt`: what the friend
//!    could owe us if it were all collected. A limit lowered later refuses new requests and leaves open ones alone.
//! 3. We send a request only if `-balance + out_frozen`, itself included, is at most [`MAX_AMOUNT`]. With 2 this keeps
//!    every balance within it.
//! 4. What fails changes nothing; what was received can be undone, newest first.
//! 5. A request that we are to pass on is accepted only within what [`guard`] leaves to such.
//!
//! It does not know what is in flight: whether an operation is allowed in its batch is the channel's business. Nor does it
//! know the limit that the friend set for us: that bounds only what is passed on for others, and the channel keeps it.

pub mod guard;
mod receive;
mod rules;
mod totals;

use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::friend::Operation;
use offset_protocol::identity::Verifier;
use offset_protocol::limits::{MAX_AMOUNT, MAX_PENDING};
use offset_protocol::money::{Currency, add_amounts};
use offset_protocol::payment::{Cancel, CancelReason, Collect, CommitRequest, Request, Response, Withdraw};
use offset_protocol::{mutant, wire_struct};

pub use guard::Allowance;
use guard::{Held, OTHERS_PLACES, PLACES};
use offset_protocol::lean::LeanMap;
pub use rules::{BadRequest, BrokenRule, Unsendable, check_request};
use totals::signed;
pub use totals::{Delta, Totals};

/// Incoming requests that may be open, refused ones included. An honest friend keeps to [`MAX_PENDING`] by itself; twice
/// as many, so that one that does not learns it from a `Cancel` first.
pub const MAX_INCOMING: usize = 2 * MAX_PENDING;

wire_struct! {
    /// A request that has not ended, at one of its hops.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OpenRequest {
        /// As it travelled over this hop. A refused one has lost its route: nobody needs it.
        pub request: Request,
        /// The seller's answer, once it travelled over this hop.
        pub response: Option<Response>,
        /// Our batch that opened it (outgoing) or answered it (incoming; 0 before): the friend cannot know it earlier.
        pub told: u64,
        /// A commit travelled over this hop.
        pub committed: bool,
        /// A withdrawal travelled over this hop.
        pub withdrawn: bool,
        /// Incoming only: we grant less than it asks, and its `Cancel` waits to be signed.
        pub refused: bool,
    }
}

/// What we grant the friend, at the moment of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whether both list the currency and ours is open.
    pub is_open: bool,
    /// What the friend may owe us.
    pub max_debt: u128,
}

/// What a received operation is checked against.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The ledger's currency.
    pub currency: Currency,
    /// We.
    pub us: &'a PublicKey,
    /// Who signed the operation.
    pub friend: &'a PublicKey,
    /// For the seller's signature.
    pub verifier: &'a dyn Verifier,
    /// For requests.
    pub grant: Grant,
    /// Our last batch that the friend had applied.
    pub ack: u64,
    /// Whether we ended the named request in a batch after `ack`.
    pub crossed: bool,
}

/// One received operation, applied. It can be undone as long as nothing later was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The friend's request is open, and accepted.
    Requested(RequestId),
    /// The friend's request is open, and will be cancelled for this reason.
    Refused(RequestId, CancelReason),
    /// Our request is answered.
    Answered(Response),
    /// Our request is cancelled.
    Cancelled(Cancel, Box<OpenRequest>),
    /// Our request is paid.
    Collected(Collect, Box<OpenRequest>),
    /// The friend's request is committed.
    Committed(CommitRequest),
    /// The friend wants its request cancelled.
    Withdrawn(Withdraw),
    /// It crossed an answer of ours: nothing changed.
    Crossed,
}

impl OpenRequest {
    fn new(request: Request, told: u64) -> Self {
        OpenRequest { request, response: None, told, committed: false, withdrawn: false, refused: false }
    }

    /// Whether it ends farther away than at whoever received it. Of a refused request that is not known any more.
    pub(crate) fn goes_on(&self) -> bool {
        !self.request.route.is_empty()
    }

    /// What it freezes. The sum was checked when the request was opened, so it never saturates.
    pub fn frozen(&self) -> u128 {
        self.request.dest_payment.saturating_add(self.request.left_fees)
    }
}

/// The totals and open requests of one currency with one friend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    totals: Totals,
    /// `None`: nothing is open, as in most ledgers at any time.
    open: Option<Box<Open>>,
}

/// The requests that are open.
type Requests = LeanMap<RequestId, Box<OpenRequest>>;

/// What a ledger has while something is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Open {
    outgoing: Requests,
    incoming: Requests,
    /// Of outgoing: those that go on from the friend.
    onward: Sums,
    /// Of incoming: those that we refused.
    refused: Sums,
    /// Of incoming: those that we accepted and that go on from here.
    forwarded: Sums,
}

/// Some requests, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many.
    pub count: usize,
    /// What they freeze.
    pub frozen: u128,
}

impl Sums {
    /// One more.
    pub fn add(&mut self, frozen: u128) {
        self.count += 1;
        self.frozen = self.frozen.saturating_add(frozen);
    }

    /// One less.
    pub fn take(&mut self, frozen: u128) {
        self.count = self.count.saturating_sub(1);
        self.frozen = self.frozen.saturating_sub(frozen);
    }
}

static NO_REQUESTS: Requests = Requests::new();

impl Ledger {
    /// A ledger with nothing open, as after a reset. Open requests that storage kept follow with
    /// [`Ledger::restore_outgoing`] and [`Ledger::restore_incoming`]; `totals` include them.
    pub fn new(totals: Totals) -> Self {
        Ledger { totals, ..Ledger::default() }
    }

    /// Puts back an outgoing request that storage kept.
    pub fn restore_outgoing(&mut self, open: OpenRequest) {
        self.open_outgoing(Box::new(open));
    }

    /// Puts back an incoming request that storage kept.
    pub fn restore_incoming(&mut self, open: OpenRequest) {
        self.open_incoming(Box::new(open));
    }

    /// Balance and frozen sums, as of everything that we know.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The requests that we sent.
    pub fn outgoing(&self) -> &LeanMap<RequestId, Box<OpenRequest>> {
        self.open.as_ref().map_or(&NO_REQUESTS, |open| &open.outgoing)
    }

    /// The requests that we sent and that go on from the friend.
    pub fn onward(&self) -> Sums {
        self.open.as_ref().map_or(Sums::default(), |open| open.onward)
    }

    /// The requests that the friend sent.
    pub fn incoming(&self) -> &LeanMap<RequestId, Box<OpenRequest>> {
        self.open.as_ref().map_or(&NO_REQUESTS, |open| &open.incoming)
    }

    /// What incoming requests freeze that were not refused.
    pub fn accepted_frozen(&self) -> u128 {
        self.totals.in_frozen.saturating_sub(self.open.as_ref().map_or(0, |open| open.refused.frozen))
    }

    fn forwarded(&self) -> Sums {
        self.open.as_ref().map_or(Sums::default(), |open| open.forwarded)
    }

    /// What accepted incoming requests freeze that go on from here.
    pub fn forwarded_frozen(&self) -> u128 {
        self.forwarded().frozen
    }

    /// How many accepted incoming requests go on from here.
    pub fn forwarded_count(&self) -> usize {
        self.forwarded().count
    }

    /// How many incoming requests are open that we accepted.
    pub fn accepted_count(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.incoming.len() - open.refused.count)
    }

    /// What the friend may push to us under this limit while nothing is open.
    pub fn line(&self, max_debt: u128) -> u128 {
        u128::try_from(signed(max_debt).saturating_sub(self.totals.balance)).unwrap_or(0)
    }

    /// What we may push to the friend under its limit for us while nothing is open.
    pub fn line_ahead(&self, friends_limit: u128) -> u128 {
        u128::try_from(signed(friends_limit).saturating_add(self.totals.balance)).unwrap_or(0)
    }

    /// What a friend should be offered under this limit that ends here.
    pub fn offered_here(&self, max_debt: u128) -> u128 {
        if self.accepted_count() >= MAX_PENDING { 0 } else { self.room(max_debt) }
    }

    /// What a friend should be offered under this limit that goes on from here.
    pub fn offered_onward(&self, max_debt: u128, allowance: Allowance) -> u128 {
        let here = self.offered_here(max_debt);
        if mutant!(GuardLeftOut) {
            return here;
        }
        let held = Held { frozen: self.forwarded_frozen(), line: self.line(max_debt) };
        match self.forwarded_count() {
            count if count >= PLACES => 0,
            count => here.min(guard::offered(&held, if count < OTHERS_PLACES { Some(allowance) } else { None })),
        }
    }

    /// How much more the friend may push to us under this limit that goes on from here.
    pub fn onward_room(&self, max_debt: u128) -> u128 {
        if mutant!(GuardLeftOut) {
            return self.room(max_debt);
        }
        let left = guard::onward(self.line(max_debt)).saturating_sub(self.forwarded_frozen());
        left.min(self.room(max_debt))
    }

    /// How much more the friend may push to us under this limit.
    pub fn room(&self, max_debt: u128) -> u128 {
        let frozen = if mutant!(LimitForgetsFrozen) { 0 } else { self.accepted_frozen() };
        let exposure = self.totals.balance.saturating_add(signed(frozen));
        u128::try_from(signed(max_debt).saturating_sub(exposure)).unwrap_or(0)
    }

    /// Whether we may send one more request that freezes `frozen`, after `waiting` requests that freeze `waiting_frozen`.
    ///
    /// # Errors
    /// [`Unsendable`]: too many, or too much.
    pub fn check_room_out(&self, frozen: u128, waiting: usize, waiting_frozen: u128) -> Result<(), Unsendable> {
        if self.outgoing().len() + waiting >= MAX_PENDING {
            return Err(Unsendable::Busy);
        }
        let all = self.totals.out_frozen.saturating_add(waiting_frozen).saturating_add(frozen);
        if signed(all).saturating_sub(self.totals.balance) > signed(MAX_AMOUNT) {
            return Err(Unsendable::Request(BadRequest::Amounts));
        }
        Ok(())
    }

    /// Empties the ledger of all requests and of what they froze; gives their ids, outgoing first. The balance stays.
    pub fn drop_requests(&mut self) -> (Vec<RequestId>, Vec<RequestId>) {
        let balance = self.totals.balance;
        let dropped = std::mem::replace(self, Ledger::new(Totals { balance, ..Totals::default() }));
        (dropped.outgoing().keys().copied().collect(), dropped.incoming().keys().copied().collect())
    }

    fn open_outgoing(&mut self, request: Box<OpenRequest>) {
        let open = self.open.get_or_insert_default();
        if request.goes_on() {
            open.onward.add(request.frozen());
        }
        open.outgoing.insert(request.request.request_id, request);
    }

    fn close_outgoing(&mut self, id: &RequestId) -> Option<Box<OpenRequest>> {
        let open = self.open.as_mut()?;
        let closed = open.outgoing.remove(id)?;
        if closed.goes_on() {
            open.onward.take(closed.frozen());
        }
        self.let_go();
        Some(closed)
    }

    fn open_incoming(&mut self, request: Box<OpenRequest>) {
        let open = self.open.get_or_insert_default();
        if let Some(sums) = open.sums_of(&request) {
            sums.add(request.frozen());
        }
        open.incoming.insert(request.request.request_id, request);
    }

    fn close_incoming(&mut self, id: &RequestId) -> Option<Box<OpenRequest>> {
        let open = self.open.as_mut()?;
        let request = open.incoming.remove(id)?;
        if let Some(sums) = open.sums_of(&request) {
            sums.take(request.frozen());
        }
        self.let_go();
        Some(request)
    }

    /// A ledger with nothing open holds no room for it.
    fn let_go(&mut self) {
        if self.open.as_ref().is_some_and(|open| open.outgoing.is_empty() && open.incoming.is_empty()) {
            self.open = None;
        }
    }

    fn outgoing_mut(&mut self, id: &RequestId) -> Option<&mut OpenRequest> {
        self.open.as_mut()?.outgoing.get_mut(id).map(|open| &mut **open)
    }

    fn incoming_mut(&mut self, id: &RequestId) -> Option<&mut OpenRequest> {
        self.open.as_mut()?.incoming.get_mut(id).map(|open| &mut **open)
    }
}

impl Open {
    /// The sums that an incoming request counts in.
    fn sums_of(&mut self, request: &OpenRequest) -> Option<&mut Sums> {
        match (request.refused, request.request.route.is_empty()) {
            (true, _) => Some(&mut self.refused),
            (false, false) => Some(&mut self.forwarded),
            (false, true) => None,
        }
    }
}

/// What we sign.
impl Ledger {
    /// Applies an operation of ours, which batch `seq` carries. A request must have passed [`check_request`].
    ///
    /// # Errors
    /// [`Unsendable`]; nothing has changed.
    pub fn send(&mut self, seq: u64, operation: &Operation) -> Result<Delta, Unsendable> {
        let delta = match operation {
            Operation::Request(request) => self.send_request(seq, request)?,
            Operation::Response(response) => self.send_response(seq, response)?,
            Operation::Cancel(cancel) => self.send_cancel(cancel)?,
            Operation::Collect(collect) => self.send_collect(collect)?,
            Operation::Commit(commit) => self.send_commit(commit)?,
            Operation::Withdraw(withdraw) => self.send_withdraw(withdraw)?,
        };
        // Every sum was bounded before; see invariant 3.
        self.totals = self.totals.after(&delta).unwrap_or(self.totals);
        Ok(delta)
    }

    fn send_request(&mut self, seq: u64, request: &Request) -> Result<Delta, Unsendable> {
        if self.outgoing().contains_key(&request.request_id) {
            return Err(Unsendable::Repeated);
        }
        let frozen = add_amounts(request.dest_payment, request.left_fees).map_err(|_| BadRequest::Amounts)?;
        self.check_room_out(frozen, 0, 0)?;
        self.open_outgoing(Box::new(OpenRequest::new(request.clone(), seq)));
        Ok(Delta::freezes_out(frozen))
    }

    /// Whether a response may be sent.
    ///
    /// # Errors
    /// [`Unsendable`] says why not.
    pub fn check_response(&self, id: &RequestId) -> Result<(), Unsendable> {
        let open = self.incoming().get(id).ok_or(Unsendable::UnknownRequest)?;
        match (&open.response, open.refused) {
            (None, false) => Ok(()),
            (Some(_), _) => Err(Unsendable::Repeated),
            (None, true) => Err(Unsendable::WrongStage),
        }
    }

    fn send_response(&mut self, seq: u64, response: &Response) -> Result<Delta, Unsendable> {
        self.check_response(&response.request_id)?;
        if let Some(open) = self.incoming_mut(&response.request_id) {
            open.response = Some(response.clone());
            open.told = seq;
        }
        Ok(Delta::ZERO)
    }

    fn send_cancel(&mut self, cancel: &Cancel) -> Result<Delta, Unsendable> {
        let open = self.close_incoming(&cancel.request_id).ok_or(Unsendable::UnknownRequest)?;
        if mutant!(ForgetToUnfreeze) {
            return Ok(Delta::ZERO);
        }
        Ok(Delta::freezes_in(open.frozen()).reversed())
    }

    /// Whether a collect may be sent, once `response` (the request's own, or one that waits to be sent) has been.
    ///
    /// # Errors
    /// [`Unsendable`] says why not.
    pub fn check_collect(&self, collect: &Collect, response: Option<&Response>) -> Result<(), Unsendable> {
        let open = self.incoming().get(&collect.request_id).ok_or(Unsendable::UnknownRequest)?;
        let response = open.response.as_ref().or(response).ok_or(Unsendable::WrongStage)?;
        if opens(collect, &open.request, response) { Ok(()) } else { Err(Unsendable::WrongLock) }
    }

    fn send_collect(&mut self, collect: &Collect) -> Result<Delta, Unsendable> {
        self.check_collect(collect, None)?;
        let open = self.close_incoming(&collect.request_id).ok_or(Unsendable::UnknownRequest)?;
        Ok(Delta::pays_in(open.frozen()))
    }

    /// Whether a commit may be sent.
    ///
    /// # Errors
    /// [`Unsendable`] says why not.
    pub fn check_commit(&self, commit: &CommitRequest) -> Result<(), Unsendable> {
        let open = self.outgoing().get(&commit.request_id).ok_or(Unsendable::UnknownRequest)?;
        if open.committed {
            return Err(Unsendable::Repeated);
        }
        if open.response.is_none() {
            return Err(Unsendable::WrongStage);
        }
        if commit.src_plain_lock.hashed() == open.request.src_hashed_lock { Ok(()) } else { Err(Unsendable::WrongLock) }
    }

    fn send_commit(&mut self, commit: &CommitRequest) -> Result<Delta, Unsendable> {
        self.check_commit(commit)?;
        if let Some(open) = self.outgoing_mut(&commit.request_id) {
            open.committed = true;
        }
        Ok(Delta::ZERO)
    }

    /// Whether a withdrawal may be sent.
    ///
    /// # Errors
    /// [`Unsendable`] says why not.
    pub fn check_withdraw(&self, id: &RequestId) -> Result<(), Unsendable> {
        let open = self.outgoing().get(id).ok_or(Unsendable::UnknownRequest)?;
        match (open.committed, open.withdrawn) {
            (false, false) => Ok(()),
            (true, _) => Err(Unsendable::WrongStage),
            (false, true) => Err(Unsendable::Repeated),
        }
    }

    fn send_withdraw(&mut self, withdraw: &Withdraw) -> Result<Delta, Unsendable> {
        self.check_withdraw(&withdraw.request_id)?;
        if let Some(open) = self.outgoing_mut(&withdraw.request_id) {
            open.withdrawn = true;
        }
        Ok(Delta::ZERO)
    }
}

fn opens(collect: &Collect, request: &Request, response: &Response) -> bool {
    let src_opens = collect.src_plain_lock.hashed() == request.src_hashed_lock;
    mutant!(AnyLockOpens) || src_opens && collect.dest_plain_lock.hashed() == response.dest_hashed_lock
}

#[cfg(test)]
mod tests;
