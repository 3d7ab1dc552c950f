//! The shadow ledger: what every friendship, request and node must come to, worked out from nothing but the batches that
//! the nodes made and how far their friends applied them (I2, I3, I5, I6, I7, I10, I12).
//!
//! Fed with what the ends show after every write ([`Ledger::on_turn`]), after every start ([`Ledger::on_boot`]), and with
//! what became durable ([`Ledger::on_durable`]). It uses none of the nodes' arithmetic.
//!
//! | | holds |
//! |---|---|
//! | batches | one number, one batch; what was durable is never forgotten; nothing is applied or signed for that was not made |
//! | an end | balance, frozen sums and numbers of open requests are those of what it made and what it applied, at every write |
//! | a request | see `flows` |
//! | a limit | what a friend could owe grows only within what it is granted, and was granted when it grew |
//! | the network | balances sum to zero whenever every friendship is at a delivered cut |
//! | a node | at rest, its balances are what its requests brought, and the drift that its resets booked |
//! | a reset | both ends begin on one side's terms, which are what that side had, and which the other's user may accept |
//!
//! A write tells which friends it concerns ([`super::view::touched`]), so a turn costs what it changed. Requests that have
//! ended at both ends of every hop are forgotten.
//!
//! Not checked: friendships with a cheater (but for limits and terms); friendships of a node that was excused
//! ([`Ledger::excuse`]), from the moment at which something does not fit until both ends have begun anew.

mod flows;
mod pair;
mod resets;
mod sums;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use offset_funder_sm::friend_channel::Channel;
use offset_funder_sm::funder::Funder;
use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::money::Currency;

pub use flows::{Ended, Fault};
use flows::{Flows, State, Way};
use pair::{Deed, End, Entry, Log, Marks, Model, Pair, Step, exposure, signed};
pub use sums::Sums;

use super::Invariant;
use super::view::{self, Act, Asked, BatchView, ChannelView, CurrencyView, Move};

/// Names a node of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// What a node's user does about a friend's reset terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// May accept them.
    MayAccept,
    /// Never does.
    NeverAccepts,
}

#[derive(Clone, Debug)]
struct NodeBook {
    key: PublicKey,
    user: User,
    /// Friendship and side, by friend.
    ends: BTreeMap<PublicKey, (u32, usize)>,
    /// Writes that were looked at, and how many of them are durable.
    writes: u64,
    durable: u64,
    /// What its channels show.
    sum: Sums,
    /// What its requests brought.
    gains: Sums,
    /// What resets and losses of whole channels brought.
    drift: Sums,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Ends of friendships after a write.
    pub ends: u64,
    /// Of those: at a delivered cut.
    pub cuts: u64,
    /// Moments at which every friendship was at a delivered cut.
    pub whole: u64,
    /// Batches.
    pub batches: u64,
    /// Friendships that both ends began anew.
    pub resets: u64,
    /// Friendships that a fault took out of the model.
    pub lost: u64,
}

/// The shadow ledger. See the module.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    nodes: Vec<NodeBook>,
    by_key: BTreeMap<PublicKey, u32>,
    pairs: Vec<Pair>,
    flows: Flows,
    /// Of all friendships that are exact: those that are not at a delivered cut, and the sum of all balances.
    undelivered: usize,
    sums: Sums,
    looked: Looked,
}

/// Birth, and what it knows.
impl Ledger {
    /// A ledger of no node.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches an honest node. Whoever is not added is a cheater, or nobody.
    pub fn add_node(&mut self, key: PublicKey, user: User) -> NodeId {
        let id = self.nodes.len() as u32;
        self.by_key.insert(key, id);
        self.nodes.push(NodeBook {
            key,
            user,
            ends: BTreeMap::new(),
            writes: 0,
            durable: 0,
            sum: Sums::default(),
            gains: Sums::default(),
            drift: Sums::default(),
        });
        NodeId(id)
    }

    /// The node with this key.
    pub fn node(&self, key: &PublicKey) -> Option<NodeId> {
        self.by_key.get(key).copied().map(NodeId)
    }

    /// How much was looked at.
    pub const fn looked(&self) -> Looked {
        self.looked
    }

    /// How the requests ended that have ended at every hop.
    pub fn ended(&self) -> Ended {
        self.flows.ended()
    }

    /// The requests that have not, yet or for good.
    pub fn open_requests(&self) -> impl Iterator<Item = &RequestId> {
        self.flows.open().map(|(id, _)| id)
    }

