//! `--metrics` as Prometheus and whoever watches the programs see it.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::encode;
use offset_protocol::relay::ToRelay;

use super::*;

const MANAGER: &str = env!("CARGO_BIN_EXE_stmgr");
const CONTROL: &str = env!("CARGO_BIN_EXE_stctrl");

/// Where a server tells its metrics.
pub(super) struct Watched {
    pub(super) server: Server,
    address: String,
    metrics: String,
}

impl Watched {
    /// Starts a server that announces its doors with these words.
    pub(super) fn start(mut command: Command, announcements: &[&str]) -> Watched {
        command.args(["--metrics", "127.0.0.1:0"]);
        let mut server = Server::start(command);
        let addresses: Vec<_> = announcements.iter().map(|announcement| server.address(announcement)).collect();
        let metrics = server.address("listening for metrics on ");
        Watched { server, address: addresses[0].clone(), metrics }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    fn page(&self, path: &str) -> (String, String) {
        self.try_page(path).unwrap_or_else(|| panic!("no answer for {path}"))
    }

    /// First line and body; nothing if the connection was closed without a word.
    fn try_page(&self, path: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        let mut text = String::new();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.metrics).ok()?;
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_owned(), body.to_owned()))
    }

    /// All samples, by name and labels.
    fn scrape(&self) -> BTreeMap<String, f64> {
        let (status, body) = self.page("/metrics");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(body.ends_with("# EOF\n"));
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, n)| (name.to_owned(), n.parse().unwrap()))
            .collect()
    }

    pub(super) fn value(&self, name: &str) -> f64 {
        self.scrape().get(name).copied().unwrap_or_else(|| panic!("there is no {name}"))
    }

    pub(super) fn wait_for(&self, name: &str, value: f64) {
        let begun = Instant::now();
        while self.value(name) != value {
            assert!(begun.elapsed() < Duration::from_secs(20), "{name} is {}, not {value}", self.value(name));
            std::thread::sleep(Duration::from_millis(120));
        }
    }
}

impl Folder {
    fn watched_relay(&self) -> Watched {
        Watched::start(self.relay(), &["listening on "])
    }
}

