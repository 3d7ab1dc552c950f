//! The server programs as a script sees them: lines on stdout, sentences on stderr, exit codes, signals.

#![allow(clippy::unwrap_used)]

#[path = "servers/core_dumps.rs"]
mod core_dumps;
#[path = "servers/doors.rs"]
mod doors;
#[path = "servers/metrics.rs"]
mod metrics;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offset_protocol::app::Permissions;
use offset_protocol::channel::{ChannelConfig, ChannelEvent, SecureChannel};
use offset_protocol::files::{self, AppTicket};
use offset_protocol::identity::{Identity, Signer};
use offset_protocol::net::Purpose;
use offset_runtime_smol::clock::Clock;
use offset_runtime_smol::entropy;
use offset_runtime_smol::store::Store;

const RELAY: &str = env!("CARGO_BIN_EXE_strelay");
const INDEX: &str = env!("CARGO_BIN_EXE_stindex");
const NODE: &str = env!("CARGO_BIN_EXE_stnode");

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("trusted")).unwrap();
        let folder = Folder { folder };
        folder.write("a.ident", &identity(1));
        folder
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn relay(&self) -> Command {
        command(RELAY, &[("--idfile", &self.file("a.ident")), ("--laddr", Path::new("127.0.0.1:0"))])
    }

    fn index(&self) -> Command {
        let any = Path::new("127.0.0.1:0");
        command(INDEX, &[("-i", &self.file("a.ident")), ("-c", any), ("-s", any), ("--trusted", &self.file("trusted"))])
    }
}

impl Folder {
    /// A node, with a database of its own.
    fn node(&self) -> Command {
        if !self.file("node.db").exists() {
            drop(Store::create(&self.file("node.db"), identity(1).public_key()).unwrap());
        }
        self.node_with("node.db", "a.ident")
    }

    fn node_with(&self, database: &str, idfile: &str) -> Command {
        let (database, idfile) = (self.file(database), self.file(idfile));
        let flags = [("-d", &*database), ("-i", &*idfile), ("-l", Path::new("127.0.0.1:0"))];
        let mut command = command(NODE, &flags);
        command.arg("--trusted").arg(self.file("trusted"));
        command
    }

