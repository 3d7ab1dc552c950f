//! What makes a request invalid by itself, the rules that a friend can break, and what we do not send.

use std::collections::BTreeSet;

use offset_protocol::bytes::PublicKey;
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::money::add_amounts;
use offset_protocol::payment::{Request, Route};
use offset_protocol::{mutant, wire_enum};

wire_enum! {
    /// What is wrong with a request by itself, whoever looks at it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    pub enum BadRequest {
        /// It must hold that `0 < dest_payment <= total_dest_payment`, and no amount may be larger than [`MAX_AMOUNT`].
        #[error("the amounts of the request are not valid")]
        1 = Amounts,
        /// No hop may stand twice, the receiver not at all, the sender only at the end (a payment in a circle).
        #[error("the route of the request meets a node twice")]
        2 = Route,
    }

    /// The rule that an operation of the friend broke.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    pub enum BrokenRule {
        /// A request that is invalid by itself.
        #[error("{0}")]
        1 = Request(BadRequest),
        /// The id belongs to a request that is open.
        #[error("the request id is in use")]
        2 = RepeatedRequest,
        /// More than [`super::MAX_INCOMING`].
        #[error("more requests are open than a friend may ever open")]
        3 = TooManyOpen,
        /// A request in a currency that the friend does not list.
        #[error("the friend does not list the currency of its request")]
        4 = NotListed,
        /// No such request is open.
        #[error("no such request is open")]
        5 = UnknownRequest,
        /// An answer to what the friend says it has not received.
        #[error("the friend answered what it had not acknowledged")]
        6 = Unseen,
        /// A second response, commit or withdrawal.
        #[error("the request was answered, committed or withdrawn before")]
        7 = Twice,
        /// Collected or committed without a response, or withdrawn after a commit.
        #[error("the request is not at the stage for this")]
        8 = WrongStage,
        /// A plain lock that opens nothing.
        #[error("a lock does not open")]
        9 = WrongLock,
        /// The seller did not sign the response.
        #[error("the seller's signature of the response does not match")]
        10 = BadSignature,
        /// A total would leave its range.
        #[error("a total would overflow")]
        11 = Overflow,
    }
}

/// Why we do not send an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// The request is invalid by itself, or all that is open would be more than [`MAX_AMOUNT`].
    #[error("{0}")]
    Request(BadRequest),
    /// The id belongs to a request that is open, or this was said before.
    #[error("it was sent before")]
    Repeated,
    /// [`offset_protocol::limits::MAX_PENDING`] requests are open.
    #[error("too many requests are open")]
    Busy,
    /// No such request is open.
    #[error("no such request is open")]
    UnknownRequest,
    /// The request is not at the stage for this.
    #[error("the request is not at the stage for this")]
    WrongStage,
    /// A plain lock opens nothing.
    #[error("a lock does not open")]
    WrongLock,
}

impl From<BadRequest> for BrokenRule {
    fn from(bad: BadRequest) -> Self {
        BrokenRule::Request(bad)
    }
}

impl From<BadRequest> for Unsendable {
    fn from(bad: BadRequest) -> Self {
        Unsendable::Request(bad)
    }
}

/// Checks a request by itself, on its way from `sender` to `receiver`; gives what it freezes.
///
/// # Errors
/// [`BadRequest`] says what is wrong.
pub fn check_request(request: &Request, sender: &PublicKey, receiver: &PublicKey) -> Result<u128, BadRequest> {
    let total = request.total_dest_payment;
    if request.dest_payment == 0 || request.dest_payment > total || total > MAX_AMOUNT {
        return Err(BadRequest::Amounts);
    }
    let frozen = add_amounts(request.dest_payment, request.left_fees).map_err(|_| BadRequest::Amounts)?;
    check_route(&request.route, sender, receiver)?;
    Ok(frozen)
}

fn check_route(route: &Route, sender: &PublicKey, receiver: &PublicKey) -> Result<(), BadRequest> {
    let Some((_, before_last)) = route.split_last() else {
        return Ok(());
    };
    let mut met = BTreeSet::from([receiver]);
    let repeats = route.iter().any(|hop| !met.insert(hop));
    if (repeats || before_last.contains(sender)) && !mutant!(LoopingRouteAccepted) {
        Err(BadRequest::Route)
    } else {
        Ok(())
    }
}
