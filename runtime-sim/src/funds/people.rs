//! Buyers and sellers, in the fewest words: what is kept of a deal while it is open, and nothing of it afterwards.
//!
//! | word | from → to | then |
//! |---|---|---|
//! | an order of the case | → buyer | the buyer asks the seller |
//! | [`Say::Ask`] | buyer → seller | the seller's node adds an invoice |
//! | [`Say::Offer`] | seller → buyer | the buyer's node pays it |
//! | [`Say::Commit`] | buyer → seller | by hand only: the seller's node collects |
//! | [`Say::GiveUp`] | buyer → seller | the seller's node cancels the invoice |
//! | [`Say::Impatient`], [`Say::NextTry`], [`Say::CollectAgain`] | to oneself | withdraw; try again |
//!
//! 1. A command is given again when its node has started anew, under the same id: what was done is not done twice.
//! 2. Buyer and seller come to the same end, and only a valid receipt says that it was paid (I9).
//! 3. What has ended is forgotten, by the people and by their nodes.

use offset_funder_sm::funder::FunderInput;
use offset_protocol::app::{
    Answer, Command, CommitMode, Event as News, InvoiceState, Outcome, PaymentFailure, PaymentState, Refusal,
};
use offset_protocol::bytes::{CommandId, InvoiceId, PaymentId, PublicKey};
use offset_protocol::machine::Duration;
use offset_protocol::money::Currency;
use offset_protocol::payment::{Description, Invoice};

use super::deal::{About, Books, Bought, Deal, Order, Sold, id, read_id, signed};
use super::event::{Event, Slab, Slot};
use super::world::World;
use crate::case::Commit as HowToCommit;
use crate::check::{Invariant, Violation};
use crate::dice::Dice;
use crate::latency::Latency;
use crate::result::{End, Ended};

/// A buyer whose payment failed waits this long before the next try.
const NEXT_TRY: Duration = Duration::from_secs(5);
/// What the node could not do now is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(3);

/// Something that one person says to another, or remembers.
#[derive(Debug)]
pub(super) struct Word {
    place: Slot,
    deal: u64,
    say: Say,
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Ask,
    Offer,
    Commit,
    GiveUp,
    Impatient { attempt: u32 },
    NextTry,
    CollectAgain,
}

/// All people.
pub(super) struct People {
    /// All apps go by this key.
    pub(super) app: PublicKey,
    pub(super) currencies: Vec<Currency>,
    deals: Slab<Deal>,
    note: Latency,
    dice: Dice,
    books: Books,
}

impl People {
    pub(super) fn new(app: PublicKey, currencies: Vec<Currency>, note: Latency, dice: Dice, nodes: usize) -> Self {
        let books = Books::new(nodes, currencies.len());
        People { app, currencies, deals: Slab::default(), note, dice, books }
    }

    /// The most that there ever were at once.
    pub(super) const fn most(&self) -> usize {
        self.deals.most()
    }

    pub(super) const fn books(&self) -> &Books {
        &self.books
    }

    /// The first open deal, as text.
    pub(super) fn first_open(&self) -> Option<(u32, String)> {
        self.deals.iter().next().map(|(_, deal)| (deal.order.buyer, format!("{deal:?}")))
    }

    fn deal(&self, place: Slot, number: u64) -> Option<&Deal> {
        self.deals.get(place).filter(|deal| deal.order.deal == number)
    }

    fn deal_mut(&mut self, place: Slot, number: u64) -> Option<&mut Deal> {
        self.deals.get_mut(place).filter(|deal| deal.order.deal == number)
    }
}

impl World {
    /// A buyer hears what to buy.
    pub(super) fn order(&mut self, order: Order) {
        self.recorder.order(self.now);
        let (seller, number) = (order.seller, order.deal);
        let place = self.people.deals.put(Deal {
            order,
            ordered_at: self.now,
            attempt: 0,
            hops: 0,
            bought: Bought::Asked,
            sold: Sold::Unasked,
            commit: None,
        });
        self.say_to(seller, place, number, Say::Ask);
    }

