//! Payments one after the other in a network of a file, where nothing else happens; and what came of a run.
//!
//! One payment each 45 seconds, as in [`super::offers`].

use std::fmt::Write as _;
use std::path::Path;

use super::offers::NO_OFFER;
use crate::case::Case;
use crate::full::{Options, Run, Watch, arm};
use crate::marks;
use crate::result::Record;
use crate::scenario::Scenario;

/// Payments: from whom, to whom, how much.
pub(super) type Pays = [(u32, u32, u128)];

/// Those payments from second `begin` on, in the network of this file; and `more` of a scenario.
pub(super) fn paying(file: &str, begin: usize, pays: &Pays, more: &str) -> Scenario {
    let mut text = format!(
        "
        [phases]\nsafety = \"{}s\"\n
        [topology]\nkind = \"file\"\nfile = \"{file}\"\n
        [servers]\nrelays = 1\nindexes = 1\n
        [money]\nlimits = \"file\"\nfree_per_mille = 1000\nfee_add = 0\n
        [payments]\ncount = 0\n",
        begin + 30 + 45 * pays.len()
    );
    for (n, (buyer, seller, amount)) in pays.iter().enumerate() {
        let ends = format!("buyer = \"node {buyer}\"\nseller = \"node {seller}\"\namount = {amount}\ntries = 1");
        writeln!(text, "[[order]]\nat = \"{}s\"\n{ends}", begin + 45 * n).unwrap();
    }
    text += more;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    Scenario::parse("quiet", &text, &folder, &[]).unwrap()
}

/// Up to where probes would begin: those are made at once, and change each other's network.
pub(super) fn run(case: &Case, watch: Watch) -> Record {
    let _armed = arm(case);
    let mut run = Run::new(case, &Options { watch, ..Options::default() });
    run.run_until(case.heal_at).unwrap();
    let mut recorder = std::mem::take(&mut run.recorder);
    recorder.marks(marks::take());
    recorder.finish()
}

/// How many were paid, and how many had no offer.
pub(super) fn ends(record: &Record) -> (u64, u64) {
    (record.payments.paid, record.payments.failed.get(NO_OFFER).copied().unwrap_or_default())
}
