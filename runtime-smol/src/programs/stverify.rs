//! `stverify`: checks receipts and tokens. Needs no node, no key and no network: the files prove themselves.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use offset_protocol::codec;
use offset_protocol::friend::{Evidence, Header, MAX_HEADER_BYTES};
use offset_protocol::identity::Ed25519;
use offset_protocol::payment::{Invoice, Receipt};
use serde_json::{Value, json};

use super::exit::Failure;
use super::files;
use super::output::{self, Format, Shown};
use super::table::{Side, Table, safe};

/// Checks receipts and tokens, without any node.
#[derive(Debug, Parser)]
#[command(name = "stverify", version, propagate_version = true)]
pub struct StVerify {
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a friend's last signature on the balances.
    VerifyToken(VerifyToken),
    /// Check that an invoice was paid in full.
    VerifyReceipt(VerifyReceipt),
}

#[derive(Debug, Args)]
struct VerifyToken {
    /// The token, from 'stctrl info friend-last-token'.
    #[arg(short, long, value_name = "FILE")]
    token: PathBuf,
}

#[derive(Debug, Args)]
struct VerifyReceipt {
    /// The invoice.
    #[arg(short, long, value_name = "FILE")]
    invoice: PathBuf,
    /// The receipt, from 'stctrl buyer payment-status'.
    #[arg(short, long, value_name = "FILE")]
    receipt: PathBuf,
}

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match output::parse::<StVerify>("stverify", args) {
        Ok(args) => output::print("stverify", Format::json_if(args.json), run(&args)),
        Err(exit) => exit,
    }
}

/// Does what the command line says.
///
/// # Errors
/// Exit 1 if a file cannot be read. A file that proves nothing is shown, with a failure.
pub fn run(args: &StVerify) -> Result<Shown, Failure> {
    match &args.command {
        Command::VerifyToken(args) => verify_token(args),
        Command::VerifyReceipt(args) => verify_receipt(args),
    }
}

fn verify_token(args: &VerifyToken) -> Result<Shown, Failure> {
    let token: Evidence = files::read(&args.token)?;
    let verdict = token.verify(&Ed25519).map_err(|error| error.to_string());
    let mut text = format!("signed by:  {}\nto:         {}\n", token.sender, token.receiver);
    let mut fields = json!({ "signed_by": token.sender.to_string(), "to": token.receiver.to_string() });
    // A header that cannot be read is what the verdict says.
    if let Ok(header) = codec::decode::<Header>(&token.header, MAX_HEADER_BYTES) {
        let Header { epoch, seq, ack, .. } = header;
        text += &format!("batch:      {seq} of epoch {epoch}, acknowledges {ack}\n");
        fields["epoch"] = json!(epoch);
        fields["batch"] = json!(seq);
        fields["acknowledged"] = json!(ack);
    }
    text += "balances, positive when the receiver owes the signer:\n";
    text += &balances(&token);
    let totals = token.totals.iter().map(|totals| {
        json!({
            "currency": totals.currency.as_str(),
            "balance": totals.balance.to_string(),
            "out_frozen": totals.out_frozen.to_string(),
            "in_frozen": totals.in_frozen.to_string(),
        })
    });
    fields["balances"] = totals.collect();
    Ok(judged(text, fields, verdict.map(drop)))
}

fn balances(token: &Evidence) -> String {
    let mut table = Table::new(&[Side::Left, Side::Right, Side::Right, Side::Right]);
    table.row(["currency", "balance", "frozen out", "frozen in"].map(str::to_owned));
    for totals in token.totals.iter() {
        let amounts = [totals.balance.to_string(), totals.out_frozen.to_string(), totals.in_frozen.to_string()];
        let [balance, out_frozen, in_frozen] = amounts;
        table.row([totals.currency.to_string(), balance, out_frozen, in_frozen]);
    }
    format!("{table}\n")
}

fn verify_receipt(args: &VerifyReceipt) -> Result<Shown, Failure> {
    let invoice: Invoice = files::read(&args.invoice)?;
    let receipt: Receipt = files::read(&args.receipt)?;
    let verdict = receipt.verify(&invoice, &Ed25519).map_err(|error| error.to_string());
    let text = format!(
        "invoice:    {}\nseller:     {}\namount:     {} {}\nfor:        {}\n",
        receipt.invoice_id,
        invoice.seller,
        receipt.total_dest_payment,
        receipt.currency,
        safe(invoice.description.as_str()),
    );
    let fields = json!({
        "invoice_id": receipt.invoice_id.to_string(),
        "seller": invoice.seller.to_string(),
        "currency": receipt.currency.as_str(),
        "amount": receipt.total_dest_payment.to_string(),
        "description": invoice.description.as_str(),
    });
    Ok(judged(text, fields, verdict))
}

