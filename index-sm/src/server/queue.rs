//! Who waits for a search, and what searches cost: the book behind [`searches`](super::searches).
//!
//! A client's requests wait in two queues, one for each [`Effort`]. In each queue clients have turns. Whoever is taken out
//! of his queue otherwise keeps his turn, which is passed over when it comes: so nothing here takes longer the more wait.
//! A client has one turn in each queue at most, good or passed over.

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::index::RequestRoutes;
use offset_protocol::machine::Instant;
use offset_protocol::net::ConnId;

use super::ServerLimits;
use super::searches::{
    CLIENT_WORK_BURST, CLIENT_WORK_INTERVAL, MAX_ASKERS, QUICK_BEFORE_FULL, SEARCH_PATIENCE, SEARCHES_AHEAD, SearchId,
    WORK_BURST, WORK_INTERVAL, WORK_UNIT,
};
use crate::backoff::Bucket;

/// How much work a search may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Little, but enough for nearly all requests.
    Quick,
    /// All that a request may cost; after a quick search that was cut off.
    Full,
}

impl Effort {
    /// Lines that such a search looks at, at most.
    pub(super) fn work(self, limits: &ServerLimits) -> u64 {
        match self {
            Effort::Quick => limits.work.min(limits.quick_work),
            Effort::Full => limits.work,
        }
    }
}

/// All requests that are not answered yet, and what searches cost lately.
#[derive(Default)]
pub(super) struct Searches {
    next: u64,
    /// By effort, and number, which is by time.
    waiting: [BTreeMap<SearchId, Waiting>; 2],
    running: BTreeMap<SearchId, Running>,
    running_full: usize,
    askers: BTreeMap<PublicKey, Asker>,
    /// By effort: clients with requests that wait, in the order of their turns.
    turns: [VecDeque<PublicKey>; 2],
    /// Quick searches since the last full one.
    quick_in_row: u32,
    /// In units for each thread; and what makes no whole unit yet, in lines for all.
    work: Bucket,
    work_lines: u64,
    /// Lines that searches which are out may cost.
    held: u64,
    /// When there is room for the quick search that waits for nothing but the budget.
    budget_at: Option<Instant>,
}

pub(super) struct Waiting {
    pub(super) client: PublicKey,
    pub(super) since: Instant,
    pub(super) request: RequestRoutes,
    pub(super) effort: Effort,
}

pub(super) struct Running {
    pub(super) client: PublicKey,
    /// Where the answer goes.
    pub(super) conn: ConnId,
    pub(super) effort: Effort,
    /// Lines that it may look at.
    pub(super) work: u64,
}

/// Whose turn it is, and what comes of it.
pub(super) enum Turn {
    Search(SearchId, Waiting),
    /// The budgets are used up.
    Refuse(Waiting),
}

/// What a budget says to a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Now,
    /// When what is out is over, if it costs little.
    Perhaps,
    Not,
}

#[derive(Default)]
struct Asker {
    waiting: [VecDeque<SearchId>; 2],
    has_turn: [bool; 2],
    running: [usize; 2],
    work: Bucket,
    /// Units that searches which are out may cost.
    held: u64,
}

impl Asker {
    fn room(&self, now: Instant, work: u64) -> Room {
        let units = client_units(work);
        let has_room = |units: u64| self.work.has_room(now, CLIENT_WORK_INTERVAL, CLIENT_WORK_BURST, units);
        match (has_room(units + self.held), has_room(units)) {
            (true, _) => Room::Now,
            (false, true) => Room::Perhaps,
            (false, false) => Room::Not,
        }
    }

    /// Requests that are not answered.
    fn open(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum::<usize>() + self.running.iter().sum::<usize>()
    }

    /// Whether it can be forgotten.
    fn is_done(&self, now: Instant) -> bool {
        self.open() == 0 && self.has_turn == [false; 2] && self.work.is_full(now)
    }
}

