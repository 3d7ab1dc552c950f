//! What forwarding costs a hub with a thousand friends, beside a node with two.
//!
//! Real: an `stnode` with a relay and an index server of its own, and friends that are connected with it ([`Crowd`]), beside another
//! one with two friends. Payments go through them between friends; of the thousand first between two only, so that both do the same
//! work, then between all. The friends work on the same cores as the hub, so that payments a second are of all of them together;
//! CPU is the hub's own, of the system on its behalf, too.
//!
//! In memory: the machine alone, its checks of signatures included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use offset_protocol::app::{Command, Name};
use offset_protocol::codec::List;
use offset_protocol::files::{self, FriendTicket, NodeTicket};
use offset_protocol::identity::Identity;
use offset_protocol::machine::Seed;
use offset_runtime_smol::app_client::{AppClient, Target};

use super::crowd::{Crowd, LIMIT};
use crate::figures::{Figure, Goal, quantile};
use crate::memory::Funders;
use crate::network::Network;
use crate::programs::PATIENCE;
use crate::relay::process::{Process, raise_file_limit};

/// Friends of the hub.
pub(super) const FRIENDS: usize = 1_000;
/// Files of this process besides those of friends, and of the hub and the relay, which has two for each friend.
const SPARE_FILES: u64 = 100;
/// Longer than a keepalive's 15 s, so that every connection has spoken.
const IDLE: Duration = Duration::from_secs(20);
/// By turns, so that both meet the same machine; of what was measured in rounds the median counts.
const ROUNDS: usize = 9;
/// In flight, and payments of a round.
const REAL: [(usize, usize); 2] = [(1, 150), (32, 1_000)];
/// The same with all friends active, in one round.
const REAL_ALL: [(usize, usize); 3] = [(1, 1_000), (32, 3_000), (512, 6_000)];
/// In memory, payments of a round.
const IN_MEMORY: usize = 200;
/// What a thousand friends may add to what two cost.
const MOST_TIMES: f64 = 1.2;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let files = usize::try_from(raise_file_limit().saturating_sub(SPARE_FILES) / 2)?;
    // An even number, as they pay in pairs.
    let friends = FRIENDS.min(files) / 2 * 2;
    let mut figures = real(friends)?;
    if friends < FRIENDS {
        let note = format!("{friends} of {FRIENDS}: the system lets a process open too few files");
        figures.push(Figure::new("friends that could be connected", friends as f64, "", Goal::AtLeast(1e3), note));
    }
    figures.extend(in_memory()?);
    Ok(figures)
}

// -- real programs

/// A hub with its friends.
struct Star {
    network: Network,
    crowd: Crowd,
    hub: Process,
    relay: Process,
    connected_s: f64,
}

/// What payments cost, each.
#[derive(Clone, Copy, Debug)]
struct Cost {
    rate: f64,
    hub_us: f64,
    relay_us: f64,
    /// Of this process: of all friends and their apps.
    friends_us: f64,
}

impl Cost {
    /// The medians of several.
    fn median(costs: &[Cost]) -> Cost {
        let median = |of: fn(&Cost) -> f64| quantile(&mut costs.iter().map(of).collect::<Vec<_>>(), 0.5);
        Cost {
            rate: median(|cost| cost.rate),
            hub_us: median(|cost| cost.hub_us),
            relay_us: median(|cost| cost.relay_us),
            friends_us: median(|cost| cost.friends_us),
        }
    }

    fn told(&self) -> String {
        let Cost { rate, hub_us, relay_us, friends_us } = self;
        format!(
            "{rate:.0} payments/s; CPU of a payment: hub {hub_us:.0} us, its relay {relay_us:.0}, friends {friends_us:.0}"
        )
    }
}

