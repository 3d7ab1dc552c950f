//! What an application and its node say to each other.
//!
//! | message | from | effect |
//! |---|---|---|
//! | [`NodeMessage::Hello`] | node, first | what the app may do |
//! | [`NodeMessage::Report`] | node | changes of the report, numbered from 0; those up to the first `complete` build the full report |
//! | [`AppMessage::Command`] | app | gets exactly one [`NodeMessage::Reply`] with the same id |
//! | [`NodeMessage::Event`] | node | what became of a command later; repeated after every connect until acknowledged |
//! | [`AppMessage::Acknowledge`] | app | the event of this command need not be told again |
//!
//! An app that reads too slowly is disconnected and starts again from a full report.

use crate::bytes::{CommandId, InvoiceId, PaymentId, PublicKey, RequestId};
use crate::codec::{List, Text};
use crate::friend::{Evidence, ResetTerms};
use crate::index::{Edge, MultiRoute};
use crate::limits::{MAX_CURRENCIES, MAX_EXCLUDED_EDGES, MAX_NAME_LEN, MAX_RELAYS, MAX_ROUTE_OPTIONS};
use crate::machine::WallTime;
use crate::money::{Currency, Rate};
use crate::net::Address;
use crate::payment::{CancelReason, Commit, Description, Invoice, Receipt};
use crate::relay::RelayAddress;
use crate::{wire_enum, wire_struct};

/// A local name that the user gave to a friend, relay or index server.
pub type Name = Text<MAX_NAME_LEN>;

/// Currencies in the report of one friend: those of our list and of the friend's, so that what a friend lists never hides
/// what is ours.
pub const MAX_REPORTED_CURRENCIES: usize = 2 * MAX_CURRENCIES;
/// Report changes in one message: a friend with all its currencies has at most about 16 KiB.
pub const MAX_REPORT_CHANGES: usize = 128;
/// Invoices or payments in one answer; ask again from the last one for more.
pub const MAX_LISTED: usize = 256;

