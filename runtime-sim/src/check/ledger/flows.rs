//! Requests, hop by hop (I6, I7): what each hop opened, how it ended, and whether what a mediator did at one side fits
//! what it did at the other.
//!
//! | when | must hold |
//! |---|---|
//! | a node passes a request on | same payment, same currency, and the amount falls by exactly what the node charges |
//! | a node collects from upstream | it is the seller, or it has paid downstream |
//! | a node cancels upstream | what it passed on was cancelled, is gone with its channel, or never left |
//! | both sides of a mediator have ended for good | both were paid, or neither |
//!
//! So what buyer, seller and mediators gain follows: nobody moves, or the buyer loses payment and fees, the seller gains the
//! payment (and what fees were too much), each mediator its fee. A request whose hops have all ended for good is forgotten.

use std::collections::BTreeMap;

use offset_protocol::bytes::{InvoiceId, RequestId};
use offset_protocol::money::{Currency, Rate};

use super::pair::{Step, signed};
use crate::check::Invariant;
use crate::check::view::Asked;

/// What does not hold, without when and where.
pub type Fault = (Invariant, String);

/// How a hop stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Neither paid nor cancelled.
    Open,
    /// The receiver collected.
    Collected,
    /// The receiver cancelled.
    Cancelled,
    /// Its channel was lost, and it with it.
    Dropped,
    /// It was never made: a crash lost it.
    Void,
}

/// Which hop: a friendship, and the end that sent the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) pair: u32,
    pub(super) opener: usize,
    /// The nodes behind the ends.
    pub(super) from: u32,
    pub(super) to: u32,
}

/// A request at one hop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    pub(super) way: Way,
    pub(super) currency: Currency,
    pub(super) asked: Asked,
    /// What the receiver charged when it applied the request: before and after the write that shows it.
    pub(super) rates: Option<[Rate; 2]>,
    pub(super) state: State,
    /// The opener has applied the end.
    closed: bool,
    /// Nothing can change any more.
    settled: bool,
    /// Its opener may have it from a cheater, or be the buyer: nobody knows.
    unsure: bool,
    /// The hop that brought it to the opener, and the hop that took it on from the receiver.
    previous: Option<usize>,
    next: Option<usize>,
}

/// How many requests went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Collected at every hop.
    pub collected: u64,
    /// Cancelled at every hop.
    pub cancelled: u64,
    /// Lost with a channel at some hop.
    pub dropped: u64,
}

/// What requests for one invoice came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InvoiceBook {
    /// What its seller collected.
    pub received: u128,
    /// What its buyers paid, fees included.
    pub spent: u128,
    /// Something of it was lost with a channel, or passed somebody who is not watched: the sums may be too small.
    pub incomplete: bool,
}

/// Whether sums by invoice are kept: they are never forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Invoices {
    /// They are.
    #[default]
    Kept,
    /// They are not: about 60 bytes an invoice less.
    Forgotten,
}

/// All requests that have not ended everywhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Flows {
    open: BTreeMap<RequestId, Vec<Hop>>,
    ended: Ended,
    pub(super) keep: Invoices,
    invoices: BTreeMap<InvoiceId, InvoiceBook>,
}

impl Flows {
    pub(super) fn ended(&self) -> Ended {
        self.ended
    }

    pub(super) fn open(&self) -> impl Iterator<Item = (&RequestId, &[Hop])> {
        self.open.iter().map(|(id, hops)| (id, hops.as_slice()))
    }

    pub(super) fn invoice(&self, id: &InvoiceId) -> InvoiceBook {
        self.invoices.get(id).copied().unwrap_or_default()
    }

    fn book(&mut self, id: &InvoiceId, change: impl FnOnce(&mut InvoiceBook)) {
        if self.keep == Invoices::Kept {
            change(self.invoices.entry(*id).or_default());
        }
    }