    /// What resets, and losses of whole channels, brought to a node.
    pub fn drift(&self, node: NodeId) -> Option<&Sums> {
        self.nodes.get(node.0 as usize).map(|book| &book.drift)
    }

    /// The most that a node ever let a friend owe it, by currency.
    pub fn granted(&self, node: NodeId, friend: &PublicKey) -> Vec<(Currency, u128)> {
        let Some((pair, side)) = self.nodes.get(node.0 as usize).and_then(|book| book.ends.get(friend)) else {
            return Vec::new();
        };
        let end = &self.pairs[*pair as usize].ends[*side];
        end.watched().map(|(currency, watch)| (currency, watch.granted)).collect()
    }
}

/// What happens.
impl Ledger {
    /// A node has taken a turn in which it wrote something about these friends: see [`view::touched`].
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn on_turn(&mut self, node: NodeId, funder: &Funder, touched: &[PublicKey]) -> Result<(), Fault> {
        let (views, gone) = self.look(node, funder, touched);
        self.on_views(node, &views, &gone)
    }

    /// Everything that a node wrote so far is on its disk.
    pub fn on_durable(&mut self, node: NodeId) {
        if let Some(book) = self.nodes.get_mut(node.0 as usize) {
            book.durable = book.writes;
        }
    }

    /// A node has started from its disk. Looks at all its friends.
    ///
    /// # Errors
    /// The first thing that does not hold: [`Invariant::Logs`] if it forgot what it must remember.
    pub fn on_boot(&mut self, node: NodeId, funder: &Funder) -> Result<(), Fault> {
        if !funder.channels().flat_map(|channel| channel.unacked()).all(|(_, batch)| view::is_whole(batch)) {
            return Err((Invariant::Logs, "a batch came from the disk with another body".to_owned()));
        }
        let mut friends: Vec<PublicKey> = funder.channels().map(|channel| channel.friend()).collect();
        friends.extend(self.nodes.get(node.0 as usize).into_iter().flat_map(|book| book.ends.keys()));
        friends.sort_unstable();
        friends.dedup();
        let views =
            friends.iter().filter_map(|friend| funder.channel(friend)).map(|channel| ChannelView::of(channel, 0));
        let views: Vec<ChannelView> = views.collect();
        let gone: Vec<PublicKey> =
            friends.into_iter().filter(|friend| !views.iter().any(|view| view.friend == *friend)).collect();
        self.on_restart(node, &views, &gone)
    }

    /// A fault gives this node a reason to have forgotten something: an old copy of its disk was put back, or it was lost.
    pub fn excuse(&mut self, node: NodeId) {
        let Some(book) = self.nodes.get(node.0 as usize) else { return };
        for &(pair, side) in book.ends.values() {
            self.pairs[pair as usize].excused[side] = true;
        }
    }

    fn look(&self, node: NodeId, funder: &Funder, touched: &[PublicKey]) -> (Vec<ChannelView>, Vec<PublicKey>) {
        let (mut views, mut gone) = (Vec::with_capacity(touched.len()), Vec::new());
        for friend in touched {
            match funder.channel(friend) {
                Some(channel) => views.push(ChannelView::of(channel, self.known(node, channel))),
                None => gone.push(*friend),
            }
        }
        (views, gone)
    }

    /// The last batch of a node to a friend that was looked at, in the epoch that stands.
    fn known(&self, node: NodeId, channel: &Channel) -> u64 {
        let place = self.nodes.get(node.0 as usize).and_then(|book| book.ends.get(&channel.friend()));
        let marks = place.map(|(pair, side)| self.pairs[*pair as usize].ends[*side].marks);
        let epoch = view::EpochId { number: channel.marks().epoch, token: channel.reset_token() };
        marks.filter(|marks| marks.epoch == epoch).map_or(0, |marks| marks.made)
    }