wire_struct! {
    /// What a registered app may do beside seeing the report.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Permissions {
        /// Request routes.
        pub routes: bool,
        /// Pay.
        pub buyer: bool,
        /// Be paid.
        pub seller: bool,
        /// Change relays, index servers, friends and currencies.
        pub config: bool,
    }

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

    /// How a payment is committed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum CommitMode {
        /// The app fetches the commit and carries it to the seller.
        1 = ByHand,
        /// The node sends it along the routes as soon as the seller has answered everything.
        2 = InBand,
    }

    /// What an app can ask of its node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Command {
        /// `config`: listen on this relay.
        1 = AddRelay {
            /// The relay.
            relay: RelayAddress,
            /// A name that no other relay of the node has.
            name: Name,
        },
        /// `config`: stop listening there, once the friends know the other relays.
        2 = RemoveRelay {
            /// Its name.
            name: Name,
        },
        /// `config`: use this index server.
        3 = AddIndex {
            /// The server.
            server: IndexAddress,
            /// A name that no other index server of the node has.
            name: Name,
        },
        /// `config`: do not use it any more.
        4 = RemoveIndex {
            /// Its name.
            name: Name,
        },
        /// `config`: begin a friendship.
        5 = AddFriend {
            /// Who it is.
            public_key: PublicKey,
            /// Where it listens.
            relays: List<RelayAddress, MAX_RELAYS>,
            /// A name that no other friend has.
            name: Name,
        },
        /// `config`: end a friendship at once, with everything that it owes or is owed.
        6 = RemoveFriend {
            /// Its name.
            name: Name,
        },
        /// `config`: call a friend something else.
        7 = RenameFriend {
            /// Its name.
            name: Name,
            /// A name that no other friend has.
            new_name: Name,
        },
        /// `config`: replace what we know of where a friend listens.
        8 = SetFriendRelays {
            /// Its name.
            name: Name,
            /// Where it listens.
            relays: List<RelayAddress, MAX_RELAYS>,
        },
        /// `config`: keep a link to this friend.
        9 = EnableFriend {
            /// Its name.
            name: Name,
        },
        /// `config`: keep no link to this friend.
        10 = DisableFriend {
            /// Its name.
            name: Name,
        },
        /// `config`: list a currency, and take new requests in it.
        11 = OpenCurrency {
            /// The friend's name.
            name: Name,
            /// The currency.
            currency: Currency,
        },
        /// `config`: take no new requests in a currency.
        12 = CloseCurrency {
            /// The friend's name.
            name: Name,
            /// The currency.
            currency: Currency,
        },
        /// `config`: list a currency no more. Needs a zero balance and nothing open.
        13 = RemoveCurrency {
            /// The friend's name.
            name: Name,
            /// The currency.
            currency: Currency,
        },
        /// `config`: what we let this friend owe us.
        14 = SetMaxDebt {
            /// The friend's name.
            name: Name,
            /// The currency.
            currency: Currency,
            /// In units of the currency.
            max_debt: u128,
        },
        /// `config`: what we charge for forwarding what comes from this friend.
        15 = SetRate {
            /// The friend's name.
            name: Name,
            /// The currency.
            currency: Currency,
            /// The rate.
            rate: Rate,
        },
        /// `config`: accept the friend's terms, exactly those that the user has read.
        16 = ResetFriend {
            /// Its name.
            name: Name,
            /// The friend's terms, as reported.
            terms: ResetTerms,
        },
        /// Any app: the friend's last signature with what it states.
        17 = LastEvidence {
            /// Its name.
            name: Name,
        },
        /// `routes`: how could this amount travel?
        18 = FindRoutes {
            /// In which currency.
            currency: Currency,
            /// How much arrives.
            amount: u128,
            /// From whom; `None`: from this node.
            source: Option<PublicKey>,
            /// To whom.
            destination: PublicKey,
            /// Not over these edges.
            exclude: List<Edge, MAX_EXCLUDED_EDGES>,
            /// Not for more than this.
            max_fee: Option<u128>,
        },
        /// `buyer`: pay an invoice. The reply says that the payment has begun; an event with this command's id says how it
        /// ended. The same payment id and invoice again: the reply of the first.
        19 = Pay {
            /// Names the payment.
            payment_id: PaymentId,
            /// What is paid.
            invoice: Invoice,
            /// The most that mediators may get, all together.
            max_fee: u128,
            /// How it is committed.
            mode: CommitMode,
            /// Along these routes (from this node to the seller); `None`: the node finds them, and others if they fail.
            routes: Option<MultiRoute>,
        },
        /// `buyer`: hand out the commit of a payment that is ready. From then on the payment cannot be withdrawn.
        20 = ReleaseCommit {
            /// The payment.
            payment_id: PaymentId,
        },
        /// `buyer`: ask the seller to cancel; refused once the commit has left the node.
        21 = WithdrawPayment {
            /// The payment.
            payment_id: PaymentId,
        },
        /// `buyer`: how does a payment stand?
        22 = PaymentStatus {
            /// The payment.
            payment_id: PaymentId,
        },
        /// `buyer`: forget a payment that has ended.
        23 = ForgetPayment {
            /// The payment.
            payment_id: PaymentId,
        },
        /// `buyer`: the payments that the node remembers, in order of their ids.
        24 = ListPayments {
            /// Only those after this one.
            after: Option<PaymentId>,
        },
        /// `seller`: be ready to be paid. An event with this command's id says that it was paid or cancelled.
        25 = AddInvoice {
            /// Names the invoice; must be new.
            invoice_id: InvoiceId,
            /// What it must be paid in.
            currency: Currency,
            /// How much.
            amount: u128,
            /// What for.
            description: Description,
            /// Not answered any more after this.
            expires_at: Option<WallTime>,
        },
        /// `seller`: do not be paid any more; requests that were answered are cancelled.
        26 = CancelInvoice {
            /// The invoice.
            invoice_id: InvoiceId,
        },
        /// `seller`: the buyer handed over this commit: collect.
        27 = CommitInvoice {
            /// The commit.
            commit: Commit,
        },
        /// `seller`: how does an invoice stand?
        28 = InvoiceStatus {
            /// The invoice.
            invoice_id: InvoiceId,
        },
        /// `seller`: forget an invoice that has ended.
        29 = ForgetInvoice {
            /// The invoice.
            invoice_id: InvoiceId,
        },
        /// `seller`: the invoices that the node remembers, in order of their ids.
        30 = ListInvoices {
            /// Only those after this one.
            after: Option<InvoiceId>,
        },
    }

    /// What a permission allows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Permission {
        /// Request routes.
        1 = Routes,
        /// Pay.
        2 = Buyer,
        /// Be paid.
        3 = Seller,
        /// Configure.
        4 = Config,
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

    /// What a command gave.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Answer {
        /// Done, and durable.
        1 = Done,
        /// To `LastEvidence`.
        2 = Evidence(Evidence),
        /// To `FindRoutes`; cheapest first.
        3 = Routes {
            /// What is offered.
            options: List<MultiRoute, MAX_ROUTE_OPTIONS>,
            /// Whether the search stopped early: there may be better ones.
            capped: bool,
        },
        /// To `ReleaseCommit`.
        4 = Commit(Commit),
        /// To `PaymentStatus`.
        5 = Payment(PaymentReport),
        /// To `ListPayments`.
        6 = Payments(List<PaymentReport, MAX_LISTED>),
        /// To `AddInvoice`.
        7 = Invoice(Invoice),
        /// To `InvoiceStatus`.
        8 = InvoiceStatus(InvoiceReport),
        /// To `ListInvoices`.
        9 = Invoices(List<InvoiceReport, MAX_LISTED>),
    }

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

    /// What a command came to.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Outcome {
        /// It was done.
        1 = Done(Answer),
        /// It was refused, and nothing was changed.
        2 = Refused(Refusal),
    }

    /// What became of a command after its reply.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Event {
        /// A payment by hand has all its answers; the commit can be fetched. Told once to connected apps, never kept:
        /// `PaymentStatus` tells it again.
        1 = PaymentReady {
            /// The payment.
            payment_id: PaymentId,
            /// What the mediators will get, all together.
            fees: u128,
        },
        /// A payment has ended: paid or failed.
        2 = PaymentEnded(PaymentReport),
        /// An invoice has ended: paid, paid in part or cancelled.
        3 = InvoiceEnded(InvoiceReport),
        /// One part of a payment came back; the node tries on or gives up. Told once to connected apps, never kept.
        4 = PartFailed {
            /// The payment.
            payment_id: PaymentId,
            /// What failed.
            part: FailedPart,
        },
        /// The node sends the parts of a payment along these routes. Told once to connected apps, never kept.
        5 = PartsSent {
            /// The payment.
            payment_id: PaymentId,
            /// The routes.
            routes: MultiRoute,
        },
    }

    /// From an app to its node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum AppMessage {
        /// Do this.
        1 = Command {
            /// Chosen by the app at random; the reply and the events repeat it.
            id: CommandId,
            /// What to do.
            command: Command,
        },
        /// The kept event of this command has been taken note of.
        2 = Acknowledge {
            /// The command.
            id: CommandId,
            /// Of the event, as it was told.
            number: u64,
        },
    }

    /// From a node to an app.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum NodeMessage {
        /// Always the first message.
        1 = Hello {
            /// What the app may do.
            permissions: Permissions,
            /// The version of the node's software, for support.
            version: Text<64>,
        },
        /// News of the report.
        2 = Report {
            /// 0 for the first message on a connection, then one more each.
            number: u64,
            /// In order.
            changes: List<ReportChange, MAX_REPORT_CHANGES>,
            /// Whether the report is whole with this message.
            complete: bool,
        },
        /// The one answer to a command.
        3 = Reply {
            /// The command.
            id: CommandId,
            /// What it came to.
            outcome: Outcome,
        },
        /// What became of a command.
        4 = Event {
            /// The command.
            id: CommandId,
            /// Names the event for its acknowledgement; `None` for events that are not kept.
            number: Option<u64>,
            /// What happened.
            event: Event,
        },
    }
}