    /// Something of an invoice is not known.
    pub(super) fn incomplete(&mut self, id: &InvoiceId) {
        self.book(id, |book| book.incomplete = true);
    }

    /// A request that has not ended at both ends of every hop between nodes that are not gone.
    pub(super) fn find_open(
        &self,
        is_gone: impl Fn(u32) -> bool,
        may_be_open: impl Fn(&RequestId) -> bool,
    ) -> Option<(&RequestId, &[Hop])> {
        let ends = |hop: &Hop| {
            let known = hop.settled || (hop.closed && hop.state != State::Open);
            known || is_gone(hop.way.from) || is_gone(hop.way.to)
        };
        self.open().find(|(id, hops)| !hops.iter().all(ends) && !may_be_open(id))
    }

    fn find(&self, way: &Way, currency: &Currency, id: &RequestId) -> Option<usize> {
        let is = |hop: &Hop| hop.way.pair == way.pair && hop.way.opener == way.opener && hop.currency == *currency;
        self.open.get(id)?.iter().rposition(|hop| is(hop) && hop.state != State::Void)
    }

    fn hop_mut(&mut self, way: &Way, currency: &Currency, id: &RequestId) -> Option<&mut Hop> {
        let place = self.find(way, currency, id)?;
        self.open.get_mut(id)?.get_mut(place)
    }

    /// What the open request of this hop froze.
    pub(super) fn frozen(&self, way: &Way, currency: &Currency, id: &RequestId) -> Option<u128> {
        let hop = self.open.get(id)?.get(self.find(way, currency, id)?)?;
        (hop.state == State::Open && hop.rates.is_some()).then_some(hop.asked.frozen)
    }

    // -- what nodes do

    /// The opener made a request.
    pub(super) fn opened(&mut self, way: Way, step: &Step, asked: Asked) -> Result<(), Fault> {
        if let Some(known) = self.hop_mut(&way, &step.currency, &step.id)
            && known.state == State::Open
        {
            return Err((Invariant::Logs, format!("{:?} is opened twice", step.id)));
        }
        let hops = self.open.entry(step.id).or_default();
        let waits =
            |hop: &Hop| hop.way.to == way.from && hop.rates.is_some() && hop.state == State::Open && hop.next.is_none();
        let previous = hops.iter().position(waits);
        let place = hops.len();
        let hop = Hop {
            way,
            currency: step.currency,
            asked,
            rates: None,
            state: State::Open,
            closed: false,
            settled: false,
            unsure: false,
            previous,
            next: None,
        };
        if let Some(brought) = previous.and_then(|place| hops.get_mut(place)) {
            brought.next = Some(place);
            check_forward(&step.id, brought, &hop)?;
        }
        hops.push(hop);
        Ok(())
    }

    /// The opener has friends that nobody watches: it may be a mediator, and what it spends is no buyer's.
    pub(super) fn unsure(&mut self, way: &Way, step: &Step, invoice: &InvoiceId) {
        if let Some(hop) = self.hop_mut(way, &step.currency, &step.id) {
            hop.unsure = true;
        }
        self.incomplete(invoice);
    }

    /// The receiver applied it.
    pub(super) fn received(&mut self, way: &Way, step: &Step, rates: [Rate; 2]) {
        if let Some(hop) = self.hop_mut(way, &step.currency, &step.id) {
            hop.rates = Some(rates);
        }
    }

