//! The conversation of apps and nodes: every command, answer, refusal, event and change of the report.

use offset_protocol::app::{
    Answer, AppMessage, ChannelReport, Command, CommitMode, CurrencyReport, Event, FailedPart, FriendReport,
    IndexAddress, IndexReport, InvoiceReport, InvoiceState, Name, NodeMessage, Outcome, PaymentFailure, PaymentReport,
    PaymentState, Permission, Permissions, Refusal, RelayReport, ReportChange,
};
use offset_protocol::friend::{CurrencyBalance, ResetTerms};
use offset_protocol::index::{Edge, MultiRoute, RoutePart};
use offset_protocol::machine::WallTime;
use offset_protocol::payment::CancelReason;

use super::book::{Page, Vector};
use super::cast::{
    ALICE, BOB, CAROL, COMMAND, INVOICE, PAYMENT, REQUEST, SERVER, TOKEN, address, commit, invoice, key, list, rate,
    receipt, relay, text, usd,
};
use super::files::token;

pub(crate) fn page() -> Page {
    let mut vectors = Vec::new();
    let named = |of: &str, number: usize| format!("{of} {}", number + 1);
    for (number, command) in commands().into_iter().enumerate() {
        let message = AppMessage::Command { id: COMMAND, command };
        vectors.push(Vector::wire(named("command", number), "AppMessage", message));
    }
    let acknowledge = AppMessage::Acknowledge { id: COMMAND, number: 3 };
    vectors.push(Vector::wire("acknowledgement", "AppMessage", acknowledge));
    let hello = NodeMessage::Hello { permissions: Permissions::ALL, version: text("offset 0.1.0") };
    vectors.push(Vector::wire("hello", "NodeMessage", hello));
    let report = NodeMessage::Report { number: 0, changes: list(changes()), complete: true };
    vectors.push(Vector::wire("the whole report", "NodeMessage", report));
    for (number, answer) in answers().into_iter().enumerate() {
        let message = NodeMessage::Reply { id: COMMAND, outcome: Outcome::Done(answer) };
        vectors.push(Vector::wire(named("answer", number), "NodeMessage", message));
    }
    for (number, refusal) in refusals().into_iter().enumerate() {
        let sentence = refusal.to_string();
        let message = NodeMessage::Reply { id: COMMAND, outcome: Outcome::Refused(refusal) };
        vectors.push(Vector::wire(named("refusal", number), "NodeMessage", message).with("sentence", sentence));
    }
    for (number, event) in events().into_iter().enumerate() {
        let kept = matches!(event, Event::PaymentEnded(_) | Event::InvoiceEnded(_)).then_some(3);
        let message = NodeMessage::Event { id: COMMAND, number: kept, event };
        vectors.push(Vector::wire(named("event", number), "NodeMessage", message));
    }
    for (number, state) in payment_states().into_iter().enumerate() {
        vectors.push(Vector::wire(named("state of a payment", number), "PaymentState", state));
    }
    for (number, state) in invoice_states().into_iter().enumerate() {
        vectors.push(Vector::wire(named("state of an invoice", number), "InvoiceState", state));
    }
    for (number, failure) in failures().into_iter().enumerate() {
        vectors.push(Vector::wire(named("failure", number), "PaymentFailure", failure));
    }
    Page {
        name: "app.json",
        about: "SPEC 12. Names end in the tag of the command, answer, refusal, event or state.",
        vectors,
    }
}

fn bob() -> Name {
    text("bob")
}

fn index_address() -> IndexAddress {
    IndexAddress { public_key: key(SERVER), address: address("index.example:1338") }
}

fn terms() -> ResetTerms {
    let balances = list([CurrencyBalance { currency: usd(), balance: -1_011 }]);
    ResetTerms { epoch: 1, reset_token: TOKEN, balances }
}

fn routes() -> MultiRoute {
    let route = list([key(ALICE), key(BOB), key(CAROL)]);
    MultiRoute { parts: list([RoutePart { route, amount: 1_000, fees: 11 }]) }
}

fn failed() -> FailedPart {
    let edge = Some(Edge { from: key(BOB), to: key(CAROL) });
    FailedPart { request_id: REQUEST, reason: CancelReason::Offline, edge }
}

