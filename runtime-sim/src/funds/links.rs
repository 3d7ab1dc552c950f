//! Links between friends: who keeps one, which are up, what breaks them, and how each end learns of it.
//!
//! | what happens | to the link | to its ends |
//! |---|---|---|
//! | both want it, both are on, nothing is between them | is dialled; up after a few trips | each hears that it is up |
//! | a reset, a process that dies, a node that drops it | broken at once | each hears soon |
//! | silence, a cut, a power failure | broken at once | each hears when its keepalives stay unanswered |
//! | a node in another network | broken, and dialled at once | the other end hears of the new one only |
//!
//! 1. What was sent over a link arrives in order, all of it, or the link is broken and nothing of it arrives any more.
//! 2. Both ends hear of a link before anything that is said over it.

use offset_protocol::bytes::PublicKey;
use offset_protocol::friend::FriendMessage;
use offset_protocol::limits::KEEPALIVE_SILENCE;
use offset_protocol::machine::{Duration, Instant};

use super::event::{Event, Letter, Stamp};
use super::world::World;

/// A broken connection is noticed within this time if its system says so.
const NOTICED_SOON: Duration = Duration::from_millis(300);
/// A link that was lost is dialled again within this time.
const REDIAL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// A handshake through a relay, in one-way trips. Chosen freely: tunnel, then three messages end to end.
const HANDSHAKE_TRIPS: u32 = 5;

/// One of the two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    pub(super) const fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    const fn at(self) -> usize {
        match self {
            Side::A => 0,
            Side::B => 1,
        }
    }
}

/// How the ends of a broken link learn of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noticed {
    /// Their systems say so.
    Soon,
    /// Nobody answers any more.
    BySilence,
}

/// The link of one friendship.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    nodes: [u32; 2],
    /// Counts what happened to it: a new number for each link that comes up, and for each that breaks.
    number: u32,
    /// The number of the link that each end thinks is up; 0: none.
    told: [u32; 2],
    /// Letters that each side sent, and that each side took in, over this link.
    sent: [u32; 2],
    heard: [u32; 2],
    /// When the last letter to each side arrives.
    last: [Instant; 2],
    /// Cuts between the two.
    blocked: u32,
    wants: [bool; 2],
    is_up: bool,
    is_dialling: bool,
}

impl Link {
    pub(super) fn new(a: u32, b: u32) -> Self {
        Link { nodes: [a, b], ..Link::default() }
    }

    /// It is up from the beginning, as both ends know.
    pub(super) const fn connect(&mut self) -> (u32, u32) {
        self.number = 1;
        self.told = [1; 2];
        self.wants = [true; 2];
        self.is_up = true;
        (self.nodes[0], self.nodes[1])
    }

    pub(super) const fn node(&self, side: Side) -> u32 {
        self.nodes[side.at()]
    }

    pub(super) const fn side_of(&self, node: u32) -> Side {
        if self.nodes[0] == node { Side::A } else { Side::B }
    }
}

/// The friends of every node, by number, with the links to them.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    starts: Vec<u32>,
    ends: Vec<(u32, u32)>,
}