/// Units of a client's budget that so many lines take; those of a search beyond all bursts wait for a full budget.
fn client_units(lines: u64) -> u64 {
    lines.div_ceil(WORK_UNIT).min(CLIENT_WORK_BURST)
}

fn workers(limits: &ServerLimits) -> usize {
    limits.workers.max(1)
}

/// Half of the threads, but one at least.
fn half(threads: usize) -> usize {
    (threads / 2).max(1)
}

impl Searches {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().map(BTreeMap::len).sum()
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn running_full(&self) -> usize {
        self.running_full
    }

    /// Whether this client may have one more request, if there is a place at all.
    pub(super) fn has_place_for(&self, now: Instant, client: &PublicKey, limits: &ServerLimits) -> bool {
        match self.askers.get(client) {
            Some(asker) => {
                asker.room(now, Effort::Quick.work(limits)) != Room::Not && asker.open() < limits.max_searches_each
            }
            None => self.askers.len() < MAX_ASKERS,
        }
    }

    pub(super) fn is_full(&self, limits: &ServerLimits) -> bool {
        self.waiting() + self.running() >= limits.max_searches.max(1)
    }

    pub(super) fn add(&mut self, now: Instant, client: PublicKey, request: RequestRoutes, effort: Effort) {
        self.next += 1;
        let (id, of) = (SearchId(self.next), effort as usize);
        self.waiting[of].insert(id, Waiting { client, since: now, request, effort });
        let asker = self.askers.entry(client).or_default();
        asker.waiting[of].push_back(id);
        if !std::mem::replace(&mut asker.has_turn[of], true) {
            self.turns[of].push_back(client);
        }
    }

    /// When the oldest request that waits is met with `Busy`.
    pub(super) fn next_refusal(&self) -> Option<Instant> {
        self.oldest().map(|(since, _)| since + SEARCH_PATIENCE)
    }

    /// When there is room for the search that waits for nothing but the budget of all.
    pub(super) fn next_budget(&self) -> Option<Instant> {
        self.budget_at
    }

    fn oldest(&self) -> Option<(Instant, Effort)> {
        let oldest = self.waiting.iter().filter_map(|waiting| waiting.values().next());
        oldest.map(|waiting| (waiting.since, waiting.effort)).min_by_key(|(since, _)| *since)
    }

    /// Takes a request that has waited too long.
    pub(super) fn take_impatient(&mut self, now: Instant) -> Option<Waiting> {
        let (since, effort) = self.oldest()?;
        if since + SEARCH_PATIENCE <= now { self.take_oldest(effort) } else { None }
    }

    /// Takes the oldest request that waits for such a search, out of its turn.
    pub(super) fn take_oldest(&mut self, effort: Effort) -> Option<Waiting> {
        let (_, waiting) = self.waiting[effort as usize].pop_first()?;
        if let Some(asker) = self.askers.get_mut(&waiting.client) {
            // The oldest of all is the oldest of its client.
            asker.waiting[effort as usize].pop_front();
        }
        Some(waiting)
    }

    /// Forgets the requests of a client that has left; its searches go on, for nobody.
    pub(super) fn forget_waiting(&mut self, client: &PublicKey) {
        let Some(asker) = self.askers.get_mut(client) else { return };
        for (of, waiting) in asker.waiting.iter_mut().enumerate() {
            for id in std::mem::take(waiting) {
                self.waiting[of].remove(&id);
            }
        }
    }

    /// Takes the request whose turn it is, if there is a place for its search.
    pub(super) fn take_turn(&mut self, now: Instant, limits: &ServerLimits) -> Option<Turn> {
        self.budget_at = None;
        if self.running.len() >= workers(limits) * SEARCHES_AHEAD {
            return None;
        }
        if self.is_full_ones_turn(limits)
            && let Some(turn) = self.take_turn_of(now, limits, Effort::Full)
        {
            return Some(turn);
        }
        self.take_turn_of(now, limits, Effort::Quick)
    }

