//! Searches for routes: which request is searched for next, and which is met with `Busy` instead.
//!
//! The server does not search. It hands out jobs, each with a snapshot of the graph ([`Search`]), and whoever runs the
//! machine has them done on any thread and brings back what they found ([`Found`]). So searches keep nothing waiting but
//! searches.
//!
//! | a request | meets |
//! |---|---|
//! | above the rate of its client | `Busy` |
//! | of a client whose searches cost too much lately | `Busy` |
//! | while all searches together cost too much lately, now or when its turn comes | `Busy` |
//! | beyond the places of its client, or of all | `Busy` |
//! | that has waited for [`SEARCH_PATIENCE`] | `Busy` |
//! | any other | a search when its turn comes; then `Routes`, if the connection that asked is still there |
//!
//! 1. Clients take turns, one search each time: who asks once waits for no more than one search of everybody else.
//! 2. No more than [`SEARCHES_AHEAD`] searches for each thread are out, and none waits here for longer than
//!    [`SEARCH_PATIENCE`]. A search looks at no more than [`ServerLimits::work`](super::ServerLimits::work) lines.
//! 3. What a search cost is known when it is over: budgets are overdrawn by what is out, and by no more.
//!
//! Not checked here: that a search comes back. One that never does keeps its place.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use offset_protocol::bytes::PublicKey;
use offset_protocol::index::{IndexToNode, RequestRoutes, Routes};
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::ConnId;
use offset_protocol::{buggify, sometimes};

use super::{IndexServer, QUERY_BURST, QUERY_INTERVAL, ServerOutput};
use crate::answer::{Question, no_routes};
use crate::backoff::Bucket;
use crate::search::Workspace;
use crate::view::View;

/// A request that has waited for its search this long is met with `Busy`. Chosen freely: a person can wait for another
/// server's answer after that.
pub const SEARCH_PATIENCE: Duration = Duration::from_secs(1);
/// Searches that are out for each thread: one that runs, and one so that the thread need not wait for the next.
pub const SEARCHES_AHEAD: usize = 2;
/// Lines of reports in a unit of the budgets below.
pub const WORK_UNIT: u64 = 1_000;
/// All searches together look at a thousand lines each so long for each thread, sustained: about what a core does.
pub const WORK_INTERVAL: Duration = Duration::from_micros(100);
/// Thousands of lines at once, for each thread: two searches of the greatest cost.
pub const WORK_BURST: u64 = 4_000;
/// The searches of one client look at a thousand lines each so long, sustained: a tenth of a thread.
pub const CLIENT_WORK_INTERVAL: Duration = Duration::from_millis(1);
/// Thousands of lines at once for one client: two searches of the greatest cost, or a hundred of the usual.
pub const CLIENT_WORK_BURST: u64 = 4_000;
/// Clients that asked lately, those included that have left. At the limit others are met with `Busy` for a heartbeat.
pub const MAX_ASKERS: usize = 1 << 17;

/// Names a search; never used twice by one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SearchId(u64);

/// A search that the server wants done, on any thread: it has all that it needs.
#[derive(Clone)]
pub struct Search {
    id: SearchId,
    view: Arc<View>,
    question: Question,
    request: RequestRoutes,
    work: u64,
}

/// What a search found. Only a search makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    id: SearchId,
    routes: Routes,
    lines: u64,
    unsound: u64,
}

impl Search {
    /// Which one it is.
    pub fn id(&self) -> SearchId {
        self.id
    }

    /// Searches. The result does not depend on what `workspace` was used for before.
    pub fn run(self, workspace: &mut Workspace) -> Found {
        let answer = self.question.answer(&self.view, workspace, self.work);
        #[cfg(any(test, feature = "probes"))]
        let unsound = self.unsound(&answer);
        #[cfg(not(any(test, feature = "probes")))]
        let unsound = 0;
        Found { id: self.id, routes: answer.routes, lines: answer.lines, unsound }
    }

    /// Options that the snapshot does not carry.
    #[cfg(any(test, feature = "probes"))]
    fn unsound(&self, answer: &crate::answer::Answer) -> u64 {
        let reported = |node: &PublicKey, friend: &PublicKey| {
            let (owner, other) = (*answer.numbers.get(node)?, *answer.numbers.get(friend)?);
            let line = self.view.line(owner, other)?;
            let (recv_capacity, rate) = (line.capacity, line.rate);
            Some(offset_protocol::index::Entry {
                friend: *friend,
                currency: self.request.currency,
                recv_capacity,
                rate,
            })
        };
        let sound = |offer| crate::walk::walk_over(&reported, &self.request, offer).is_ok();
        answer.routes.options.iter().filter(|offer| !sound(offer)).count() as u64
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("id", &self.id).field("request", &self.request).finish_non_exhaustive()
    }
}

