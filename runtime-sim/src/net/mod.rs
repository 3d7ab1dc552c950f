//! The network: ordered streams of bytes between hosts, with everything that goes wrong with them.
//!
//! | fault | what the two ends notice |
//! |---|---|
//! | refused | the caller, after a round trip |
//! | hanging | nothing; the caller gives up by itself |
//! | reset | both, after the way there |
//! | black hole (half-open, a forgotten NAT mapping) | nothing, ever, until they give up by themselves |
//! | cut (partition) | nothing while it lasts; what was under way arrives after it |
//! | host without power | nothing; after it is back, a reset for whoever speaks |
//!
//! 1. What arrives is a prefix of what was written, in order, unchanged: damage is the cheaters' trade, not the network's.
//! 2. What one direction holds (send buffer, flight, receive buffer) is bounded; a writer beyond it waits.
//! 3. A host reads its own links only; a number of a closed link is never used again.

mod flow;
mod partition;
mod said;

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::machine::{Duration, Instant};
use serde::{Deserialize, Serialize};

pub use partition::{Cut, CutId, Cuts};

use crate::dice::mixed;
use crate::host::HostId;
use crate::kernel::{Draw, Event, Kernel};
use crate::latency::Latency;
use flow::{Flow, Segment};
use said::Said;

/// One connection, for as long as the world lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId {
    slot: u32,
    generation: u32,
}

impl LinkId {
    /// As one number, for traces.
    pub const fn number(self) -> u64 {
        ((self.generation as u64) << 32) | self.slot as u64
    }
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Who asked for it.
    Caller,
    /// Who accepted it.
    Callee,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Side::Caller => Side::Callee,
            Side::Callee => Side::Caller,
        }
    }

    const fn index(self) -> usize {
        match self {
            Side::Caller => 0,
            Side::Callee => 1,
        }
    }
}

/// How the network behaves when nothing is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Conditions {
    /// One way.
    pub latency: Latency,
    /// Bytes a second, each connection and direction; 0: no limit.
    pub bandwidth: u64,
    /// Bytes of a send buffer.
    pub send_buffer: usize,
    /// Bytes of a receive buffer, flight included.
    pub receive_buffer: usize,
    /// How streams are cut into segments and reads.
    pub cuts: StreamCuts,
}

/// How streams are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StreamCuts {
    /// As they were written, as far as there is room.
    Whole,
    /// Anywhere.
    Anywhere,
}

/// What a read gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(Vec<u8>),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

/// What became of a connection attempt at the host that was asked.
pub(crate) enum Asked {
    /// Nothing: the caller gave up, or nobody is there.
    Nothing,
    /// Somebody wants to speak to this port.
    Wanted { port: u16, from: HostId },
}

#[derive(Debug)]
struct End {
    host: HostId,
    /// Whether the host still has it open.
    held: bool,
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    /// By receiver.
    flows: [Flow; 2],
    port: u16,
    black_hole: bool,
    /// By speaker.
    said: [Said; 2],
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    link: Option<Link>,
}

/// How often things went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounts {
    /// Connections asked for.
    pub asked: u64,
    /// Connections made.
    pub made: u64,
    /// Bytes that arrived.
    pub bytes: u64,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_host: BTreeMap<HostId, BTreeSet<LinkId>>,
    /// Hosts without power.
    dark: BTreeSet<HostId>,
    /// Hosts all of whose packets take longer.
    clogged: BTreeMap<HostId, Duration>,
    pub(crate) cuts: Cuts,
    pub(crate) conditions: Conditions,
    /// How many in a thousand connection attempts are refused for no reason, and how many hang.
    pub(crate) refused_per_mille: u32,
    pub(crate) hanging_per_mille: u32,
    pub(crate) counts: NetCounts,
    /// Bytes that arrived, by host.
    arrived: Vec<u64>,
    /// Whether messages are followed.
    pub(crate) looks_on: bool,
    /// The first message that was not heard as it was said.
    pub(crate) misheard: Option<String>,
    /// Channels whose ends accuse whoever was at the other one, since this was last taken: at which host, of what.
    pub(crate) accused: Vec<(HostId, String)>,
}

/// A lost connection request is sent again after this long, and after twice as long the next time.
const SYN_RETRY: Duration = Duration::from_secs(1);
/// A caller's system gives up after this many requests.
const SYN_TRIES: u8 = 6;
/// What waits behind a cut is sent again this long after the cut ended.
const RESEND_AFTER_CUT: Duration = Duration::from_millis(200);

