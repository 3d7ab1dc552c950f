//! `kill -9` of any program at any point of a payment, of two at once, or of all of them: they start again at the same addresses,
//! and the next command goes on. In the end friends agree to the last unit, every payment is paid exactly once or not at all, and
//! a receipt proves each. Nobody repairs anything.
//!
//! | who | what is demanded |
//! |---|---|
//! | whoever gives the same command until it is paid | it is paid once |
//! | whoever gives a command once and no other | it ends by itself: paid, or failed with nothing moved and nothing frozen |
//!
//! What a killed node leaves on its disk is looked at before it starts again: every signature, hash and sum of it
//! (`stmgr check`). Every third time it is killed again while it starts. The logs are small, so that nodes die also while their
//! pages take over a half of one; some strikes wait for that.
//!
//! `OFFSET_KILLS` says how often each test strikes. Moments and victims are drawn; what they were drawn from is printed, and
//! `OFFSET_SEED` gives the same ones again.
// A step that fails is a test that fails.
#![allow(clippy::unwrap_used)]

#[path = "kill/books.rs"]
mod books;
#[path = "kill/by_file.rs"]
mod by_file;
#[path = "kill/in_band.rs"]
mod in_band;

use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use offset_tests::network::Network;
use offset_tests::programs::{Ran, Tool};

/// A half of such a log has room for some six payments: the pages take one over again and again.
const SMALL_LOG: &str = "--log-size 64";
/// Longest outage, in milliseconds.
const OUTAGE: u64 = 250;
/// A node has read its database, and brought it up to what its log has, within this many milliseconds of its start.
const RECOVERY: u64 = 60;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Shown when the test fails, or with `--nocapture`.
#[allow(clippy::print_stdout)]
fn report(line: &str) {
    println!("{line}");
}

/// Random moments: good enough for a test, and the same again with the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    /// Begins at what the environment says, or somewhere.
    fn draw() -> Dice {
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let somewhere = clock as u64 ^ u64::from(std::process::id()) << 40;
        let seed = setting("OFFSET_SEED").unwrap_or(somewhere);
        report(&format!("OFFSET_SEED={seed} draws the same again"));
        Dice(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn sleep_below(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(self.below(ms)));
    }

    /// One of them, taken out.
    fn take<T>(&mut self, from: &mut Vec<T>) -> T {
        from.swap_remove(self.below(from.len() as u64) as usize)
    }
}

/// Who dies.
#[derive(Clone, Debug)]
enum Victims {
    /// A `stctrl` that runs.
    Tool,
    /// One server, or two.
    Servers(Vec<String>),
    /// All servers: a power cut, but for what the system still has in its cache.
    All,
}

impl Victims {
    /// One of them that has a log; the one in the middle, if it is among them, has most to write.
    fn a_node(&self) -> Option<&str> {
        match self {
            Victims::Tool => None,
            Victims::All => Some("bob"),
            Victims::Servers(names) => {
                ["bob", "alice", "carol"].into_iter().find(|node| names.iter().any(|name| name == node))
            }
        }
    }
}

/// How often what was done.
#[derive(Debug, Default)]
struct Tally {
    tools: u64,
    single: u64,
    pairs: u64,
    all: u64,
    /// Of servers that had just been started again.
    in_recovery: u64,
    /// Servers that were killed, over all.
    servers: u64,
    /// Databases that were checked, of killed nodes.
    checked: u64,
    /// Those whose log had something that the pages did not have.
    with_log: u64,
    /// Those whose log has been written to beyond its first half.
    beyond_a_half: u64,
    /// Those whose node was killed while the pages took over a half: they had nothing of it yet, or not all.
    while_taken_over: u64,
}

/// Kills and raises again.
struct Reaper {
    dice: Dice,
    tally: Tally,
}

impl Reaper {
    fn new() -> Reaper {
        Reaper { dice: Dice::draw(), tally: Tally::default() }
    }

    /// Each server alone, a tool, and as often pairs and all of them: in a strike of three all die.
    fn deck(&mut self, network: &Network) -> Vec<Victims> {
        let names = network.names();
        let mut deck: Vec<_> = names.iter().map(|name| Victims::Servers(vec![name.clone()])).collect();
        deck.push(Victims::Tool);
        for _ in 0..6 {
            let mut left = names.clone();
            deck.push(Victims::Servers(vec![self.dice.take(&mut left), self.dice.take(&mut left)]));
            deck.push(Victims::All);
        }
        deck
    }

