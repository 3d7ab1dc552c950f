//! What an index server's graph costs and how fast it is searched: `stbench index`.
//!
//! | figure | measured as |
//! |---|---|
//! | bytes an entry | growth of the resident set by the graph, divided by its entries; too small if an earlier size of the same run left memory of about this size behind |
//! | single | [`best`] where it is one route, each request on its own |
//! | options | [`answer`]: with alternatives, and a split where one may be cheaper |
//! | split | `best` for amounts that no single route carries |
//! | update | one entry of one report changed; the next search sees it |
//! | held | the same, each while a snapshot that was taken just before is held, its taking included |
//!
//! The graph is Barabási and Albert's, each node with `m = 4` friends from the start, both directions listed. Rates: 0 to 1 %
//! and 0 to 9 units; capacities: 0 to 1,000,000 units, of which a quarter of the entries passes on all, the others any part; amounts of single routes: 100 to 100,000, the logarithm even; ends:
//! any two nodes. All drawn evenly from one seed. One thread; nothing is kept between requests but the workspace's memory.
//! Times are the thread's own, so that other programs on the machine disturb them little.

use anyhow::{Context, Result};
use offset_index_sm::answer::{answer, best};
use offset_index_sm::graph::Graph;
use offset_index_sm::search::Workspace;
use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::index::{Entry, RequestRoutes, Routes};
use offset_protocol::machine::{Rng, Seed};
use offset_protocol::money::{Currency, Rate};
use rustix::time::{ClockId, clock_gettime};

/// Friends of a node that joins.
const FRIENDS: usize = 4;
/// Capacities are below this.
const MAX_CAPACITY: u64 = 1_000_000;
/// Lines that a request may look at: an index server's default.
const WORK: u64 = 2_000_000;

/// A graph and what draws from its seed.
pub struct Network {
    graph: Graph,
    friendships: Vec<(u32, u32)>,
    nodes: u32,
    currency: Currency,
    rng: Rng,
    workspace: Workspace,
    /// What the graph takes, if the system tells.
    pub bytes: Option<u64>,
}

/// Times of many requests, in seconds, ascending.
pub struct Times {
    seconds: Vec<f64>,
    /// Requests without a route.
    pub failed: usize,
    /// Requests that the limit of work ended.
    pub capped: usize,
}

impl Times {
    /// So much of the requests were answered within this many milliseconds.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        let at = (self.seconds.len() as f64 * part) as usize;
        self.seconds.get(at.min(self.seconds.len().saturating_sub(1))).copied().unwrap_or(f64::NAN) * 1e3
    }

    /// Requests a second, one after the other.
    pub fn rate(&self) -> f64 {
        self.seconds.len() as f64 / self.seconds.iter().sum::<f64>()
    }

    /// Requests measured.
    pub fn count(&self) -> usize {
        self.seconds.len()
    }
}

fn key(node: u32) -> PublicKey {
    let mut bytes = [0; 32];
    // As spread as real keys.
    bytes[..8].copy_from_slice(&u64::from(node).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    PublicKey(bytes)
}

/// Who befriends whom: each node that joins chooses friends in proportion to the friends that they have.
fn barabasi_albert(nodes: u32, rng: &mut Rng) -> Vec<(u32, u32)> {
    let mut pairs = Vec::new();
    // Each friendship puts both its ends here, so that drawing evenly draws by friends.
    let mut ends: Vec<u32> = Vec::new();
    for node in 1..nodes {
        let mut chosen = Vec::new();
        while chosen.len() < FRIENDS.min(node as usize) {
            let friend = match ends.len() {
                0 => 0,
                count => ends[rng.below(count as u64) as usize],
            };
            if friend != node && !chosen.contains(&friend) {
                chosen.push(friend);
            } else if (node as usize) <= FRIENDS {
                let next = rng.below(node.into()) as u32;
                if !chosen.contains(&next) {
                    chosen.push(next);
                }
            }
        }
        for friend in chosen {
            pairs.push((node, friend));
            ends.extend([node, friend]);
        }
    }
    pairs
}

/// What this thread has used of a processor so far.
pub(crate) fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The resident set of this process in bytes.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

/// Bytes of this process that the system keeps in huge pages.
pub fn huge_pages() -> Option<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
}

impl Network {
    /// A network of `nodes`.
    ///
    /// # Errors
    /// Never in practice: the currency's name is a good one.
    pub fn new(nodes: u32, seed: u64) -> Result<Self> {
        let mut rng = Seed::from_number(seed).rng();
        let currency: Currency = "USD".parse().context("currency")?;
        let friendships = barabasi_albert(nodes, &mut rng);
        let mut friends: Vec<Vec<u32>> = vec![Vec::new(); nodes as usize];
        for (a, b) in &friendships {
            friends[*a as usize].push(*b);
            friends[*b as usize].push(*a);
        }
        let before = resident();
        let mut graph = Graph::new();
        for (node, friends) in friends.iter().enumerate() {
            let mut report: Vec<Entry> = friends.iter().map(|friend| entry(*friend, currency, &mut rng)).collect();
            report.sort_unstable();
            graph.replace(&key(node as u32), &report);
        }
        let bytes = resident().zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(Network { graph, friendships, nodes, currency, rng, workspace: Workspace::new(), bytes })
    }