impl Permission {
    /// Its name on the command line and in tickets.
    pub const fn name(self) -> &'static str {
        match self {
            Permission::Routes => "routes",
            Permission::Buyer => "buyer",
            Permission::Seller => "seller",
            Permission::Config => "config",
        }
    }
}

impl Permissions {
    /// Everything.
    pub const ALL: Permissions = Permissions { routes: true, buyer: true, seller: true, config: true };

    /// Whether `permission` was given.
    pub const fn allow(&self, permission: Permission) -> bool {
        match permission {
            Permission::Routes => self.routes,
            Permission::Buyer => self.buyer,
            Permission::Seller => self.seller,
            Permission::Config => self.config,
        }
    }
}

impl Command {
    /// The permission that it needs; `None`: every registered app may.
    pub const fn permission(&self) -> Option<Permission> {
        match self {
            Command::LastEvidence { .. } => None,
            Command::FindRoutes { .. } => Some(Permission::Routes),
            Command::Pay { .. }
            | Command::ReleaseCommit { .. }
            | Command::WithdrawPayment { .. }
            | Command::PaymentStatus { .. }
            | Command::ForgetPayment { .. }
            | Command::ListPayments { .. } => Some(Permission::Buyer),
            Command::AddInvoice { .. }
            | Command::CancelInvoice { .. }
            | Command::CommitInvoice { .. }
            | Command::InvoiceStatus { .. }
            | Command::ForgetInvoice { .. }
            | Command::ListInvoices { .. } => Some(Permission::Seller),
            Command::AddRelay { .. }
            | Command::RemoveRelay { .. }
            | Command::AddIndex { .. }
            | Command::RemoveIndex { .. }
            | Command::AddFriend { .. }
            | Command::RemoveFriend { .. }
            | Command::RenameFriend { .. }
            | Command::SetFriendRelays { .. }
            | Command::EnableFriend { .. }
            | Command::DisableFriend { .. }
            | Command::OpenCurrency { .. }
            | Command::CloseCurrency { .. }
            | Command::RemoveCurrency { .. }
            | Command::SetMaxDebt { .. }
            | Command::SetRate { .. }
            | Command::ResetFriend { .. } => Some(Permission::Config),
        }
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
            PaymentFailure::PartLost => f.write_str("a part was lost with its channel"),
            PaymentFailure::BadAnswer => f.write_str("the seller's answer does not fit the request"),
        }
    }
}