impl Neighbours {
    pub(super) fn new(nodes: usize, links: &[Link]) -> Self {
        let mut starts = vec![0u32; nodes + 1];
        for node in links.iter().flat_map(|link| link.nodes) {
            starts[node as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut ends = vec![(0, 0); links.len() * 2];
        for (number, link) in links.iter().enumerate() {
            for (node, friend) in [(link.nodes[0], link.nodes[1]), (link.nodes[1], link.nodes[0])] {
                ends[next[node as usize] as usize] = (friend, number as u32);
                next[node as usize] += 1;
            }
        }
        for node in 0..nodes {
            ends[starts[node] as usize..starts[node + 1] as usize].sort_unstable();
        }
        Neighbours { starts, ends }
    }

    /// Friends with links, by number.
    pub(super) fn of(&self, node: u32) -> &[(u32, u32)] {
        let node = node as usize;
        &self.ends[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    pub(super) fn link(&self, node: u32, friend: u32) -> Option<u32> {
        let friends = self.of(node);
        let at = friends.binary_search_by_key(&friend, |(friend, _)| *friend).ok()?;
        friends.get(at).map(|(_, link)| *link)
    }
}

impl World {
    pub(super) fn link_to(&self, node: u32, friend: &PublicKey) -> Option<u32> {
        self.neighbours.link(node, self.number_of(friend)?)
    }

    /// A node wants a link, or none.
    pub(super) fn on_wish(&mut self, node: u32, friend: &PublicKey, wish: Wish) {
        let Some(number) = self.link_to(node, friend) else { return };
        let link = &mut self.links[number as usize];
        let side = link.side_of(node).at();
        link.wants[side] = matches!(wish, Wish::Keep);
        match wish {
            Wish::Keep => self.dial_soon(number),
            Wish::Stop => self.break_link(number, Noticed::Soon),
        }
    }

    /// Dials a link after a while, if it can be had and somebody knows that there is none.
    pub(super) fn dial_soon(&mut self, number: u32) {
        if self.can_dial(number) && !self.links[number as usize].is_dialling {
            self.links[number as usize].is_dialling = true;
            let delay = self.dice.duration(REDIAL.0, REDIAL.1);
            self.push(delay, number, Event::Dial { link: number });
        }
    }

    fn can_dial(&self, number: u32) -> bool {
        let link = &self.links[number as usize];
        let missed = link.told[0] == 0 || link.told[1] == 0;
        let on = link.nodes.iter().all(|&node| self.nodes[node as usize].funder.is_some());
        link.wants == [true, true] && !link.is_up && link.blocked == 0 && on && missed
    }

    pub(super) fn on_dial(&mut self, number: u32) {
        self.links[number as usize].is_dialling = false;
        if self.can_dial(number) {
            self.bring_up(number);
        }
    }

    fn bring_up(&mut self, number: u32) {
        let mut delay = Duration::ZERO;
        for _ in 0..HANDSHAKE_TRIPS {
            delay = Duration::from_micros(delay.as_micros() + self.trip(number).as_micros());
        }
        let now = self.now;
        let link = &mut self.links[number as usize];
        let up =
            Link { nodes: link.nodes, number: link.number + 1, told: link.told, wants: link.wants, ..Link::default() };
        *link = Link { is_up: true, last: [now + delay; 2], ..up };
        let (nodes, event) = (link.nodes, Event::Up { link: number, number: link.number });
        for node in nodes {
            self.push(delay, node, event);
        }
    }

    /// One way over a link, from when it is sent to when it arrives.
    fn trip(&mut self, number: u32) -> Duration {
        let trip = self.latency.draw(&mut self.dice);
        if self.weather.clogs.is_empty() {
            return trip;
        }
        let nodes = self.links[number as usize].nodes;
        let clogs = nodes.iter().filter_map(|node| self.weather.clogs.get(node));
        Duration::from_micros(clogs.fold(trip.as_micros(), |sum, clog| sum + clog.as_micros()))
    }

    /// Whether this end is to be told that the link is up.
    pub(super) fn on_up(&mut self, node: u32, link: u32, number: u32) -> bool {
        let link = &mut self.links[link as usize];
        let is_news = link.is_up && link.number == number;
        if is_news {
            link.told[link.side_of(node).at()] = number;
        }
        is_news
    }

    /// Whether this end is to be told that the link is down.
    pub(super) fn on_down(&mut self, node: u32, link_number: u32, number: u32) -> bool {
        let link = &mut self.links[link_number as usize];
        let side = link.side_of(node).at();
        let is_news = link.told[side] != 0 && link.number == number;
        if is_news {
            link.told[side] = 0;
            self.dial_soon(link_number);
        }
        is_news
    }

    /// Nothing that is under way arrives any more, and each end that believes in the link learns of it.
    pub(super) fn break_link(&mut self, number: u32, noticed: Noticed) {
        let link = &mut self.links[number as usize];
        if !link.is_up {
            return;
        }
        link.is_up = false;
        link.number += 1;
        let event = Event::Down { link: number, number: link.number };
        let (nodes, told) = (link.nodes, link.told);
        for (node, told) in nodes.into_iter().zip(told) {
            if told != 0 {
                let delay = match noticed {
                    Noticed::Soon => self.dice.duration(Duration::ZERO, NOTICED_SOON),
                    Noticed::BySilence => self.dice.duration(Duration::from_secs(1), KEEPALIVE_SILENCE),
                };
                self.push(delay, node, event);
            }
        }
        self.dial_soon(number);
    }

    /// A node stops: its links break, and it knows of none any more.
    pub(super) fn break_links_of(&mut self, node: u32, noticed: Noticed) {
        for at in 0..self.neighbours.of(node).len() {
            let (_, number) = self.neighbours.of(node)[at];
            self.forget_link(node, number);
            self.break_link(number, noticed);
        }
    }

    /// This end believes in the link no more.
    pub(super) fn forget_link(&mut self, node: u32, number: u32) {
        let link = &mut self.links[number as usize];
        let side = link.side_of(node).at();
        link.told[side] = 0;
    }

    /// A node is in another network: its links are made anew before anybody has noticed that they are gone.
    pub(super) fn roam(&mut self, node: u32) {
        for at in 0..self.neighbours.of(node).len() {
            let (_, number) = self.neighbours.of(node)[at];
            self.break_link(number, Noticed::BySilence);
            self.forget_link(node, number);
            if self.can_dial(number) {
                self.bring_up(number);
            }
        }
    }

    /// A cut between two friends begins.
    pub(super) fn block(&mut self, number: u32) {
        self.links[number as usize].blocked += 1;
        self.break_link(number, Noticed::BySilence);
    }

    /// A cut between two friends ends.
    pub(super) fn unblock(&mut self, number: u32) {
        let link = &mut self.links[number as usize];
        link.blocked = link.blocked.saturating_sub(1);
        self.dial_soon(number);
    }

    /// Puts a letter on its way; one over a link that is broken is lost. Gives whether it left.
    pub(super) fn send(&mut self, from: u32, friend: &PublicKey, message: FriendMessage) -> bool {
        let Some(number) = self.link_to(from, friend) else { return false };
        let trip = self.trip(number);
        let link = &mut self.links[number as usize];
        let side = link.side_of(from);
        let known = link.told[side.at()];
        if known == 0 || known != link.number {
            return false;
        }
        let to = side.other();
        let at = (self.now + trip).max(link.last[to.at()]);
        link.last[to.at()] = at;
        let place = link.sent[side.at()];
        link.sent[side.at()] += 1;
        let receiver = link.node(to);
        let stamp = Stamp { from, link: number, number: known, place };
        let slot = self.post.letters.put(Letter { stamp, message });
        self.queue.push(at, receiver, Event::Letter(slot));
        true
    }

    /// Whether a letter may be taken in now.
    pub(super) fn receive(&mut self, to: u32, stamp: &Stamp) -> Received {
        let link = &mut self.links[stamp.link as usize];
        let side = link.side_of(to).at();
        if !link.is_up || link.number != stamp.number {
            return Received::Lost;
        }
        if link.told[side] != stamp.number || link.heard[side] != stamp.place {
            return Received::TooEarly;
        }
        link.heard[side] += 1;
        Received::InOrder
    }
}

/// Whether a node wants a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Keep,
    Stop,
}

/// What becomes of a letter that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// It is taken in.
    InOrder,
    /// Its link is gone.
    Lost,
    /// What must come before it waited for a node that stood still, and comes at the same moment.
    TooEarly,
}
