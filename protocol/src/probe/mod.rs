//! Probes: what a simulation sees of the machines from inside, and what it breaks in them. Nothing of it is in a program
//! that is built without the features.
//!
//! | at a site in a machine | cargo feature | without it | with it |
//! |---|---|---|---|
//! | [`sometimes!`](crate::sometimes) | `probes` | nothing | counts how often a rare but legal state was reached |
//! | [`buggify!`](crate::buggify) | `probes` | `false` | now and then `true`, once [`arm`]ed: the machine does something rare but legal |
//! | [`mutant!`](crate::mutant) | `mutants` | `false` | whether the machines of this thread have this [`Mutant`]'s bug |
//!
//! Names are looked up when the site is compiled: one that is not in [`MARKS`], [`SITES`] or [`Mutant`] does not compile. So
//! the lists are complete whether or not a site is ever reached; that every name has a site is a test of the simulator's.
//!
//! 1. All state belongs to the thread, as a simulated world does. It begins, and ends, with the run that sets it.
//! 2. What a site draws depends on the seed of [`arm`], the site, and how often it was asked; on nothing else.
//! 3. A condition of `sometimes!` has no effect; what `buggify!` switches on is legal in the protocol.
//!
//! Not checked: whether what is switched on is legal, or a mutant's bug is ever noticed; that is what simulations find out.

mod buggify;
mod marks;
mod mutants;

pub use buggify::{SITES, Sites, arm, disarm};
pub use marks::{MARKS, take_marks};
pub use mutants::{Home, Mutant, mutate};

/// What the macros call. Not for others.
#[doc(hidden)]
pub mod site {
    pub use super::buggify::strikes;
    pub use super::marks::reached;
    pub use super::mutants::{is_off, is_on};

    /// The place of `name` in `list`; evaluated at compile time, where it fails for a name that is not there.
    ///
    /// # Panics
    /// When the name is not there; that is a compile error.
    #[must_use]
    pub const fn index_of(list: &[&str], name: &str) -> usize {
        let mut at = 0;
        while at < list.len() {
            if is_same(list[at].as_bytes(), name.as_bytes()) {
                return at;
            }
            at += 1;
        }
        panic!("this name is not in the list of probes: see protocol/src/probe")
    }

    const fn is_same(a: &[u8], b: &[u8]) -> bool {
        let mut same = a.len() == b.len();
        let mut at = 0;
        while same && at < a.len() {
            same = a[at] == b[at];
            at += 1;
        }
        same
    }
}

/// Notes that a rare but legal state was reached, if `condition` holds: `sometimes!("channel: …", condition)`. The name
/// stands in [`MARKS`]; the condition must have no effect.
#[cfg(feature = "probes")]
#[macro_export]
macro_rules! sometimes {
    ($name:literal, $condition:expr) => {
        if $condition {
            const MARK: usize = $crate::probe::site::index_of($crate::probe::MARKS, $name);
            $crate::probe::site::reached(MARK);
        }
    };
}

/// Notes that a rare but legal state was reached, if `condition` holds: `sometimes!("channel: …", condition)`. The name
/// stands in [`MARKS`]; the condition must have no effect.
#[cfg(not(feature = "probes"))]
#[macro_export]
macro_rules! sometimes {
    ($name:literal, $condition:expr) => {{
        const _: usize = $crate::probe::site::index_of($crate::probe::MARKS, $name);
        // Checked by the compiler, run by nobody.
        let _ = || $condition;
    }};
}

/// Whether to do something rare but legal here: `buggify!("funder: …", per_mille)`. The name stands in [`SITES`].
#[cfg(feature = "probes")]
#[macro_export]
macro_rules! buggify {
    ($name:literal, $per_mille:literal) => {{
        const SITE: usize = $crate::probe::site::index_of($crate::probe::SITES, $name);
        $crate::probe::site::strikes(SITE, $per_mille)
    }};
}

/// Whether to do something rare but legal here: `buggify!("funder: …", per_mille)`. The name stands in [`SITES`].
#[cfg(not(feature = "probes"))]
#[macro_export]
macro_rules! buggify {
    ($name:literal, $per_mille:literal) => {{
        const SITE: usize = $crate::probe::site::index_of($crate::probe::SITES, $name);
        // `false`, in words that do not make the rest of a condition look needless.
        SITE == usize::MAX
    }};
}

/// Whether the machines of this thread have a bug on purpose: `mutant!(ForgetToUnfreeze)`, a name of [`Mutant`].
#[cfg(feature = "mutants")]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::probe::site::is_on($crate::probe::Mutant::$name)
    };
}

/// Whether the machines of this thread have a bug on purpose: `mutant!(ForgetToUnfreeze)`, a name of [`Mutant`].
#[cfg(not(feature = "mutants"))]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::probe::site::is_off($crate::probe::Mutant::$name)
    };
}

#[cfg(all(test, feature = "probes"))]
mod tests;