    /// Entries of all reports.
    pub fn entries(&self) -> usize {
        self.graph.entries()
    }

    fn request(&mut self, amount: u128) -> RequestRoutes {
        let source = self.rng.below(self.nodes.into()) as u32;
        let others = u64::from(self.nodes) - 1;
        let destination = (source + 1 + self.rng.below(others) as u32) % self.nodes;
        RequestRoutes {
            id: 0,
            currency: self.currency,
            amount,
            source: key(source),
            destination: key(destination),
            exclude: List::new(),
            max_fee: None,
        }
    }

    /// 100 to 100,000, the logarithm even.
    fn small_amount(&mut self) -> u128 {
        let thousandths = self.rng.below(3_000) as f64;
        (100.0 * 10_f64.powf(thousandths / 1_000.0)) as u128
    }

    fn time(&mut self, requests: &[RequestRoutes], ask: Ask, count: impl Fn(&Routes) -> bool) -> Times {
        let mut times = Times { seconds: Vec::new(), failed: 0, capped: 0 };
        for request in requests {
            let start = thread_seconds();
            let routes = ask(&self.graph, request, &mut self.workspace, WORK);
            let seconds = thread_seconds() - start;
            times.failed += usize::from(routes.options.is_empty());
            times.capped += usize::from(routes.capped);
            if count(&routes) {
                times.seconds.push(seconds);
            }
        }
        times.seconds.sort_unstable_by(f64::total_cmp);
        times
    }

    /// The cheapest route for each of `count` requests.
    pub fn singles(&mut self, count: usize) -> Times {
        let requests = self.small_requests(count);
        self.time(&requests, best, |_| true)
    }

    /// All options for each of `count` requests.
    pub fn options(&mut self, count: usize) -> Times {
        let requests = self.small_requests(count);
        self.time(&requests, answer, |_| true)
    }

    fn small_requests(&mut self, count: usize) -> Vec<RequestRoutes> {
        // The first few grow the workspace.
        for _ in 0..10 {
            let request = self.request(100);
            answer(&self.graph, &request, &mut self.workspace, WORK);
        }
        (0..count)
            .map(|_| {
                let amount = self.small_amount();
                self.request(amount)
            })
            .collect()
    }

    fn large_requests(&mut self, count: usize) -> Vec<RequestRoutes> {
        (0..count)
            .map(|_| {
                let amount = MAX_CAPACITY / 2 + self.rng.below(2 * MAX_CAPACITY);
                self.request(amount.into())
            })
            .collect()
    }

    /// Of `count` requests for up to 2.5 times the largest capacity, those that a split answered.
    pub fn splits(&mut self, count: usize) -> Times {
        let requests = self.large_requests(count);
        self.time(&requests, best, |routes| routes.options.iter().any(|option| option.parts.len() > 1))
    }

    /// Of the same kind of requests, those that nothing answered.
    pub fn refusals(&mut self, count: usize) -> Times {
        let requests = self.large_requests(count);
        self.time(&requests, best, |routes| routes.options.is_empty())
    }

    /// Changes one entry at a time: its capacity, or its rate as well.
    pub fn updates(&mut self, count: usize, what: Update, beside: Beside) -> Times {
        let mut seconds = Vec::new();
        let mut held = None;
        for _ in 0..count {
            let (node, friend) = self.friendships[self.rng.below(self.friendships.len() as u64) as usize];
            let mut changed = entry(friend, self.currency, &mut self.rng);
            if let Some(old) = self.graph.entry(&key(node), &changed.key()).filter(|_| what == Update::Capacity) {
                changed.rate = old.rate;
            }
            let start = thread_seconds();
            if beside == Beside::Searches {
                held = self.graph.snapshot(&self.currency);
            }
            self.graph.update(&key(node), &[changed], &[]);
            seconds.push(thread_seconds() - start);
        }
        drop(held);
        seconds.sort_unstable_by(f64::total_cmp);
        Times { seconds, failed: 0, capped: 0 }
    }
}

/// What an update changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// A capacity.
    Capacity,
    /// A capacity and a rate.
    Rate,
}

/// Whether somebody searches meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nobody: changes happen in place.
    Nothing,
    /// Each change finds the graph just handed out.
    Searches,
}

type Ask = fn(&Graph, &RequestRoutes, &mut Workspace, u64) -> Routes;

fn entry(friend: u32, currency: Currency, rng: &mut Rng) -> Entry {
    // 2^32 / 100 is one per cent.
    let rate = Rate { mul: rng.below((1 << 32) / 100) as u32, add: rng.below(10) as u32 };
    let recv_capacity = rng.below(MAX_CAPACITY).into();
    let entry = Entry { friend: key(friend), currency, recv_capacity, forward_capacity: 0, rate };
    // Some pass on all, as where nobody bounds it; most a part.
    match rng.below(4) {
        0 => entry.forwarding(recv_capacity),
        _ => entry.forwarding(rng.below(recv_capacity as u64 + 1).into()),
    }
}