    /// A word to another person.
    fn say_to(&mut self, node: u32, place: Slot, deal: u64, say: Say) {
        let delay = self.people.note.draw(&mut self.people.dice);
        self.remind(node, delay, place, deal, say);
    }

    fn remind(&mut self, node: u32, delay: Duration, place: Slot, deal: u64, say: Say) {
        let slot = self.post.words.put(Word { place, deal, say });
        self.push(delay, node, Event::Word(slot));
    }

    pub(super) fn on_word(&mut self, node: u32, slot: Slot) -> Result<(), Violation> {
        let Some(Word { place, deal: number, say }) = self.post.words.take(slot) else { return Ok(()) };
        let Some(deal) = self.people.deal_mut(place, number) else { return Ok(()) };
        match say {
            Say::Ask if deal.sold == Sold::Unasked => deal.sold = Sold::Invoicing,
            // An offer that is repeated, because its seller's node forgot to answer, is the same.
            Say::Offer if deal.bought == Bought::Asked => return self.try_to_pay(node, place, number),
            Say::NextTry if deal.bought == Bought::Pausing => return self.try_to_pay(node, place, number),
            Say::Commit | Say::CollectAgain if matches!(deal.sold, Sold::Open | Sold::Collecting) => {
                deal.sold = Sold::Collecting;
            }
            Say::GiveUp if deal.sold == Sold::Open => deal.sold = Sold::Cancelling,
            Say::Impatient { attempt } if attempt == deal.attempt => return self.on_impatient(node, place, number),
            Say::Ask
            | Say::Offer
            | Say::NextTry
            | Say::Commit
            | Say::CollectAgain
            | Say::GiveUp
            | Say::Impatient { .. } => return Ok(()),
        }
        match self.seller_command(place, number) {
            Some(input) => self.feed(node, input),
            None => Ok(()),
        }
    }

    fn try_to_pay(&mut self, buyer: u32, place: Slot, number: u64) -> Result<(), Violation> {
        let Some(deal) = self.people.deal_mut(place, number) else { return Ok(()) };
        deal.bought = Bought::Paying;
        let (attempt, patience) = (deal.attempt, deal.order.patience);
        self.remind(buyer, patience, place, number, Say::Impatient { attempt });
        match self.buyer_command(place, number) {
            Some(input) => self.feed(buyer, input),
            None => Ok(()),
        }
    }

    fn on_impatient(&mut self, buyer: u32, place: Slot, number: u64) -> Result<(), Violation> {
        let Some(deal) = self.people.deal(place, number) else { return Ok(()) };
        let (attempt, patience) = (deal.attempt, deal.order.patience);
        match deal.bought {
            Bought::Paying | Bought::Begun if self.nodes[buyer as usize].funder.is_none() => {
                self.remind(buyer, patience, place, number, Say::Impatient { attempt });
                Ok(())
            }
            Bought::Paying | Bought::Begun => {
                let command = Command::WithdrawPayment { payment_id: deal.payment_id(place) };
                // Asked again in time, for a crash may forget it.
                self.remind(buyer, patience, place, number, Say::Impatient { attempt });
                let input = self.command(place, number, About::Nothing, command);
                self.feed(buyer, input)
            }
            Bought::Asked | Bought::Committed | Bought::Pausing | Bought::Paid | Bought::Failed => Ok(()),
        }
    }

    fn command(&self, place: Slot, number: u64, about: About, command: Command) -> FunderInput {
        let attempt = self.people.deal(place, number).map_or(0, |deal| deal.attempt);
        let id = CommandId(id(place, attempt, about, number));
        FunderInput::Command { app: self.people.app, id, command }
    }