    /// Full searches have half of the threads, whatever else waits. A single thread they have only when there is no quick
    /// one, or after many.
    fn is_full_ones_turn(&self, limits: &ServerLimits) -> bool {
        let quick = self.waiting[Effort::Quick as usize].len() + self.running.len() - self.running_full;
        let first = workers(limits) > 1 || quick == 0 || self.quick_in_row >= QUICK_BEFORE_FULL;
        first && self.running_full < half(workers(limits))
    }

    fn take_turn_of(&mut self, now: Instant, limits: &ServerLimits, effort: Effort) -> Option<Turn> {
        let (of, work) = (effort as usize, effort.work(limits));
        if self.waiting[of].is_empty() {
            self.pass_over(effort);
            return None;
        }
        let room = self.room(now, work, limits);
        match (room, effort) {
            (Room::Now, _) | (Room::Not, Effort::Full) => {}
            (Room::Perhaps, _) => return None,
            (Room::Not, Effort::Quick) => {
                self.budget_at = Some(self.room_at(work, limits));
                return None;
            }
        }
        for _ in 0..self.turns[of].len() {
            let client = self.turns[of].pop_front()?;
            let Some(asker) = self.askers.get_mut(&client) else { continue };
            let waits = !asker.waiting[of].is_empty();
            let own = asker.room(now, work);
            let threads = match effort {
                Effort::Quick => workers(limits),
                Effort::Full => half(workers(limits)),
            };
            let takes = waits && asker.running[of] < half(threads) && own != Room::Perhaps;
            let id = if takes { asker.waiting[of].pop_front() } else { None };
            asker.has_turn[of] = !asker.waiting[of].is_empty();
            if asker.has_turn[of] {
                self.turns[of].push_back(client);
            }
            if let Some(waiting) = id.and_then(|id| Some((id, self.waiting[of].remove(&id)?))) {
                let (id, waiting) = waiting;
                let refused = own == Room::Not || room == Room::Not;
                return Some(if refused { Turn::Refuse(waiting) } else { Turn::Search(id, waiting) });
            }
        }
        None
    }

    /// Nobody waits: all turns are such as are passed over.
    fn pass_over(&mut self, effort: Effort) {
        for client in self.turns[effort as usize].drain(..) {
            if let Some(asker) = self.askers.get_mut(&client) {
                asker.has_turn[effort as usize] = false;
            }
        }
    }

    /// A search is handed out.
    pub(super) fn begin(&mut self, id: SearchId, running: Running) {
        self.held += running.work;
        if let Some(asker) = self.askers.get_mut(&running.client) {
            asker.running[running.effort as usize] += 1;
            asker.held += client_units(running.work);
        }
        match running.effort {
            Effort::Quick => self.quick_in_row = self.quick_in_row.saturating_add(1),
            Effort::Full => (self.quick_in_row, self.running_full) = (0, self.running_full + 1),
        }
        self.running.insert(id, running);
    }

    /// A search is over, and has looked at so many lines.
    pub(super) fn end(&mut self, now: Instant, id: SearchId, lines: u64, limits: &ServerLimits) -> Option<Running> {
        let running = self.running.remove(&id)?;
        self.held -= running.work;
        if running.effort == Effort::Full {
            self.running_full -= 1;
        }
        let unit = unit(limits);
        self.work_lines += lines;
        self.work.charge(now, WORK_INTERVAL, self.work_lines / unit);
        self.work_lines %= unit;
        if let Some(asker) = self.askers.get_mut(&running.client) {
            asker.running[running.effort as usize] -= 1;
            asker.held -= client_units(running.work);
            asker.work.charge(now, CLIENT_WORK_INTERVAL, lines.div_ceil(WORK_UNIT));
        }
        Some(running)
    }

    /// A client pays for what was done for it.
    pub(super) fn charge_client(&mut self, now: Instant, client: &PublicKey, units: u64) {
        if let Some(asker) = self.askers.get_mut(client) {
            asker.work.charge(now, CLIENT_WORK_INTERVAL, units);
        }
    }