/// The fields, and below them the verdict.
fn judged(text: String, mut fields: Value, verdict: Result<(), String>) -> Shown {
    fields["valid"] = json!(verdict.is_ok());
    match verdict {
        Ok(()) => Shown::new(text + "valid", fields),
        Err(why) => Shown::new(text + "NOT VALID", fields).but(Failure::failed(format_args!("not valid: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use offset_protocol::bytes::{Hash, InvoiceId, Nonce, PlainLock, RequestId, Signature};
    use offset_protocol::codec::{Blob, List};
    use offset_protocol::friend::{CurrencyTotals, batch_hash, totals_hash};
    use offset_protocol::identity::{Identity, Signer};
    use offset_protocol::payment::response_hash;

    use super::*;

    fn stverify(folder: &Path, line: &str) -> Result<Shown, Failure> {
        // `@` stands for the folder.
        let line = line.replace('@', &format!("{}/", folder.display()));
        run(&StVerify::try_parse_from(std::iter::once("stverify").chain(line.split(' '))).unwrap())
    }

    fn paid(seller: &Identity) -> (Invoice, Receipt) {
        let currency = "USD".parse().unwrap();
        let invoice = Invoice {
            invoice_id: InvoiceId([3; 16]),
            currency,
            seller: seller.public_key(),
            amount: 100,
            description: "an apple".parse().unwrap(),
        };
        let mut receipt = Receipt {
            response_hash: response_hash(&RequestId([1; 16]), &Nonce([2; 16])),
            invoice_id: InvoiceId([3; 16]),
            currency,
            src_plain_lock: PlainLock([4; 32]),
            dest_plain_lock: PlainLock([5; 32]),
            is_complete: true,
            dest_payment: 100,
            total_dest_payment: 100,
            signature: Signature([0; 64]),
        };
        receipt.signature = seller.sign(&receipt.terms().hash());
        (invoice, receipt)
    }

    fn token(friend: &Identity) -> Evidence {
        let currency = "USD".parse().unwrap();
        let totals = List::truncated([CurrencyTotals { currency, balance: -5, out_frozen: 1, in_frozen: 2 }]);
        let zero = Hash([0; 32]);
        let totals_hash = totals_hash(totals.iter());
        let header = Header { epoch: 1, seq: 7, ack: 6, body_hash: zero, head: zero, friend_head: zero, totals_hash };
        let header = Blob::try_from(codec::encode(&header)).unwrap();
        let (sender, receiver) = (friend.public_key(), Identity::from_private_key(&[9; 32]).public_key());
        let signature = friend.sign(&batch_hash(&sender, &receiver, &header));
        Evidence { sender, receiver, header, signature, totals }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        StVerify::command().debug_assert();
        for line in [
            "verify-token --token f",
            "verify-token -t f --json",
            "verify-receipt --invoice f --receipt g",
            "--json verify-receipt -i f -r g",
        ] {
            assert!(StVerify::try_parse_from(std::iter::once("stverify").chain(line.split(' '))).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_receipt_is_valid_for_its_invoice_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (mut invoice, receipt) = paid(&Identity::from_private_key(&[1; 32]));
        files::write(&folder.path().join("invoice"), &invoice).unwrap();
        files::write(&folder.path().join("receipt"), &receipt).unwrap();
        invoice.amount = 99;
        files::write(&folder.path().join("cheaper"), &invoice).unwrap();
        let good = stverify(folder.path(), "verify-receipt -i @invoice -r @receipt").unwrap();
        assert_eq!(good.failure, None);
        assert!(good.text.contains("amount:     100 USD") && good.text.ends_with("\nvalid"), "{}", good.text);
        assert_eq!((&good.fields["valid"], &good.fields["amount"]), (&json!(true), &json!("100")));
        let bad = stverify(folder.path(), "verify-receipt -i @cheaper -r @receipt").unwrap();
        let sentence = "not valid: the total is not the invoice's amount";
        assert_eq!(bad.failure, Some(Failure::failed(sentence)));
        assert_eq!(bad.fields["valid"], json!(false));
        let swapped = stverify(folder.path(), "verify-receipt -i @receipt -r @invoice").unwrap_err();
        assert!(swapped.sentence.ends_with("receipt: it is a receipt, but an invoice is needed"), "{swapped}");
    }

    #[test]
    fn a_token_is_valid_as_it_was_signed_only() {
        let folder = tempfile::tempdir().unwrap();
        let token = token(&Identity::from_private_key(&[1; 32]));
        files::write(&folder.path().join("token"), &token).unwrap();
        let mut richer = token.clone();
        richer.totals = List::truncated(token.totals.iter().map(|totals| CurrencyTotals { balance: 5, ..*totals }));
        files::write(&folder.path().join("richer"), &richer).unwrap();
        let good = stverify(folder.path(), "verify-token -t @token").unwrap();
        assert_eq!(good.failure, None);
        assert!(good.text.contains("7 of epoch 1, acknowledges 6") && good.text.contains("-5"), "{}", good.text);
        let bad = stverify(folder.path(), "verify-token -t @richer").unwrap();
        assert_eq!(bad.failure, Some(Failure::failed("not valid: the totals are not those that were signed")));
    }
}