    /// What the seller's node is to do now, if anything.
    fn seller_command(&self, place: Slot, number: u64) -> Option<FunderInput> {
        let deal = self.people.deal(place, number)?;
        let invoice_id = deal.invoice_id(place);
        Some(match deal.sold {
            Sold::Invoicing => {
                let (currency, amount) = (self.currency(deal.order.currency)?, deal.order.amount);
                let description = Description::default();
                let command = Command::AddInvoice { invoice_id, currency, amount, description, expires_at: None };
                // The same command again has the same id, whatever the attempt.
                let id = CommandId(id(place, 0, About::Invoice, number));
                FunderInput::Command { app: self.people.app, id, command }
            }
            Sold::Collecting => {
                let commit = deal.commit.as_ref()?.as_ref().clone();
                self.command(place, number, About::Collect, Command::CommitInvoice { commit })
            }
            Sold::Cancelling => self.command(place, number, About::Nothing, Command::CancelInvoice { invoice_id }),
            Sold::Unasked | Sold::Open | Sold::Paid | Sold::Cancelled => return None,
        })
    }

    /// What the buyer's node is to do now, if anything.
    fn buyer_command(&self, place: Slot, number: u64) -> Option<FunderInput> {
        let deal = self.people.deal(place, number)?;
        let payment_id = deal.payment_id(place);
        Some(match deal.bought {
            Bought::Paying => {
                let invoice = self.invoice(deal, place)?;
                let mode = match deal.order.commit {
                    HowToCommit::ByHand => CommitMode::ByHand,
                    HowToCommit::InBand => CommitMode::InBand,
                };
                let command = Command::Pay { payment_id, invoice, max_fee: deal.order.max_fee, mode, routes: None };
                self.command(place, number, About::Pay, command)
            }
            Bought::Committed => self.command(place, number, About::Release, Command::ReleaseCommit { payment_id }),
            Bought::Asked | Bought::Begun | Bought::Pausing | Bought::Paid | Bought::Failed => return None,
        })
    }

    fn currency(&self, place: u32) -> Option<Currency> {
        self.people.currencies.get(place as usize).copied()
    }

    fn invoice(&self, deal: &Deal, place: Slot) -> Option<Invoice> {
        Some(Invoice {
            invoice_id: deal.invoice_id(place),
            currency: self.currency(deal.order.currency)?,
            seller: *self.keys.get(deal.order.seller as usize)?,
            amount: deal.order.amount,
            description: Description::default(),
        })
    }

    /// A node has started anew: its person asks again for what it does not know to be done.
    pub(super) fn resume_deals(&mut self, node: u32) {
        let deals = self.people.deals.iter();
        let own: Vec<(Slot, u64, bool, bool)> = deals
            .filter(|(_, deal)| deal.order.buyer == node || deal.order.seller == node)
            .map(|(place, deal)| (place, deal.order.deal, deal.order.buyer == node, deal.order.seller == node))
            .collect();
        for (place, number, buys, sells) in own {
            if sells {
                self.errands.extend(self.seller_command(place, number));
            }
            if buys {
                self.errands.extend(self.buyer_command(place, number));
                let begun = self.people.deal(place, number).filter(|deal| deal.bought == Bought::Begun);
                // It may be ready since, and nobody tells that twice.
                if let Some(payment_id) = begun.map(|deal| deal.payment_id(place)) {
                    let status = Command::PaymentStatus { payment_id };
                    self.errands.push(self.command(place, number, About::Pay, status));
                }
            }
        }
    }

    /// The reply to a command.
    pub(super) fn on_outcome(&mut self, node: u32, id: CommandId, outcome: Outcome) -> Result<(), Violation> {
        let (place, attempt, about, number) = read_id(&id.0);
        let Some(deal) = self.people.deal_mut(place, number) else { return Ok(()) };
        let (buyer, seller) = (deal.order.buyer, deal.order.seller);
        match (about, outcome) {
            (About::Nothing, _) => {}
            (About::Invoice, Outcome::Done(_)) => {
                if deal.sold == Sold::Invoicing {
                    deal.sold = Sold::Open;
                    self.say_to(buyer, place, number, Say::Offer);
                }
            }
            (About::Pay | About::Release, _) if attempt != deal.attempt => {}
            (About::Pay, Outcome::Done(Answer::Payment(report))) => {
                if matches!(report.state, PaymentState::Ready { .. }) && deal.bought == Bought::Begun {
                    self.release(place, number);
                }
            }
            (About::Pay, Outcome::Done(_)) => {
                if deal.bought == Bought::Paying {
                    deal.bought = Bought::Begun;
                }
            }
            (About::Pay, Outcome::Refused(Refusal::NoIndexServer | Refusal::Busy | Refusal::UnknownPayment)) => {
                self.on_failed(place, number, "refused".to_owned());
            }
            (About::Release, Outcome::Done(Answer::Commit(commit))) => {
                deal.commit = Some(Box::new(commit));
                self.say_to(seller, place, number, Say::Commit);
            }
            // It has ended: the event tells.
            (About::Release, Outcome::Refused(Refusal::NotReady)) => {}
            (About::Collect, Outcome::Done(_) | Outcome::Refused(Refusal::InvoiceEnded)) => {}
            // Not all parts are here any more, or yet.
            (About::Collect, Outcome::Refused(Refusal::PartMissing { .. })) => {
                self.remind(seller, TRY_AGAIN, place, number, Say::CollectAgain);
            }
            (about, outcome) => {
                let what = format!("deal {number}: {about:?} came to {outcome:?}");
                return Err(self.violation(Invariant::People, Some(node), what));
            }
        }
        Ok(())
    }