fn real(friends: usize) -> Result<Vec<Figure>> {
    let (mut small, mut large) = (Star::start(2)?, Star::start(friends)?);
    let idle = idle(&small, &large)?;
    let note = format!("{:.2} % with two friends; all connected after {:.1} s", idle.small * 100.0, large.connected_s);
    let name = format!("idle hub with {friends} connected friends");
    let mut figures = vec![Figure::new(name, idle.large * 100.0, "% of a core", Goal::None, note)];
    let memory = [small.resident_mib()?, large.resident_mib()?];
    for (in_flight, payments) in REAL {
        let [with_two, with_all] = by_turns([&mut small, &mut large], payments, in_flight)?;
        let note = format!("{}; with two friends {}", with_all.told(), with_two.told());
        let name = |what: &str| format!("{what} of {friends} friends, {in_flight} in flight");
        let speed = with_all.rate / with_two.rate;
        figures.push(Figure::new(name("payments/s, 2"), speed, "times", Goal::AtLeast(1.0 / MOST_TIMES), note));
        // What friends cost who are idle is told by itself: of a payment it is the more, the fewer of them there are a second.
        let [asleep, asleep_with_two] = [idle.large / with_all.rate, idle.small / with_two.rate].map(|s| s * 1e6);
        let cpu = (with_all.hub_us - asleep) / (with_two.hub_us - asleep_with_two);
        let with_idle = with_all.hub_us / with_two.hub_us;
        let note = format!("without {asleep:.0} us for friends who are idle meanwhile; with them {with_idle:.3} times");
        figures.push(Figure::new(name("hub's CPU, 2"), cpu, "times", Goal::AtMost(MOST_TIMES), note));
    }
    for (in_flight, payments) in REAL_ALL {
        let cost = large.pay(friends, payments, in_flight)?;
        let name = format!("payments, all {friends} friends, {in_flight} in flight");
        figures.push(Figure::new(name, cost.rate, "/s", Goal::None, cost.told()));
    }
    let note = format!(
        "resident, after all payments; with two friends {:.1} MiB; before the first {:.1} and {:.1}",
        small.resident_mib()?,
        memory[1],
        memory[0]
    );
    figures.push(Figure::new("memory of the hub", large.resident_mib()?, "MiB", Goal::AtMost(200.0), note));
    small.must_be_whole()?;
    large.must_be_whole()?;
    Ok(figures)
}

/// Rounds of payments between two friends of each hub: the medians.
fn by_turns(stars: [&mut Star; 2], payments: usize, in_flight: usize) -> Result<[Cost; 2]> {
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        // None of them is always the first.
        for at in [round % 2, 1 - round % 2] {
            let cost = stars[at].pay(2, payments, in_flight)?;
            // The first round is for warming up.
            if round > 0 {
                costs[at].push(cost);
            }
        }
    }
    Ok(costs.map(|costs| Cost::median(&costs)))
}

/// Shares of a core.
struct Idle {
    small: f64,
    large: f64,
}

/// What the hubs cost while nobody pays.
fn idle(small: &Star, large: &Star) -> Result<Idle> {
    let before = [small.hub.cpu_s()?, large.hub.cpu_s()?];
    std::thread::sleep(IDLE);
    let share = |hub: Process, before: f64| -> Result<f64> { Ok((hub.cpu_s()? - before) / IDLE.as_secs_f64()) };
    Ok(Idle { small: share(small.hub, before[0])?, large: share(large.hub, before[1])? })
}

impl Star {
    fn start(friends: usize) -> Result<Star> {
        let mut network = Network::new();
        network.start_relay("relay");
        network.start_index_servers(&["index"]);
        network.start_node("hub", "relay", "index");
        smol::block_on(befriend(&network, friends))?;
        let ticket: FriendTicket = files::parse(network.shell.read("hub.friend").as_bytes())?;
        let began = Instant::now();
        let mut crowd = Crowd::start(&ticket, friends)?;
        crowd.wait_until_usable()?;
        let connected_s = began.elapsed().as_secs_f64();
        let (hub, relay) = (Process(network.server("hub").id()), Process(network.server("relay").id()));
        Ok(Star { network, crowd, hub, relay, connected_s })
    }

