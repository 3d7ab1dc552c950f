//! What the friend signed, applied to the ledger: each operation is checked first, and can be undone.
//!
//! Not checked here: signatures of batches, and what a currency's list allows ([`crate::friend_channel`]).

use offset_protocol::bytes::RequestId;
use offset_protocol::friend::Operation;
use offset_protocol::limits::MAX_PENDING;
use offset_protocol::payment::{Cancel, CancelReason, Collect, CommitRequest, Request, Response, Route, Withdraw};
use offset_protocol::{buggify, mutant, sometimes};

use super::guard::PLACES;
use super::{BrokenRule, Delta, Grant, Incoming, Ledger, MAX_INCOMING, OpenRequest, Step, check_request, opens};
use crate::friend_channel::SignedAnswer;

/// What the friend signed.
impl Ledger {
    /// Applies an operation of the friend.
    ///
    /// # Errors
    /// [`BrokenRule`]; nothing has changed.
    pub fn receive(&mut self, from: &Incoming<'_>, operation: Operation) -> Result<Step, BrokenRule> {
        match operation {
            Operation::Request(request) => self.on_request(from, request),
            Operation::Response(response) => self.on_response(from, response),
            Operation::Cancel(cancel) => self.on_cancel(from, cancel),
            Operation::Collect(collect) => self.on_collect(from, collect),
            Operation::Commit(commit) => self.on_commit(from, commit),
            Operation::Withdraw(withdraw) => self.on_withdraw(from, withdraw),
        }
    }

    /// What a step that was applied to this ledger changed. Must be asked before anything later changes the ledger.
    pub fn delta_of(&self, step: &Step) -> Delta {
        match step {
            Step::Requested(id) | Step::Refused(id, _) => {
                Delta::freezes_in(self.incoming().get(id).map_or(0, |open| open.frozen()))
            }
            Step::Cancelled(_, open) => Delta::freezes_out(open.frozen()).reversed(),
            Step::Collected(_, open) => Delta::pays_out(open.frozen()),
            Step::Answered(_) | Step::Committed(_) | Step::Withdrawn(_) | Step::Crossed => Delta::ZERO,
        }
    }

    /// Undoes the last step that was applied and not yet undone.
    pub fn undo(&mut self, step: Step) {
        let back = self.delta_of(&step).reversed();
        self.totals = self.totals.after(&back).unwrap_or(self.totals);
        match step {
            Step::Requested(id) | Step::Refused(id, _) => {
                self.close_incoming(&id);
            }
            Step::Answered(response) => {
                if let Some(open) = self.outgoing_mut(&response.request_id) {
                    open.response = None;
                }
            }
            Step::Cancelled(_, open) | Step::Collected(_, open) => {
                self.open_outgoing(open);
            }
            Step::Committed(commit) => {
                if let Some(open) = self.incoming_mut(&commit.request_id) {
                    open.committed = false;
                }
            }
            Step::Withdrawn(withdraw) => {
                if let Some(open) = self.incoming_mut(&withdraw.request_id) {
                    open.withdrawn = false;
                }
            }
            Step::Crossed => {}
        }
    }

    fn move_totals(&mut self, delta: &Delta) -> Result<(), BrokenRule> {
        self.totals = self.totals.after(delta).ok_or(BrokenRule::Overflow)?;
        Ok(())
    }

    fn on_request(&mut self, from: &Incoming<'_>, request: Request) -> Result<Step, BrokenRule> {
        let frozen = check_request(&request, from.friend, from.us)?;
        let id = request.request_id;
        if from.crossed || self.incoming().contains_key(&id) {
            return Err(BrokenRule::RepeatedRequest);
        }
        if self.incoming().len() >= MAX_INCOMING {
            return Err(BrokenRule::TooManyOpen);
        }
        let refusal = self.refusal(&from.grant, frozen, &request.route);
        sometimes!("ledger: a request is beyond the limit", refusal == Some(CancelReason::Capacity));
        sometimes!("ledger: a request comes in a closed currency", refusal == Some(CancelReason::Closed));
        self.move_totals(&Delta::freezes_in(frozen))?;
        let mut open = Box::new(OpenRequest::new(request, 0));
        if refusal.is_some() {
            open.refused = true;
            open.request.route = Route::new();
        }
        self.open_incoming(open);
        Ok(refusal.map_or(Step::Requested(id), |reason| Step::Refused(id, reason)))
    }

    fn refusal(&self, grant: &Grant, frozen: u128, onward: &Route) -> Option<CancelReason> {
        if !grant.is_open {
            Some(CancelReason::Closed)
        } else if self.accepted_count() >= MAX_PENDING || buggify!("ledger: refuse as busy", 20) {
            Some(CancelReason::Busy)
        } else if frozen > self.room(grant.max_debt) && !mutant!(IgnoreLimit) {
            Some(CancelReason::Capacity)
        } else if onward.is_empty() || mutant!(GuardNotKept) {
            None
        } else {
            self.guard(grant, frozen)
        }
    }

