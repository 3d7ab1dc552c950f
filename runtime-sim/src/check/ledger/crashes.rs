//! Starts after a crash: what was written last may be lost, and nothing else. Batches that never left are forgotten again.

use super::pair::{Deed, Marks, Model, signed};
use super::{Fault, Ledger};
use crate::check::view::ChannelView;

/// Crashes.
impl Ledger {
    /// A node started again: what it wrote last may be lost, and nothing else.
    pub(super) fn roll_back(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let friendship = &self.pairs[pair as usize];
        let end = &friendship.ends[side];
        let node = friendship.nodes[side].and_then(|node| self.nodes.get(node as usize));
        let durable = node.map_or(0, |book| book.durable);
        let least = if end.write > durable { end.before } else { end.marks };
        if view.epoch != end.marks.epoch || !end.present {
            let goes_back = view.epoch.number < least.epoch.number;
            return if goes_back { self.mismatch(pair, "an epoch was forgotten".to_owned()) } else { Ok(()) };
        }
        if friendship.model != Model::Exact || view.dispute.is_some() {
            return Ok(());
        }
        let is_less = |view: &ChannelView, least: &Marks| {
            view.made < least.made || view.applied < least.applied || view.signed_for < least.signed_for
        };
        if least.epoch == view.epoch && is_less(view, &least) {
            let found = (view.made, view.signed_for, view.applied);
            return self.mismatch(pair, format!("at a start {found:?} is found, {least:?} was on the disk"));
        }
        if view.made < friendship.ends[1 - side].marks.applied {
            return self.mismatch(pair, format!("{} batches are left, the friend applied more", view.made));
        }
        self.forget(pair, side, view)?;
        if self.pairs[pair as usize].model == Model::Exact {
            // Nothing is missing in this friendship, whatever was done to the disk.
            self.pairs[pair as usize].excused[side] = false;
        }
        Ok(())
    }

    fn forget(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let (out, incoming) = (self.way(pair, side), self.way(pair, 1 - side));
        while self.pairs[pair as usize].ends[side].marks.made > view.made {
            let friendship = &mut self.pairs[pair as usize];
            friendship.ends[side].marks.made -= 1;
            let Some(entry) = friendship.logs[side].entries.pop_back() else { continue };
            for step in entry.steps.iter().rev() {
                friendship.ends[side].unmade(step);
                match step.deed {
                    Deed::Open(_) => self.flows.unopened(&out, step)?,
                    Deed::Collect | Deed::Cancel => self.flows.unended(&incoming, step),
                }
                if let (Deed::Collect, Some(book)) = (step.deed, self.nodes.get_mut(incoming.to as usize)) {
                    book.gains.add(step.currency, -signed(step.frozen));
                }
            }
        }
        while self.pairs[pair as usize].ends[side].marks.applied > view.applied {
            let friendship = &mut self.pairs[pair as usize];
            let seq = friendship.ends[side].marks.applied;
            friendship.ends[side].marks.applied -= 1;
            let Some(steps) = friendship.logs[1 - side].get(seq).map(|entry| entry.steps.clone()) else {
                return self.mismatch(pair, format!("batch {seq} was signed for, and is forgotten"));
            };
            for step in steps.iter().rev() {
                self.pairs[pair as usize].ends[side].unapplied(step);
                match step.deed {
                    Deed::Open(_) => self.flows.unreceived(&incoming, step),
                    Deed::Collect | Deed::Cancel => self.flows.unclosed(&out, step),
                }
                if let (Deed::Collect, Some(book)) = (step.deed, self.nodes.get_mut(out.from as usize)) {
                    book.gains.add(step.currency, signed(step.frozen));
                }
            }
        }
        let marks = &mut self.pairs[pair as usize].ends[side].marks;
        marks.signed_for = marks.signed_for.min(view.signed_for);
        Ok(())
    }
}
