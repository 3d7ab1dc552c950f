//! Every target against its corpus, which is what libFuzzer found worth keeping, and against inputs that nobody chose.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]

mod inputs;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use inputs::{corpora, corpus, random};
use offset_fuzz::{TARGETS, target};

fn replay(name: &str) {
    let inputs = corpus(name);
    assert!(!inputs.is_empty(), "the corpus of {name} is empty");
    for (file, bytes) in inputs {
        // What failed stands above, in the words of the target.
        let result = catch_unwind(AssertUnwindSafe(|| target(name).run(&bytes)));
        assert!(
            result.is_ok(),
            "corpus/{name}/{file} fails: cargo fuzz run --features engine {name} fuzz/corpus/{name}/{file}"
        );
    }
}

fn try_out(name: &str, count: u64) {
    for number in 0..count {
        let bytes = random(target(name), number);
        let result = catch_unwind(AssertUnwindSafe(|| target(name).run(&bytes)));
        assert!(result.is_ok(), "input {number} of {name} fails");
    }
}

macro_rules! targets {
    ($($name:ident: $count:literal,)*) => {
        $(mod $name {
            #[test]
            fn what_was_found_worth_keeping_passes() {
                super::replay(stringify!($name));
            }

            #[test]
            fn inputs_that_nobody_chose_pass() {
                super::try_out(stringify!($name), $count);
            }
        })*

        #[test]
        fn every_target_is_tested_and_has_a_corpus_and_no_corpus_is_without_one() {
            let tested = BTreeSet::from([$(stringify!($name).to_owned()),*]);
            assert_eq!(tested, TARGETS.iter().map(|target| target.name.to_owned()).collect());
            assert_eq!(tested, corpora());
        }
    };
}

targets! {
    codec: 2_000,
    files: 2_000,
    channel: 100,
    friend: 40,
    funder: 20,
    relay: 60,
    index: 60,
    graph: 60,
    world: 4,
}