    /// Kills servers, as nearly at once as one process can; who they are.
    fn kill(&mut self, network: &mut Network, victims: &Victims) -> Vec<String> {
        let names = match victims {
            Victims::Tool => Vec::new(),
            Victims::Servers(names) => names.clone(),
            Victims::All => network.names(),
        };
        match victims {
            Victims::Tool => self.tally.tools += 1,
            Victims::All => self.tally.all += 1,
            Victims::Servers(names) if names.len() == 1 => self.tally.single += 1,
            Victims::Servers(_) => self.tally.pairs += 1,
        }
        self.strike(network, &names);
        names
    }

    fn strike(&mut self, network: &mut Network, names: &[String]) {
        names.iter().for_each(|name| network.server(name).strike());
        names.iter().for_each(|name| network.server(name).kill());
        self.tally.servers += names.len() as u64;
    }

    /// Looks at what the dead left on their disks and starts them again; every third time once more.
    fn raise(&mut self, network: &mut Network, names: &[String]) {
        self.look(network, names);
        while self.dice.below(3) == 0 {
            names.iter().for_each(|name| network.server(name).begin_again());
            self.dice.sleep_below(RECOVERY);
            self.strike(network, names);
            self.tally.in_recovery += 1;
            self.look(network, names);
        }
        names.iter().for_each(|name| network.server(name).begin_again());
        names.iter().for_each(|name| network.server(name).wait_until_it_listens());
    }

    fn look(&mut self, network: &Network, names: &[String]) {
        let shell = &network.shell;
        let nodes: Vec<&String> = names.iter().filter(|name| shell.has(&format!("{name}.db"))).collect();
        let check = |name: &&String| shell.spawn(&format!("stmgr check --database {name}.db --json"));
        let checks: Vec<Tool> = nodes.iter().map(check).collect();
        for (name, check) in nodes.into_iter().zip(checks) {
            let ran = check.finish();
            assert_eq!(ran.code, 0, "what a killed node left: {ran}");
            let says: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(says["in_use"], false, "{ran}");
            let in_log = says["in_log"]["commits"].as_u64().unwrap();
            self.tally.checked += 1;
            self.tally.with_log += u64::from(in_log > 0);
            if let Some(groups) =
                std::fs::read(shell.path(&format!("{name}.db-log"))).ok().and_then(|log| newer_half(&log))
            {
                self.tally.beyond_a_half += 1;
                self.tally.while_taken_over += u64::from(in_log > groups);
            }
        }
    }
}

/// What stands at the beginning of each half of a node's log, while it runs: that changes when the node turns to the other half,
/// and its pages begin to take the one before.
fn turns(network: &Network, name: &str) -> Option<[[u8; 24]; 2]> {
    let file = std::fs::File::open(network.shell.path(&format!("{name}.db-log"))).ok()?;
    let half = (file.metadata().ok()?.len().checked_sub(4_096)?) / 2;
    let mut heads = [[0; 24]; 2];
    for (n, head) in heads.iter_mut().enumerate() {
        file.read_exact_at(head, 4_096 + n as u64 * half).ok()?;
    }
    Some(heads)
}

/// How many groups stand in the half of a log that is written to; `None` if that is the first one still. What is beyond them and
/// not in the pages, these were just taking.
///
/// A log has a head of 4 KiB, with its id at byte 12, and two halves; a group begins a block with that id and its number.
fn newer_half(log: &[u8]) -> Option<u64> {
    let id = log.get(12..28).filter(|id| id.iter().any(|byte| *byte != 0))?;
    let halves = log.get(4_096..)?;
    let number = |block: &[u8]| {
        let number = block.strip_prefix(id)?.first_chunk()?;
        Some(u64::from_be_bytes(*number))
    };
    let numbers = |half: &[u8]| half.chunks(512).filter_map(number).collect::<Vec<_>>();
    let (one, other) = halves.split_at(halves.len() / 2);
    let [one, other] = [numbers(one), numbers(other)];
    // A half begins with its oldest; behind what it has now there may be groups of a turn before.
    let newer = if one.first()? > other.first()? { one } else { other };
    let first = *newer.first()?;
    let last = newer.iter().filter(|number| **number >= first).max()?;
    Some(last - first + 1)
}

/// Whether a command may end like this while everything runs: it goes on when it is given again.
fn goes_on(ran: &Ran) -> bool {
    match ran.code {
        0 | 5 => true,
        1 => says_not_paid(ran),
        _ => false,
    }
}

/// Whether this is the word that the payment has ended, and for nothing.
fn says_not_paid(ran: &Ran) -> bool {
    ran.code == 1 && ran.stderr.contains("it is not paid, and nothing moved")
}
