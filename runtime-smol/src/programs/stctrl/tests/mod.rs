//! The commands of `stctrl` against a node that each test scripts.

mod buyer;
mod config;
mod seller;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use offset_protocol::app::{
    self, Answer, ChannelReport, CurrencyReport, Event, FriendReport, InvoiceReport, InvoiceState, Outcome,
    PaymentFailure, PaymentReport, PaymentState, Permission, Permissions, Refusal, RelayReport, ReportChange,
};
use offset_protocol::bytes::{CommandId, Hash, InvoiceId, PaymentId, PlainLock, PublicKey, ResetToken, Signature};
use offset_protocol::codec::List;
use offset_protocol::files::{FriendTicket, NodeEntry, NodeTicket, Payment};
use offset_protocol::friend::{CurrencyBalance, ResetTerms};
use offset_protocol::identity::{Identity, Signer};
use offset_protocol::money::Rate;
use offset_protocol::payment::{Commit, Invoice, Receipt};
use offset_protocol::relay::RelayAddress;
use serde_json::json;

use super::*;
use crate::app_client::fake_node::{FakeNode, Reaction, reply};
use crate::programs::exit::Exit;

/// A folder with the app's files, beside a node.
struct Stage {
    node: FakeNode,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(node: FakeNode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = node.start();
        let stage = Stage { node, folder };
        files::write(&stage.at("app.ident"), &Identity::from_private_key(&[43; 32])).unwrap();
        files::write(&stage.at("node.ticket"), &stage.ticket()).unwrap();
        stage
    }

    /// A node that answers every command with `answer`.
    fn answering(answer: impl FnMut(app::Command) -> Outcome + Send + 'static) -> Self {
        let mut answer = answer;
        Stage::new(FakeNode::new(move |id, command| reply(id, answer(command))))
    }

    fn ticket(&self) -> NodeTicket {
        NodeTicket { public_key: self.node.identity.public_key(), address: self.node.address.parse().unwrap() }
    }

