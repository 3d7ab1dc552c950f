//! Logs: what an end made, what it applied of its friend's, what its friend signed for (I2), and the requests in them.

use super::flows::{State, Way};
use super::pair::{Deed, Entry, Model, Pair, Step, signed};
use super::{Fault, Ledger, NodeId};
use crate::check::Invariant;
use crate::check::view::{Act, Asked, BatchView, ChannelView, Move};

/// Batches.
impl Ledger {
    /// The hop of a request that the end at `opener` sends.
    pub(super) fn way(&self, pair: u32, opener: usize) -> Way {
        let nodes = &self.pairs[pair as usize].nodes;
        Way { pair, opener, from: nodes[opener].unwrap_or(u32::MAX), to: nodes[1 - opener].unwrap_or(u32::MAX) }
    }

    /// Something does not fit: legal only if a fault explains it. Then nothing more is known of the friendship.
    pub(super) fn mismatch(&mut self, pair: u32, what: String) -> Result<(), Fault> {
        if self.pairs[pair as usize].is_excused() { self.lose(pair) } else { Err((Invariant::Logs, what)) }
    }

    pub(super) fn take_applied(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let exact = |ledger: &Ledger| ledger.pairs[pair as usize].model == Model::Exact;
        while exact(self) && self.pairs[pair as usize].ends[side].marks.applied < view.applied {
            let seq = self.pairs[pair as usize].ends[side].marks.applied + 1;
            let Some(steps) = self.pairs[pair as usize].logs[1 - side].get(seq).map(|entry| entry.steps.clone()) else {
                return self.mismatch(pair, format!("batch {seq} was applied, and its friend never made it"));
            };
            for step in &steps {
                self.apply(pair, side, step, view);
            }
            self.pairs[pair as usize].ends[side].marks.applied = seq;
        }
        if exact(self) && self.pairs[pair as usize].ends[side].marks.applied != view.applied {
            return self.mismatch(pair, format!("batch {} was applied last, and that goes back", view.applied));
        }
        self.pairs[pair as usize].end_trial();
        Ok(())
    }

    fn apply(&mut self, pair: u32, side: usize, step: &Step, view: &ChannelView) {
        let end = &mut self.pairs[pair as usize].ends[side];
        end.applied(step);
        let before = end.watch(step.currency).rate;
        match step.deed {
            Deed::Open(_) => {
                let now = view.currencies.iter().find(|one| one.currency == step.currency).map(|one| one.rate);
                let way = self.way(pair, 1 - side);
                self.flows.received(&way, step, [before, now.unwrap_or(before)]);
            }
            Deed::Collect | Deed::Cancel => {
                let way = self.way(pair, side);
                self.flows.closed(&way, step);
                self.gain(way.from, step, Direction::Pays);
            }
        }
    }

    pub(super) fn take_made(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        for batch in &view.batches {
            if self.pairs[pair as usize].model != Model::Exact {
                return Ok(());
            }
            let last = self.pairs[pair as usize].ends[side].marks.made;
            if batch.seq == last + 1 {
                self.record(pair, side, batch)?;
            } else if batch.seq > last {
                self.mismatch(pair, format!("batch {} was made after {last}", batch.seq))?;
            } else if self.is_other(pair, side, batch) {
                self.mismatch(pair, format!("two batches have the number {}", batch.seq))?;
            }
        }
        if self.pairs[pair as usize].model != Model::Exact {
            return Ok(());
        }
        let last = self.pairs[pair as usize].ends[side].marks.made;
        if last != view.made {
            return self.mismatch(pair, format!("batch {} is said to be the last, and it was {last}", view.made));
        }
        self.take_signed_for(pair, side, view.signed_for)
    }

    fn is_other(&self, pair: u32, side: usize, batch: &BatchView) -> bool {
        let known = self.pairs[pair as usize].logs[side].get(batch.seq);
        known.is_some_and(|entry| entry.signature != batch.signature)
    }

