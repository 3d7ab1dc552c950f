//! Searches for routes: which request is searched for next, and which is met with `Busy` instead.
//!
//! The server does not search. It hands out jobs, each with a snapshot of the graph ([`Search`]), and whoever runs the
//! machine has them done on any thread and brings back what they found ([`Found`]). So searches keep nothing waiting but
//! searches.
//!
//! What a search costs is known when it is over. So each request is first searched for with little work,
//! [`ServerLimits::quick_work`](super::ServerLimits::quick_work),
//! which is enough for nearly all; only what that was too little for waits again, for a search with all of
//! [`ServerLimits::work`](super::ServerLimits::work).
//!
//! | a request | meets |
//! |---|---|
//! | above the rate of its client | `Busy` |
//! | of a client whose searches cost too much lately | `Busy` |
//! | whose turn for a full search comes while all searches together cost too much lately | `Busy` |
//! | beyond the places of its client | `Busy` |
//! | beyond the places of all | `Busy`, or the oldest that waits for a full search does |
//! | that has waited for [`SEARCH_PATIENCE`] | `Busy` |
//! | any other | a search when its turn comes; then `Routes`, if the connection that asked is still there |
//!
//! 1. Clients take turns, one search each time: who asks once waits for no more than one quick search of everybody else, and
//!    for full ones only as far as they take threads: half of them, and no more. With one thread, full ones come after all
//!    quick ones, but for one in [`QUICK_BEFORE_FULL`].
//! 2. No more than [`SEARCHES_AHEAD`] searches for each thread are out, of one client no more than half as many as there are
//!    threads (but one). None waits here for longer than [`SEARCH_PATIENCE`], for either of its searches.
//! 3. Nothing is handed out that the budgets, its client's and that of all, could not pay for at its greatest cost. What is out
//!    counts as if it would cost that; what it did cost is charged when it is over. No budget is overdrawn, if that cost is
//!    within a burst.
//! 4. A request costs its client a unit of work at least, and more for each edge that it excludes: the server's own thread looks them
//!    up.
//!
//! Who waits for what, and what it cost, keeps `queue`. Not checked here: that a search comes back. One that
//! never does keeps its place and what it might cost.

use std::fmt;
use std::sync::Arc;

use offset_protocol::bytes::PublicKey;
use offset_protocol::index::{IndexToNode, RequestRoutes, Routes};
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::ConnId;
use offset_protocol::{buggify, sometimes};

use super::queue::{Effort, Running, Turn, Waiting};
use super::{IndexServer, QUERY_BURST, QUERY_INTERVAL, ServerOutput};
use crate::answer::{Question, no_routes};
use crate::search::Workspace;
use crate::view::View;

/// A request that has waited for its search this long is met with `Busy`. Chosen freely: a person can wait for another
/// server's answer after that.
pub const SEARCH_PATIENCE: Duration = Duration::from_secs(1);
/// Searches that are out for each thread: one that runs, and one so that the thread need not wait for the next.
pub const SEARCHES_AHEAD: usize = 2;
/// With one thread, so many quick searches are handed out before a full one while there are any: at their greatest cost
/// they take as long as it does.
pub const QUICK_BEFORE_FULL: u32 = 40;
/// Excluded edges that cost a client as much as a thousand lines: 64 look-ups, each a path through a tree that is not in the
/// processor's caches.
pub const EXCLUDED_IN_UNIT: usize = 32;
/// Lines of reports in a unit of the budgets below.
pub const WORK_UNIT: u64 = 1_000;
/// All searches together look at a thousand lines each so long for each thread, sustained: about what a core does.
pub const WORK_INTERVAL: Duration = Duration::from_micros(100);
/// Thousands of lines at once, for each thread: two requests of the greatest cost.
pub const WORK_BURST: u64 = 4_200;
/// The searches of one client look at a thousand lines each so long, sustained: a tenth of a thread.
pub const CLIENT_WORK_INTERVAL: Duration = Duration::from_millis(1);
/// Thousands of lines at once for one client: two requests of the greatest cost, quick searches and all, or a burst of usual
/// ones.
pub const CLIENT_WORK_BURST: u64 = 4_200;
/// Clients that asked lately, those included that have left. At the limit others are met with `Busy` for a heartbeat.
pub const MAX_ASKERS: usize = 1 << 17;

/// Names a search; never used twice by one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SearchId(pub(super) u64);

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
    request: RequestRoutes,
    routes: Routes,
    lines: u64,
    unsound: u64,
}

impl Search {
    /// Which one it is.
    pub fn id(&self) -> SearchId {
        self.id
    }

    /// Lines that it looks at, at most.
    #[cfg(test)]
    pub(super) fn work(&self) -> u64 {
        self.work
    }