    fn at(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// `@` stands for the folder.
    fn stctrl(&self, line: &str) -> Result<Shown, Failure> {
        let line = format!("-I @app.ident -T @node.ticket {line}");
        self.stctrl_as(&line)
    }

    fn stctrl_as(&self, line: &str) -> Result<Shown, Failure> {
        let line = line.replace('@', &format!("{}/", self.folder.path().display()));
        let args = StCtrl::try_parse_from(std::iter::once("stctrl").chain(line.split(' '))).unwrap();
        smol::block_on(run(&args))
    }

    fn heard(&self) -> usize {
        self.node.heard.lock().unwrap().len()
    }
}

const DONE: Outcome = Outcome::Done(Answer::Done);

fn seller() -> Identity {
    Identity::from_private_key(&[1; 32])
}

fn invoice() -> Invoice {
    Invoice {
        invoice_id: InvoiceId([3; 16]),
        currency: "USD".parse().unwrap(),
        seller: seller().public_key(),
        amount: 100,
        description: "apples".parse().unwrap(),
    }
}

fn receipt(invoice: &Invoice, seller: &Identity) -> Receipt {
    let mut receipt = Receipt {
        response_hash: Hash([2; 32]),
        invoice_id: invoice.invoice_id,
        currency: invoice.currency,
        src_plain_lock: PlainLock([4; 32]),
        dest_plain_lock: PlainLock([5; 32]),
        is_complete: true,
        dest_payment: invoice.amount,
        total_dest_payment: invoice.amount,
        signature: Signature([0; 64]),
    };
    receipt.signature = seller.sign(&receipt.terms().hash());
    receipt
}

/// The buyer's side of a node; `state_after_pay` is how a payment stands once it has begun, and again while it is on its way.
fn buyer_node(
    state_after_pay: impl Fn() -> PaymentState + Send + 'static,
) -> impl FnMut(app::Command) -> Outcome + Send {
    let mut payments: BTreeMap<PaymentId, PaymentReport> = BTreeMap::new();
    move |command| match command {
        app::Command::Pay { payment_id, invoice, .. } => {
            let state = state_after_pay();
            let report = payments.entry(payment_id).or_insert(PaymentReport { payment_id, invoice, state });
            assert_eq!(report.payment_id, payment_id);
            DONE
        }
        app::Command::PaymentStatus { payment_id } => {
            let Some(report) = payments.get_mut(&payment_id) else {
                return Outcome::Refused(Refusal::UnknownPayment);
            };
            if matches!(report.state, PaymentState::Requested) {
                report.state = state_after_pay();
            }
            Outcome::Done(Answer::Payment(report.clone()))
        }
        app::Command::ReleaseCommit { payment_id } => {
            let report = payments.get_mut(&payment_id).unwrap();
            report.state = PaymentState::Committed { fees: 3 };
            Outcome::Done(Answer::Commit(pay::commit_of(&receipt(&report.invoice, &seller()))))
        }
        // Nothing is open any more.
        app::Command::WithdrawPayment { .. } => DONE,
        app::Command::ForgetPayment { payment_id } => {
            payments.remove(&payment_id).unwrap();
            DONE
        }
        other => panic!("{other:?}"),
    }
}

fn ids_paid(stage: &Stage) -> Vec<PaymentId> {
    let heard = stage.node.heard.lock().unwrap();
    let paid = heard.iter().filter_map(|command| match command {
        app::Command::Pay { payment_id, .. } => Some(*payment_id),
        _ => None,
    });
    paid.collect()
}

// -- the command line

#[test]
fn the_command_line_is_sound() {
    use clap::CommandFactory;
    StCtrl::command().debug_assert();
}

#[test]
fn every_command_parses_with_long_and_short_flags() {
    let lines = [
        "info friends",
        "info relays",
        "info index",
        "info balance",
        "info payments",
        "info invoices",
        "info friend-last-token --name bob --token f",
        "info friend-last-token -n bob -t f",
        "info export-ticket --ticket f",
        "info export-ticket -t f",
        "config add-relay --relay f --name r",
        "config add-relay -r f -n r",
        "config remove-relay --name r",
        "config remove-relay -n r",
        "config add-index --index f --name i",
        "config add-index -i f -n i",
        "config remove-index -n i",
        "config add-friend --friend f --name bob",
        "config add-friend -f f -n bob",
        "config remove-friend -n bob",
        "config rename-friend --name bob --new-name rob",
        "config rename-friend -n bob -w rob",
        "config set-friend-relays --friend f --name bob",
        "config set-friend-relays -f f -n bob",
        "config enable-friend --name bob",
        "config disable-friend -n bob",
        "config open-currency --name bob --currency USD",
        "config open-currency -n bob -c USD",
        "config close-currency -n bob -c USD",
        "config remove-currency -n bob -c USD",
        "config set-currency-max-debt --name bob --currency USD --mdebt 100",
        "config set-currency-max-debt -n bob -c USD -m 0",
        "config set-currency-rate --name bob --currency USD --mul 1 --add 2",
        "config set-currency-rate -n bob -c USD -m 1 -a 2",
        "config reset-friend --name bob",
        "routes find --currency USD --amount 5 --to AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE --max-fee 1",
        "routes find --currency USD --amount 5 --to -QEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE --max-fee 1",
        "routes find -c USD -a 5 -k -QEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
        "buyer pay-invoice --invoice f --payment g --commit h",
        "buyer pay-invoice -i f -p g -c h --max-fee 7 --max-time 5",
        "buyer payment-status --payment f --receipt g",
        "buyer payment-status -p f -r g",
        "buyer pay --invoice f",
        "buyer pay -i f -p g -r h --max-fee 3 --max-time 4 --dry-run",
        "buyer withdraw --payment f",
        "buyer withdraw -i f --max-time 3",
        "seller create-invoice --currency USD --amount 5 --invoice f",
        "seller create-invoice -c USD -a 5 -i f -d apples -e 7d",
        "seller cancel-invoice --invoice f",
        "seller commit-invoice --invoice f --commit g",
        "seller commit-invoice -i f -c g --json --timeout 3 --log-format json",
    ];
    for line in lines {
        for node in ["--idfile a --ticket b", "-I a -T b", "-T b", "--json -T b"] {
            let args = format!("stctrl {node} {line}");
            let parsed = StCtrl::try_parse_from(args.split(' '));
            assert!(parsed.is_ok(), "{args}: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn nonsense_is_wrong_usage() {
    for line in [
        "info",
        "config set-currency-max-debt -n bob -c USD -m -1",
        "config set-currency-rate -n bob -c USD -m 4294967296 -a 0",
        "config open-currency -n bob -c NAMETHATISFARTOOLONG",
        "config add-friend -f f",
        "seller create-invoice -c USD -a 0 -i f",
        "seller create-invoice -c USD -a 1.5 -i f",
        "buyer withdraw",
        "buyer withdraw -p f -i g",
        "routes find -c USD -a 5 -k short",
    ] {
        let args = format!("stctrl -T b {line}");
        assert!(StCtrl::try_parse_from(args.split(' ')).is_err(), "{line}");
    }
}

// -- reaching the node

#[test]
fn a_node_that_is_not_there_is_unreachable() {
    let stage = Stage::answering(|_| DONE);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ticket = NodeTicket { address: nobody.to_string().parse().unwrap(), ..stage.ticket() };
    files::write(&stage.at("gone.ticket"), &ticket).unwrap();
    let failure = stage.stctrl_as("-I @app.ident -T @gone.ticket --timeout 1 info friends").unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.sentence.contains(&nobody.to_string()), "{failure}");
}

#[test]
fn an_unknown_app_and_a_missing_permission_are_not_permitted() {
    let mut node = FakeNode::new(|id, _| reply(id, Outcome::Refused(Refusal::NotPermitted(Permission::Config))));
    node.permissions = Permissions::default();
    let stage = Stage::new(node.clone());
    let failure = stage.stctrl("config enable-friend -n bob").unwrap_err();
    assert_eq!(failure.exit, Exit::NotPermitted);
    assert!(failure.sentence.ends_with("it needs the permission config"), "{failure}");
    files::write(&stage.at("invoice"), &invoice()).unwrap();
    let failure = stage.stctrl("buyer pay-invoice -i @invoice -p @payment -c @commit").unwrap_err();
    assert_eq!(failure.exit, Exit::NotPermitted);
    assert!(!stage.at("payment").exists(), "nothing has begun");
    node.trusted = false;
    assert_eq!(Stage::new(node).stctrl("info friends").unwrap_err().exit, Exit::NotPermitted);
}

#[test]
fn a_node_entry_needs_no_identity_file() {
    let stage = Stage::answering(|_| DONE);
    let entry = NodeEntry { node: stage.ticket(), app: Identity::from_private_key(&[43; 32]) };
    files::write(&stage.at("node.entry"), &entry).unwrap();
    assert_eq!(stage.stctrl_as("-T @node.entry info friends").unwrap().text, "no friends");
    assert_eq!(stage.stctrl_as("-I @app.ident -T @node.entry info friends").unwrap_err().exit, Exit::Usage);
    assert_eq!(stage.stctrl_as("-T @node.ticket info friends").unwrap_err().exit, Exit::Usage);
    let failure = stage.stctrl_as("-I @node.ticket -T @app.ident info friends").unwrap_err();
    assert!(failure.sentence.ends_with("it is an identity, but a node ticket is needed"), "{failure}");
}