    fn room(&self, now: Instant, work: u64, limits: &ServerLimits) -> Room {
        let has_room = |lines| self.work.has_room(now, WORK_INTERVAL, WORK_BURST, self.units(lines, limits));
        match (has_room(work + self.held), has_room(work)) {
            (true, _) => Room::Now,
            (false, true) => Room::Perhaps,
            (false, false) => Room::Not,
        }
    }

    /// When there is room for so many lines, if nothing more is charged.
    fn room_at(&self, work: u64, limits: &ServerLimits) -> Instant {
        self.work.room_at(WORK_INTERVAL, WORK_BURST, self.units(work, limits))
    }

    /// Units of the budget of all that so many lines more may take.
    fn units(&self, lines: u64, limits: &ServerLimits) -> u64 {
        (self.work_lines + lines).div_ceil(unit(limits)).min(WORK_BURST)
    }

    /// Forgets clients that nothing is to be known of any more.
    pub(super) fn forget_done(&mut self, now: Instant) {
        self.askers.retain(|_, asker| !asker.is_done(now));
    }
}

/// Lines of all threads in a unit of the budget of all.
fn unit(limits: &ServerLimits) -> u64 {
    WORK_UNIT * workers(limits) as u64
}

/// For tests.
#[cfg(any(test, feature = "probes"))]
impl Searches {
    /// Panics if an invariant does not hold.
    pub(super) fn assert_consistent(&self, limits: &ServerLimits) {
        assert!(self.running.len() <= workers(limits) * SEARCHES_AHEAD, "few searches are out");
        assert!(self.running_full <= half(workers(limits)), "full searches leave threads to quick ones");
        assert!(self.waiting() + self.running() <= limits.max_searches.max(1));
        let full = self.running.values().filter(|running| running.effort == Effort::Full).count();
        assert_eq!(full, self.running_full);
        assert_eq!(self.running.values().map(|running| running.work).sum::<u64>(), self.held);
        for of in [0, 1] {
            let waiting: usize = self.askers.values().map(|asker| asker.waiting[of].len()).sum();
            assert_eq!(waiting, self.waiting[of].len(), "what waits belongs to somebody");
            assert!(self.waiting[of].values().is_sorted_by_key(|waiting| waiting.since));
        }
        for (client, asker) in &self.askers {
            self.assert_asker(client, asker);
        }
    }

    fn assert_asker(&self, client: &PublicKey, asker: &Asker) {
        let mine = || self.running.values().filter(|running| running.client == *client);
        assert_eq!(mine().map(|running| client_units(running.work)).sum::<u64>(), asker.held);
        for of in [0, 1] {
            assert_eq!(mine().filter(|running| running.effort as usize == of).count(), asker.running[of]);
            let turns = self.turns[of].iter().filter(|other| *other == client).count();
            assert_eq!(turns, usize::from(asker.has_turn[of]), "a client has one place in turn");
            assert!(asker.has_turn[of] || asker.waiting[of].is_empty(), "whose request waits has a place in turn");
            let of_client = |id| self.waiting[of].get(id).is_some_and(|waiting| waiting.client == *client);
            assert!(asker.waiting[of].iter().all(of_client) && asker.waiting[of].iter().is_sorted());
        }
    }
}

#[cfg(test)]
impl Searches {
    pub(super) fn askers(&self) -> usize {
        self.askers.len()
    }

    /// Turns in both queues, good or passed over.
    pub(super) fn turns(&self) -> usize {
        self.turns.iter().map(VecDeque::len).sum()
    }

    pub(super) fn forgive(&mut self, client: &PublicKey) {
        if let Some(asker) = self.askers.get_mut(client) {
            asker.work = Bucket::default();
        }
    }

    pub(super) fn wear_out(&mut self, now: Instant) {
        self.work.charge(now, WORK_INTERVAL, WORK_BURST);
    }
}
