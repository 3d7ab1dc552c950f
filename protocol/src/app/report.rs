//! What a node tells its apps of itself: relays, index servers, friends, payments, invoices.

use super::{MAX_REPORTED_CURRENCIES, Name};
use crate::bytes::{PaymentId, PublicKey, RequestId};
use crate::codec::{List, Text};
use crate::friend::ResetTerms;
use crate::index::Edge;
use crate::limits::MAX_RELAYS;
use crate::machine::WallTime;
use crate::money::{Currency, Rate};
use crate::net::Address;
use crate::payment::{CancelReason, Invoice, Receipt};
use crate::relay::RelayAddress;
use crate::{wire_enum, wire_struct};

wire_struct! {
    /// An index server that a node may use.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct IndexAddress {
        /// Who it is.
        pub public_key: PublicKey,
        /// Where it listens for clients.
        pub address: Address,
    }

    /// A relay of this node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RelayReport {
        /// The relay.
        pub relay: RelayAddress,
        /// The user's name for it.
        pub name: Name,
        /// Whether the node listens there now.
        pub connected: bool,
    }

    /// An index server of this node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct IndexReport {
        /// The server.
        pub server: IndexAddress,
        /// The user's name for it.
        pub name: Name,
        /// Whether it is the one in use now.
        pub connected: bool,
    }

    /// One currency of one friendship.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CurrencyReport {
        /// The currency.
        pub currency: Currency,
        /// Positive: the friend owes us.
        pub balance: i128,
        /// Frozen by requests that we sent.
        pub out_frozen: u128,
        /// Frozen by requests that we received.
        pub in_frozen: u128,
        /// What we let the friend owe us.
        pub max_debt: u128,
        /// What we charge for forwarding what comes from this friend.
        pub rate: Rate,
        /// Whether we take new requests.
        pub is_open: bool,
        /// Whether we list it.
        pub listed: bool,
        /// Whether the friend lists it.
        pub friend_listed: bool,
    }

    /// A friend.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FriendReport {
        /// Who it is.
        pub public_key: PublicKey,
        /// The user's name for it.
        pub name: Name,
        /// Whether the user wants to be connected.
        pub enabled: bool,
        /// Whether the link is up now.
        pub online: bool,
        /// Where the friend listens, as far as we know.
        pub relays: List<RelayAddress, MAX_RELAYS>,
        /// By currency: what either side lists.
        pub currencies: List<CurrencyReport, MAX_REPORTED_CURRENCIES>,
        /// Whether the two logs agree.
        pub channel: ChannelReport,
    }

    /// An invoice of this node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct InvoiceReport {
        /// As it was made.
        pub invoice: Invoice,
        /// Not answered any more after this; `None`: never expires.
        pub expires_at: Option<WallTime>,
        /// What has become of it.
        pub state: InvoiceState,
    }

    /// A payment of this node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PaymentReport {
        /// Chosen by the app.
        pub payment_id: PaymentId,
        /// What is paid.
        pub invoice: Invoice,
        /// How it stands.
        pub state: PaymentState,
    }

    /// One try to push one part of a payment along a route.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FailedPart {
        /// The request.
        pub request_id: RequestId,
        /// Why it came back.
        pub reason: CancelReason,
        /// The edge that failed, if the buyer could tell.
        pub edge: Option<Edge>,
    }
}

wire_enum! {
    /// Whether two friends' logs agree.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ChannelReport {
        /// They do.
        1 = Consistent {
            /// Counts resets.
            epoch: u64,
        },
        /// They do not: nothing moves until a user accepts the friend's terms, here or there.
        2 = Inconsistent {
            /// What was noticed.
            why: Text<128>,
            /// Our terms.
            ours: ResetTerms,
            /// The friend's, if it has stated them.
            theirs: Option<ResetTerms>,
        },
    }

    /// A change of the report. The full report is a list of changes from nothing.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ReportChange {
        /// A relay is new or different.
        1 = Relay(RelayReport),
        /// A relay is gone.
        2 = RelayRemoved(PublicKey),
        /// An index server is new or different.
        3 = Index(IndexReport),
        /// An index server is gone.
        4 = IndexRemoved(PublicKey),
        /// A friend is new or different.
        5 = Friend(FriendReport),
        /// A friend is gone.
        6 = FriendRemoved(PublicKey),
    }

    /// How a payment stands at the buyer's node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum PaymentState {
        /// Looking for routes.
        1 = Searching,
        /// Requests are on their way.
        2 = Requested,
        /// The seller has answered everything; the commit waits to be fetched.
        3 = Ready {
            /// What the mediators will get, all together.
            fees: u128,
        },
        /// The commit has left the node; the outcome is the seller's to decide.
        4 = Committed {
            /// What the mediators will get, all together.
            fees: u128,
        },
        /// Paid.
        5 = Paid {
            /// The proof.
            receipt: Receipt,
            /// What the mediators got, all together.
            fees: u128,
        },
        /// Not paid, and it never will be.
        6 = Failed(PaymentFailure),
        /// Being withdrawn or given up: requests are still open, and the seller may still cancel them only.
        7 = Ending(PaymentFailure),
    }

    /// How an invoice stands at the seller's node.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum InvoiceState {
        /// Nobody has paid yet.
        1 = Open {
            /// What open requests would bring.
            offered: u128,
        },
        /// Committed and collecting.
        2 = Collecting {
            /// What has been collected.
            collected: u128,
        },
        /// Paid in full.
        3 = Paid,
        /// Cancelled by the seller.
        4 = Cancelled,
        /// Committed, but a part was lost with its channel before it could be collected.
        5 = PaidInPart {
            /// What was collected.
            collected: u128,
        },
    }

    /// Why a payment failed. Nothing moved, unless `PartLost` says otherwise.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum PaymentFailure {
        /// No index server is configured.
        1 = NoIndexServer,
        /// No index server could be asked in time.
        2 = IndexUnreachable,
        /// The index server knows no route with this capacity within the fee.
        3 = NoRoute,
        /// Every route that was tried came back; the last reason.
        4 = Cancelled(FailedPart),
        /// The buyer withdrew it.
        5 = Withdrawn,
        /// A part of a committed payment was lost with its channel, or was cancelled: other parts may have been collected, and
        /// there is no receipt.
        6 = PartLost,
        /// The seller answered with something that is no answer to the request.
        7 = BadAnswer,
    }
}

impl std::fmt::Display for PaymentFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PaymentFailure::NoIndexServer => f.write_str("the node has no index server"),
            PaymentFailure::IndexUnreachable => f.write_str("no index server answered in time"),
            PaymentFailure::NoRoute => f.write_str("no route has this capacity within the fee"),
            PaymentFailure::Cancelled(part) => write!(f, "it came back: {}", part.reason),
            PaymentFailure::Withdrawn => f.write_str("it was withdrawn"),
            PaymentFailure::PartLost => f.write_str("a part was lost or came back after the commit"),
            PaymentFailure::BadAnswer => f.write_str("the seller's answer does not fit the request"),
        }
    }
}
