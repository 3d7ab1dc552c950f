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

mod batches;
mod crashes;
mod flows;
mod pair;
mod resets;
mod shows;
mod sums;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use offset_funder_sm::friend_channel::Channel;
use offset_funder_sm::funder::Funder;
use offset_protocol::bytes::{InvoiceId, PublicKey, RequestId};
use offset_protocol::money::Currency;

use flows::Flows;
pub use flows::{Ended, Fault, InvoiceBook, Invoices};
use pair::{End, Log, Model, Pair};
pub use sums::Sums;

use super::Invariant;
use super::view::{self, ChannelView};

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
    /// What it shows is more than it has written: the rest goes with the next write.
    ahead: bool,
    /// Its disk was not always what it wrote.
    forgot: bool,
    /// Its disk was changed, and it has not started since.
    starts_excused: bool,
    /// How many of its friends are cheaters, or nobody that we watch.
    foreign: usize,
    /// What its channels show.
    sum: Sums,
    /// What its requests brought.
    gains: Sums,
    /// What resets and losses of whole channels brought.
    drift: Sums,
    /// The same with cheaters: by how much claims on them changed by hand.
    handed: Sums,
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
            ahead: false,
            forgot: false,
            starts_excused: false,
            foreign: 0,
            sum: Sums::default(),
            gains: Sums::default(),
            drift: Sums::default(),
            handed: Sums::default(),
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

    /// Whether sums by invoice are kept; they are unless this says otherwise before anything happened.
    pub fn keep_invoices(&mut self, keep: Invoices) {
        self.flows.keep = keep;
    }

    /// What requests for an invoice came to.
    pub fn invoice(&self, id: &InvoiceId) -> InvoiceBook {
        self.flows.invoice(id)
    }

    /// Whether a node has, or had, a friend that is a cheater, or nobody that is watched.
    pub fn has_foreign_friend(&self, node: NodeId) -> bool {
        self.nodes.get(node.0 as usize).is_some_and(|book| book.foreign > 0)
    }

    /// Whether a node was ever [excused](Ledger::excuse): then it may not know what it owes and is owed.
    pub fn may_have_forgotten(&self, node: NodeId) -> bool {
        self.nodes.get(node.0 as usize).is_some_and(|book| book.forgot)
    }

    /// Whether everything is known of a friendship between two nodes: no fault has broken it, or both ends have begun anew.
    pub fn is_exact(&self, us: &PublicKey, friend: &PublicKey) -> bool {
        let book = self.by_key.get(us).and_then(|node| self.nodes.get(*node as usize));
        let pair = book.and_then(|book| book.ends.get(friend)).map(|(pair, _)| &self.pairs[*pair as usize]);
        pair.is_some_and(|pair| pair.model == Model::Exact && !pair.is_excused())
    }

    /// What a node's user gave away (negative) or was given, with honest friends and with cheaters: accepted terms, removed
    /// friends, lost channels.
    pub fn given(&self, node: NodeId) -> Sums {
        let mut given = Sums::default();
        if let Some(book) = self.nodes.get(node.0 as usize) {
            given.add_all(&book.drift);
            given.add_all(&book.handed);
        }
        given
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
        if let Some(book) = self.nodes.get_mut(node.0 as usize) {
            book.ahead = !funder.is_written();
        }
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
        let views = friends
            .iter()
            .filter_map(|friend| funder.channel(friend))
            .map(|channel| ChannelView::of(funder, channel, 0));
        let views: Vec<ChannelView> = views.collect();
        let gone: Vec<PublicKey> =
            friends.into_iter().filter(|friend| !views.iter().any(|view| view.friend == *friend)).collect();
        self.on_restart(node, &views, &gone)
    }

    /// A fault gives this node a reason to have forgotten something: an old copy of its disk was put back, or it was lost.
    pub fn excuse(&mut self, node: NodeId) {
        let Some(book) = self.nodes.get_mut(node.0 as usize) else { return };
        (book.forgot, book.starts_excused) = (true, true);
        self.excuse_ends(node);
    }

    fn excuse_ends(&mut self, node: NodeId) {
        for &(pair, side) in self.nodes.get(node.0 as usize).into_iter().flat_map(|book| book.ends.values()) {
            let friendship = &mut self.pairs[pair as usize];
            (friendship.excused[side], friendship.on_trial) = (true, false);
        }
    }

    fn look(&self, node: NodeId, funder: &Funder, touched: &[PublicKey]) -> (Vec<ChannelView>, Vec<PublicKey>) {
        let (mut views, mut gone) = (Vec::with_capacity(touched.len()), Vec::new());
        for friend in touched {
            match funder.channel(friend) {
                Some(channel) => views.push(ChannelView::of(funder, channel, self.known(node, channel))),
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
        // A friend may have begun anew with what this node was when its disk was changed already.
        let starts_excused = self.nodes.get_mut(node.0 as usize).map(|book| std::mem::take(&mut book.starts_excused));
        if starts_excused == Some(true) {
            self.excuse_ends(node);
        }
        for view in views {
            let (pair, side) = self.place(node, view);
            self.roll_back(pair, side, view)?;
        }
        let Some(book) = self.nodes.get_mut(node.0 as usize) else { return Ok(()) };
        book.writes += 1;
        (book.durable, book.ahead) = (book.writes, false);
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
        match friend {
            Some(friend) => drop(self.nodes[friend as usize].ends.insert(key, (pair, 1))),
            None => self.nodes[us].foreign += 1,
        }
        self.pairs.push(Pair {
            nodes: [Some(node.0), friend],
            ends: [End::default(), End::default()],
            logs: [Log::default(), Log::default()],
            model: if friend.is_some() { Model::Exact } else { Model::Foreign },
            excused: [false; 2],
            on_trial: false,
            delivered: true,
        });
        (pair, 0)
    }
}

/// Sums.
impl Ledger {
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
    /// holds may be open: `may_be_open` says which. A node that `is_gone` need not know how its requests ended.
    ///
    /// # Errors
    /// [`Invariant::Resolution`] or [`Invariant::Shadow`].
    pub fn check_whole(
        &self,
        is_gone: impl Fn(NodeId) -> bool,
        may_be_open: impl Fn(&RequestId) -> bool,
    ) -> Result<(), (Option<NodeId>, Fault)> {
        if let Some((id, hops)) = self.flows.find_open(|node| is_gone(NodeId(node)), may_be_open) {
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
