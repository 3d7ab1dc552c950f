//! A relay that is killed under thousands of real nodes and started again: how long until the last of them listens again.
//!
//! The nodes are the relay client's machine, each with an identity, a hub and a socket of its own, in one process; as many as
//! the system lets a process open files, at most 10,000. All come from one address, so the relay's limits for one address are
//! raised to those for all; everything else is as it is without flags. Both programs and all handshakes share this machine:
//! `runtime-smol/tests/restart.rs` counts the same in virtual time.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant as StdInstant};

use anyhow::{Context, Result, bail};
use offset_protocol::machine::Seed;
use offset_protocol::net::{Address, ConnIds, NetCommand, NetEvent};
use offset_protocol::relay::RelayAddress;
use offset_relay_sm::client::{Input, Output, RelayClient};
use offset_runtime_smol::driver::{Effect, Program};

use super::client::{Place, Who};
use super::process::{Helper, Relay, most_files, say};
use super::{Figure, Goal};
use crate::hosts::{Ground, Host};

/// Nodes, if there are enough files.
const WANTED: u64 = 10_000;
/// Files that a process needs for itself.
const SPARE_FILES: u64 = 100;
/// One address has what all have.
const FLAGS: &str = "--accept-rate-per-address 2000 --accept-burst-per-address 4000 --max-handshakes-per-address 1024 \
                     --max-setups-per-address 8192 --max-listeners-per-address 131072";
/// How long the relay is away.
const AWAY: Duration = Duration::from_secs(2);
/// The last is back within this time: as long as a node waits between two tries at most.
const GOAL_S: f64 = 60.0;
/// Between the first tries of two nodes, so that they come as on an ordinary day.
const APART: Duration = Duration::from_millis(1);
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut relay = Relay::start_with(FLAGS)?;
    let count = WANTED.min(most_files().saturating_sub(SPARE_FILES));
    let (address, key) = (relay.place.address.to_string(), relay.place.key.to_string());
    let mut helper = Helper::start(&["nodes".to_owned(), address, key, count.to_string()])?;
    helper.hear("up")?;
    relay.kill();
    std::thread::sleep(AWAY);
    relay.restart();
    let (begun, before) = (StdInstant::now(), relay.process().cpu_s()?);
    let tries = helper.hear("back")?;
    let back_s = begun.elapsed().as_secs_f64();
    let cpu_s = relay.process().cpu_s()? - before;
    relay.must_run()?;
    let note = format!(
        "{count} nodes, the relay away for {} s; {tries}; {:.2} ms of the relay's CPU for each node",
        AWAY.as_secs(),
        cpu_s * 1e3 / count as f64
    );
    Ok(vec![Figure::new("all listen again after a restart", back_s, "s", Goal::AtMost(GOAL_S), note)])
}

/// What a node tells.
enum Word {
    Tries,
    Up(usize),
    Down(usize),
}

/// The helper's part: `count` nodes that want to listen at a relay.
///
/// # Errors
/// If they do not all listen in time, at first or again.
pub(super) fn nodes(place: Place, count: usize) -> Result<()> {
    let ground = Ground::new()?;
    let (tell, hear) = channel();
    for number in 0..count {
        let node = node(place, number, &ground, tell.clone())?;
        ground.executor.spawn(async move {
            smol::Timer::after(APART * u32::try_from(number).unwrap_or(u32::MAX)).await;
            node.run().await;
        });
    }
    let mut crowd =
        Crowd { up: vec![false; count], lost: vec![false; count], tries: Vec::new(), began: StdInstant::now() };
    crowd.wait(&hear, |crowd| crowd.up.iter().all(|up| *up)).context("not all nodes listen at first")?;
    crowd.tries.clear();
    crowd.began = StdInstant::now();
    say("up", count)?;
    crowd.wait(&hear, |crowd| crowd.lost.iter().zip(&crowd.up).all(|(lost, up)| *lost && *up))?;
    let (most, all) = (crowd.tries.iter().max().copied().unwrap_or(0), crowd.tries.iter().sum::<usize>());
    say("back", format_args!("{all} tries of which at most {most} in one second"))
}

struct Crowd {
    up: Vec<bool>,
    lost: Vec<bool>,
    /// By second.
    tries: Vec<usize>,
    began: StdInstant,
}

impl Crowd {
    fn wait(&mut self, hear: &Receiver<Word>, done: impl Fn(&Crowd) -> bool) -> Result<()> {
        let (until, mut looked) = (StdInstant::now() + PATIENCE, StdInstant::now());
        loop {
            match hear.recv_timeout(Duration::from_millis(50)) {
                Ok(Word::Tries) => {
                    let second = usize::try_from(self.began.elapsed().as_secs())?;
                    self.tries.resize(self.tries.len().max(second + 1), 0);
                    self.tries[second] += 1;
                }
                Ok(Word::Up(number)) => self.up[number] = true,
                Ok(Word::Down(number)) => (self.up[number], self.lost[number]) = (false, true),
                Err(_) => {}
            }
            // Looking at all of them after each word would take longer than what they do.
            if looked.elapsed() >= Duration::from_millis(20) {
                looked = StdInstant::now();
                if done(self) {
                    return Ok(());
                }
            }
            if StdInstant::now() > until {
                bail!("{} of {} nodes listen", self.up.iter().filter(|up| **up).count(), self.up.len());
            }
        }
    }
}

/// A node's words, as far as the crowd wants to know them.
struct Words {
    number: usize,
    tell: Sender<Word>,
}

impl Program for Words {
    type Machine = RelayClient;
    type Input = Input;
    type Output = Output;

    fn net(&mut self, event: NetEvent) -> Input {
        Input::Net(event)
    }

    fn tick(&mut self) -> Input {
        Input::Tick
    }

    fn effect(&mut self, output: Output) -> Effect {
        let (word, effect) = match output {
            Output::Net(command) => {
                let word = matches!(command, NetCommand::Connect { .. }).then_some(Word::Tries);
                (word, Effect::Net(command))
            }
            Output::RelayUp { .. } => (Some(Word::Up(self.number)), Effect::Nothing),
            Output::RelayDown { .. } => (Some(Word::Down(self.number)), Effect::Nothing),
            Output::Incoming { .. }
            | Output::TunnelOpened { .. }
            | Output::TunnelMessage { .. }
            | Output::TunnelClosed { .. } => (None, Effect::Nothing),
        };
        // The helper may have come to its end.
        let _ = word.map(|word| self.tell.send(word));
        effect
    }
}

/// A node that wants to listen at a relay, once it runs.
fn node(place: Place, number: usize, ground: &Ground, tell: Sender<Word>) -> Result<Host<Words>> {
    let seed = Seed::from_number(number as u64).fork(&std::process::id().to_string());
    let client = RelayClient::new(seed.fork("client"), ConnIds::lane(0, 1));
    let signer = Who::number(number as u64).signer();
    let (host, door) = Host::new(ground, signer, seed.fork("channels"), Words { number, tell }, client);
    let address = Address::new(&place.address.to_string())?;
    door.input(Input::AddRelay(RelayAddress { public_key: place.key, address }));
    Ok(host)
}
