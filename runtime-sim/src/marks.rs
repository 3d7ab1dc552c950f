//! Rare states that the machines name (`sometimes!`), and rare behaviour that is switched on in them (`buggify!`).
//!
//! Both belong to the thread, as a world does. A run is armed before its world is built and disarmed after its end; what it
//! reached is taken then.

use std::collections::BTreeMap;

use offset_protocol::probe;
pub use offset_protocol::probe::{MARKS, SITES, Sites};

/// How often each mark was reached in this thread since this was last asked, those never reached included.
pub fn take() -> Vec<(&'static str, u64)> {
    probe::take_marks()
}

/// Rare behaviour, as long as this lives.
#[derive(Debug)]
pub struct Armed(());

/// Switches rare behaviour on in this thread, drawn from `seed`, until the result is dropped.
#[must_use]
pub fn arm(seed: u64, sites: Sites) -> Armed {
    probe::arm(seed, sites);
    Armed(())
}

impl Drop for Armed {
    fn drop(&mut self) {
        probe::disarm();
    }
}

/// Marks of many runs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Default for Tally {
    fn default() -> Self {
        Tally(MARKS.iter().map(|mark| (*mark, 0)).collect())
    }
}

impl Tally {
    /// Adds what a run reached, as [`take`] gave it.
    pub fn add(&mut self, reached: Vec<(&'static str, u64)>) {
        for (mark, times) in reached {
            *self.0.entry(mark).or_default() += times;
        }
    }

    /// Adds those of others.
    pub fn merge(&mut self, other: Tally) {
        self.add(other.0.into_iter().collect());
    }

    /// Every mark by name, with how often it was reached.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(mark, times)| (*mark, *times))
    }

    /// Marks that were never reached.
    pub fn never(&self) -> impl Iterator<Item = &'static str> {
        self.all().filter(|(_, times)| *times == 0).map(|(mark, _)| mark)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::case::Rare;
    use crate::full::{Options, run};
    use crate::line::{LineSpec, case};
    use offset_protocol::machine::Seed;
    use offset_protocol::probe::Mutant;

    /// All sources in which a site may stand, but for the probes' own.
    fn sources(folder: &Path, into: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("probe") {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("mutants.rs") {
                into.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }

    fn all_sources() -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut all = String::new();
        for name in ["protocol", "relay-sm", "index-sm", "funder-sm", "runtime-sim"] {
            sources(&root.join(name).join("src"), &mut all);
        }
        // Long calls are broken over lines.
        all.split_whitespace().collect::<Vec<_>>().join(" ").replace("!( ", "!(")
    }

    #[test]
    fn every_mark_site_and_mutant_stands_somewhere_in_the_machines() {
        let all = all_sources();
        for mark in MARKS {
            assert_eq!(all.matches(&format!("sometimes!(\"{mark}\",")).count(), 1, "{mark}");
        }
        for site in SITES {
            assert_eq!(all.matches(&format!("buggify!(\"{site}\",")).count(), 1, "{site}");
        }
        for mutant in Mutant::ALL {
            assert!(all.contains(&format!("mutant!({})", mutant.name())), "{mutant:?}");
        }
    }

    #[test]
    fn a_run_with_rare_behaviour_is_the_same_every_time() {
        let mut case = case(4, &LineSpec::small(&Seed::from_number(4)));
        case.rare = Rare::Off;
        let once = |sites: Option<Sites>| {
            let _armed = sites.map(|sites| arm(4, sites));
            run(&case, &Options::default()).map(|outcome| outcome.hash)
        };
        let plain = once(None);
        assert_eq!(once(Some(Sites::All)), once(Some(Sites::All)));
        assert_ne!(once(Some(Sites::All)), plain);
        assert_eq!(once(None), plain, "nothing is left of it");
    }

    #[test]
    fn marks_of_runs_add_up() {
        let mut tally = Tally::default();
        assert_eq!(tally.never().count(), MARKS.len());
        tally.add(vec![(MARKS[0], 2), (MARKS[1], 0)]);
        let mut other = Tally::default();
        other.add(vec![(MARKS[0], 3)]);
        tally.merge(other);
        assert_eq!(tally.all().find(|(mark, _)| *mark == MARKS[0]), Some((MARKS[0], 5)));
        assert_eq!(tally.never().count(), MARKS.len() - 1);
    }
}