    fn record(&mut self, pair: u32, side: usize, batch: &BatchView) -> Result<(), Fault> {
        self.looked.batches += 1;
        let mut steps = Vec::with_capacity(batch.moves.len());
        for one in &batch.moves {
            let Some(step) = self.step_of(pair, side, one) else {
                return self.mismatch(pair, format!("{:?} is ended, and was not open", one.id));
            };
            self.make(pair, side, &step)?;
            steps.push(step);
        }
        let friendship = &mut self.pairs[pair as usize];
        friendship.logs[side].entries.push_back(Entry { seq: batch.seq, signature: batch.signature, steps });
        friendship.ends[side].marks.made = batch.seq;
        Ok(())
    }

    /// An operation with the amount that it is about.
    fn step_of(&self, pair: u32, side: usize, one: &Move) -> Option<Step> {
        let of_friend = || self.flows.frozen(&self.way(pair, 1 - side), &one.currency, &one.id);
        let (deed, frozen) = match one.act {
            Act::Request(asked) => (Deed::Open(asked), asked.frozen),
            Act::Collect => (Deed::Collect, of_friend()?),
            Act::Cancel => (Deed::Cancel, of_friend()?),
        };
        Some(Step { currency: one.currency, id: one.id, deed, frozen })
    }

    fn make(&mut self, pair: u32, side: usize, step: &Step) -> Result<(), Fault> {
        let way = match step.deed {
            Deed::Open(asked) => {
                let way = self.way(pair, side);
                self.flows.opened(way, step, asked)?;
                if self.has_foreign_friend(NodeId(way.from)) {
                    // Whether it is the buyer's own is not known.
                    self.flows.unsure(&way, step, &asked.invoice);
                }
                way
            }
            Deed::Collect | Deed::Cancel => {
                let way = self.way(pair, 1 - side);
                let state = if step.deed == Deed::Collect { State::Collected } else { State::Cancelled };
                let (nodes, pairs) = (&self.nodes, &self.pairs);
                let is_modelled = |asked: &Asked| {
                    let next = asked.next.and_then(|next| nodes.get(way.to as usize)?.ends.get(&next));
                    let exact = |pair: &Pair| pair.model == Model::Exact && !pair.is_excused();
                    next.is_some_and(|(pair, _)| exact(&pairs[*pair as usize]))
                };
                self.flows.ended_by_receiver(&way, step, state, is_modelled)?;
                way
            }
        };
        self.gain(way.to, step, Direction::IsPaid);
        self.pairs[pair as usize].ends[side].made(step);
        Ok(())
    }

    /// The friend has signed for batches: they are part of both ends for ever.
    pub(super) fn take_signed_for(&mut self, pair: u32, side: usize, signed_for: u64) -> Result<(), Fault> {
        let friendship = &self.pairs[pair as usize];
        if signed_for < friendship.ends[side].marks.signed_for {
            return self.mismatch(pair, format!("batch {signed_for} was signed for last, and that goes back"));
        }
        if signed_for > friendship.ends[1 - side].marks.applied {
            return self.mismatch(pair, format!("batch {signed_for} was signed for, and never applied"));
        }
        let way = self.way(pair, 1 - side);
        let friendship = &mut self.pairs[pair as usize];
        friendship.ends[side].marks.signed_for = signed_for;
        while friendship.logs[side].entries.front().is_some_and(|entry| entry.seq <= signed_for) {
            for step in friendship.logs[side].entries.pop_front().into_iter().flat_map(|entry| entry.steps) {
                if matches!(step.deed, Deed::Collect | Deed::Cancel) {
                    self.flows.settled(&way, &step)?;
                }
            }
        }
        Ok(())
    }

    /// A node loses or is paid what a request moved.
    fn gain(&mut self, node: u32, step: &Step, direction: Direction) {
        if step.deed != Deed::Collect {
            return;
        }
        if let Some(book) = self.nodes.get_mut(node as usize) {
            let amount = match direction {
                Direction::IsPaid => signed(step.frozen),
                Direction::Pays => -signed(step.frozen),
            };
            book.gains.add(step.currency, amount);
        }
    }
}

/// Who moves.
#[derive(Clone, Copy)]
enum Direction {
    IsPaid,
    Pays,
}
