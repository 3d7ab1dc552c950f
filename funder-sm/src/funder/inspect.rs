//! A node's money looked at without believing it: see [`crate::inspection`] for what is checked.

use std::sync::Arc;

use offset_protocol::app::{Event, PaymentState};
use offset_protocol::bytes::{Hash, InvoiceId, PaymentId, PlainLock, PublicKey, RequestId, Signature};
use offset_protocol::friend::Operation;
use offset_protocol::identity::{BadSignature, Signer, Verifier};
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::machine::Seed;
use offset_protocol::money::Currency;
use offset_protocol::payment::{Invoice, Receipt, ResponseTerms, response_hash};

use super::buyer::{Part, Payment, Phase};
use super::invoice::{InvoicePhase, InvoiceRecord, Offer};
use super::records::{RestoreError, Source, Target, Transit};
use super::{Funder, FunderConfig};
use crate::friend_channel::Channel;
use crate::inspection::{Check, Inspection};

/// Who only looks: it verifies as anybody and signs as nobody.
///
/// The funder that it makes is never given an input, so that nothing is signed.
struct Onlooker {
    us: PublicKey,
    verifier: Arc<dyn Verifier>,
}

impl Verifier for Onlooker {
    fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
        self.verifier.verify(key, hash, signature)
    }
}

impl Signer for Onlooker {
    fn public_key(&self) -> PublicKey {
        self.us
    }

    /// What verifies for nobody.
    fn sign(&self, _: &Hash) -> Signature {
        Signature([0; Signature::SIZE])
    }
}

impl Funder {
    /// Looks at the records of the node `us`; its private key is not needed.
    ///
    /// # Errors
    /// [`RestoreError`] if they cannot be understood at all.
    pub fn inspect_records(
        us: PublicKey,
        verifier: Arc<dyn Verifier>,
        records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Inspection, RestoreError> {
        let config = FunderConfig { signer: Arc::new(Onlooker { us, verifier }), seed: Seed::from_number(0) };
        Ok(Funder::rebuild(config, records)?.inspect())
    }

    /// Checks every signature, hash and sum. Takes as long as all of them take: not for a node at work.
    pub fn inspect(&self) -> Inspection {
        let mut look = Look { funder: self, to: Inspection::default() };
        for friend in self.friends.values() {
            look.to.count("friends");
            friend.channel.inspect(&*self.signer, &mut look.to);
            look.ways(&friend.channel);
        }
        self.relays.values().for_each(|_| look.to.count("relays"));
        self.index_servers.values().for_each(|_| look.to.count("index servers"));
        self.transits.iter().for_each(|(id, transit)| look.transit(id, transit));
        self.payments.iter().for_each(|(id, payment)| look.payment(id, payment));
        self.invoices.iter().for_each(|(id, record)| look.invoice(id, record));
        self.events.all().for_each(|event| look.event(event));
        look.to
    }
}

struct Look<'f> {
    funder: &'f Funder,
    to: Inspection,
}

