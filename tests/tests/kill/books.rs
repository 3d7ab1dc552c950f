//! What buyers and sellers say of their payments, and what follows for the balances.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use offset_tests::network::Network;
use serde_json::Value;

/// Tools that verify receipts at once.
const AT_ONCE: usize = 8;

/// How payments ended to which nobody gave a further command.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) paid: u64,
    pub(crate) failed: u64,
    /// The buyer's node has never heard of it.
    pub(crate) never_begun: u64,
}

/// What one side says of an invoice.
#[derive(Debug)]
struct Said {
    status: String,
    /// What it cost in all, or brought.
    moved: i128,
}

/// What a buyer and a seller say of each invoice between them.
struct Sides {
    buyer: &'static str,
    seller: &'static str,
    payments: BTreeMap<String, Said>,
    invoices: BTreeMap<String, Said>,
}

/// What all say of every invoice.
pub(crate) struct Books {
    sides: Vec<Sides>,
}

impl Books {
    pub(crate) fn read(network: &Network, sides: &[(&'static str, &'static str)]) -> Books {
        let both = |&(buyer, seller)| {
            let (payments, invoices) = (said(network, buyer, "payments"), said(network, seller, "invoices"));
            Sides { buyer, seller, payments, invoices }
        };
        Books { sides: sides.iter().map(both).collect() }
    }

    /// Whether no payment will change any more.
    fn are_closed(&self) -> bool {
        let mut payments = self.sides.iter().flat_map(|sides| sides.payments.values());
        let mut invoices = self.sides.iter().flat_map(|sides| sides.invoices.values());
        payments.all(|said| said.status == "paid" || said.status == "failed")
            && invoices.all(|said| said.status != "collecting")
    }

    /// How the payment of an invoice ended; both sides must say the same.
    #[track_caller]
    pub(crate) fn count(&self, invoice: &str, ends: &mut Ends) {
        let payment = self.sides.iter().find_map(|sides| sides.payments.get(invoice));
        match payment.map(|said| said.status.as_str()) {
            Some("paid") => ends.paid += 1,
            Some("failed") => ends.failed += 1,
            None => ends.never_begun += 1,
            Some(other) => panic!("{invoice} is {other}"),
        }
    }

    /// Whether an invoice is paid, as its buyer says.
    pub(crate) fn is_paid(&self, invoice: &str) -> bool {
        let payment = self.sides.iter().find_map(|sides| sides.payments.get(invoice));
        payment.is_some_and(|said| said.status == "paid")
    }

    /// Buyer and seller say the same of every invoice, and the balances are what follows: what is not paid has moved nothing.
    #[track_caller]
    pub(crate) fn check(&self, network: &Network) {
        network.check_agreement();
        let mut owed = BTreeMap::new();
        for Sides { buyer, seller, payments, invoices } in &self.sides {
            for (invoice, of_buyer) in payments {
                let of_seller = invoices.get(invoice);
                let is_paid = of_buyer.status == "paid";
                let agree = of_seller.is_some_and(|said| (said.status == "paid") == is_paid);
                assert!(agree, "{invoice}: {buyer} says {of_buyer:?}, {seller} says {of_seller:?}");
                *owed.entry(*buyer).or_default() -= if is_paid { of_buyer.moved } else { 0 };
            }
            for (invoice, of_seller) in invoices {
                let is_paid = of_seller.status == "paid";
                assert!(is_paid || of_seller.status == "open", "{invoice}: {seller} says {of_seller:?}");
                assert!(!is_paid || payments.contains_key(invoice), "{invoice}: {buyer} knows nothing of it");
                *owed.entry(*seller).or_default() += if is_paid { of_seller.moved } else { 0 };
            }
        }
        for (who, owed) in owed {
            assert_eq!(network.owed(who, "bob"), owed, "{who}");
        }
    }
}

fn said(network: &Network, who: &str, what: &str) -> BTreeMap<String, Said> {
    let report = network.json(who, &format!("info {what}"));
    let number = |value: &Value| value.as_str().and_then(|number| number.parse::<i128>().ok()).unwrap_or_default();
    let mut all = BTreeMap::new();
    for one in report[what].as_array().into_iter().flatten() {
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
        let moved = number(&one["amount"]) + number(&one["fees"]);
        let before = all.insert(text("invoice_id"), Said { status: text("status"), moved });
        assert!(before.is_none(), "{who} has two {what} of one invoice: {report}");
    }
    all
}

/// The id in an invoice file, if there is one.
pub(crate) fn invoice_id(network: &Network, n: u64) -> Option<String> {
    let file = format!("{n}.invoice");
    let invoice = network.shell.has(&file).then(|| network.shell.read(&file))?;
    let invoice: Value = serde_json::from_str(&invoice).unwrap();
    Some(invoice["invoice_id"].as_str().unwrap().to_owned())
}

/// Waits, and does nothing: every payment must end by itself, and nothing be frozen then.
#[track_caller]
pub(crate) fn wait_for_ends(network: &Network, sides: &[(&'static str, &'static str)], limit: Duration) -> Books {
    let begun = Instant::now();
    let books = loop {
        let books = Books::read(network, sides);
        if books.are_closed() {
            break books;
        }
        let open = books.sides.iter().flat_map(|sides| &sides.payments);
        let open: Vec<_> = open.filter(|(_, said)| said.status != "paid" && said.status != "failed").collect();
        assert!(begun.elapsed() < limit, "still open after {:?}: {open:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    };
    network.wait_for_quiet();
    assert!(begun.elapsed() < limit, "something was frozen for {:?}", begun.elapsed());
    books
}

/// Verifies the receipts of these invoices.
#[track_caller]
pub(crate) fn verify_receipts(network: &Network, numbers: &[u64]) {
    let line = |n: &u64| format!("stverify verify-receipt --invoice {n}.invoice --receipt {n}.receipt");
    for some in numbers.chunks(AT_ONCE) {
        let tools: Vec<_> = some.iter().map(|n| network.shell.spawn(&line(n))).collect();
        for ran in tools.into_iter().map(offset_tests::programs::Tool::finish) {
            assert_eq!(ran.code, 0, "{ran}");
        }
    }
}

/// In the end every database is sound, of nodes that run.
#[track_caller]
pub(crate) fn check_databases(network: &Network) {
    for who in ["alice", "bob", "carol"] {
        let checked = network.shell.json(&format!("stmgr check --database {who}.db"));
        assert_eq!((&checked["sound"], &checked["in_use"]), (&true.into(), &true.into()), "{checked}");
        let frozen = checked["currencies"].as_array().into_iter().flatten();
        for currency in frozen {
            assert_eq!((&currency["out_frozen"], &currency["in_frozen"]), (&"0".into(), &"0".into()), "{checked}");
        }
    }
}
