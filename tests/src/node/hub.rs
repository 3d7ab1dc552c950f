//! What forwarding costs a hub with a thousand friends, beside a node with two.
//!
//! Real: an `stnode` with a relay and an index server of its own, and friends that are connected with it ([`Crowd`]), beside another
//! one with two friends. Payments go through them between friends; of the thousand first between two only, so that both do the same
//! work, then between all. The friends work on the same cores as the hub, so that payments a second are of all of them together;
//! CPU is the hub's own.
//!
//! In memory: the machine alone, its checks of signatures included.

use anyhow::{Context, Result, bail};
use offset_protocol::app::Command;
use offset_protocol::codec::List;
use offset_protocol::files::{self, FriendTicket, NodeTicket};
use offset_protocol::identity::Identity;
use offset_protocol::machine::Seed;
use offset_runtime_smol::app_client::{AppClient, Target};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, LIMIT, Paid};
use crate::figures::{Figure, Goal};
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
/// By turns, so that both meet the same machine.
const ROUNDS: usize = 5;
/// In flight, and payments of a round.
const REAL: [(usize, usize); 2] = [(1, 200), (32, 1_500)];
/// The same with all friends active, in one round.
const REAL_ALL: [(usize, usize); 3] = [(1, 1_000), (32, 3_000), (512, 6_000)];
const IN_MEMORY: usize = 2_000;
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

/// What payments cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    paid: Paid,
    hub_s: f64,
    relay_s: f64,
}

impl Cost {
    fn add(&mut self, more: Cost) {
        self.paid.payments += more.paid.payments;
        self.paid.seconds += more.paid.seconds;
        self.hub_s += more.hub_s;
        self.relay_s += more.relay_s;
    }

    fn rate(&self) -> f64 {
        self.paid.payments as f64 / self.paid.seconds
    }

    fn hub_us(&self) -> f64 {
        self.hub_s * 1e6 / self.paid.payments as f64
    }

    fn told(&self) -> String {
        let relay_us = self.relay_s * 1e6 / self.paid.payments as f64;
        format!(
            "{:.0} payments/s, {:.0} us of the hub's CPU each, {relay_us:.0} us of its relay's",
            self.rate(),
            self.hub_us()
        )
    }
}

fn real(friends: usize) -> Result<Vec<Figure>> {
    let (mut small, mut large) = (Star::start(2)?, Star::start(friends)?);
    let mut figures = idle(&small, &large, friends)?;
    for star in [&mut small, &mut large] {
        star.pay(2, 200, 32)?;
    }
    for (in_flight, payments) in REAL {
        let [mut with_two, mut with_all] = [Cost::default(); 2];
        for round in 0..ROUNDS {
            let mut turns = [(&mut small, &mut with_two), (&mut large, &mut with_all)];
            // None of them is always the first.
            turns.rotate_left(round % 2);
            for (star, cost) in turns {
                cost.add(star.pay(2, payments, in_flight)?);
            }
        }
        let note = format!("{}; with two friends {}", with_all.told(), with_two.told());
        let name = |what: &str| format!("{what} of {friends} friends, {in_flight} in flight");
        let (speed, cpu) = (with_all.rate() / with_two.rate(), with_all.hub_us() / with_two.hub_us());
        figures.push(Figure::new(name("payments/s, 2"), speed, "times", Goal::AtLeast(1.0 / MOST_TIMES), note));
        figures.push(Figure::new(name("hub's CPU, 2"), cpu, "times", Goal::AtMost(MOST_TIMES), ""));
    }
    for (in_flight, payments) in REAL_ALL {
        let cost = large.pay(friends, payments, in_flight)?;
        let name = format!("payments, all {friends} friends, {in_flight} in flight");
        figures.push(Figure::new(name, cost.rate(), "/s", Goal::None, cost.told()));
    }
    let note = format!("resident, after all payments; with two friends {:.1} MiB", small.resident_mib()?);
    figures.push(Figure::new("hub's memory", large.resident_mib()?, "MiB", Goal::AtMost(200.0), note));
    small.must_be_whole()?;
    large.must_be_whole()?;
    Ok(figures)
}

/// What the hubs cost while nobody pays.
fn idle(small: &Star, large: &Star, friends: usize) -> Result<Vec<Figure>> {
    let before = [small.hub.cpu_s()?, large.hub.cpu_s()?];
    std::thread::sleep(IDLE);
    let share = |hub: Process, before: f64| -> Result<f64> { Ok((hub.cpu_s()? - before) / IDLE.as_secs_f64() * 100.0) };
    let (of_small, of_large) = (share(small.hub, before[0])?, share(large.hub, before[1])?);
    let note = format!(
        "{of_small:.2} % with two friends; resident {:.1} MiB, {:.1} MiB with two; all connected after {:.1} s",
        large.resident_mib()?,
        small.resident_mib()?,
        large.connected_s,
    );
    let name = format!("idle hub with {friends} connected friends");
    Ok(vec![Figure::new(name, of_large, "% of a core", Goal::None, note)])
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
        let before = (self.hub.cpu_s()?, self.relay.cpu_s()?);
        let paid = self.crowd.pay(active, payments, in_flight)?;
        Ok(Cost { paid, hub_s: self.hub.cpu_s()? - before.0, relay_s: self.relay.cpu_s()? - before.1 })
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
        let name: offset_protocol::app::Name = format!("friend{number}").parse()?;
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
        let mut seconds = [0.0; 2];
        for _ in 0..ROUNDS {
            for (star, seconds) in [&mut small, &mut large].into_iter().zip(&mut seconds) {
                let before = star.cost.first_s;
                star.pay(IN_MEMORY / ROUNDS, in_flight)?;
                *seconds += star.cost.first_s - before;
            }
        }
        let [small_us, large_us] = seconds.map(|seconds| seconds * 1e6 / IN_MEMORY as f64);
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