    /// Like [`Ledger::on_turn`], from what the ends show.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn on_views(&mut self, node: NodeId, views: &[ChannelView], gone: &[PublicKey]) -> Result<(), Fault> {
        let Some(book) = self.nodes.get_mut(node.0 as usize) else { return Ok(()) };
        // One write is under way at a time: whatever came before this one is on the disk.
        book.durable = book.writes;
        book.writes += 1;
        self.take_in(node, views, gone)
    }

    fn on_restart(&mut self, node: NodeId, views: &[ChannelView], gone: &[PublicKey]) -> Result<(), Fault> {
        for view in views {
            let (pair, side) = self.place(node, view);
            self.roll_back(pair, side, view)?;
        }
        let Some(book) = self.nodes.get_mut(node.0 as usize) else { return Ok(()) };
        book.writes += 1;
        book.durable = book.writes;
        self.take_in(node, views, gone)
    }

    /// What was received first, then what was made: a mediator makes what it makes of what it received.
    fn take_in(&mut self, node: NodeId, views: &[ChannelView], gone: &[PublicKey]) -> Result<(), Fault> {
        for friend in gone {
            self.remove_end(node, friend)?;
        }
        let places: Vec<_> = views.iter().map(|view| self.place(node, view)).collect();
        for (view, &(pair, side)) in views.iter().zip(&places) {
            self.take_epoch(pair, side, view)?;
            self.take_applied(pair, side, view)?;
        }
        for (view, &(pair, side)) in views.iter().zip(&places) {
            self.take_dispute(pair, side, view)?;
        }
        for (view, &(pair, side)) in views.iter().zip(&places) {
            self.take_made(pair, side, view)?;
        }
        for (view, &(pair, side)) in views.iter().zip(&places) {
            self.take_limits(pair, side, view)?;
            self.take_balances(node, pair, side, view)?;
            self.take_marks(node, pair, side, view);
        }
        self.check_sum()
    }

    /// The friendship of a node and the friend that a view is about, and which end of it the node is.
    fn place(&mut self, node: NodeId, view: &ChannelView) -> (u32, usize) {
        let us = node.0 as usize;
        if let Some(place) = self.nodes[us].ends.get(&view.friend) {
            return *place;
        }
        let friend = self.by_key.get(&view.friend).copied();
        let pair = self.pairs.len() as u32;
        self.nodes[us].ends.insert(view.friend, (pair, 0));
        let key = self.nodes[us].key;
        if let Some(friend) = friend {
            self.nodes[friend as usize].ends.insert(key, (pair, 1));
        }
        self.pairs.push(Pair {
            nodes: [Some(node.0), friend],
            ends: [End::default(), End::default()],
            logs: [Log::default(), Log::default()],
            model: if friend.is_some() { Model::Exact } else { Model::Foreign },
            excused: [false; 2],
            delivered: true,
        });
        (pair, 0)
    }
}

/// Batches.
impl Ledger {
    /// The hop of a request that the end at `opener` sends.
    fn way(&self, pair: u32, opener: usize) -> Way {
        let nodes = &self.pairs[pair as usize].nodes;
        Way { pair, opener, from: nodes[opener].unwrap_or(u32::MAX), to: nodes[1 - opener].unwrap_or(u32::MAX) }
    }

    /// Something does not fit: legal only if a fault explains it. Then nothing more is known of the friendship.
    fn mismatch(&mut self, pair: u32, what: String) -> Result<(), Fault> {
        if self.pairs[pair as usize].is_excused() { self.lose(pair) } else { Err((Invariant::Logs, what)) }
    }

