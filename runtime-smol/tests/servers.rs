//! The server programs as a script sees them: lines on stdout, sentences on stderr, exit codes, signals.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use offset_protocol::files;
use offset_protocol::identity::Identity;

const RELAY: &str = env!("CARGO_BIN_EXE_strelay");
const INDEX: &str = env!("CARGO_BIN_EXE_stindex");

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::from_private_key(&[1; 32]);
        std::fs::write(folder.path().join("a.ident"), files::print(&identity).as_bytes()).unwrap();
        std::fs::create_dir(folder.path().join("trusted")).unwrap();
        Folder { folder }
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
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot resolve the address nowhere"), "{stderr}");
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
    for program in [RELAY, INDEX] {
        for flag in ["--help", "--version"] {
            assert!(Command::new(program).arg(flag).output().unwrap().status.success());
        }
    }
}
