//! What an index server offers is what a payment costs: while nothing changes between the offer and the payment, every
//! payment with an offer goes through at the first try, and every mediator takes exactly what the offer says.
//!
//! One payment each 45 seconds: longer than a heartbeat, so that servers know every capacity to the unit.

use std::fmt::Write as _;
use std::path::Path;

use super::quiet::run;
use crate::full::Watch;
use crate::scenario::{Scenario, draw};

const PAYMENTS: u64 = 60;
/// What the buyer's app says when no server has an offer.
pub(super) const NO_OFFER: &str = "no route has this capacity within the fee";
/// What would say that an offer was not what was charged, or that it did not go through at once.
pub(super) const NEVER: [&str; 5] = [
    "seller: a mediator took less than it was offered",
    "funder: a request has too little left for the fee",
    "ledger: a request is beyond the limit",
    "buyer: a part is searched again under the old lock",
    "buyer: a split payment loses one part",
];

/// A quiet network with fees of every kind, small limits, and payments of which many must be split and some cannot be made.
fn scenario() -> Scenario {
    let mut text = "
        [phases]\nsafety = \"47m\"\n
        [topology]\nkind = \"barabasi-albert\"\nnodes = 16\nlinks = 3\n
        [servers]\nrelays = 1\nindexes = 2\n
        [money]\nlimit = \"300..4000\"\nfree_per_mille = 200\nfee_ppm = \"0..30000\"\nfee_add = \"0..5\"\n
        [payments]\ncount = 0\n"
        .to_owned();
    for n in 0..PAYMENTS {
        let ends = "buyer = \"all nodes\"\nseller = \"all nodes\"\namount = \"1..4000\"\ntries = 1";
        writeln!(text, "[[order]]\nat = \"{}s\"\n{ends}", 40 + 45 * n).unwrap();
    }
    Scenario::parse("offers", &text, Path::new("."), &[]).unwrap()
}

#[test]
fn what_is_offered_is_what_is_charged() {
    let (mut paid, mut split) = (0, 0);
    for seed in 0..6 {
        let record = run(&draw(&scenario(), seed).unwrap(), Watch::Always);
        let payments = &record.payments;
        let no_offer = payments.failed.get(NO_OFFER).copied().unwrap_or_default();
        assert_eq!(payments.ordered, PAYMENTS);
        assert_eq!(payments.paid + no_offer, PAYMENTS, "seed {seed}: {:?}", payments.failed);
        for never in NEVER {
            assert_eq!(record.marks.get(never), Some(&0), "seed {seed}: {never}");
        }
        paid += payments.paid;
        split += record.marks["buyer: a payment is split"];
    }
    assert!(paid > 3 * PAYMENTS && split > 20, "{paid} paid, {split} of them over several routes");
}
