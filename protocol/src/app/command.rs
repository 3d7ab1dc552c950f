//! What apps can ask of their node, and which permission each command needs.

use super::{IndexAddress, Name};
use crate::bytes::{InvoiceId, PaymentId, PublicKey};
use crate::codec::List;
use crate::friend::ResetTerms;
use crate::index::{Edge, MultiRoute};
use crate::limits::{MAX_EXCLUDED_EDGES, MAX_RELAYS};
use crate::machine::WallTime;
use crate::money::{Currency, Rate};
use crate::payment::{Commit, Description, Invoice};
use crate::relay::RelayAddress;
use crate::{wire_enum, wire_struct};

wire_enum! {
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

    /// How a payment is committed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum CommitMode {
        /// The app fetches the commit and carries it to the seller.
        1 = ByHand,
        /// The node sends it along the routes as soon as the seller has answered everything.
        2 = InBand,
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
}

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