    fn write<T: files::Document>(&self, name: &str, value: &T) {
        std::fs::write(self.file(name), files::print(value).as_bytes()).unwrap();
        std::fs::set_permissions(self.file(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn identity(number: u8) -> Identity {
    Identity::from_private_key(&[number; 32])
}

fn command(program: &str, flags: &[(&str, &Path)]) -> Command {
    let mut command = Command::new(program);
    for (flag, value) in flags {
        command.arg(flag).arg(value);
    }
    command.env_remove("RUST_LOG");
    command
}

/// A server that is ended, however the test ends.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Server { child, stdout }
    }

    /// The address in the next line, after `announcement`.
    fn address(&mut self, announcement: &str) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().strip_prefix(announcement).unwrap_or_else(|| panic!("unexpected line {line:?}")).to_owned()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; what was on stderr.
    fn wait(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(6), "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status, stderr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The private key of the test's app.
const APP: u8 = 7;

/// An app that only connects.
struct App {
    address: String,
    clock: Clock,
}

#[derive(Debug, PartialEq)]
enum Attempt {
    Admitted(Session),
    Refused,
}

struct Session {
    stream: TcpStream,
    channel: SecureChannel,
    clock: Clock,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl PartialEq for Session {
    fn eq(&self, _other: &Session) -> bool {
        false
    }
}

impl App {
    fn new(address: &str) -> App {
        App { address: address.to_owned(), clock: Clock::start() }
    }

    fn attempt(&self) -> Attempt {
        self.attempt_for(Purpose::AppNode)
    }

    fn attempt_for(&self, purpose: Purpose) -> Attempt {
        self.shake_hands(TcpStream::connect(&self.address).unwrap(), purpose, APP)
    }

    /// As the node or app of this number.
    fn shake_hands(&self, stream: TcpStream, purpose: Purpose, number: u8) -> Attempt {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let signer = Arc::new(identity(number));
        let config = ChannelConfig { purpose, signer, seed: entropy::seed().unwrap() };
        let channel = SecureChannel::initiator(config, identity(1).public_key(), self.clock.now());
        let mut session = Session { stream, channel, clock: self.clock };
        let mut wire = Vec::new();
        session.channel.start(self.clock.now(), &mut wire);
        session.stream.write_all(&wire).unwrap();
        match session.next_event() {
            ChannelEvent::Opened { .. } => Attempt::Admitted(session),
            ChannelEvent::Closed(_) => Attempt::Refused,
            other => panic!("unexpected {other:?}"),
        }
    }
}

impl Session {
    fn next_event(&mut self) -> ChannelEvent {
        loop {
            if let Some(event) = self.channel.poll_event() {
                return event;
            }
            let (mut buffer, mut wire) = ([0; 4_096], Vec::new());
            match self.stream.read(&mut buffer) {
                Ok(0) => self.channel.lost(self.clock.now()),
                Ok(read) => self.channel.receive(self.clock.now(), &buffer[..read], &mut wire),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("cannot hear the node: {error}"),
            }
            // The node may be gone already.
            let _ = self.stream.write_all(&wire);
        }
    }

    fn wait_for_the_end(&mut self) {
        while !matches!(self.next_event(), ChannelEvent::Closed(_)) {}
    }
}

fn failed(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, stdout } = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stdout), "");
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn servers_say_where_they_listen_and_end_in_order_at_a_signal() {
    let folder = Folder::new();
    for signal in ["-INT", "-TERM"] {
        let mut relay = Server::start(folder.relay());
        TcpStream::connect(relay.address("listening on ")).unwrap();
        relay.signal(signal);
        assert_eq!(relay.wait().0.code(), Some(0));
        let mut index = Server::start(folder.index());
        TcpStream::connect(index.address("listening for clients on ")).unwrap();
        TcpStream::connect(index.address("listening for servers on ")).unwrap();
        index.signal(signal);
        assert_eq!(index.wait().0.code(), Some(0));
        let mut node = Server::start(folder.node());
        TcpStream::connect(node.address("listening on ")).unwrap();
        node.signal(signal);
        assert_eq!(node.wait().0.code(), Some(0));
    }
}

#[test]
fn a_server_tells_its_cost_in_json_when_asked_and_at_the_end() {
    let folder = Folder::new();
    let mut command = folder.relay();
    command.args(["--log-format", "json"]);
    let mut relay = Server::start(command);
    relay.address("listening on ");
    relay.signal("-USR1");
    std::thread::sleep(Duration::from_millis(200));
    relay.signal("-TERM");
    let (status, stderr) = relay.wait();
    assert!(status.success());
    let lines = stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let costs: Vec<_> = lines.filter(|line| line["target"] == "offset::cost").collect();
    assert_eq!(costs.len(), 2);
    assert!(costs.iter().all(|cost| cost["bytes_in"].is_u64() && cost["flushes"] == 0));
}

#[test]
fn wrong_usage_exits_with_2_and_a_wrong_file_with_1_and_its_name() {
    let folder = Folder::new();
    assert_eq!(failed(command(RELAY, &[])).0, Some(2));
    assert_eq!(failed(command(RELAY, &[("--nonsense", Path::new("1"))])).0, Some(2));
    let any = Path::new("127.0.0.1:0");
    let missing = folder.file("b.ident");
    let (code, stderr) = failed(command(RELAY, &[("-i", &missing), ("-l", any)]));
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("strelay: cannot read ") && stderr.contains("b.ident"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
    let (code, stderr) = failed(command(RELAY, &[("-i", &folder.file("a.ident")), ("-l", Path::new("nowhere"))]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--laddr <HOST:PORT>") && stderr.contains("expected HOST:PORT, such as"), "{stderr}");
    let nowhere = Path::new("nowhere.invalid:1");
    let (code, stderr) = failed(command(RELAY, &[("-i", &folder.file("a.ident")), ("-l", nowhere)]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot resolve the address nowhere.invalid:1"), "{stderr}");
    assert!(!stderr.contains("can read this secret"), "{stderr}");
    std::fs::set_permissions(folder.file("a.ident"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let (_, stderr) = failed(command(RELAY, &[("-i", &folder.file("a.ident")), ("-l", nowhere)]));
    assert!(stderr.contains("can read this secret") && stderr.contains("0640"), "{stderr}");
    let trusted = folder.file("no-such-folder");
    let flags = [("-i", &*folder.file("a.ident")), ("-c", any), ("-s", any), ("-t", &*trusted)];
    let (code, stderr) = failed(command(INDEX, &flags));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot read the folder") && stderr.contains("no-such-folder"), "{stderr}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = Folder::new();
    let mut first = Server::start(folder.relay());
    let address = first.address("listening on ");
    let (code, stderr) = failed(command(RELAY, &[("-i", &folder.file("a.ident")), ("-l", Path::new(&address))]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains(&format!("cannot listen on {address}: ")), "{stderr}");
}

#[test]
fn help_and_version_exit_with_0() {
    for program in [RELAY, INDEX, NODE] {
        for flag in ["--help", "--version"] {
            assert!(Command::new(program).arg(flag).output().unwrap().status.success());
        }
    }
}

#[test]
fn a_second_process_on_a_database_another_nodes_database_and_a_damaged_one_are_refused() {
    let folder = Folder::new();
    let mut first = Server::start(folder.node());
    first.address("listening on ");
    let refused = |command: Command, why: &str| {
        let (code, stderr) = failed(command);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.starts_with("stnode: ") && stderr.contains(why) && stderr.lines().count() == 1, "{stderr}");
    };
    refused(folder.node(), "node.db is in use by another process");
    first.signal("-KILL");
    first.wait();
    folder.write("b.ident", &identity(2));
    refused(folder.node_with("node.db", "b.ident"), "node.db belongs to the node ");
    refused(folder.node_with("missing.db", "a.ident"), "missing.db: No such file");
    std::fs::write(folder.file("garbage.db"), [7; 9_000]).unwrap();
    refused(folder.node_with("garbage.db", "a.ident"), "garbage.db is not a node database");
    let whole = std::fs::read(folder.file("node.db")).unwrap();
    std::fs::write(folder.file("short.db"), &whole[..20_000]).unwrap();
    refused(folder.node_with("short.db", "a.ident"), "short.db is damaged");
    let mut again = Server::start(folder.node());
    again.address("listening on ");
}

#[test]
fn an_app_is_heard_from_the_moment_its_ticket_is_there_until_it_is_gone() {
    let folder = Folder::new();
    let mut node = Server::start(folder.node());
    let address = node.address("listening on ");
    let app = App::new(&address);
    assert_eq!(app.attempt(), Attempt::Refused);
    let permissions = Permissions { routes: true, buyer: true, seller: true, config: true };
    let ticket = AppTicket { public_key: identity(APP).public_key(), permissions };
    folder.write("trusted/app.ticket", &ticket);
    std::thread::sleep(Duration::from_millis(1_200));
    let Attempt::Admitted(mut session) = app.attempt() else { panic!("the app has a ticket") };
    std::fs::remove_file(folder.file("trusted/app.ticket")).unwrap();
    session.wait_for_the_end();
    assert_eq!(app.attempt(), Attempt::Refused);
    // The node closes everything in order while an app is connected, too.
    folder.write("trusted/again.ticket", &ticket);
    std::thread::sleep(Duration::from_millis(1_200));
    let Attempt::Admitted(_session) = app.attempt() else { panic!("the app has a ticket again") };
    node.signal("-TERM");
    assert_eq!(node.wait().0.code(), Some(0));
}

#[test]
fn a_relay_that_has_no_files_left_serves_again_when_there_are_some() {
    let folder = Folder::new();
    let relay = folder.relay();
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""]).arg(RELAY).args(relay.get_args());
    let mut relay = Server::start(limited);
    let address = relay.address("listening on ");
    // More than it can accept; the rest waits in the system.
    let silent: Vec<_> = (0..60).map(|_| TcpStream::connect(&address).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(silent);
    let attempt = App::new(&address).attempt_for(Purpose::NodeRelay);
    assert!(matches!(attempt, Attempt::Admitted(_)), "{attempt:?}");
    relay.signal("-TERM");
    let (status, stderr) = relay.wait();
    assert!(status.success());
    assert!(stderr.contains("no connection can be accepted for now"), "{stderr}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_takes_as_many_files_as_the_system_allows() {
    let folder = Folder::new();
    let relay = folder.relay();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -S -n 64 && exec \"$@\"", "sh"]).arg(relay.get_program()).args(relay.get_args());
    let mut server = Server::start(limited);
    server.address("listening on ");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "{files:?}");
}