fn commands() -> Vec<Command> {
    let name = bob;
    vec![
        Command::AddRelay { relay: relay(), name: text("home") },
        Command::RemoveRelay { name: text("home") },
        Command::AddIndex { server: index_address(), name: text("index") },
        Command::RemoveIndex { name: text("index") },
        Command::AddFriend { public_key: key(BOB), relays: list([relay()]), name: name() },
        Command::RemoveFriend { name: name() },
        Command::RenameFriend { name: name(), new_name: text("robert") },
        Command::SetFriendRelays { name: name(), relays: list([relay()]) },
        Command::EnableFriend { name: name() },
        Command::DisableFriend { name: name() },
        Command::OpenCurrency { name: name(), currency: usd() },
        Command::CloseCurrency { name: name(), currency: usd() },
        Command::RemoveCurrency { name: name(), currency: usd() },
        Command::SetMaxDebt { name: name(), currency: usd(), max_debt: 5_000 },
        Command::SetRate { name: name(), currency: usd(), rate: rate() },
        Command::ResetFriend { name: name(), terms: terms() },
        Command::LastEvidence { name: name() },
        Command::FindRoutes {
            currency: usd(),
            amount: 1_000,
            source: None,
            destination: key(CAROL),
            exclude: list([]),
            max_fee: Some(25),
        },
        Command::Pay { payment_id: PAYMENT, invoice: invoice(), max_fee: 25, mode: CommitMode::ByHand, routes: None },
        Command::ReleaseCommit { payment_id: PAYMENT },
        Command::WithdrawPayment { payment_id: PAYMENT },
        Command::PaymentStatus { payment_id: PAYMENT },
        Command::ForgetPayment { payment_id: PAYMENT },
        Command::ListPayments { after: None },
        Command::AddInvoice {
            invoice_id: INVOICE,
            currency: usd(),
            amount: 1_000,
            description: text("two apples"),
            expires_at: Some(WallTime(1_767_225_600_000)),
        },
        Command::CancelInvoice { invoice_id: INVOICE },
        Command::CommitInvoice { commit: commit() },
        Command::InvoiceStatus { invoice_id: INVOICE },
        Command::ForgetInvoice { invoice_id: INVOICE },
        Command::ListInvoices { after: Some(INVOICE) },
    ]
}

fn changes() -> Vec<ReportChange> {
    let friend = |channel| {
        ReportChange::Friend(FriendReport {
            public_key: key(BOB),
            name: bob(),
            enabled: true,
            online: false,
            relays: list([relay()]),
            currencies: list([CurrencyReport {
                currency: usd(),
                balance: -1_011,
                out_frozen: 0,
                in_frozen: 7,
                max_debt: 5_000,
                rate: rate(),
                is_open: true,
                listed: true,
                friend_listed: true,
            }]),
            channel,
        })
    };
    let why = text("the friend declared the channel inconsistent");
    vec![
        ReportChange::Relay(RelayReport { relay: relay(), name: text("home"), connected: true }),
        ReportChange::RelayRemoved(relay().public_key),
        ReportChange::Index(IndexReport { server: index_address(), name: text("index"), connected: false }),
        ReportChange::IndexRemoved(key(SERVER)),
        friend(ChannelReport::Consistent { epoch: 0 }),
        friend(ChannelReport::Inconsistent { why, ours: terms(), theirs: None }),
        ReportChange::FriendRemoved(key(BOB)),
    ]
}

fn payment(state: PaymentState) -> PaymentReport {
    PaymentReport { payment_id: PAYMENT, invoice: invoice(), state }
}

fn invoice_report(state: InvoiceState) -> InvoiceReport {
    InvoiceReport { invoice: invoice(), expires_at: None, state }
}