    /// Searches. The result does not depend on what `workspace` was used for before.
    pub fn run(self, workspace: &mut Workspace) -> Found {
        let answer = self.question.answer(&self.view, workspace, self.work);
        #[cfg(any(test, feature = "probes"))]
        let unsound = self.unsound(&answer);
        #[cfg(not(any(test, feature = "probes")))]
        let unsound = 0;
        Found { id: self.id, request: self.request, routes: answer.routes, lines: answer.lines, unsound }
    }

    /// Options that the snapshot does not carry.
    #[cfg(any(test, feature = "probes"))]
    fn unsound(&self, answer: &crate::answer::Answer) -> u64 {
        let reported = |node: &PublicKey, friend: &PublicKey| {
            let (owner, other) = (*answer.numbers.get(node)?, *answer.numbers.get(friend)?);
            Some(self.view.line(owner, other)?.entry(*friend, self.request.currency))
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

impl IndexServer {
    pub(super) fn on_request(&mut self, now: Instant, node: PublicKey, request: RequestRoutes) {
        let Some(client) = self.clients.get_mut(&node) else { return };
        let conn = client.conn;
        let too_often = !client.queries.take(now, QUERY_INTERVAL, QUERY_BURST);
        sometimes!("index: too many questions", too_often);
        if too_often || !self.make_place(now, &node) || buggify!("index: refuse a question as busy", 50) {
            return self.refuse(conn, request.id);
        }
        self.searches.add(now, node, request, Effort::Quick);
        self.start_searches(now);
    }

    /// Whether there is a place for one more request of this client. Those that wait for a full search give way.
    fn make_place(&mut self, now: Instant, node: &PublicKey) -> bool {
        if !self.searches.has_place_for(now, node, &self.limits) {
            return false;
        }
        if !self.searches.is_full(&self.limits) {
            return true;
        }
        let costly = self.searches.take_oldest(Effort::Full);
        costly.inspect(|costly| self.refuse_waiting(costly)).is_some()
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

    /// Hands out searches while there are places and budgets.
    pub(super) fn start_searches(&mut self, now: Instant) {
        while let Some(turn) = self.searches.take_turn(now, &self.limits) {
            match turn {
                Turn::Search(id, waiting) => self.start(now, id, waiting),
                Turn::Refuse(waiting) => self.refuse_waiting(&waiting),
            }
        }
        sometimes!("index: a request waits for its turn", self.searches.waiting() > 0);
    }

    fn start(&mut self, now: Instant, id: SearchId, waiting: Waiting) {
        let Waiting { client, request, effort, .. } = waiting;
        let Some(conn) = self.clients.get(&client).map(|client| client.conn) else { return };
        let graph = self.graph.currency_mut(&request.currency);
        let found = graph.and_then(|graph| Some((Question::new(graph, &request)?, graph.snapshot())));
        let excluded = if found.is_some() { request.exclude.len() } else { 0 };
        self.searches.charge_client(now, &client, 1 + excluded.div_ceil(EXCLUDED_IN_UNIT) as u64);
        let Some((question, view)) = found else {
            self.stats.answered += 1;
            return self.send(conn, &IndexToNode::Routes(no_routes(&request)));
        };
        let work = effort.work(&self.limits);
        self.searches.begin(id, Running { client, conn, effort, work });
        self.outputs.push_back(ServerOutput::Search(Search { id, view, question, request, work }));
    }

    /// A search is over. What it found goes to who asked, over the connection that asked, unless a full search may find more.
    pub(super) fn on_found(&mut self, now: Instant, found: Found) {
        let Found { id, request, routes, lines, unsound } = found;
        let Some(Running { client, conn, effort, .. }) = self.searches.end(now, id, lines, &self.limits) else {
            return;
        };
        self.stats.searched += lines;
        self.stats.unsound += unsound;
        let is_there = self.clients.get(&client).is_some_and(|client| client.conn == conn);
        sometimes!("index: who asked has gone before the answer", !is_there);
        let cut_off = routes.capped && effort == Effort::Quick && self.limits.work > self.limits.quick_work;
        sometimes!("index: a quick search was not enough", cut_off);
        if is_there && cut_off {
            self.searches.add(now, client, request, Effort::Full);
        } else if is_there {
            self.stats.answered += 1;
            self.send(conn, &IndexToNode::Routes(routes));
        }
        self.start_searches(now);
    }

    /// Requests that waited too long, and such as the budget has room for by now.
    pub(super) fn on_search_alarms(&mut self, now: Instant) {
        while let Some(waiting) = self.searches.take_impatient(now) {
            sometimes!("index: a request waited too long for its turn", true);
            self.refuse_waiting(&waiting);
        }
        if self.searches.next_budget().is_some_and(|at| at <= now) {
            self.start_searches(now);
        }
    }
}
