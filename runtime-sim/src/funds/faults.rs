//! What goes wrong in a world of funders.
//!
//! | fault | here |
//! |---|---|
//! | crash, stop, trap, failing disk | the node stops, and starts again from what was durable |
//! | pause | everything that reaches the node waits |
//! | slow disk | as everywhere |
//! | clog | letters of the node take longer |
//! | reset, swallow | the `nth` of all friendships: both ends hear soon, or by silence |
//! | cut, heal | of friendships between hosts of nodes; letters under way are lost |
//! | roam | the node's links are made anew |
//! | crash or stop of an index server | the index answers nobody for as long |
//!
//! Passed over, and counted as such: refused connections, pace, wall clocks (there are no connections, no processors and
//! nothing that expires here), whatever befalls relays and persons; nodes that leave, backups and wiped disks, whose resets
//! are a matter for full fidelity.

use std::collections::BTreeSet;

use offset_protocol::machine::{Duration, Instant, Seed};

use super::event::Event;
use super::links::Noticed;
use super::world::{FewNodes, Rare, World};
use crate::dice::Dice;
use crate::faults::{Fault, QUIET_FLUSH};
use crate::host::{CrashPoint, HostId};
use crate::latency::Latency;
use crate::net::Cut;
use crate::world::Crash;

/// A program that ended by itself starts again after this long.
const RESTART: Duration = Duration::from_millis(400);

/// What is not as usual.
#[derive(Debug)]
pub(super) struct Weather {
    dice: Dice,
    /// Extra time for a node's letters.
    pub(super) clogs: FewNodes<Duration>,
    flushes: FewNodes<Latency>,
    /// The links that each cut blocks.
    cuts: FewNodes<Vec<u32>>,
}

/// What a crash leaves of the writes that are under way.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Nothing,
    Some,
    Everything,
}

impl Weather {
    pub(super) fn new(seed: &Seed) -> Self {
        Weather {
            dice: Dice::new(seed, "weather"),
            clogs: FewNodes::new(),
            flushes: FewNodes::new(),
            cuts: FewNodes::new(),
        }
    }

    pub(super) fn flush_of(&self, node: u32) -> Latency {
        if self.flushes.is_empty() { QUIET_FLUSH } else { self.flushes.get(&node).copied().unwrap_or(QUIET_FLUSH) }
    }

    /// Faults that last.
    pub(super) fn active(&self) -> u64 {
        (self.clogs.len() + self.flushes.len() + self.cuts.len()) as u64
    }
}

/// Whether a fault needs the disk of its node.
pub(super) const fn needs_disk(fault: &Fault) -> Option<HostId> {
    match *fault {
        Fault::Crash { host, .. }
        | Fault::Stop { host, .. }
        | Fault::Trap { host, .. }
        | Fault::DiskFails { host, .. }
        | Fault::Pause { host, .. } => Some(host),
        Fault::Reset { .. }
        | Fault::Swallow { .. }
        | Fault::Connect { .. }
        | Fault::Cut { .. }
        | Fault::Heal { .. }
        | Fault::Clog { .. }
        | Fault::Disk { .. }
        | Fault::Wall { .. }
        | Fault::Roam { .. }
        | Fault::Pace { .. }
        | Fault::Leave { .. }
        | Fault::Copy { .. }
        | Fault::PutBack { .. }
        | Fault::Wipe { .. } => None,
    }
}

impl World {
    /// Lets a fault happen.
    pub(super) fn inject(&mut self, fault: &Fault) {
        let struck = match fault {
            Fault::Reset { nth } => self.strike_link(*nth, Noticed::Soon),
            Fault::Swallow { nth } => self.strike_link(*nth, Noticed::BySilence),
            Fault::Cut { name, cut } => self.cut(*name, cut),
            Fault::Heal { name } => self.heal_cut(*name),
            Fault::Clog { host, extra } => {
                let node = self.node_at(*host);
                self.weather.clog(node, *extra)
            }
            Fault::Disk { host, flush } => {
                let node = self.node_at(*host);
                self.weather.slow_disk(node, *flush)
            }
            Fault::Crash { host, crash, off } => {
                let noticed = match crash {
                    Crash::Process => Noticed::Soon,
                    Crash::Power => Noticed::BySilence,
                };
                self.stop(*host, noticed, Kept::Some, *off)
            }
            Fault::Stop { host, off } => self.stop(*host, Noticed::Soon, Kept::Everything, *off),
            Fault::Trap { host, trap } => self.with_rare(*host, |rare, _| rare.trap = Some(*trap)),
            Fault::Pause { host, time } => self.with_rare(*host, |rare, now| {
                rare.paused_until = rare.paused_until.max(now + *time);
            }),
            Fault::DiskFails { host, lasts } => self.with_rare(*host, |rare, now| rare.disk_fails_until = now + *lasts),
            Fault::Roam { host } => match self.node_at(*host) {
                Some(node) => {
                    self.roam(node);
                    Struck::Yes
                }
                None => Struck::No,
            },
            Fault::Connect { .. }
            | Fault::Wall { .. }
            | Fault::Pace { .. }
            | Fault::Leave { .. }
            | Fault::Copy { .. }
            | Fault::PutBack { .. }
            | Fault::Wipe { .. } => Struck::No,
        };
        match struck {
            Struck::Yes => self.recorder.fault(self.now, fault.family()),
            Struck::No => self.counts.passed_over += 1,
        }
    }

    fn node_at(&self, host: HostId) -> Option<u32> {
        host.0.checked_sub(self.first_host).filter(|&node| (node as usize) < self.nodes.len())
    }

