//! A restart from the written records finds what the node is (I11).
//!
//! Looked at after turns that wrote: then everything that the node knows is in what it wrote. That nothing is said before it
//! is durable is not looked at here but felt: a crash at any point of a node that spoke too early makes its friend's
//! channel inconsistent, and [`super::friends`] says so.

use offset_funder_sm::node::Node;

use super::{Invariant, Violation};
use crate::host::HostId;
use crate::world::World;

/// Compares a node with its records, now and then.
#[derive(Debug, Default)]
pub struct Restores {
    every: u64,
    turns: u64,
    compared: u64,
}

impl Restores {
    /// Compares once in `every` turns that wrote: a comparison costs as much as the whole node.
    pub const fn new(every: u64) -> Self {
        Restores { every, turns: 0, compared: 0 }
    }

    /// How often it was compared.
    pub const fn compared(&self) -> u64 {
        self.compared
    }

    /// Looks at the node on `host`, which has just taken a turn and written.
    ///
    /// # Errors
    /// [`Invariant::Durability`] with the first difference.
    pub fn check(&mut self, world: &World, host: HostId) -> Result<(), Violation> {
        self.turns += 1;
        if !self.turns.is_multiple_of(self.every) {
            return Ok(());
        }
        let Some(node) = world.machine::<Node>(host) else { return Ok(()) };
        self.compared += 1;
        node.money().compare_with(world.written(host)).map_err(|difference| Violation {
            invariant: Invariant::Durability,
            at: world.now(),
            host: Some(host),
            what: difference.to_string(),
        })
    }
}