/// One server's searches are told apart by their numbers.
impl PartialEq for Search {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Search {}

/// All requests that are not answered yet, and what searches cost lately.
#[derive(Default)]
pub(crate) struct Searches {
    next: u64,
    /// By number, which is by time.
    waiting: BTreeMap<SearchId, Waiting>,
    running: BTreeMap<SearchId, Running>,
    askers: BTreeMap<PublicKey, Asker>,
    /// Clients with requests that wait, in the order of their turns; each once.
    turns: VecDeque<PublicKey>,
    /// In units for each thread; and what makes no whole unit yet, in lines for all.
    work: Bucket,
    work_lines: u64,
}

struct Waiting {
    client: PublicKey,
    since: Instant,
    request: RequestRoutes,
}

struct Running {
    client: PublicKey,
    /// Where the answer goes.
    conn: ConnId,
}

#[derive(Default)]
struct Asker {
    waiting: VecDeque<SearchId>,
    running: usize,
    work: Bucket,
}

impl Asker {
    fn is_worn_out(&self, now: Instant) -> bool {
        self.work.is_empty(now, CLIENT_WORK_INTERVAL, CLIENT_WORK_BURST)
    }

    /// Whether it can be forgotten.
    fn is_done(&self, now: Instant) -> bool {
        self.waiting.is_empty() && self.running == 0 && self.work.is_full(now)
    }
}

impl Searches {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// When the oldest request that waits is met with `Busy`.
    pub(crate) fn next_refusal(&self) -> Option<Instant> {
        self.waiting.values().next().map(|waiting| waiting.since + SEARCH_PATIENCE)
    }

    fn is_worn_out(&self, now: Instant) -> bool {
        self.work.is_empty(now, WORK_INTERVAL, WORK_BURST)
    }

    fn add(&mut self, now: Instant, client: PublicKey, request: RequestRoutes) {
        self.next += 1;
        let id = SearchId(self.next);
        self.waiting.insert(id, Waiting { client, since: now, request });
        let asker = self.askers.entry(client).or_default();
        if asker.waiting.is_empty() {
            self.turns.push_back(client);
        }
        asker.waiting.push_back(id);
    }

    /// Takes the next request in turn, of a client that has fewer than `each` searches out; the client's next turn comes after
    /// those of all others.
    fn take_turn(&mut self, each: usize) -> Option<(SearchId, Waiting)> {
        for _ in 0..self.turns.len() {
            let client = self.turns.pop_front()?;
            let Some(asker) = self.askers.get_mut(&client) else { continue };
            let id = if asker.running < each { asker.waiting.pop_front() } else { None };
            if !asker.waiting.is_empty() {
                self.turns.push_back(client);
            }
            if let Some(id) = id {
                return Some((id, self.waiting.remove(&id)?));
            }
        }
        None
    }

    /// Takes the oldest request out of its turn.
    fn take_oldest(&mut self) -> Option<Waiting> {
        let (id, waiting) = self.waiting.pop_first()?;
        if let Some(asker) = self.askers.get_mut(&waiting.client) {
            asker.waiting.retain(|other| *other != id);
            if asker.waiting.is_empty() {
                self.turns.retain(|client| *client != waiting.client);
            }
        }
        Some(waiting)
    }

    /// Forgets the requests of a client that has left; its searches go on, for nobody.
    pub(super) fn forget_waiting(&mut self, client: &PublicKey) {
        let Some(asker) = self.askers.get_mut(client) else { return };
        for id in std::mem::take(&mut asker.waiting) {
            self.waiting.remove(&id);
        }
        self.turns.retain(|other| other != client);
    }

    fn charge(&mut self, now: Instant, client: &PublicKey, lines: u64, workers: usize) {
        let unit = WORK_UNIT * workers as u64;
        self.work_lines += lines;
        self.work.charge(now, WORK_INTERVAL, self.work_lines / unit);
        self.work_lines %= unit;
        if let Some(asker) = self.askers.get_mut(client) {
            asker.work.charge(now, CLIENT_WORK_INTERVAL, lines.div_ceil(WORK_UNIT));
        }
    }

    /// Forgets clients that nothing is to be known of any more.
    pub(super) fn forget_done(&mut self, now: Instant) {
        self.askers.retain(|_, asker| !asker.is_done(now));
    }

    #[cfg(test)]
    pub(super) fn askers(&self) -> usize {
        self.askers.len()
    }

    #[cfg(test)]
    pub(super) fn forgive(&mut self, client: &PublicKey) {
        if let Some(asker) = self.askers.get_mut(client) {
            asker.work = Bucket::default();
        }
    }

    #[cfg(test)]
    pub(super) fn wear_out(&mut self, now: Instant) {
        self.work.charge(now, WORK_INTERVAL, WORK_BURST);
    }

