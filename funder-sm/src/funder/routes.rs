//! Questions to the index servers: for an app that asked, or for a payment.

use offset_protocol::app::{Answer, Outcome, Refusal};
use offset_protocol::bytes::{CommandId, PaymentId, PublicKey};
use offset_protocol::codec::List;

use super::Funder;
use super::io::{FoundRoutes, FunderOutput, QueryId, RouteFailure, RouteQuery};
use offset_protocol::lean::LeanMap;

/// Questions of apps that wait for an answer. Each gets one within the index client's deadline.
pub const MAX_QUERIES: usize = 1_024;

/// Who wants to know.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// A command of an app, which has no reply yet.
    App { app: PublicKey, id: CommandId },
    /// A payment.
    Payment(PaymentId),
}

/// Questions without an answer. They are not kept on disk: an app asks again, and so does a payment after a restart.
#[derive(Debug, Default)]
pub(super) struct Queries {
    open: LeanMap<QueryId, Asker>,
    /// The last question of each payment that waits for an answer: it asks for all that is missing now.
    of_payments: LeanMap<PaymentId, QueryId>,
    last: u64,
}

impl Queries {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Funder {
    /// `FindRoutes`. `None`: the reply comes with the answer.
    pub(super) fn find_routes(&mut self, (app, id): (PublicKey, CommandId), request: RouteQuery) -> Option<Outcome> {
        if self.index_servers.is_empty() {
            return Some(Outcome::Refused(Refusal::NoIndexServer));
        }
        if request.amount == 0 || request.amount > offset_protocol::limits::MAX_AMOUNT {
            return Some(Outcome::Refused(Refusal::BadAmount));
        }
        if self.queries.open.len() >= MAX_QUERIES {
            return Some(Outcome::Refused(Refusal::Busy));
        }
        self.ask(Asker::App { app, id }, request);
        None
    }

    /// Asks the index servers; the answer is one [`super::FunderInput::Routes`].
    pub(super) fn ask(&mut self, asker: Asker, request: RouteQuery) {
        self.queries.last += 1;
        let query = QueryId(self.queries.last);
        self.queries.open.insert(query, asker);
        if let Asker::Payment(payment_id) = asker
            && let Some(superseded) = self.queries.of_payments.insert(payment_id, query)
        {
            self.queries.open.remove(&superseded);
        }
        self.hold(FunderOutput::FindRoutes { query, request });
    }

    /// The index servers' answer, or why there is none.
    pub(super) fn on_routes(&mut self, query: QueryId, result: Result<FoundRoutes, RouteFailure>) {
        match self.queries.open.remove(&query) {
            Some(Asker::Payment(payment_id)) => {
                self.queries.of_payments.remove(&payment_id);
                self.on_payment_routes(payment_id, result);
            }
            Some(Asker::App { app, id }) => {
                let outcome = match result {
                    Ok(found) if found.options.is_empty() => Outcome::Refused(Refusal::NoRoute),
                    Ok(found) => {
                        let options = List::truncated(found.options);
                        Outcome::Done(Answer::Routes { options, capped: found.capped })
                    }
                    Err(RouteFailure::NoServer) => Outcome::Refused(Refusal::NoIndexServer),
                    Err(RouteFailure::Unreachable) => Outcome::Refused(Refusal::IndexUnreachable),
                    Err(RouteFailure::Busy) => Outcome::Refused(Refusal::IndexBusy),
                };
                self.hold(FunderOutput::Reply { app, id, outcome });
            }
            None => {}
        }
    }
}