    fn release(&mut self, place: Slot, number: u64) {
        if let Some(deal) = self.people.deal_mut(place, number) {
            deal.bought = Bought::Committed;
            self.errands.extend(self.buyer_command(place, number));
        }
    }

    /// An event of a node.
    pub(super) fn on_news(&mut self, node: u32, news: News) -> Result<(), Violation> {
        match news {
            News::PaymentReady { payment_id, .. } => {
                if let Some((place, number, _)) = self.bought(&payment_id, &[Bought::Paying, Bought::Begun]) {
                    self.release(place, number);
                }
                Ok(())
            }
            News::PartsSent { payment_id, routes } => {
                if let Some((place, number, _)) = self.bought(&payment_id, &[Bought::Paying, Bought::Begun])
                    && let Some(deal) = self.people.deal_mut(place, number)
                {
                    let longest = routes.parts.iter().map(|part| part.route.len()).max().unwrap_or(0);
                    deal.hops = longest.saturating_sub(1) as u32;
                }
                Ok(())
            }
            News::PaymentEnded(report) => {
                let payment_id = report.payment_id;
                self.on_payment_ended(node, &payment_id, report.state)?;
                let forget = Command::ForgetPayment { payment_id };
                self.errands.push(self.forget(forget));
                Ok(())
            }
            News::InvoiceEnded(report) => {
                let invoice_id = report.invoice.invoice_id;
                self.on_invoice_ended(node, &invoice_id, report.state)?;
                let forget = Command::ForgetInvoice { invoice_id };
                self.errands.push(self.forget(forget));
                Ok(())
            }
            News::PartFailed { .. } => {
                self.counts.parts_failed += 1;
                Ok(())
            }
        }
    }

    fn forget(&self, command: Command) -> FunderInput {
        FunderInput::Command { app: self.people.app, id: CommandId([0; 16]), command }
    }

    /// The deal whose present try this payment is, if it stands at one of these stages.
    fn bought(&self, payment_id: &PaymentId, stages: &[Bought]) -> Option<(Slot, u64, &Deal)> {
        let (place, attempt, _, number) = read_id(&payment_id.0);
        let deal = self.people.deal(place, number)?;
        (deal.attempt == attempt && stages.contains(&deal.bought)).then_some((place, number, deal))
    }