    fn strike_link(&mut self, nth: u64, noticed: Noticed) -> Struck {
        match nth.checked_rem(self.links.len() as u64) {
            Some(link) => {
                self.break_link(link as u32, noticed);
                Struck::Yes
            }
            None => Struck::No,
        }
    }

    fn with_rare(&mut self, host: HostId, change: impl FnOnce(&mut Rare, Instant)) -> Struck {
        let now = self.now;
        let node = self.node_at(host).and_then(|node| self.nodes[node as usize].rare.as_mut());
        match node {
            Some(rare) => {
                change(rare, now);
                Struck::Yes
            }
            None => Struck::No,
        }
    }

    fn cut(&mut self, name: u32, cut: &Cut) -> Struck {
        let links = self.links_across(cut);
        for &link in &links {
            self.block(link);
        }
        if let Some(before) = self.weather.cuts.insert(name, links) {
            before.into_iter().for_each(|link| self.unblock(link));
        }
        Struck::Yes
    }

    fn heal_cut(&mut self, name: u32) -> Struck {
        for link in self.weather.cuts.remove(&name).unwrap_or_default() {
            self.unblock(link);
        }
        Struck::Yes
    }

    /// The friendships of which a cut blocks one way or both.
    fn links_across(&self, cut: &Cut) -> Vec<u32> {
        let nodes = |hosts: &BTreeSet<HostId>| -> BTreeSet<u32> {
            hosts.iter().filter_map(|host| self.node_at(*host)).collect()
        };
        let mut links = BTreeSet::new();
        let mut gather = |from: &BTreeSet<u32>, blocked: &dyn Fn(u32) -> bool| {
            for node in from {
                links.extend(self.neighbours.of(*node).iter().filter(|(friend, _)| blocked(*friend)).map(|end| end.1));
            }
        };
        match cut {
            Cut::Around(inside) => {
                let inside = nodes(inside);
                gather(&inside, &|friend| !inside.contains(&friend));
            }
            Cut::OneWay { from, to } => {
                let to = nodes(to);
                gather(&nodes(from), &|friend| to.contains(&friend));
            }
            Cut::Pair(a, b) => {
                let b = self.node_at(*b);
                gather(&nodes(&[*a].into()), &|friend| Some(friend) == b);
            }
        }
        links.into_iter().collect()
    }

    fn stop(&mut self, host: HostId, noticed: Noticed, kept: Kept, off: Duration) -> Struck {
        if let Some(node) = self.node_at(host) {
            return self.stop_node(node, noticed, kept, off);
        }
        if self.index_hosts.contains(&host.0) {
            self.index.off_until = self.index.off_until.max(self.now + off);
            return Struck::Yes;
        }
        Struck::No
    }

    fn stop_node(&mut self, node: u32, noticed: Noticed, kept: Kept, off: Duration) -> Struck {
        let boot_at = self.now + off;
        let state = &mut self.nodes[node as usize];
        let Some(rare) = &mut state.rare else { return Struck::No };
        if state.funder.take().is_some() {
            let waiting = rare.disk.waiting();
            rare.disk.crash(match kept {
                Kept::Nothing => 0,
                Kept::Some => self.weather.dice.below(waiting as u64 + 1) as usize,
                Kept::Everything => waiting,
            });
            rare.trap = None;
            self.counts.crashes += 1;
            self.break_links_of(node, noticed);
        }
        let life = self.nodes[node as usize].life;
        self.queue.push(boot_at, node, Event::Boot { life });
        Struck::Yes
    }

    /// Whether a node crashes at this point.
    pub(super) fn passes(&mut self, node: u32, point: CrashPoint) -> bool {
        let Some(rare) = &mut self.nodes[node as usize].rare else { return false };
        let Some(trap) = &mut rare.trap else { return false };
        if trap.point != point {
            return false;
        }
        if trap.after > 0 {
            trap.after -= 1;
            return false;
        }
        rare.trap = None;
        true
    }

    /// A node crashes at a point of its own doing: what it was writing is lost.
    pub(super) fn crash_in_trap(&mut self, node: u32) {
        self.stop_node(node, Noticed::Soon, Kept::Nothing, RESTART);
    }

    /// Ends everything that goes wrong. Who stands still does so to the end of its pause.
    pub(super) fn heal(&mut self) {
        for name in self.weather.cuts.keys().copied().collect::<Vec<_>>() {
            self.heal_cut(name);
        }
        self.weather.clogs.clear();
        self.weather.flushes.clear();
        self.index.off_until = self.now;
        for node in 0..self.nodes.len() as u32 {
            let state = &mut self.nodes[node as usize];
            let Some(rare) = &mut state.rare else { continue };
            rare.trap = None;
            rare.disk_fails_until = self.now;
            if state.funder.is_none() {
                let life = state.life;
                self.queue.push(self.now, node, Event::Boot { life });
            }
        }
    }
}

impl Weather {
    fn clog(&mut self, node: Option<u32>, extra: Duration) -> Struck {
        let Some(node) = node else { return Struck::No };
        if extra == Duration::ZERO {
            self.clogs.remove(&node)
        } else {
            self.clogs.insert(node, extra)
        };
        Struck::Yes
    }

    fn slow_disk(&mut self, node: Option<u32>, flush: Latency) -> Struck {
        let Some(node) = node else { return Struck::No };
        if flush == QUIET_FLUSH {
            self.flushes.remove(&node)
        } else {
            self.flushes.insert(node, flush)
        };
        Struck::Yes
    }
}

/// Whether a fault means anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Struck {
    Yes,
    No,
}
