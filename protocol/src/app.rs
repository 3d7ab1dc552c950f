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

mod command;
mod refusal;
mod report;

pub use command::{Command, CommitMode, Permission, Permissions};
pub use refusal::Refusal;
pub use report::{
    ChannelReport, CurrencyReport, FailedPart, FriendReport, IndexAddress, IndexReport, InvoiceReport, InvoiceState,
    PaymentFailure, PaymentReport, PaymentState, RelayReport, ReportChange,
};

use crate::bytes::{CommandId, PaymentId};
use crate::codec::{List, Text};
use crate::friend::Evidence;
use crate::index::MultiRoute;
use crate::limits::{MAX_CURRENCIES, MAX_NAME_LEN, MAX_ROUTE_OPTIONS};
use crate::payment::{Commit, Invoice};
use crate::wire_enum;

/// A local name that the user gave to a friend, relay or index server.
pub type Name = Text<MAX_NAME_LEN>;

/// Currencies in the report of one friend: those of our list and of the friend's, so that what a friend lists never hides
/// what is ours.
pub const MAX_REPORTED_CURRENCIES: usize = 2 * MAX_CURRENCIES;
/// Report changes in one message: a friend with all its currencies has at most about 16 KiB.
pub const MAX_REPORT_CHANGES: usize = 128;
/// Invoices or payments in one answer; ask again from the last one for more.
pub const MAX_LISTED: usize = 256;

wire_enum! {
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
