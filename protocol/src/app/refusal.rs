//! Why a node does not do what an app asks.

use super::{Name, Permission};
use crate::codec::Text;
use crate::wire_enum;

wire_enum! {
    /// Why a command was refused. Nothing was changed.
    #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
    pub enum Refusal {
        /// The app lacks a permission.
        #[error("the app is not permitted to do this: it needs the permission {}", .0.name())]
        1 = NotPermitted(Permission),
        /// No friend of that name.
        #[error("there is no friend of that name; 'info friends' lists them")]
        2 = UnknownFriend,
        /// No relay of that name.
        #[error("there is no relay of that name; 'info relays' lists them")]
        3 = UnknownRelay,
        /// No index server of that name.
        #[error("there is no index server of that name; 'info index' lists them")]
        4 = UnknownIndex,
        /// The name is in use.
        #[error("the name is taken; choose another one")]
        5 = NameTaken,
        /// The key is in use.
        #[error("this key is there already under the name {0}")]
        6 = KeyTaken(Name),
        /// One cannot be one's own friend.
        #[error("this is the node itself")]
        7 = OwnKey,
        /// A limit of the node.
        #[error("the node's limit of {0} is reached; remove something first")]
        8 = LimitReached(u32),
        /// The friendship does not have that currency.
        #[error("this friendship does not have that currency; open it first")]
        9 = UnknownCurrency,
        /// The currency cannot be removed yet.
        #[error("the currency has a balance or open requests; settle them first")]
        10 = CurrencyInUse,
        /// The channel is not inconsistent, or the terms are not the friend's last.
        #[error("the friend has stated no such terms; read 'info friends' again")]
        11 = NoSuchTerms,
        /// The channel is inconsistent.
        #[error("the channel with this friend is inconsistent; see 'info friends', then 'config reset-friend'")]
        12 = Inconsistent,
        /// The friend has signed nothing yet.
        #[error("this friend has signed nothing yet")]
        13 = NoEvidence,
        /// No index server is configured.
        #[error("the node has no index server; add one with 'config add-index'")]
        14 = NoIndexServer,
        /// No index server answered in time.
        #[error("no index server answered in time; try again later")]
        15 = IndexUnreachable,
        /// The index server is busy.
        #[error("the index server is busy; try again later")]
        16 = IndexBusy,
        /// No route.
        #[error("no route has this capacity within the fee")]
        17 = NoRoute,
        /// An amount of zero or beyond the largest.
        #[error("the amount must be more than 0 and at most 2^100")]
        18 = BadAmount,
        /// The routes do not lead from this node to the seller, or do not add up.
        #[error("the routes do not lead from this node to the seller with the invoice's amount within the fee")]
        19 = BadRoutes,
        /// The node pays itself.
        #[error("the invoice is the node's own")]
        20 = OwnInvoice,
        /// The payment id belongs to another invoice.
        #[error("the payment id was used for another payment")]
        21 = PaymentIdTaken,
        /// No such payment.
        #[error("the node knows no such payment")]
        22 = UnknownPayment,
        /// The payment has not all its answers, or has ended.
        #[error("the payment is not ready to be committed")]
        23 = NotReady,
        /// The commit has left the node.
        #[error("the commit has left the node: the payment cannot be withdrawn any more")]
        24 = AlreadyCommitted,
        /// Still going on.
        #[error("it has not ended yet")]
        25 = NotEnded,
        /// The invoice id is in use.
        #[error("the invoice id was used before")]
        26 = InvoiceIdTaken,
        /// No such invoice.
        #[error("the node knows no such invoice")]
        27 = UnknownInvoice,
        /// The invoice has ended.
        #[error("the invoice is paid or cancelled already")]
        28 = InvoiceEnded,
        /// The commit proves nothing.
        #[error("the commit is not valid: {0}")]
        29 = BadCommit(Text<128>),
        /// A part of the payment is gone, or has not arrived.
        #[error("only {offered} of {amount} have arrived: nothing was collected")]
        30 = PartMissing {
            /// What open requests would bring.
            offered: u128,
            /// What the invoice asks for.
            amount: u128,
        },
        /// Too much at once.
        #[error("the node is busy; try again later")]
        31 = Busy,
        /// The invoice has expired.
        #[error("the invoice has expired")]
        32 = Expired,
    }
}
