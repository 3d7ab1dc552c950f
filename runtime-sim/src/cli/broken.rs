//! Machines that are broken on purpose, for a look at what a failure is like.

use clap::Args;

use super::Failure;
use crate::mutants::{COMPILED, Mutant};
use crate::scenario::field::hint;
use offset_protocol::probe::mutate;

/// Whether the machines are broken.
#[derive(Debug, Args)]
#[group(id = "machines")]
pub(super) struct Arguments {
    /// Break the machines in this way on purpose, to see how a failure looks. Names are those of `stsim mutants`; only in a
    /// program that was built with --features mutants
    #[arg(long = "mutant", value_name = "NAME")]
    pub(super) name: Option<String>,
}

impl Arguments {
    /// Breaks the machines of this thread, if that is wanted.
    pub(super) fn arm(&self) -> Result<(), Failure> {
        let Some(name) = &self.name else { return Ok(()) };
        if !COMPILED {
            return Err(Failure::new(
                "this program was built without broken machines: build it with --features mutants",
            ));
        }
        let mutant = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
        mutate(Some(*mutant.ok_or_else(|| {
            let near = hint(name, Mutant::ALL.iter().map(|mutant| mutant.name()));
            Failure(format!("there is no mutant {name:?}{near}"))
        })?));
        Ok(())
    }

    /// As it stands in a command line, with a space before it.
    pub(super) fn words(&self) -> String {
        self.name.as_ref().map_or_else(String::new, |name| format!(" --mutant {name}"))
    }
}