impl Network {
    pub(crate) fn new(conditions: Conditions) -> Self {
        Network {
            slots: Vec::new(),
            free: Vec::new(),
            by_host: BTreeMap::new(),
            dark: BTreeSet::new(),
            clogged: BTreeMap::new(),
            cuts: Cuts::default(),
            conditions,
            refused_per_mille: 0,
            hanging_per_mille: 0,
            counts: NetCounts::default(),
            arrived: Vec::new(),
            looks_on: true,
            misheard: None,
            accused: Vec::new(),
        }
    }

    /// `from` asks `to` for a connection.
    pub(crate) fn connect(&mut self, kernel: &mut Kernel, from: HostId, to: HostId, port: u16) -> LinkId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let generation = self.slots[slot as usize].generation;
        let id = LinkId { slot, generation };
        let ends = [End { host: from, held: true }, End { host: to, held: false }];
        let black_hole = kernel.dice_between(Draw::Hang, from, to).chance(self.hanging_per_mille);
        self.slots[slot as usize].link =
            Some(Link { ends, flows: Default::default(), port, black_hole, said: Default::default() });
        self.by_host.entry(from).or_default().insert(id);
        self.by_host.entry(to).or_default().insert(id);
        self.counts.asked += 1;
        let delay = self.delay(kernel, from, to);
        kernel.after(delay, to, Event::Syn { link: id, tries: 1 });
        id
    }

    /// A request for a connection reaches the host that is asked.
    pub(crate) fn on_syn(&mut self, kernel: &mut Kernel, id: LinkId, tries: u8) -> Asked {
        let Some(link) = self.link(id) else { return Asked::Nothing };
        let [from, to] = [link.ends[0].host, link.ends[1].host];
        if !link.ends[0].held || link.black_hole {
            return Asked::Nothing;
        }
        if self.cuts.block(from, to) || self.dark.contains(&to) {
            if tries < SYN_TRIES {
                kernel.after(SYN_RETRY.times(1 << tries), to, Event::Syn { link: id, tries: tries + 1 });
            }
            return Asked::Nothing;
        }
        if kernel.dice_between(Draw::Refuse, from, to).chance(self.refused_per_mille) {
            self.answer(kernel, id, false);
            return Asked::Nothing;
        }
        Asked::Wanted { port: link.port, from }
    }

    /// The host that was asked answers.
    pub(crate) fn answer(&mut self, kernel: &mut Kernel, id: LinkId, accepted: bool) {
        let Some(link) = self.link_mut(id) else { return };
        link.ends[1].held = accepted;
        let [caller, callee] = [link.ends[0].host, link.ends[1].host];
        let delay = self.delay(kernel, callee, caller);
        kernel.after(delay, caller, Event::SynAnswer { link: id, accepted });
    }

    /// The answer reaches the caller; whether it hears it.
    pub(crate) fn on_answer(&mut self, kernel: &mut Kernel, id: LinkId, accepted: bool) -> bool {
        let Some(link) = self.link(id) else { return false };
        let [caller, callee] = [link.ends[0].host, link.ends[1].host];
        if link.black_hole {
            return false;
        }
        if self.cuts.block(callee, caller) {
            kernel.after(SYN_RETRY, caller, Event::SynAnswer { link: id, accepted });
            return false;
        }
        self.counts.made += u64::from(accepted);
        true
    }

    /// Writes as much of `bytes` as there is room for; gives how much. Who could not write everything is told when it can.
    pub(crate) fn write(&mut self, kernel: &mut Kernel, id: LinkId, side: Side, bytes: &[u8]) -> usize {
        let buffer = self.conditions.send_buffer;
        let mut taken = 0;
        loop {
            let Some(link) = self.link_mut(id) else { return bytes.len() };
            let flow = &mut link.flows[side.other().index()];
            let room = buffer.saturating_sub(flow.unsent());
            let more = &bytes[taken..bytes.len().min(taken + room)];
            taken += more.len();
            flow.push(more);
            flow.writer_waits = taken < bytes.len();
            kernel.trace.bytes(more);
            self.pump(kernel, id, side);
            // What could be sent at once has made room; nobody would tell of it later.
            if more.is_empty() || taken == bytes.len() {
                return taken;
            }
        }
    }

    /// Reads at most `most` bytes.
    pub(crate) fn read(&mut self, kernel: &mut Kernel, id: LinkId, side: Side, most: usize) -> Read {
        let cuts = self.conditions.cuts;
        let Some(link) = self.link_mut(id) else { return Read::End };
        let [reader, writer] = [link.ends[side.index()].host, link.ends[side.other().index()].host];
        let flow = &mut link.flows[side.index()];
        let most = match cuts {
            StreamCuts::Whole => most,
            StreamCuts::Anywhere => {
                // Several reads of one moment differ by what there is left to read.
                let place = u64::from(reader.0) << 32 | flow.under_way() as u64;
                kernel.dice(Draw::Read, place).between(1, most as u64) as usize
            }
        };
        let bytes = flow.read(most);
        if bytes.is_empty() {
            return if flow.ended { Read::End } else { Read::Nothing };
        }
        let tell = flow.unsent() > 0 && !flow.window_told;
        flow.window_told |= tell;
        if tell {
            let delay = self.delay(kernel, reader, writer);
            kernel.after(delay, writer, Event::Window { link: id, side: side.other() });
        }
        Read::Bytes(bytes)
    }

    /// Whether there is something to read, if only the end.
    pub(crate) fn readable(&self, id: LinkId, side: Side) -> bool {
        self.link(id).is_some_and(|link| {
            let flow = &link.flows[side.index()];
            flow.has_received() || flow.ended
        })
    }

    /// This side writes no more; what it wrote still arrives, then the end.
    pub(crate) fn finish(&mut self, kernel: &mut Kernel, id: LinkId, side: Side) {
        let Some(link) = self.link_mut(id) else { return };
        link.flows[side.other().index()].finish();
        self.pump(kernel, id, side);
    }

    /// This side lets go. What it wrote still arrives; what it did not read is lost, and the other side hears of that.
    pub(crate) fn release(&mut self, kernel: &mut Kernel, id: LinkId, side: Side) {
        self.finish(kernel, id, side);
        let Some(link) = self.link_mut(id) else { return };
        let unread = link.flows[side.index()].has_received();
        link.ends[side.index()].held = false;
        if unread {
            self.send_reset(kernel, id, side.other());
        }
        self.free_if_let_go(id);
    }

    /// This side breaks the connection: what is under way is lost.
    pub(crate) fn abort(&mut self, kernel: &mut Kernel, id: LinkId, side: Side) {
        let Some(link) = self.link_mut(id) else { return };
        link.ends[side.index()].held = false;
        link.flows[side.other().index()].drop_unsent();
        self.send_reset(kernel, id, side.other());
        self.free_if_let_go(id);
    }

    /// A host's process died: its system breaks this link of it.
    pub(crate) fn abandon(&mut self, kernel: &mut Kernel, id: LinkId, host: HostId) {
        let Some(link) = self.link(id) else { return };
        let side = if link.ends[0].host == host { Side::Caller } else { Side::Callee };
        if link.ends[side.index()].held {
            self.abort(kernel, id, side);
        }
    }

    fn count(&mut self, to: HostId, bytes: u64) {
        self.counts.bytes += bytes;
        let place = to.0 as usize;
        if self.arrived.len() <= place {
            self.arrived.resize(place + 1, 0);
        }
        self.arrived[place] += bytes;
    }

    /// Bytes that arrived at a host.
    pub(crate) fn bytes_to(&self, host: HostId) -> u64 {
        self.arrived.get(host.0 as usize).copied().unwrap_or(0)
    }

    /// A segment is due; whether the host has something to read.
    pub(crate) fn on_arrive(&mut self, kernel: &mut Kernel, id: LinkId, side: Side) -> bool {
        let now = kernel.now;
        let Some(link) = self.link(id) else { return false };
        let [to, from] = [link.ends[side.index()].host, link.ends[side.other().index()].host];
        let (held, lost) = (link.ends[side.index()].held, link.black_hole);
        let blocked = self.cuts.block(from, to);
        let dark = self.dark.contains(&to);
        let Some(link) = self.link_mut(id) else { return false };
        let flow = &mut link.flows[side.index()];
        if lost || blocked {
            flow.stalled = true;
            return false;
        }
        let arrived = flow.arrive(now);
        if !held {
            // Nobody is there: the sender is told, unless the machine is off.
            flow.drop_received();
            if arrived > 0 && !dark {
                self.send_reset(kernel, id, side.other());
            }
            return false;
        }
        self.count(to, arrived as u64);
        self.readable(id, side)
    }

    /// The other side has room again; whether this side's host waits to write.
    pub(crate) fn on_window(&mut self, kernel: &mut Kernel, id: LinkId, side: Side) -> bool {
        let Some(link) = self.link_mut(id) else { return false };
        link.flows[side.other().index()].window_told = false;
        self.pump(kernel, id, side);
        let half = self.conditions.send_buffer / 2;
        let Some(link) = self.link_mut(id) else { return false };
        let flow = &mut link.flows[side.other().index()];
        let tell = flow.writer_waits && flow.unsent() <= half;
        flow.writer_waits &= !tell;
        tell && link.ends[side.index()].held
    }

    /// News of a broken connection reach this side; whether its host had it open.
    pub(crate) fn on_reset(&mut self, id: LinkId, side: Side) -> bool {
        let Some(link) = self.link_mut(id) else { return false };
        let [receiver, sender] = [side.index(), side.other().index()];
        let [to, from] = [link.ends[receiver].host, link.ends[sender].host];
        let lost = link.black_hole;
        if lost || self.cuts.block(from, to) || self.dark.contains(&to) {
            return false;
        }
        let Some(link) = self.link_mut(id) else { return false };
        let held = std::mem::replace(&mut link.ends[receiver].held, false);
        link.flows[sender].drop_unsent();
        self.free_if_let_go(id);
        held
    }

    /// All links of a host.
    pub(crate) fn links_of(&self, host: HostId) -> Vec<LinkId> {
        self.by_host.get(&host).map(|links| links.iter().copied().collect()).unwrap_or_default()
    }

    /// One of the links that there are, by a number. The same number means the same link as long as that is there, whatever
    /// others come and go: the one whose ends, with the number, give the highest hash (Thaler, Ravishankar 1998).
    pub(crate) fn choose(&self, number: u64) -> Option<LinkId> {
        let mut alike: BTreeMap<(HostId, HostId, u16), u64> = BTreeMap::new();
        let mut chosen: Option<(u64, LinkId)> = None;
        for id in self.all_links() {
            let Some(Link { ends: [caller, callee], port, .. }) = self.link(id) else { continue };
            let (caller, callee) = (caller.host, callee.host);
            let which = alike.entry((caller, callee, *port)).or_default();
            let ends = mixed(u64::from(caller.0) << 32 | u64::from(callee.0));
            let score = mixed(number ^ mixed(ends ^ u64::from(*port) ^ *which << 16));
            *which += 1;
            if chosen.is_none_or(|(highest, _)| score > highest) {
                chosen = Some((score, id));
            }
        }
        chosen.map(|(_, id)| id)
    }

    /// All links, oldest slot first.
    pub(crate) fn all_links(&self) -> Vec<LinkId> {
        let open =
            |(slot, s): (usize, &Slot)| s.link.as_ref().map(|_| LinkId { slot: slot as u32, generation: s.generation });
        self.slots.iter().enumerate().filter_map(open).collect()
    }

    // -- faults

    /// Breaks a connection: both ends hear of it.
    pub(crate) fn reset(&mut self, kernel: &mut Kernel, id: LinkId) {
        for side in [Side::Caller, Side::Callee] {
            self.send_reset(kernel, id, side);
        }
    }

    /// Breaks a connection so that nobody hears of it.
    pub(crate) fn swallow(&mut self, id: LinkId) {
        if let Some(link) = self.link_mut(id) {
            link.black_hole = true;
        }
    }

    /// The host loses power: nobody hears anything of it.
    pub(crate) fn darken(&mut self, host: HostId) {
        self.dark.insert(host);
        for id in self.links_of(host) {
            if let Some(link) = self.link_mut(id) {
                let side = if link.ends[0].host == host { Side::Caller } else { Side::Callee };
                link.ends[side.index()].held = false;
                link.flows[side.other().index()].drop_unsent();
                self.free_if_let_go(id);
            }
        }
    }

    /// The host has power again.
    pub(crate) fn lighten(&mut self, host: HostId) {
        self.dark.remove(&host);
    }

    /// Slows all packets from and to a host; zero: no more.
    pub(crate) fn clog(&mut self, host: HostId, extra: Duration) {
        if extra == Duration::ZERO {
            self.clogged.remove(&host);
        } else {
            self.clogged.insert(host, extra);
        }
    }

    /// Ends every cut, clog, refusal and hanging; what waited behind a cut goes on its way. Swallowed links stay so: their
    /// ends must find out.
    pub(crate) fn heal(&mut self, kernel: &mut Kernel) {
        self.cuts.heal_all();
        self.clogged.clear();
        self.refused_per_mille = 0;
        self.hanging_per_mille = 0;
        self.resend_stalled(kernel);
    }

    /// Ends one cut.
    pub(crate) fn heal_cut(&mut self, kernel: &mut Kernel, cut: CutId) {
        self.cuts.heal(cut);
        self.resend_stalled(kernel);
    }

    fn resend_stalled(&mut self, kernel: &mut Kernel) {
        for id in self.all_links() {
            for side in [Side::Caller, Side::Callee] {
                let Some(link) = self.link(id) else { continue };
                let [to, from] = [link.ends[side.index()].host, link.ends[side.other().index()].host];
                if !link.flows[side.index()].stalled || link.black_hole || self.cuts.block(from, to) {
                    continue;
                }
                let at = kernel.now + RESEND_AFTER_CUT + self.delay(kernel, from, to);
                if let Some(link) = self.link_mut(id) {
                    link.flows[side.index()].restart(at);
                    kernel.at(at, to, Event::Arrive { link: id, side });
                }
            }
        }
    }

    // -- inside

    fn link(&self, id: LinkId) -> Option<&Link> {
        self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?.link.as_ref()
    }

    fn link_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?.link.as_mut()
    }

    fn delay(&self, kernel: &mut Kernel, from: HostId, to: HostId) -> Duration {
        let base = self.conditions.latency.draw(&mut kernel.dice_between(Draw::Latency, from, to));
        let extra =
            [from, to].iter().filter_map(|host| self.clogged.get(host)).map(|extra| extra.as_micros()).sum::<u64>();
        Duration::from_micros(base.as_micros() + extra)
    }

    /// Sends what `side` has written, as far as the other side has room.
    fn pump(&mut self, kernel: &mut Kernel, id: LinkId, side: Side) {
        let Conditions { receive_buffer, bandwidth, cuts, .. } = self.conditions;
        let Some(link) = self.link(id) else { return };
        let [from, to] = [link.ends[side.index()].host, link.ends[side.other().index()].host];
        let mut dice = kernel.dice_between(Draw::Segment, from, to);
        loop {
            let Some(link) = self.link_mut(id) else { return };
            let flow = &mut link.flows[side.other().index()];
            let mut most = receive_buffer.saturating_sub(flow.under_way()).min(flow.unsent());
            if cuts == StreamCuts::Anywhere && most > 1 {
                most = dice.between(1, most as u64) as usize;
            }
            let Some(segment) = flow.next_segment(most) else { return };
            let size = match &segment {
                Segment::Bytes(bytes) => bytes.len() as u64,
                Segment::End => 0,
            };
            let latency = self.delay(kernel, from, to);
            let Some(link) = self.link_mut(id) else { return };
            let flow = &mut link.flows[side.other().index()];
            let sending = (size * 1_000_000).checked_div(bandwidth).unwrap_or(0);
            if let Some(at) = flow.launch(kernel.now, Duration::from_micros(sending), latency, segment) {
                kernel.at(at, to, Event::Arrive { link: id, side: side.other() });
            }
        }
    }

    fn send_reset(&mut self, kernel: &mut Kernel, id: LinkId, side: Side) {
        let Some(link) = self.link(id) else { return };
        let [to, from] = [link.ends[side.index()].host, link.ends[side.other().index()].host];
        let delay = self.delay(kernel, from, to);
        kernel.after(delay, to, Event::Reset { link: id, side });
    }

    /// Forgets a link that neither host holds any more.
    fn free_if_let_go(&mut self, id: LinkId) {
        let Some(link) = self.link(id) else { return };
        if link.ends.iter().any(|end| end.held) {
            return;
        }
        for host in [link.ends[0].host, link.ends[1].host] {
            if let Some(links) = self.by_host.get_mut(&host) {
                links.remove(&id);
            }
        }
        let slot = &mut self.slots[id.slot as usize];
        slot.link = None;
        slot.generation += 1;
        self.free.push(id.slot);
    }
}

/// When nothing is drawn: 20 ms one way, no limit of bandwidth, 64 KiB of buffer at each end.
impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            latency: Latency::Constant(Duration::from_millis(20)),
            bandwidth: 0,
            send_buffer: 64 * 1_024,
            receive_buffer: 64 * 1_024,
            cuts: StreamCuts::Whole,
        }
    }
}

/// The time at which a thing that was sent arrives is never before that of a thing sent earlier.
fn in_order(after: Instant, at: Instant) -> Instant {
    at.max(after)
}
