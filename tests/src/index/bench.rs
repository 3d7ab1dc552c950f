//! What the real `stindex` does: how soon an update can be searched for, and how many requests it answers.
//!
//! | figure | measured as |
//! |---|---|
//! | update until searchable | from sending a change of one entry until an answer that has it is heard; asked again as soon as an answer lacks it, at one server, and each 2 ms across a line of three, where the change is told at one end and asked for at the other |
//! | requests a second | many sessions with a few requests under way each, all answered with routes over a small graph; beside it what a request costs the server's CPU, as the clients use the same cores |
//! | heartbeats | CPU of the server over some ticks, each sent to many sessions and answered by each with an attestation; a hundred thousand sessions cost as much as that many of these |
//!
//! Both ends are on this machine. It does not measure networks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use offset_protocol::index::{RequestRoutes, Routes};
use offset_protocol::limits::INDEX_TICK;

use super::{Peer, Servers, entry, request};

/// A change that cannot be searched for by then is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two changes: a node may report twice a second.
const REPORT_GAP: Duration = Duration::from_millis(500);
/// Between two requests of one session, sustained.
const ASK_GAP: Duration = Duration::from_millis(50);
/// Between two looks across servers.
const LOOK: Duration = Duration::from_millis(2);

/// Milliseconds, ascending.
pub struct Delays(Vec<f64>);