    /// The receiver collected or cancelled. `is_modelled`: whether the node after the receiver is one whose hops are known.
    pub(super) fn ended_by_receiver(
        &mut self,
        way: &Way,
        step: &Step,
        state: State,
        is_modelled: impl Fn(&Asked) -> bool,
    ) -> Result<(), Fault> {
        let unknown = || (Invariant::Hops, format!("{:?} ends, and was not open", step.id));
        let place = self.find(way, &step.currency, &step.id).ok_or_else(unknown)?;
        let hops = self.open.get_mut(&step.id).ok_or_else(unknown)?;
        let hop = *hops.get(place).ok_or_else(unknown)?;
        let next = hop.next.and_then(|next| hops.get(next)).copied();
        check_end(&step.id, &hop, next.as_ref(), state, is_modelled)?;
        if let Some(hop) = hops.get_mut(place) {
            hop.state = state;
        }
        if hop.asked.next.is_none() && state == State::Collected {
            self.book(&hop.asked.invoice, |book| book.received = book.received.saturating_add(hop.asked.payment));
        }
        Ok(())
    }

    /// The opener applied the end.
    pub(super) fn closed(&mut self, way: &Way, step: &Step) {
        let Some(hop) = self.hop_mut(way, &step.currency, &step.id) else { return };
        hop.closed = true;
        let hop = *hop;
        if hop.previous.is_none() && !hop.unsure && hop.state == State::Collected {
            self.book(&hop.asked.invoice, |book| book.spent = book.spent.saturating_add(hop.asked.frozen));
        }
    }

    /// The opener signed for the end: nothing about the hop can change any more.
    pub(super) fn settled(&mut self, way: &Way, step: &Step) -> Result<(), Fault> {
        if let Some(hop) = self.hop_mut(way, &step.currency, &step.id) {
            hop.settled = true;
        }
        self.fold(step.id)
    }

    // -- what crashes undo

    /// The opener never made the request.
    pub(super) fn unopened(&mut self, way: &Way, step: &Step) -> Result<(), Fault> {
        let Some(place) = self.find(way, &step.currency, &step.id) else { return Ok(()) };
        if let Some(hops) = self.open.get_mut(&step.id) {
            let previous = hops.get(place).and_then(|hop| hop.previous);
            if let Some(before) = previous.and_then(|previous| hops.get_mut(previous)) {
                before.next = None;
            }
            if let Some(hop) = hops.get_mut(place) {
                (hop.state, hop.settled, hop.previous) = (State::Void, true, None);
            }
        }
        self.fold(step.id)
    }

    /// The receiver never applied the request.
    pub(super) fn unreceived(&mut self, way: &Way, step: &Step) {
        if let Some(hop) = self.hop_mut(way, &step.currency, &step.id) {
            hop.rates = None;
        }
    }

    /// The receiver never ended it.
    pub(super) fn unended(&mut self, way: &Way, step: &Step) {
        let Some(hop) = self.hop_mut(way, &step.currency, &step.id) else { return };
        let was = std::mem::replace(&mut hop.state, State::Open);
        let asked = hop.asked;
        if asked.next.is_none() && was == State::Collected {
            self.book(&asked.invoice, |book| book.received = book.received.saturating_sub(asked.payment));
        }
    }

    /// The opener never applied the end.
    pub(super) fn unclosed(&mut self, way: &Way, step: &Step) {
        let Some(hop) = self.hop_mut(way, &step.currency, &step.id) else { return };
        let was_closed = std::mem::replace(&mut hop.closed, false);
        let hop = *hop;
        if was_closed && hop.previous.is_none() && !hop.unsure && hop.state == State::Collected {
            self.book(&hop.asked.invoice, |book| book.spent = book.spent.saturating_sub(hop.asked.frozen));
        }
    }

    /// A friendship is lost with everything that is open in it. Looks at all requests: it happens rarely.
    pub(super) fn drop_pair(&mut self, pair: u32) -> Result<(), Fault> {
        let concerned = |hop: &Hop| hop.way.pair == pair && !hop.settled;
        let ids: Vec<RequestId> =
            self.open.iter().filter(|(_, hops)| hops.iter().any(concerned)).map(|(id, _)| *id).collect();
        for id in ids {
            let mut invoices = Vec::new();
            for hop in self.open.get_mut(&id).into_iter().flatten().filter(|hop| concerned(hop)) {
                (hop.state, hop.settled) = (State::Dropped, true);
                invoices.push(hop.asked.invoice);
            }
            invoices.iter().for_each(|invoice| self.incomplete(invoice));
            self.fold(id)?;
        }
        Ok(())
    }

