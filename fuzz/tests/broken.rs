//! Targets can fail: machines that are broken on purpose are found out by the inputs that pass when they are not.
//!
//! Nothing is broken without the cargo feature `mutants` of the simulator, as in `.ci/run`.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]

mod inputs;

use std::panic::{AssertUnwindSafe, catch_unwind};

use inputs::{corpus, random};
use offset_fuzz::target;
use offset_protocol::probe::{Mutant, mutate};
use offset_runtime_sim::mutants::COMPILED;

/// Whether the target notices that the machines of this thread have a bug.
fn notices(name: &str, mutant: Mutant, tries: u64) -> bool {
    let fails = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| target(name).run(bytes))).is_err();
    mutate(Some(mutant));
    let found = corpus(name).iter().any(|(_, bytes)| fails(bytes))
        || (0..tries).any(|number| fails(&random(target(name), number)));
    mutate(None);
    found
}

fn notices_all(name: &str, mutants: &[Mutant]) {
    if !COMPILED {
        return;
    }
    for mutant in mutants {
        assert!(notices(name, *mutant, 2_000), "{name} does not notice {mutant:?}: {}", mutant.what());
    }
}

macro_rules! targets {
    ($($name:ident: $($mutant:ident),*;)*) => {$(
        #[test]
        fn $name() {
            notices_all(stringify!($name), &[$(Mutant::$mutant),*]);
        }
    )*};
}

// Of `files` there is no broken machine: no mutant stands in the readers of files.
targets! {
    codec: TrailingAccepted;
    channel: MessageTwice, MessagesSwapped;
    friend: ForgetToUnfreeze, CollectOffByOne, BatchNotWritten, IgnoreLimit, CrossingIsAnError, SwapSignInReset;
    funder: TransitNotRemoved, PaidNotWritten, CollectWithWrongLock;
    relay: TwoListeners, HalvesForever, PlaceKept;
    index: VersionsUsedTwice, ExpireNothing, ExpiredEdgeKept, StaleTickAccepted;
    graph: OneSidedEdges, EndingPassedOn;
    world: ForgetToUnfreeze, SayBeforeDurable;
}