impl Delays {
    /// So much of the rounds took no longer.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        let at = (self.0.len() as f64 * part) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// Update until searchable, `rounds` times, over a line of `count` servers.
///
/// # Errors
/// If a server does not do its part.
pub fn until_searchable(count: usize, rounds: usize) -> Result<Delays> {
    let servers = Servers::start(count)?;
    let (mut one, mut two) = (servers.peer(0, 1)?, servers.peer(0, 2)?);
    one.report(vec![entry(2, 1)?])?;
    two.report(vec![entry(1, 1)?])?;
    // Servers begin to hear each other; nothing is measured yet.
    wait_for(&servers, count - 1, &mut [&mut one, &mut two])?;
    let mut delays = Vec::new();
    for round in 0..rounds {
        let capacity = 10 + round as u128;
        std::thread::sleep(REPORT_GAP);
        let mut asker = servers.peer(count - 1, 1_000 + round as u64)?;
        let begun = Instant::now();
        two.change(entry(1, capacity)?)?;
        let pause = if count == 1 { Duration::ZERO } else { LOOK };
        ask_until_there(&mut asker, capacity, pause)?;
        delays.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    delays.sort_unstable_by(f64::total_cmp);
    Ok(Delays(delays))
}

/// Waits until what the two have reported is known at `server`; they say it again with each tick, as nodes do.
fn wait_for(servers: &Servers, server: usize, reporters: &mut [&mut Peer]) -> Result<()> {
    let begun = Instant::now();
    let mut asker = servers.peer(server, 500)?;
    for id in 0.. {
        if is_there(&asker.routes(&request(id, 1, 1, 2)?)?) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(ASK_GAP);
        for reporter in &mut *reporters {
            reporter.beat()?;
        }
    }
    bail!("a report did not arrive in {PATIENCE:?}")
}

/// Asks until the answer comes. A session's burst of requests, and what it may ask after that, are enough: what takes longer is
/// asked for more slowly.
fn ask_until_there(asker: &mut Peer, amount: u128, pause: Duration) -> Result<()> {
    let begun = Instant::now();
    for id in 0.. {
        if is_there(&asker.routes(&request(id, amount, 1, 2)?)?) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(if id < 90 { pause } else { ASK_GAP });
    }
    bail!("a change could not be searched for within {PATIENCE:?}")
}

fn is_there(routes: &Routes) -> bool {
    !routes.options.is_empty()
}

/// What heartbeats cost.
pub struct Heartbeats {
    /// Ticks that were answered, all sessions together.
    pub answered: usize,
    /// CPU seconds of the server meanwhile.
    pub cpu_s: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Of the server, in bytes.
    pub resident: u64,
}

impl Heartbeats {
    /// The part of a core that this many nodes take, at one tick each `INDEX_TICK`.
    pub fn share_of_core(&self, nodes: f64) -> f64 {
        self.cpu_s / self.answered as f64 * nodes / (INDEX_TICK.as_micros() as f64 / 1e6)
    }
}

/// Holds `sessions` nodes with eight entries each for `ticks` ticks.
///
/// # Errors
/// If the server does not do its part.
pub fn heartbeats(sessions: u64, ticks: usize) -> Result<Heartbeats> {
    let mut servers = Servers::start(1)?;
    let mut peers = Vec::new();
    for node in 0..sessions {
        let mut peer = servers.peer(0, node)?;
        let beside = (1..=4).flat_map(|step| [node + step, node + sessions - step]);
        peer.report(beside.map(|friend| entry(friend % sessions, 1_000)).collect::<Result<_>>()?)?;
        peers.push(peer);
    }
    // From one tick to another one: what sessions cost between them is counted, too.
    beat_until(&mut peers, 1)?;
    let (begun, cpu_before) = (Instant::now(), servers.cpu_s(0)?);
    let answered = beat_until(&mut peers, ticks)?;
    let cpu_s = servers.cpu_s(0)? - cpu_before;
    Ok(Heartbeats { answered, cpu_s, seconds: begun.elapsed().as_secs_f64(), resident: servers.resident(0)? })
}

/// Serves all sessions until each has heard this many ticks, taken together. How many were heard.
fn beat_until(peers: &mut [Peer], ticks: usize) -> Result<usize> {
    let limit = Instant::now() + Duration::from_micros(INDEX_TICK.as_micros()) * (ticks as u32 + 2);
    let (mut answered, mut last) = (0, 0);
    while last < ticks {
        if Instant::now() > limit {
            bail!("no tick for more than two heartbeats");
        }
        for peer in &mut *peers {
            let came = peer.beat()?;
            answered += came;
        }
        last = answered / peers.len().max(1);
        std::thread::sleep(LOOK);
    }
    Ok(answered)
}

/// What many clients got.
pub struct Throughput {
    /// Requests answered with routes.
    pub answered: usize,
    /// Requests met with `Busy`.
    pub busy: usize,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// CPU seconds of the server meanwhile.
    pub cpu_s: f64,
}

/// `sessions` nodes, each with friends at both sides in a ring; each asks `each` times for a route to somebody two to five
/// friends away, `under_way` at a time.
///
/// # Errors
/// If the server does not answer.
pub fn throughput(sessions: u64, each: u64, under_way: u64) -> Result<Throughput> {
    let servers = Servers::start(1)?;
    let mut peers = Vec::new();
    for node in 0..sessions {
        let mut peer = servers.peer(0, node)?;
        let beside = [1, 2].into_iter().flat_map(|step| [node + step, node + sessions - step]);
        peer.report(beside.map(|friend| entry(friend % sessions, 1_000)).collect::<Result<_>>()?)?;
        peers.push(peer);
    }
    // All reports are there when the last one is: its session's messages are taken in order.
    peers.last_mut().context("no sessions")?.routes(&request(0, 1, sessions - 1, 0)?)?;
    let requests = |node: u64| -> Result<Vec<RequestRoutes>> {
        (1..each).map(|id| request(id, 5, node, (node + 4 + id % 7) % sessions)).collect()
    };
    let requests = (0..sessions).map(requests).collect::<Result<Vec<_>>>()?;
    let (begun, cpu_before) = (Instant::now(), servers.cpu_s(0)?);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) * 2;
    let mut work: Vec<_> = peers.into_iter().zip(requests).collect();
    let share = work.len().div_ceil(threads);
    let counts = std::thread::scope(|scope| -> Result<Vec<(usize, usize)>> {
        let mut running = Vec::new();
        while !work.is_empty() {
            let mine = work.split_off(work.len().saturating_sub(share));
            running.push(scope.spawn(move || ask_in_rounds(mine, under_way as usize)));
        }
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a client's thread died"))).collect()
    })?;
    let (seconds, cpu_s) = (begun.elapsed().as_secs_f64(), servers.cpu_s(0)? - cpu_before);
    let (answered, busy) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    Ok(Throughput { answered, busy, seconds, cpu_s })
}

/// All sessions of a thread ask, then hear, then ask again. Requests with routes, and without.
fn ask_in_rounds(mut work: Vec<(Peer, Vec<RequestRoutes>)>, under_way: usize) -> Result<(usize, usize)> {
    let (mut answered, mut busy) = (0, 0);
    while work.iter().any(|(_, requests)| !requests.is_empty()) {
        let mut asked = Vec::new();
        for (peer, requests) in &mut work {
            let now = requests.split_off(requests.len().saturating_sub(under_way));
            asked.push(now.len());
            peer.ask_all(now)?;
        }
        for ((peer, _), asked) in work.iter_mut().zip(asked) {
            for _ in 0..asked {
                match peer.answer()?.1 {
                    Some(routes) if is_there(&routes) => answered += 1,
                    Some(_) => bail!("a route in a ring was not found"),
                    None => busy += 1,
                }
            }
        }
    }
    Ok((answered, busy))
}