    fn on_payment_ended(&mut self, node: u32, payment: &PaymentId, state: PaymentState) -> Result<(), Violation> {
        let open = [Bought::Paying, Bought::Begun, Bought::Committed];
        let Some((place, number, deal)) = self.bought(payment, &open) else { return Ok(()) };
        let fail = |world: &World, invariant, what: String| {
            Err(world.violation(invariant, Some(node), format!("deal {number}: {what}")))
        };
        match state {
            PaymentState::Paid { receipt, fees } => {
                let valid =
                    self.invoice(deal, place).map(|invoice| receipt.verify(&invoice, &*self.registry.verifier()));
                if valid != Some(Ok(())) {
                    return fail(self, Invariant::Receipts, format!("the receipt proves nothing: {valid:?}"));
                }
                if fees > deal.order.max_fee {
                    return fail(self, Invariant::People, format!("{fees} in fees, more than {}", deal.order.max_fee));
                }
                self.on_paid(place, number, fees);
                Ok(())
            }
            PaymentState::Failed(failure) => {
                if deal.bought == Bought::Committed && deal.commit.is_some() && failure != PaymentFailure::PartLost {
                    return fail(self, Invariant::People, format!("committed, then {failure}"));
                }
                self.on_failed(place, number, failure.to_string());
                Ok(())
            }
            PaymentState::Searching
            | PaymentState::Requested
            | PaymentState::Ready { .. }
            | PaymentState::Committed { .. }
            | PaymentState::Ending(_) => fail(self, Invariant::People, "ended, but not in an end state".to_owned()),
        }
    }

    fn on_paid(&mut self, place: Slot, number: u64, fees: u128) {
        let now = self.now;
        let Some(deal) = self.people.deal_mut(place, number) else { return };
        deal.bought = Bought::Paid;
        let Order { buyer, currency, amount, .. } = deal.order;
        let latency = now.since(deal.ordered_at);
        let ended = Ended { latency, attempts: deal.attempt + 1, hops: deal.hops, fee: fees, end: End::Paid };
        self.recorder.ended(now, ended);
        self.people.books.book(buyer, currency, -signed(amount) - signed(fees));
        self.people.books.fees[currency as usize] += signed(fees);
        self.close_if_ended(place, number);
    }

    /// A try has failed: the next one, or the end.
    fn on_failed(&mut self, place: Slot, number: u64, why: String) {
        let now = self.now;
        let Some(deal) = self.people.deal_mut(place, number) else { return };
        let Order { buyer, seller, tries, .. } = deal.order;
        deal.commit = None;
        if deal.attempt + 1 < tries {
            deal.attempt += 1;
            deal.bought = Bought::Pausing;
            self.remind(buyer, NEXT_TRY, place, number, Say::NextTry);
            return;
        }
        deal.bought = Bought::Failed;
        let latency = now.since(deal.ordered_at);
        let ended = Ended { latency, attempts: deal.attempt + 1, hops: deal.hops, fee: 0, end: End::Failed(why) };
        self.recorder.ended(now, ended);
        self.say_to(seller, place, number, Say::GiveUp);
        self.close_if_ended(place, number);
    }

    fn on_invoice_ended(&mut self, node: u32, invoice: &InvoiceId, state: InvoiceState) -> Result<(), Violation> {
        let (place, _, _, number) = read_id(&invoice.0);
        let People { deals, books, .. } = &mut self.people;
        let Some(deal) = deals.get_mut(place).filter(|deal| deal.order.deal == number) else { return Ok(()) };
        let Order { seller, currency, amount, .. } = deal.order;
        match state {
            InvoiceState::Paid if matches!(deal.sold, Sold::Paid) => {}
            InvoiceState::Paid => {
                deal.sold = Sold::Paid;
                books.book(seller, currency, signed(amount));
            }
            InvoiceState::Cancelled if matches!(deal.sold, Sold::Cancelling | Sold::Cancelled) => {
                deal.sold = Sold::Cancelled;
            }
            InvoiceState::Cancelled
            | InvoiceState::PaidInPart { .. }
            | InvoiceState::Open { .. }
            | InvoiceState::Collecting { .. } => {
                let what = format!("deal {number}: the invoice ended as {state:?}, and {deal:?}");
                return Err(self.violation(Invariant::Receipts, Some(node), what));
            }
        }
        if matches!((deal.bought, deal.sold), (Bought::Paid, Sold::Cancelled) | (Bought::Failed, Sold::Paid)) {
            let what = format!("deal {number}: buyer and seller come to different ends");
            return Err(self.violation(Invariant::Receipts, Some(node), what));
        }
        self.close_if_ended(place, number);
        Ok(())
    }

    fn close_if_ended(&mut self, place: Slot, number: u64) {
        if self.people.deal(place, number).is_some_and(Deal::has_ended) {
            self.people.deals.take(place);
        }
    }
}
