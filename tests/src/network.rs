//! A network of real programs, made with `stmgr` and `stctrl` only: relays, federated index servers, nodes, friends.
//!
//! A node `alice` has the files `alice.ident`, `alice.db`, `alice-app.ident`, `alice-trusted/`, `alice-node.ticket` and
//! `alice.friend`; its app may do everything.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::programs::{PATIENCE, Ran, Server, Shell};

/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(50);

/// A number that no other file's name has.
fn unique() -> usize {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Everything that runs.
#[derive(Debug)]
pub struct Network {
    /// The folder with all files.
    pub shell: Shell,
    /// Servers by name: `relay1`, `index1`, `alice`.
    servers: Vec<(String, Server)>,
    friends: Vec<(String, String)>,
}

impl Default for Network {
    fn default() -> Self {
        Network::new()
    }
}

impl Network {
    /// Nothing yet.
    pub fn new() -> Network {
        Network { shell: Shell::new(), servers: Vec::new(), friends: Vec::new() }
    }

    /// Alice, Bob and Carol, friends in a line, with two relays and two federated index servers between them. Everybody
    /// lets everybody owe 1,000,000 USD, and Bob charges a sixteenth and 5 for what he passes on.
    pub fn line() -> Network {
        Network::line_with("")
    }

    /// The same with more flags for every `stnode`.
    pub fn line_with(flags: &str) -> Network {
        let mut network = Network::new();
        network.start_relay("relay1");
        network.start_relay("relay2");
        network.start_index_servers(&["index1", "index2"]);
        network.start_node_with("alice", "relay1", "index1", flags);
        // As on a machine with more cores, while the others do it as on one with few.
        network.start_node_with("bob", "relay2", "index2", &format!("--check-threads 2 {flags}"));
        network.start_node_with("carol", "relay1", "index1", flags);
        for (a, b) in [("alice", "bob"), ("bob", "carol")] {
            network.befriend(a, b, 1_000_000);
        }
        for friend in ["alice", "carol"] {
            let rate = format!("config set-currency-rate --name {friend} --currency USD --mul 268435456 --add 5");
            network.ok("bob", &rate);
        }
        network.wait_for_friends();
        network
    }

    /// Starts a relay.
    pub fn start_relay(&mut self, name: &str) {
        let shell = &self.shell;
        shell.ok(&format!("stmgr gen-ident --output {name}.ident"));
        let server = shell.start(&format!("strelay --idfile {name}.ident --laddr 127.0.0.1:0"));
        let address = server.address();
        shell.ok(&format!("stmgr relay-ticket --idfile {name}.ident --address {address} --output {name}.ticket"));
        self.servers.push((name.to_owned(), server));
    }

    /// Starts index servers that trust each other.
    pub fn start_index_servers(&mut self, names: &[&str]) {
        let shell = &self.shell;
        for name in names {
            shell.mkdir(&format!("{name}-trusted"));
            shell.ok(&format!("stmgr gen-ident --output {name}.ident"));
        }
        for name in names {
            let doors = "--lclient 127.0.0.1:0 --lserver 127.0.0.1:0";
            let server = shell.start(&format!("stindex --idfile {name}.ident {doors} --trusted {name}-trusted"));
            let ticket = |address: &str, output: &str| {
                shell.ok(&format!("stmgr index-ticket --idfile {name}.ident --address {address} --output {output}"));
            };
            ticket(server.address(), &format!("{name}.ticket"));
            for other in names.iter().filter(|other| *other != name) {
                ticket(server.second_address(), &format!("{other}-trusted/{name}.ticket"));
            }
            self.servers.push(((*name).to_owned(), server));
        }
    }

    /// Starts a node with a relay and an index server.
    pub fn start_node(&mut self, name: &str, relay: &str, index: &str) {
        self.start_node_with(name, relay, index, "");
    }

    /// The same with more flags for `stnode`.
    pub fn start_node_with(&mut self, name: &str, relay: &str, index: &str, flags: &str) {
        let shell = &self.shell;
        shell.mkdir(&format!("{name}-trusted"));
        shell.ok(&format!("stmgr gen-ident --output {name}.ident"));
        shell.ok(&format!("stmgr gen-ident --output {name}-app.ident"));
        shell.ok(&format!("stmgr init-node-db --idfile {name}.ident --output {name}.db"));
        let ticket = format!("stmgr app-ticket --idfile {name}-app.ident --output {name}-trusted/app.ticket");
        shell.ok(&format!("{ticket} --pbuyer --pseller --pconfig --proutes"));
        let files = format!("--database {name}.db --idfile {name}.ident --trusted {name}-trusted");
        let server = shell.start(&format!("stnode {files} --laddr 127.0.0.1:0 {flags}"));
        let address = server.address();
        shell.ok(&format!("stmgr node-ticket --idfile {name}.ident --address {address} --output {name}-node.ticket"));
        self.servers.push((name.to_owned(), server));
        self.ok(name, &format!("config add-relay --relay {relay}.ticket --name relay"));
        self.ok(name, &format!("config add-index --index {index}.ticket --name index"));
        self.ok(name, &format!("info export-ticket --ticket {name}.friend"));
    }

    /// Makes two nodes friends who let each other owe `limit` USD.
    pub fn befriend(&mut self, a: &str, b: &str, limit: u128) {
        for (us, friend) in [(a, b), (b, a)] {
            self.ok(us, &format!("config add-friend --friend {friend}.friend --name {friend}"));
            self.ok(us, &format!("config open-currency --name {friend} --currency USD"));
            self.ok(us, &format!("config set-currency-max-debt --name {friend} --currency USD --mdebt {limit}"));
        }
        self.friends.push((a.to_owned(), b.to_owned()));
    }

    // -- servers

    /// The names of all servers.
    pub fn names(&self) -> Vec<String> {
        self.servers.iter().map(|(name, _)| name.clone()).collect()
    }

    /// A server.
    #[track_caller]
    pub fn server(&mut self, name: &str) -> &mut Server {
        match self.servers.iter_mut().find(|(there, _)| there == name) {
            Some((_, server)) => server,
            None => panic!("there is no {name}"),
        }
    }

    // -- cards

    /// What to type so that somebody's card does this.
    pub fn line_of(who: &str, command: &str) -> String {
        format!("stctrl --idfile {who}-app.ident --ticket {who}-node.ticket {command}")
    }

    /// Runs somebody's `stctrl`.
    #[track_caller]
    pub fn run(&self, who: &str, command: &str) -> Ran {
        self.shell.run(&Network::line_of(who, command))
    }

    /// Runs somebody's `stctrl`, which must end with exit 0.
    #[track_caller]
    pub fn ok(&self, who: &str, command: &str) -> String {
        self.shell.ok(&Network::line_of(who, command))
    }

    /// Runs somebody's `stctrl`, which must end with this code, saying this.
    #[track_caller]
    pub fn fails(&self, who: &str, code: i32, command: &str, says: &str) {
        self.shell.fails(code, &Network::line_of(who, command), says);
    }

    /// Runs somebody's `stctrl` with `--json`.
    #[track_caller]
    pub fn json(&self, who: &str, command: &str) -> Value {
        self.shell.json(&Network::line_of(who, command))
    }

    /// Repeats a command until it ends with exit 0, as somebody would who waits for the network. Returns what it took.
    #[track_caller]
    pub fn until_ok(&self, who: &str, command: &str) -> Duration {
        let begun = Instant::now();
        loop {
            let ran = self.run(who, command);
            if ran.code == 0 {
                return begun.elapsed();
            }
            // Wrong usage and missing permissions do not heal.
            assert!(begun.elapsed() < PATIENCE && ran.code != 2 && ran.code != 4, "{ran}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until every friend is connected and agrees, and its currency can be used. Returns what it took.
    #[track_caller]
    pub fn wait_for_friends(&self) -> Duration {
        self.wait_until(|friend| {
            let usable = |currency: &Value| currency["listed"] == true && currency["friend_listed"] == true;
            friend["online"] == true
                && friend["channel"]["consistent"] == true
                && friend["currencies"].as_array().is_some_and(|all| all.iter().all(usable))
        })
    }

    /// Waits until the index servers know how one node could pay another. Returns what it took.
    #[track_caller]
    pub fn wait_for_route(&self, from: &str, to: &str) -> Duration {
        let key = self.json(to, &format!("info export-ticket --ticket {to}-{}.friend", unique()))["public_key"].clone();
        let find = format!("routes find --currency USD --amount 1 --to {}", key.as_str().unwrap_or_default());
        self.until_ok(from, &find)
    }

    /// Waits until nothing is under way any more between friends who are connected.
    #[track_caller]
    pub fn wait_for_quiet(&self) {
        self.wait_for_friends();
        self.wait_until(|friend| {
            let quiet = |currency: &Value| currency["out_frozen"] == "0" && currency["in_frozen"] == "0";
            friend["currencies"].as_array().is_some_and(|all| all.iter().all(quiet))
        });
    }

    #[track_caller]
    fn wait_until(&self, is_so: impl Fn(&Value) -> bool) -> Duration {
        let begun = Instant::now();
        let mut friends = self.friends.clone();
        friends.extend(self.friends.iter().map(|(a, b)| (b.clone(), a.clone())));
        for (us, friend) in &friends {
            loop {
                let report = self.friend(us, friend);
                if is_so(&report) {
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "at {us}, {friend} is like this: {report}");
                std::thread::sleep(LOOK);
            }
        }
        begun.elapsed()
    }

    /// What a node says about a friend.
    #[track_caller]
    pub fn friend(&self, us: &str, friend: &str) -> Value {
        let report = self.json(us, "info friends");
        let friends = report["friends"].as_array().into_iter().flatten();
        match friends.into_iter().find(|there| there["name"] == friend) {
            Some(there) => there.clone(),
            None => panic!("{us} has no friend {friend}: {report}"),
        }
    }

    /// What a friend owes a node, in USD.
    #[track_caller]
    pub fn owed(&self, us: &str, friend: &str) -> i128 {
        let report = self.friend(us, friend);
        let currencies = report["currencies"].as_array().into_iter().flatten();
        let usd = currencies.into_iter().find(|currency| currency["currency"] == "USD");
        let balance = usd.and_then(|usd| usd["balance"].as_str()).and_then(|balance| balance.parse().ok());
        match balance {
            Some(balance) => balance,
            None => panic!("{us} has no USD with {friend}: {report}"),
        }
    }

    /// Checks that all friends agree on what they owe each other, to the last unit.
    #[track_caller]
    pub fn check_agreement(&self) {
        for (a, b) in &self.friends {
            let (ours, theirs) = (self.owed(a, b), self.owed(b, a));
            assert_eq!(ours + theirs, 0, "{a} says {ours}, {b} says {theirs}");
        }
    }
}