    /// Forgets a request when all its hops are settled.
    fn fold(&mut self, id: RequestId) -> Result<(), Fault> {
        let Some(hops) = self.open.get(&id) else { return Ok(()) };
        if !hops.iter().all(|hop| hop.settled) {
            return Ok(());
        }
        check_mediators(&id, hops)?;
        let has = |state: State| hops.iter().any(|hop| hop.state == state);
        if has(State::Dropped) {
            self.ended.dropped += 1;
        } else if has(State::Collected) {
            self.ended.collected += 1;
        } else if has(State::Cancelled) {
            self.ended.cancelled += 1;
        }
        self.open.remove(&id);
        Ok(())
    }
}

/// Whoever was between two hops paid and was paid, or neither.
fn check_mediators(id: &RequestId, hops: &[Hop]) -> Result<(), Fault> {
    for hop in hops {
        let Some(before) = hop.previous.and_then(|place| hops.get(place)) else { continue };
        let paid = |hop: &Hop| hop.state == State::Collected;
        if hop.state != State::Dropped && before.state != State::Dropped && paid(hop) != paid(before) {
            let what = format!("{id:?}: {:?} before a mediator, {:?} after it", before.state, hop.state);
            return Err((Invariant::Hops, what));
        }
    }
    Ok(())
}

/// A mediator keeps exactly its fee.
fn check_forward(id: &RequestId, brought: &Hop, taken: &Hop) -> Result<(), Fault> {
    let wrong = |what: String| Err((Invariant::Hops, format!("{id:?} is passed on {what}")));
    if brought.currency != taken.currency || brought.asked.payment != taken.asked.payment {
        return wrong(format!("as {:?} where {:?} came", taken.asked, brought.asked));
    }
    if brought.asked.next.is_none() {
        return wrong("by its seller".to_owned());
    }
    let kept = signed(brought.asked.frozen) - signed(taken.asked.frozen);
    let charges = |rate: &Rate| rate.fee(brought.asked.payment).map(signed).is_ok_and(|fee| fee == kept);
    if brought.rates.iter().flatten().any(charges) {
        return Ok(());
    }
    wrong(format!("for {kept}, the rates were {:?} of {}", brought.rates, brought.asked.payment))
}

/// A node that ends what came to it has ended, or never passed on, what it would have had to pass on.
fn check_end(
    id: &RequestId,
    hop: &Hop,
    next: Option<&Hop>,
    state: State,
    is_modelled: impl Fn(&Asked) -> bool,
) -> Result<(), Fault> {
    if hop.state != State::Open {
        return Err((Invariant::Hops, format!("{id:?} ends as {state:?}, and was {:?}", hop.state)));
    }
    let fits = match (state, next) {
        (State::Collected, None) => hop.asked.next.is_none() || !is_modelled(&hop.asked),
        (State::Collected, Some(next)) => {
            next.state == State::Dropped || (next.state == State::Collected && next.closed)
        }
        (_, None) => true,
        (_, Some(next)) => {
            matches!(next.state, State::Dropped | State::Void) || (next.state == State::Cancelled && next.closed)
        }
    };
    if fits {
        return Ok(());
    }
    let next = next.map(|next| (next.state, next.closed));
    Err((Invariant::Hops, format!("{id:?} ends as {state:?}; what was passed on stands at {next:?}")))
}

#[cfg(test)]
impl Flows {
    /// Changes how a hop stands, past all checks.
    pub(super) fn lie(&mut self, id: &RequestId, hop: usize, state: State) {
        if let Some(hop) = self.open.get_mut(id).and_then(|hops| hops.get_mut(hop)) {
            hop.state = state;
        }
    }
}