fn run(program: &str, arguments: &[&str], folder: &Folder) {
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(folder.folder.path()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

impl Session {
    fn say(&mut self, message: &ToRelay) {
        let mut wire = Vec::new();
        self.channel.send(self.clock.now(), &encode(message), &mut wire).unwrap();
        self.stream.write_all(&wire).unwrap();
    }

    fn hear(&mut self) {
        assert!(matches!(self.next_event(), ChannelEvent::Message(_)));
    }
}

fn relay_session(relay: &Watched) -> Session {
    let attempt = App::new(&relay.address).attempt_for(Purpose::NodeRelay);
    let Attempt::Admitted(session) = attempt else { panic!("a relay admits everybody") };
    session
}

#[test]
fn metrics_of_all_programs_move_when_a_node_connects() {
    let folder = Folder::new();
    folder.write("r.ident", &identity(2));
    folder.write("i.ident", &identity(3));
    folder.write("app.ident", &identity(APP));
    let any = Path::new("127.0.0.1:0");
    let relay = command(RELAY, &[("-i", &folder.file("r.ident")), ("-l", any)]);
    let relay = Watched::start(relay, &["listening on "]);
    std::fs::create_dir(folder.file("servers")).unwrap();
    let index = [("-i", &*folder.file("i.ident")), ("-c", any), ("-s", any), ("-t", &*folder.file("servers"))];
    let index = Watched::start(command(INDEX, &index), &["listening for clients on ", "listening for servers on "]);
    let permissions = Permissions { routes: true, buyer: true, seller: true, config: true };
    folder.write("trusted/app.ticket", &AppTicket { public_key: identity(APP).public_key(), permissions });
    let node = Watched::start(folder.node(), &["listening on "]);

    assert_eq!(relay.value("offset_relay_listeners"), 0.0);
    assert_eq!(index.value("offset_index_clients"), 0.0);
    assert_eq!(node.value("offset_node_relays{state=\"connected\"}"), 0.0);
    let commits = node.value("offset_node_commits_total");
    for server in [&relay, &index, &node] {
        assert_eq!(server.page("/health"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
        assert_eq!(server.value("offset_draining"), 0.0);
        assert!(server.scrape().keys().any(|name| name.starts_with("offset_build_info{program=\"st")));
    }

    run(MANAGER, &["relay-ticket", "-i", "r.ident", "-a", &relay.address, "-o", "relay.ticket"], &folder);
    run(MANAGER, &["index-ticket", "-i", "i.ident", "-a", &index.address, "-o", "index.ticket"], &folder);
    run(MANAGER, &["node-ticket", "-i", "a.ident", "-a", &node.address, "-o", "node.ticket"], &folder);
    let control = ["-I", "app.ident", "-T", "node.ticket", "config"];
    let config = |arguments: &[&str]| run(CONTROL, &[&control, arguments].concat(), &folder);
    config(&["add-relay", "--relay", "relay.ticket", "--name", "relay"]);
    config(&["add-index", "--index", "index.ticket", "--name", "index"]);

    relay.wait_for("offset_relay_listeners", 1.0);
    relay.wait_for("offset_connections_open{kind=\"node_relay\"}", 1.0);
    assert!(relay.value("offset_bytes_received_total") > 0.0);
    index.wait_for("offset_index_clients", 1.0);
    index.wait_for("offset_connections_open{kind=\"node_index\"}", 1.0);
    node.wait_for("offset_node_relays{state=\"connected\"}", 1.0);
    node.wait_for("offset_node_index_servers{state=\"connected\"}", 1.0);
    assert!(node.value("offset_node_commits_total") > commits);
    assert!(node.value("offset_node_commit_seconds_count") > 0.0);
    assert!(node.value("offset_turn_seconds_count") > 0.0);
    // The dashboard knows no name that nobody exports.
    let exported: BTreeSet<String> = [&relay, &index, &node]
        .iter()
        .flat_map(|server| server.scrape().into_keys())
        .map(|name| name.split('{').next().unwrap_or_default().to_owned())
        .collect();
    let shown = names_in_the_dashboard();
    assert!(shown.len() > 20, "{shown:?}");
    let unknown: Vec<_> = shown.difference(&exported).collect();
    assert!(unknown.is_empty(), "the dashboard shows {unknown:?}, which no program exports");
    // No key is in any of it, whoever it belongs to.
    let pages = [&relay, &index, &node].map(|server| server.page("/metrics").1).concat();
    for number in [1, 2, 3, APP] {
        let key: PublicKey = identity(number).public_key();
        assert!(!pages.contains(&key.to_string()));
    }

    drop(node);
    relay.wait_for("offset_relay_listeners", 0.0);
    relay.wait_for("offset_connections_open{kind=\"node_relay\"}", 0.0);
    index.wait_for("offset_index_clients", 0.0);
}

/// Every name of a metric in every expression, for PromQL the longest runs of letters, digits and `_` that begin as ours do.
fn names_in_the_dashboard() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/grafana-dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut expressions = Vec::new();
    gather_expressions(&dashboard, &mut expressions);
    expressions
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with("offset_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

fn gather_expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if ["expr", "query", "definition"].contains(&key.as_str()) => {
                        found.push(text.to_owned())
                    }
                    Some(_) | None => gather_expressions(value, found),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| gather_expressions(value, found)),
        _ => {}
    }
}

#[test]
fn a_hundred_that_say_nothing_or_garbage_to_the_metrics_do_not_keep_the_relay_from_serving() {
    let folder = Folder::new();
    let relay = folder.watched_relay();
    let files = relay.value("process_open_fds");
    let mut held: Vec<_> = (0..100_u32)
        .map(|n| {
            let mut stream = TcpStream::connect(&relay.metrics).unwrap();
            match n % 4 {
                0 => {}
                // Whoever comes too many is closed before it has said anything.
                1 => drop(stream.write_all(&[0xff; 5_000])),
                2 => drop(stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ")),
                _ => drop(stream.write_all(&vec![b'\n'; n as usize])),
            }
            stream
        })
        .collect();
    // The relay's own door is as open as ever, while they are there.
    let mut session = relay_session(&relay);
    session.say(&ToRelay::Listen);
    // Those that say nothing lose their places after a while, though none has gone.
    let begun = Instant::now();
    while relay.try_page("/health").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the places are not given back");
        std::thread::sleep(Duration::from_millis(100));
    }
    relay.wait_for("offset_relay_listeners", 1.0);
    assert_eq!(relay.page("/health").1, "ok\n");
    assert!(relay.value("process_open_fds") < files + 20.0);
    for stream in &mut held {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = Vec::new();
        // Some were reset, for what they had said was never read.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn a_relay_with_a_tunnel_is_draining_when_it_was_asked_to_end() {
    let folder = Folder::new();
    let relay = folder.watched_relay();
    let us = identity(APP).public_key();
    // An identity may call itself: what matters is that there is a tunnel.
    let (mut listener, mut caller, mut callee) = (relay_session(&relay), relay_session(&relay), relay_session(&relay));
    listener.say(&ToRelay::Listen);
    relay.wait_for("offset_relay_listeners", 1.0);
    caller.say(&ToRelay::Connect { to: us });
    listener.hear();
    relay.wait_for("offset_relay_half_tunnels", 1.0);
    callee.say(&ToRelay::Accept { from: us });
    callee.hear();
    relay.wait_for("offset_relay_tunnels", 1.0);
    relay.server.signal("-TERM");
    let begun = Instant::now();
    while relay.page("/health") != ("HTTP/1.1 503 Service Unavailable".to_owned(), "draining\n".to_owned()) {
        assert!(begun.elapsed() < Duration::from_secs(3), "the relay does not drain");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(relay.value("offset_draining"), 1.0);
    assert_eq!(relay.server.wait().0.code(), Some(0));
}

#[test]
fn a_port_for_metrics_that_is_taken_is_named_before_anything_is_announced() {
    let folder = Folder::new();
    let first = folder.watched_relay();
    for mut command in [folder.relay(), folder.index(), folder.node()] {
        command.args(["--metrics", &first.metrics]);
        let (code, stderr) = failed(command);
        assert_eq!(code, Some(1));
        assert!(stderr.contains(&format!("cannot listen on {}: ", first.metrics)), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let mut command = folder.relay();
    command.args(["--metrics", "nowhere.invalid:1"]);
    let (code, stderr) = failed(command);
    assert!(code == Some(1) && stderr.contains("cannot resolve the address nowhere.invalid:1"), "{stderr}");
}

#[test]
fn the_units_of_systemd_give_the_programs_flags_that_they_know() {
    for (unit, program) in [("offset-relay", RELAY), ("offset-index", INDEX), ("offset-node", NODE)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("dist/{unit}.service"));
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = line.split(' ');
        assert_eq!(Path::new(words.next().unwrap()).file_name(), Path::new(program).file_name());
        let words = words.map(|word| word.replace("${", "/no-such-folder/${"));
        let mut command = Command::new(program);
        command.args(words);
        let (code, stderr) = failed(command);
        // Not 2, which is wrong usage: only the files are missing.
        assert!(code == Some(1) && stderr.contains("cannot read /no-such-folder/"), "{unit}: {stderr}");
    }
}