    fn pay(&mut self, active: usize, payments: usize, in_flight: usize) -> Result<Cost> {
        let processes = [self.hub, self.relay, Process(std::process::id())];
        let before = processes.map(Process::cpu_s);
        let seconds = self.crowd.pay(active, payments, in_flight)?;
        let mut each_us = Vec::new();
        for (process, before) in processes.into_iter().zip(before) {
            each_us.push((process.cpu_s()? - before?) * 1e6 / payments as f64);
        }
        let &[hub_us, relay_us, friends_us] = each_us.as_slice() else { bail!("three processes") };
        Ok(Cost { rate: payments as f64 / seconds, hub_us, relay_us, friends_us })
    }

    fn resident_mib(&self) -> Result<f64> {
        Ok(self.hub.resident_bytes()? as f64 / f64::from(1 << 20))
    }

    /// Fails if a friend has lost its hub: then what was measured is not what it says.
    fn must_be_whole(&mut self) -> Result<()> {
        match self.crowd.lost()? {
            0 => Ok(()),
            lost => bail!("{lost} friends have lost the hub: {}", self.network.server("hub").log()),
        }
    }
}

/// Has the hub take the crowd for friends.
async fn befriend(network: &Network, friends: usize) -> Result<()> {
    let app = client(network).await?;
    let currency = "USD".parse()?;
    let mut under_way = Vec::new();
    for (number, public_key) in Crowd::keys(friends).enumerate() {
        let name: Name = format!("friend{number}").parse()?;
        for command in [
            Command::AddFriend { public_key, relays: List::new(), name: name.clone() },
            Command::OpenCurrency { name: name.clone(), currency },
            Command::SetMaxDebt { name, currency, max_debt: LIMIT },
        ] {
            under_way.push(app.submit(app.new_id(), command).await?);
        }
        // Fewer than an app may have under way.
        if under_way.len() > 500 || number + 1 == friends {
            for submitted in under_way.drain(..) {
                submitted.reply().await.context("the hub refuses")?;
            }
        }
    }
    app.close().await;
    Ok(())
}

async fn client(network: &Network) -> Result<AppClient> {
    let read = |name: &str| network.shell.read(name).into_bytes();
    let ticket: NodeTicket = files::parse(&read("hub-node.ticket")).context("the node's ticket")?;
    let identity: Identity = files::parse(&read("hub-app.ident")).context("the app's identity")?;
    let target = Target { node: ticket.public_key, address: ticket.address, app: Arc::new(identity) };
    Ok(AppClient::connect(&target, Seed::from_number(0), PATIENCE).await?)
}

// -- in memory

fn in_memory() -> Result<Vec<Figure>> {
    let (mut small, mut large) = (Funders::star(2)?, Funders::star(FRIENDS)?);
    let mut figures = Vec::new();
    for in_flight in [1, 32] {
        let mut seconds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (star, seconds) in [&mut small, &mut large].into_iter().zip(&mut seconds) {
                let before = star.cost.first_s;
                star.pay(IN_MEMORY, in_flight)?;
                seconds.push(star.cost.first_s - before);
            }
        }
        let [small_us, large_us] = seconds.map(|mut seconds| quantile(&mut seconds, 0.5) * 1e6 / IN_MEMORY as f64);
        // With more in flight, two friends share batches, and a thousand have one each: no fair comparison.
        let goal = if in_flight == 1 { Goal::AtMost(MOST_TIMES) } else { Goal::None };
        figures.push(Figure::new(
            format!("in memory, {FRIENDS} friends, {in_flight} in flight"),
            large_us / small_us,
            "times",
            goal,
            format!("{large_us:.0} us of a forwarded payment, {small_us:.0} us with two friends"),
        ));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payments_between_friends_of_a_real_hub_go_through_it() {
        let mut star = Star::start(4).unwrap();
        // 0 to 1, 2 to 3, and 1 to 0.
        let cost = star.pay(4, 3, 2).unwrap();
        assert!(cost.rate > 0.0);
        star.must_be_whole().unwrap();
        let owed = || [0, 1, 2, 3].map(|friend| star.network.owed("hub", &format!("friend{friend}")));
        let began = Instant::now();
        while owed() != [0, 0, 100, -100] {
            assert!(began.elapsed() < PATIENCE, "{:?}", owed());
        }
        assert!(star.resident_mib().unwrap() > 1.0);
    }
}
