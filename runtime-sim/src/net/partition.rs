//! Which hosts cannot reach which.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::host::HostId;

/// Names a cut, to heal it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CutId(pub u64);

/// A set of ways that carry nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Cut {
    /// Nothing between these hosts and all others, either way.
    Around(BTreeSet<HostId>),
    /// Nothing from these to those.
    OneWay {
        /// Whose packets are lost.
        from: BTreeSet<HostId>,
        /// On the way to whom.
        to: BTreeSet<HostId>,
    },
    /// Nothing between these two, either way.
    Pair(HostId, HostId),
}

impl Cut {
    fn blocks(&self, from: HostId, to: HostId) -> bool {
        match self {
            Cut::Around(inside) => inside.contains(&from) != inside.contains(&to),
            Cut::OneWay { from: senders, to: receivers } => senders.contains(&from) && receivers.contains(&to),
            Cut::Pair(a, b) => (from, to) == (*a, *b) || (from, to) == (*b, *a),
        }
    }
}

/// All cuts that are in force.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    cuts: BTreeMap<CutId, Cut>,
    made: u64,
}

impl Cuts {
    /// Puts a cut in force.
    pub fn make(&mut self, cut: Cut) -> CutId {
        let id = CutId(self.made);
        self.made += 1;
        self.cuts.insert(id, cut);
        id
    }

    /// Ends a cut.
    pub fn heal(&mut self, id: CutId) {
        self.cuts.remove(&id);
    }

    /// Ends all cuts.
    pub fn heal_all(&mut self) {
        self.cuts.clear();
    }

    /// Whether a packet from one to the other is lost.
    pub fn block(&self, from: HostId, to: HostId) -> bool {
        from != to && self.cuts.values().any(|cut| cut.blocks(from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_add_up_and_heal_one_by_one() {
        let [a, b, c] = [HostId(0), HostId(1), HostId(2)];
        let mut cuts = Cuts::default();
        let around = cuts.make(Cut::Around([a].into()));
        let one_way = cuts.make(Cut::OneWay { from: [b].into(), to: [a, c].into() });
        assert!(cuts.block(a, b) && cuts.block(b, a) && cuts.block(b, c) && !cuts.block(c, b));
        assert!(!cuts.block(a, a));
        cuts.heal(around);
        assert!(!cuts.block(a, b) && cuts.block(b, a));
        cuts.heal(one_way);
        cuts.make(Cut::Pair(a, c));
        assert!(cuts.block(a, c) && cuts.block(c, a) && !cuts.block(b, a));
        cuts.heal_all();
        assert!(!cuts.block(a, c));
    }
}