impl Look<'_> {
    fn channel(&self, friend: &PublicKey) -> Option<&Channel> {
        self.funder.friends.get(friend).map(|friend| &friend.channel)
    }

    fn is_open_in(&self, friend: &PublicKey, currency: &Currency, id: &RequestId) -> bool {
        self.channel(friend).is_some_and(|channel| channel.incoming(currency, id).is_some())
    }

    fn is_open_out(&self, friend: &PublicKey, currency: &Currency, id: &RequestId) -> bool {
        self.channel(friend)
            .is_some_and(|channel| channel.outgoing(currency, id).is_some() || channel.is_queued(currency, id))
    }

    /// Every open request of a friend has its way through the node, or its end waits to be said.
    fn ways(&mut self, channel: &Channel) {
        let friend = channel.friend();
        for (currency, open) in channel.all_incoming().filter(|(_, open)| !open.refused) {
            let id = open.request.request_id;
            let known = self.funder.was_brought_by(friend, currency, &id) || channel.is_ending(currency, id);
            self.to.check(Check::Fit, known, || format!("the request {id} of friend {friend} is answered by nobody"));
        }
        for (_, open) in channel.all_outgoing() {
            let id = open.request.request_id;
            let transit = self.funder.transits.get(&id);
            let known = transit.is_some_and(|transit| transit.to == Target::Friend(friend));
            self.to
                .check(Check::Fit, known, || format!("the request {id} that went to friend {friend} came from nobody"));
        }
    }

    fn transit(&mut self, id: &RequestId, transit: &Transit) {
        self.to.count("requests on their way");
        let currency = &transit.currency;
        let comes = match &transit.from {
            Source::Payment(payment) => {
                let parts = self.funder.payments.get(payment).map(|payment| &payment.parts);
                parts.is_some_and(|parts| parts.iter().any(|part| part.request_id == *id))
            }
            Source::Friend(friend) => self.is_open_in(friend, currency, id),
            Source::Gone => true,
        };
        self.to.check(Check::Fit, comes, || format!("the request {id} is not open where it came from"));
        let goes = match &transit.to {
            Target::Friend(friend) => self.is_open_out(friend, currency, id),
            Target::Invoice(invoice) => {
                let record = self.funder.invoices.get(invoice);
                let mut parts =
                    record.iter().flat_map(|record| record.offers.iter()).flat_map(|offer| offer.parts.iter());
                parts.any(|part| part.request_id == *id)
            }
        };
        self.to.check(Check::Fit, goes, || format!("the request {id} is not open where it went"));
    }

    fn payment(&mut self, id: &PaymentId, payment: &Payment) {
        let invoice = &payment.invoice;
        let has_ended = payment.has_ended();
        self.to.count(if has_ended { "payments, ended" } else { "payments, open" });
        let amount = (1..=MAX_AMOUNT).contains(&invoice.amount);
        self.to.check(Check::Fit, amount, || format!("the payment {id} is of an impossible amount"));
        let within = payment.fees() <= payment.max_fee && payment.amount_sent() <= invoice.amount;
        self.to.check(Check::Sum, within, || format!("the parts of the payment {id} are more than was ordered"));
        let empty = payment.parts.is_empty() && payment.src_plain_lock == PlainLock([0; PlainLock::SIZE]);
        self.to.check(Check::Fit, !has_ended || empty, || {
            format!("the payment {id} has ended, and something is open still")
        });
        let ready = payment.phase != Phase::Ready || payment.commit().is_some();
        self.to.check(Check::Sum, ready, || format!("the payment {id} is ready, and its parts do not make a commit"));
        for part in &payment.parts {
            self.part(id, payment, part);
        }
        if let Phase::Paid { receipt } = &payment.phase {
            self.receipt(invoice, receipt);
        }
        if let Some(receipt) = &payment.receipt {
            self.receipt(invoice, receipt);
        }
    }

    fn part(&mut self, id: &PaymentId, payment: &Payment, part: &Part) {
        let invoice = &payment.invoice;
        let route = part.route.first() == Some(&self.funder.us) && part.route.last() == Some(&invoice.seller);
        self.to.check(Check::Fit, route, || format!("a part of the payment {id} does not lead from us to the seller"));
        let transit = self.funder.transits.get(&part.request_id);
        let open = transit.is_some_and(|transit| transit.from == Source::Payment(*id));
        self.to.check(Check::Fit, open, || format!("a part of the payment {id} is not open"));
        let Some(response) = &part.response else { return };
        let terms = ResponseTerms {
            response_hash: response_hash(&part.request_id, &response.nonce),
            src_hashed_lock: payment.src_plain_lock.hashed(),
            dest_hashed_lock: response.dest_hashed_lock,
            is_complete: response.is_complete,
            dest_payment: part.amount,
            total_dest_payment: invoice.amount,
            invoice_id: invoice.invoice_id,
            currency: invoice.currency,
        };
        let signed = self.funder.signer.verify(&invoice.seller, &terms.hash(), &response.signature).is_ok();
        self.to.check(Check::Signature, signed, || format!("the seller did not sign its answer to the payment {id}"));
    }

    fn receipt(&mut self, invoice: &Invoice, receipt: &Receipt) {
        self.to.count("receipts");
        let result = receipt.verify(invoice, &*self.funder.signer);
        let id = invoice.invoice_id;
        self.to.check(Check::Signature, result.is_ok(), || {
            format!("the receipt of the invoice {id} proves nothing: {result:?}")
        });
    }

    fn invoice(&mut self, id: &InvoiceId, record: &InvoiceRecord) {
        let invoice = &record.invoice;
        let is_open = matches!(record.phase, InvoicePhase::Open | InvoicePhase::Collecting { .. });
        self.to.count(if is_open { "invoices, open" } else { "invoices, ended" });
        let ours =
            invoice.seller == self.funder.us && invoice.invoice_id == *id && (1..=MAX_AMOUNT).contains(&invoice.amount);
        self.to.check(Check::Fit, ours, || format!("the invoice {id} is not one of ours"));
        self.to.check(Check::Fit, is_open || record.offers.is_empty(), || {
            format!("the invoice {id} has ended, and something is offered still")
        });
        let collecting = matches!(record.phase, InvoicePhase::Collecting { .. });
        for offer in &record.offers {
            let committed = !collecting || record.committed == Some(offer.src_hashed_lock);
            self.to.check(Check::Fit, committed, || format!("the invoice {id} collects what nobody committed"));
            self.offer(id, invoice, offer);
        }
    }

    fn offer(&mut self, id: &InvoiceId, invoice: &Invoice, offer: &Offer) {
        if offer.has_ended() {
            return self.to.count("offers for invoices that have ended");
        }
        self.to.count("offers for invoices");
        let completes = offer.parts.iter().filter(|part| part.is_complete).count();
        let sum = offer.sum() <= invoice.amount && completes <= 1;
        self.to.check(Check::Sum, sum, || format!("more is offered for the invoice {id} than it asks for"));
        for part in &offer.parts {
            let channel = self.channel(&part.friend);
            let open = channel.and_then(|channel| channel.incoming(&invoice.currency, &part.request_id));
            let response = open.and_then(|open| open.response.as_ref());
            let lock = response.is_none_or(|response| {
                response.dest_hashed_lock == part.dest_plain_lock.hashed() && response.is_complete == part.is_complete
            });
            let fits = open.is_some_and(|open| {
                open.request.src_hashed_lock == offer.src_hashed_lock && open.request.dest_payment == part.dest_payment
            });
            self.to.check(Check::Fit, fits, || format!("a part of what is offered for the invoice {id} is not open"));
            self.to.check(Check::Hash, lock, || format!("we cannot open the lock of a part of the invoice {id}"));
        }
    }

    fn event(&mut self, event: &Event) {
        self.to.count("events that wait for an app");
        if let Event::PaymentEnded(report) = event
            && let PaymentState::Paid { receipt, .. } = &report.state
        {
            self.receipt(&report.invoice, receipt);
        }
    }
}

impl Channel {
    /// Whether a request of ours waits to be signed.
    fn is_queued(&self, currency: &Currency, id: &RequestId) -> bool {
        self.all_queued().any(|(of, operation)| {
            of == *currency && matches!(operation, Operation::Request(request) if request.request_id == *id)
        })
    }
}