    /// Why a request may not be passed on from here, though it would be welcome if it ended here.
    fn guard(&self, grant: &Grant, frozen: u128) -> Option<CancelReason> {
        let is_full = self.forwarded_count() >= PLACES;
        let is_beyond = frozen > self.onward_room(grant.max_debt);
        sometimes!("ledger: what requests may hold that go on is used up", is_beyond);
        // Not `Busy`: it is the edge to here that is full, and not one that goes on from here.
        (is_full || is_beyond).then_some(CancelReason::Capacity)
    }

    /// The outgoing request that the friend may speak about.
    fn told(&self, from: &Incoming<'_>, id: &RequestId) -> Result<&OpenRequest, BrokenRule> {
        let open = self.outgoing().get(id).ok_or(BrokenRule::UnknownRequest)?;
        if open.told > from.ack { Err(BrokenRule::Unseen) } else { Ok(open) }
    }

    fn on_response(&mut self, from: &Incoming<'_>, response: Response) -> Result<Step, BrokenRule> {
        if mutant!(LateResponseAccepted) && !self.outgoing().contains_key(&response.request_id) {
            return Ok(Step::Crossed);
        }
        let open = self.told(from, &response.request_id)?;
        if open.response.is_some() && !mutant!(ResponseTwice) {
            return Err(BrokenRule::Twice);
        }
        let SignedAnswer { seller, hash, signature } = SignedAnswer::new(open, &response, from.currency, from.friend);
        from.verifier.verify(&seller, &hash, &signature).map_err(|_| BrokenRule::BadSignature)?;
        if let Some(open) = self.outgoing_mut(&response.request_id) {
            open.response = Some(response.clone());
        }
        Ok(Step::Answered(response))
    }

    fn on_cancel(&mut self, from: &Incoming<'_>, cancel: Cancel) -> Result<Step, BrokenRule> {
        let frozen = self.told(from, &cancel.request_id)?.frozen();
        self.move_totals(&Delta::freezes_out(frozen).reversed())?;
        let open = self.close_outgoing(&cancel.request_id).ok_or(BrokenRule::UnknownRequest)?;
        Ok(Step::Cancelled(cancel, open))
    }

    fn on_collect(&mut self, from: &Incoming<'_>, collect: Collect) -> Result<Step, BrokenRule> {
        let open = self.told(from, &collect.request_id)?;
        let response = open.response.as_ref().ok_or(BrokenRule::WrongStage)?;
        if !opens(&collect, &open.request, response) {
            return Err(BrokenRule::WrongLock);
        }
        let frozen = open.frozen();
        self.move_totals(&Delta::pays_out(frozen))?;
        let open = self.close_outgoing(&collect.request_id).ok_or(BrokenRule::UnknownRequest)?;
        Ok(Step::Collected(collect, open))
    }

    fn on_commit(&mut self, from: &Incoming<'_>, commit: CommitRequest) -> Result<Step, BrokenRule> {
        let Some(open) = self.incoming_mut(&commit.request_id) else {
            sometimes!("ledger: a commit crosses the end of its request", from.crossed);
            return if from.crossed && !mutant!(CrossingIsAnError) {
                Ok(Step::Crossed)
            } else {
                Err(BrokenRule::UnknownRequest)
            };
        };
        if open.committed {
            return Err(BrokenRule::Twice);
        }
        if open.response.is_none() {
            return Err(BrokenRule::WrongStage);
        }
        if open.told > from.ack {
            return Err(BrokenRule::Unseen);
        }
        if commit.src_plain_lock.hashed() != open.request.src_hashed_lock {
            return Err(BrokenRule::WrongLock);
        }
        open.committed = true;
        Ok(Step::Committed(commit))
    }

    fn on_withdraw(&mut self, from: &Incoming<'_>, withdraw: Withdraw) -> Result<Step, BrokenRule> {
        let Some(open) = self.incoming_mut(&withdraw.request_id) else {
            sometimes!("ledger: a withdrawal crosses the end of its request", from.crossed);
            return if from.crossed && !mutant!(CrossingIsAnError) {
                Ok(Step::Crossed)
            } else {
                Err(BrokenRule::UnknownRequest)
            };
        };
        if open.committed {
            return Err(BrokenRule::WrongStage);
        }
        if open.withdrawn {
            return Err(BrokenRule::Twice);
        }
        open.withdrawn = true;
        Ok(Step::Withdrawn(withdraw))
    }
}