    fn take_applied(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
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

    fn take_made(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
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
    fn take_signed_for(&mut self, pair: u32, side: usize, signed_for: u64) -> Result<(), Fault> {
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

/// Crashes.
impl Ledger {
    /// A node started again: what it wrote last may be lost, and nothing else.
    fn roll_back(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
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
        // Nothing is missing in this friendship, whatever was done to the disk.
        self.pairs[pair as usize].excused[side] = false;
        self.forget(pair, side, view)
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

/// What an end shows.
impl Ledger {
    fn take_limits(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let excused = self.pairs[pair as usize].excused[side];
        let end = &mut self.pairs[pair as usize].ends[side];
        for one in &view.currencies {
            let watch = end.watch(one.currency);
            let now = exposure(one);
            let most = signed(one.max_debt.max(watch.max_debt)).max(watch.exposure);
            let before = *watch;
            watch.exposure = now;
            watch.granted = watch.granted.max(one.max_debt);
            (watch.max_debt, watch.rate) = (one.max_debt, one.rate);
            if now > most && view.dispute.is_none() && !excused {
                return Err((Invariant::Limits, format!("the friend may owe {now} by {one:?}, before {before:?}")));
            }
        }
        Ok(())
    }

    fn take_balances(&mut self, node: NodeId, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        self.looked.ends += 1;
        if self.pairs[pair as usize].model == Model::Exact {
            self.check_expected(pair, side, view)?;
        }
        let friendship = &mut self.pairs[pair as usize];
        let mut shown = Sums::default();
        view.currencies.iter().for_each(|one| shown.add(one.currency, one.balance));
        let end = &mut friendship.ends[side];
        let mut change = shown.clone();
        change.take_all(&end.shown);
        end.shown = shown;
        let model = friendship.model;
        if let Some(book) = self.nodes.get_mut(node.0 as usize).filter(|_| model != Model::Foreign) {
            book.sum.add_all(&change);
            if model == Model::Lost {
                book.drift.add_all(&change);
            }
        }
        if model == Model::Exact {
            self.sums.add_all(&change);
        }
        Ok(())
    }

    fn check_expected(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let end = &self.pairs[pair as usize].ends[side];
        let shows = |currency| view.currencies.iter().find(|one| one.currency == currency);
        let missing = end.all_expected().find(|(currency, stand)| {
            shows(*currency).is_none() && (stand.balance, stand.outgoing, stand.incoming) != (0, 0, 0)
        });
        let differs = |one: &&CurrencyView| {
            let stand = end.expected(&one.currency);
            (one.balance, signed(one.out_frozen), signed(one.in_frozen))
                != (stand.balance, stand.outgoing, stand.incoming)
        };
        let open = end.all_expected().fold((0, 0), |sum, (_, stand)| (sum.0 + stand.sent, sum.1 + stand.received));
        let counted = (view.open.0 as i64, view.open.1 as i64);
        let what = match (missing, view.currencies.iter().find(differs)) {
            (None, None) if open == counted => return Ok(()),
            (None, None) => format!("{counted:?} requests are open, and {open:?} should be"),
            (Some((currency, stand)), _) => format!("{currency} is gone, and should be {stand:?}"),
            (None, Some(one)) => format!("{one:?} should be {:?}", end.expected(&one.currency)),
        };
        if self.pairs[pair as usize].is_excused() { self.lose(pair) } else { Err((Invariant::Shadow, what)) }
    }

    fn take_marks(&mut self, node: NodeId, pair: u32, side: usize, view: &ChannelView) {
        let write = self.nodes.get(node.0 as usize).map_or(0, |book| book.writes);
        let friendship = &mut self.pairs[pair as usize];
        let end = &mut friendship.ends[side];
        end.present = true;
        let marks = Marks { epoch: view.epoch, made: view.made, signed_for: view.signed_for, applied: view.applied };
        end.before = end.last;
        (end.marks, end.last, end.write) = (marks, marks, write);
        if friendship.model == Model::Exact {
            let delivered = friendship.is_delivered();
            self.looked.cuts += u64::from(delivered);
            match (friendship.delivered, delivered) {
                (true, false) => self.undelivered += 1,
                (false, true) => self.undelivered -= 1,
                (true, true) | (false, false) => {}
            }
            friendship.delivered = delivered;
        }
    }

    /// The network's balances, when everything was delivered.
    fn check_sum(&mut self) -> Result<(), Fault> {
        if self.undelivered > 0 {
            return Ok(());
        }
        self.looked.whole += 1;
        match self.sums.iter().next() {
            None => Ok(()),
            Some((currency, sum)) => Err((Invariant::Conservation, format!("all balances in {currency} sum to {sum}"))),
        }
    }

    /// At rest: every request has ended, and every node has what its requests and resets brought. A request that a cheater
    /// holds may be open: `may_be_open` says which.
    ///
    /// # Errors
    /// [`Invariant::Resolution`] or [`Invariant::Shadow`].
    pub fn check_whole(&self, may_be_open: impl Fn(&RequestId) -> bool) -> Result<(), (Option<NodeId>, Fault)> {
        if let Some((id, hops)) = self.flows.find_open(may_be_open) {
            return Err((None, (Invariant::Resolution, format!("{id:?} has not ended everywhere: {hops:?}"))));
        }
        for (number, book) in self.nodes.iter().enumerate() {
            let mut rest = book.sum.clone();
            rest.take_all(&book.gains);
            rest.take_all(&book.drift);
            if !rest.is_zero() {
                let what = format!("has {:?}; requests brought {:?}, resets {:?}", book.sum, book.gains, book.drift);
                return Err((Some(NodeId(number as u32)), (Invariant::Shadow, what)));
            }
        }
        Ok(())
    }
}