    /// Panics if an invariant does not hold.
    #[cfg(any(test, feature = "probes"))]
    pub(super) fn assert_consistent(&self, limits: &super::ServerLimits) {
        assert!(self.running.len() <= limits.workers.max(1) * SEARCHES_AHEAD, "few searches are out");
        assert!(self.waiting.len() + self.running.len() <= limits.max_searches.max(1));
        let waiting: usize = self.askers.values().map(|asker| asker.waiting.len()).sum();
        assert_eq!(waiting, self.waiting.len(), "what waits belongs to somebody");
        for (client, asker) in &self.askers {
            let running = self.running.values().filter(|running| running.client == *client).count();
            assert_eq!(running, asker.running);
            let turns = self.turns.iter().filter(|other| *other == client).count();
            assert_eq!(turns, usize::from(!asker.waiting.is_empty()), "whose request waits has one place in turn");
            let of_client = |id| self.waiting.get(id).is_some_and(|waiting| waiting.client == *client);
            assert!(asker.waiting.iter().all(of_client) && asker.waiting.iter().is_sorted());
        }
        assert!(self.waiting.values().is_sorted_by_key(|waiting| waiting.since));
    }
}

impl IndexServer {
    pub(super) fn on_request(&mut self, now: Instant, node: PublicKey, request: RequestRoutes) {
        let Some(client) = self.clients.get_mut(&node) else { return };
        let conn = client.conn;
        let too_often = !client.queries.take(now, QUERY_INTERVAL, QUERY_BURST);
        sometimes!("index: too many questions", too_often);
        if too_often || !self.has_place(now, &node) || buggify!("index: refuse a question as busy", 50) {
            return self.refuse(conn, request.id);
        }
        self.searches.add(now, node, request);
        self.start_searches(now);
    }

    fn has_place(&self, now: Instant, node: &PublicKey) -> bool {
        let searches = &self.searches;
        let own = match searches.askers.get(node) {
            Some(asker) => {
                !asker.is_worn_out(now) && asker.waiting.len() + asker.running < self.limits.max_searches_each
            }
            None => searches.askers.len() < MAX_ASKERS,
        };
        own && !searches.is_worn_out(now)
            && searches.waiting.len() + searches.running.len() < self.limits.max_searches.max(1)
    }

    fn refuse(&mut self, conn: ConnId, id: u64) {
        self.stats.busy += 1;
        self.send(conn, &IndexToNode::Busy { id });
    }

    fn refuse_waiting(&mut self, waiting: &Waiting) {
        if let Some(conn) = self.clients.get(&waiting.client).map(|client| client.conn) {
            self.refuse(conn, waiting.request.id);
        }
    }

    /// Hands out searches while there are places.
    fn start_searches(&mut self, now: Instant) {
        let workers = self.limits.workers.max(1);
        while self.searches.running.len() < workers * SEARCHES_AHEAD {
            // One client can keep every thread busy, but not the places behind them.
            let Some((id, waiting)) = self.searches.take_turn(workers) else { return };
            let worn_out = self.searches.is_worn_out(now)
                || self.searches.askers.get(&waiting.client).is_some_and(|asker| asker.is_worn_out(now));
            if worn_out {
                self.refuse_waiting(&waiting);
            } else {
                self.start(id, waiting);
            }
        }
        sometimes!("index: a request waits for its turn", self.searches.waiting() > 0);
    }

    fn start(&mut self, id: SearchId, waiting: Waiting) {
        let Waiting { client, request, .. } = waiting;
        let Some(conn) = self.clients.get(&client).map(|client| client.conn) else { return };
        let graph = self.graph.currency_mut(&request.currency);
        let found = graph.and_then(|graph| Some((Question::new(graph, &request)?, graph.snapshot())));
        let Some((question, view)) = found else {
            self.stats.answered += 1;
            return self.send(conn, &IndexToNode::Routes(no_routes(&request)));
        };
        self.searches.running.insert(id, Running { client, conn });
        if let Some(asker) = self.searches.askers.get_mut(&client) {
            asker.running += 1;
        }
        let work = self.limits.work;
        self.outputs.push_back(ServerOutput::Search(Search { id, view, question, request, work }));
    }

    /// A search is over. What it found goes to who asked, over the connection that asked.
    pub(super) fn on_found(&mut self, now: Instant, found: Found) {
        let Some(Running { client, conn }) = self.searches.running.remove(&found.id) else { return };
        if let Some(asker) = self.searches.askers.get_mut(&client) {
            asker.running -= 1;
        }
        self.searches.charge(now, &client, found.lines, self.limits.workers.max(1));
        self.stats.searched += found.lines;
        self.stats.unsound += found.unsound;
        let is_there = self.clients.get(&client).is_some_and(|client| client.conn == conn);
        sometimes!("index: who asked has gone before the answer", !is_there);
        if is_there {
            self.stats.answered += 1;
            self.send(conn, &IndexToNode::Routes(found.routes));
        }
        self.start_searches(now);
    }

    /// Requests that waited too long.
    pub(super) fn refuse_impatient(&mut self, now: Instant) {
        while self.searches.next_refusal().is_some_and(|at| at <= now) {
            sometimes!("index: a request waited too long for its turn", true);
            let Some(waiting) = self.searches.take_oldest() else { return };
            self.refuse_waiting(&waiting);
        }
    }
}