fn answers() -> Vec<Answer> {
    let paid = || payment(PaymentState::Paid { receipt: receipt(), fees: 11 });
    vec![
        Answer::Done,
        Answer::Evidence(token()),
        Answer::Routes { options: list([routes()]), capped: false },
        Answer::Commit(commit()),
        Answer::Payment(paid()),
        Answer::Payments(list([paid()])),
        Answer::Invoice(invoice()),
        Answer::InvoiceStatus(invoice_report(InvoiceState::Open { offered: 0 })),
        Answer::Invoices(list([invoice_report(InvoiceState::Paid)])),
    ]
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::NotPermitted(Permission::Config),
        Refusal::UnknownFriend,
        Refusal::UnknownRelay,
        Refusal::UnknownIndex,
        Refusal::NameTaken,
        Refusal::KeyTaken(bob()),
        Refusal::OwnKey,
        Refusal::LimitReached(16),
        Refusal::UnknownCurrency,
        Refusal::CurrencyInUse,
        Refusal::NoSuchTerms,
        Refusal::Inconsistent,
        Refusal::NoEvidence,
        Refusal::NoIndexServer,
        Refusal::IndexUnreachable,
        Refusal::IndexBusy,
        Refusal::NoRoute,
        Refusal::BadAmount,
        Refusal::BadRoutes,
        Refusal::OwnInvoice,
        Refusal::PaymentIdTaken,
        Refusal::UnknownPayment,
        Refusal::NotReady,
        Refusal::AlreadyCommitted,
        Refusal::NotEnded,
        Refusal::InvoiceIdTaken,
        Refusal::UnknownInvoice,
        Refusal::InvoiceEnded,
        Refusal::BadCommit(text("the seller's signature does not match")),
        Refusal::PartMissing { offered: 400, amount: 1_000 },
        Refusal::Busy,
        Refusal::Expired,
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::PaymentReady { payment_id: PAYMENT, fees: 11 },
        Event::PaymentEnded(payment(PaymentState::Failed(PaymentFailure::NoRoute))),
        Event::InvoiceEnded(invoice_report(InvoiceState::Paid)),
        Event::PartFailed { payment_id: PAYMENT, part: failed() },
        Event::PartsSent { payment_id: PAYMENT, routes: routes() },
    ]
}

fn payment_states() -> Vec<PaymentState> {
    vec![
        PaymentState::Searching,
        PaymentState::Requested,
        PaymentState::Ready { fees: 11 },
        PaymentState::Committed { fees: 11 },
        PaymentState::Paid { receipt: receipt(), fees: 11 },
        PaymentState::Failed(PaymentFailure::Withdrawn),
        PaymentState::Ending(PaymentFailure::Withdrawn),
    ]
}

fn invoice_states() -> Vec<InvoiceState> {
    vec![
        InvoiceState::Open { offered: 400 },
        InvoiceState::Collecting { collected: 400 },
        InvoiceState::Paid,
        InvoiceState::Cancelled,
        InvoiceState::PaidInPart { collected: 400 },
    ]
}

fn failures() -> Vec<PaymentFailure> {
    vec![
        PaymentFailure::NoIndexServer,
        PaymentFailure::IndexUnreachable,
        PaymentFailure::NoRoute,
        PaymentFailure::Cancelled(failed()),
        PaymentFailure::Withdrawn,
        PaymentFailure::PartLost,
        PaymentFailure::BadAnswer,
    ]
}

/// Every command and refusal: its tag, and its name.
pub(crate) fn tagged_names() -> Vec<(usize, String)> {
    let name = |debug: String| debug.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
    let commands = commands().into_iter().map(|command| format!("{command:?}")).enumerate();
    let refusals = refusals().into_iter().map(|refusal| format!("{refusal:?}")).enumerate();
    commands.chain(refusals).map(|(number, debug)| (number + 1, name(debug))).collect()
}

/// The tags of a page's names are those of the bytes.
#[test]
fn names_end_in_tags() {
    let tag = |bytes: Vec<u8>| usize::from(if bytes[1] == 0x18 { bytes[2] } else { bytes[1] });
    for (number, command) in commands().iter().enumerate() {
        assert_eq!(tag(offset_protocol::codec::encode(command)), number + 1);
    }
    for (number, answer) in answers().iter().enumerate() {
        assert_eq!(tag(offset_protocol::codec::encode(answer)), number + 1);
    }
    for (number, refusal) in refusals().iter().enumerate() {
        assert_eq!(tag(offset_protocol::codec::encode(refusal)), number + 1);
    }
    for (number, event) in events().iter().enumerate() {
        assert_eq!(tag(offset_protocol::codec::encode(event)), number + 1);
    }
}
