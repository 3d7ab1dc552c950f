//! The real programs, as somebody at a shell runs them: a folder, command lines, files, exit codes.
//!
//! | type | what |
//! |---|---|
//! | [`Shell`] | a folder of its own, and the programs to run in it |
//! | [`Tool`], [`Ran`] | a program that ends by itself, and how it ended |
//! | [`Server`] | a program that runs until it is told to end, and can be started again at the same address |
//!
//! The programs belong to another package, so no variable of cargo says where they are. They lie beside the test or bench; if they
//! are missing there, or older than their source, they are built first. `OFFSET_PROGRAMS` names a folder with others.
//!
//! 1. Whatever is started here is dead when its value is dropped, however the test ends.
//! 2. Nothing here waits for ever: a program that does not end or does not listen fails the test.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

/// How long a tool may run, and how long a server may take to listen. Chosen freely: far more than a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at something that may have happened.
const LOOK: Duration = Duration::from_millis(2);

/// The value, or the end of the test.
#[track_caller]
fn must<T, E: Display>(result: Result<T, E>, what: impl Display) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

// -- where the programs are

/// The file of a program. One that is named with its whole path is that one.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(folder).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("OFFSET_PROGRAMS") {
        return folder.into();
    }
    let this = must(std::env::current_exe(), "cannot find the test's own file");
    // A test is in `deps` of the profile's folder, a program in the folder itself.
    let Some(folder) = this.ancestors().skip(1).find(|folder| !folder.ends_with("deps")) else {
        panic!("{} is nowhere", this.display())
    };
    if !is_fresh(folder) {
        build(folder);
    }
    folder.to_owned()
}

/// Whether all programs are there and younger than everything that they are made of.
fn is_fresh(folder: &Path) -> bool {
    let crates = ["protocol", "relay-sm", "index-sm", "funder-sm", "runtime-smol"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source = crates.into_iter().map(|name| youngest(&root.join(name).join("src"))).max();
    let programs = ["stmgr", "stctrl", "stverify", "stnode", "strelay", "stindex"];
    let oldest = programs.into_iter().map(|name| {
        let file = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        file.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    });
    oldest.min() > source
}

/// When anything in this folder was last changed.
fn youngest(folder: &Path) -> SystemTime {
    let entries = must(std::fs::read_dir(folder), folder.display());
    let changed = entries.flatten().map(|entry| match entry.metadata() {
        Ok(what) if what.is_dir() => youngest(&entry.path()),
        Ok(what) => what.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        Err(_) => SystemTime::UNIX_EPOCH,
    });
    changed.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Builds the programs into this folder.
fn build(folder: &Path) {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "-p", "offset-runtime-smol", "--bins", "--profile", profile, "--target-dir"]);
    cargo.arg(folder.join("..")).current_dir(env!("CARGO_MANIFEST_DIR"));
    let built = must(cargo.status(), "cannot start cargo");
    assert!(built.success(), "the programs cannot be built");
}

// -- a folder to run them in

/// A folder of its own. Command lines are split at spaces; files in them are looked for in the folder.
#[derive(Debug)]
pub struct Shell {
    folder: TempDir,
}

impl Default for Shell {
    fn default() -> Self {
        Shell::new()
    }
}

impl Shell {
    /// An empty folder.
    pub fn new() -> Shell {
        Shell { folder: must(tempfile::tempdir(), "cannot make a temporary folder") }
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether a file is there.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The content of a file.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        must(std::fs::read_to_string(self.path(name)), name)
    }

    /// Writes a file.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        must(std::fs::write(self.path(name), content), name);
    }

    /// Makes a folder.
    #[track_caller]
    pub fn mkdir(&self, name: &str) {
        must(std::fs::create_dir(self.path(name)), name);
    }

    fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new(program(words.next().unwrap_or_default()));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Starts a tool and does not wait.
    #[track_caller]
    pub fn spawn(&self, line: &str) -> Tool {
        let file = || must(tempfile::tempfile(), "cannot make a temporary file");
        let (stdout, stderr) = (file(), file());
        let copy = |file: &File| must(file.try_clone(), "cannot share a file");
        let child = self.command(line).stdout(copy(&stdout)).stderr(copy(&stderr)).spawn();
        Tool { line: line.to_owned(), child: must(child, line), stdout, stderr }
    }

    /// Runs a tool to its end.
    #[track_caller]
    pub fn run(&self, line: &str) -> Ran {
        self.spawn(line).finish()
    }

    /// Runs a tool that must end with exit 0; what it printed.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "{ran}");
        ran.stdout
    }

    /// Runs a tool that must end with this code, saying this.
    #[track_caller]
    pub fn fails(&self, code: i32, line: &str, says: &str) {
        let ran = self.run(line);
        assert_eq!(ran.code, code, "{ran}");
        assert!(ran.stderr.contains(says), "it does not say {says:?}: {ran}");
    }

    /// Runs a tool with `--json`, which must end with exit 0; the object that it printed.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let printed = self.ok(&format!("{line} --json"));
        must(serde_json::from_str(&printed), format_args!("{line} printed {printed:?}"))
    }

    /// Starts a server and waits until it listens.
    #[track_caller]
    pub fn start(&self, line: &str) -> Server {
        Server::start(self, line)
    }
}

// -- programs that end by themselves

/// A tool that runs.
#[derive(Debug)]
pub struct Tool {
    line: String,
    child: Child,
    stdout: File,
    stderr: File,
}

/// How a tool ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What was typed.
    pub line: String,
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ran { line, code, stdout, stderr } = self;
        write!(f, "`{line}` ended with {code}\nstdout: {stdout}\nstderr: {stderr}")
    }
}

impl Tool {
    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`; a tool that has ended does not mind.
    pub fn kill(&mut self) {
        // Nothing to do if it has gone already.
        let _ = self.child.kill();
    }

    /// Waits for the end.
    #[track_caller]
    pub fn finish(mut self) -> Ran {
        let status = match wait(&mut self.child, PATIENCE) {
            Some(status) => status,
            None => panic!("`{}` does not end", self.line),
        };
        Ran {
            line: std::mem::take(&mut self.line),
            code: status.code().unwrap_or(-1),
            stdout: content(&mut self.stdout),
            stderr: content(&mut self.stderr),
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn content(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    must(read, "cannot read what a program printed");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = must(child.try_wait(), "cannot wait for a program") {
            return Some(status);
        }
        if begun.elapsed() > patience {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

fn end(child: &mut Child) {
    // Both fail only if it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

// -- programs that run until they are told to end

/// A server.
#[derive(Debug)]
pub struct Server {
    line: String,
    folder: PathBuf,
    log: PathBuf,
    child: Child,
    says: Receiver<String>,
    addresses: Vec<String>,
}

impl Server {
    #[track_caller]
    fn start(shell: &Shell, line: &str) -> Server {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let program = line.split_whitespace().next().unwrap_or_default();
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        let log = shell.path(&format!("{name}.{number}.log"));
        let folder = shell.folder.path().to_owned();
        let (child, says) = launch(line, &folder, &log);
        let mut server = Server { line: line.to_owned(), folder, log, child, says, addresses: Vec::new() };
        server.addresses = server.hear();
        server
    }

    /// Where it listens; `stindex` for nodes.
    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// Where it listens for other servers.
    pub fn second_address(&self) -> &str {
        &self.addresses[1]
    }

    /// Where it tells its metrics: the last door, if it was started with `--metrics`.
    pub fn metrics_address(&self) -> &str {
        self.addresses.last().map_or("", String::as_str)
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote on stderr in all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`; dead when this returns.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// `kill -9`, without waiting for the end: so several die at once.
    pub fn strike(&mut self) {
        // Nothing to do if it has gone already.
        let _ = self.child.kill();
    }

    /// Sends a signal, such as `-TERM`.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(must(sent, "cannot start kill").success(), "{} has gone already", self.line);
    }

    /// Waits for the end, at most this long; its exit code, -1 after a signal.
    pub fn wait(&mut self, patience: Duration) -> Option<i32> {
        wait(&mut self.child, patience).map(|status| status.code().unwrap_or(-1))
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Starts it again, listening where it listened before.
    #[track_caller]
    pub fn restart(&mut self) {
        self.begin_again();
        self.wait_until_it_listens();
    }

    /// Starts it again and does not wait: it reads its files still.
    #[track_caller]
    pub fn begin_again(&mut self) {
        assert!(!self.runs(), "{} has not ended", self.line);
        let mut line = self.line.clone();
        for address in &self.addresses {
            line = line.replacen("127.0.0.1:0", address, 1);
        }
        (self.child, self.says) = launch(&line, &self.folder, &self.log);
    }

    /// Waits until it listens where it listened before.
    #[track_caller]
    pub fn wait_until_it_listens(&mut self) {
        assert_eq!(self.hear(), self.addresses);
    }

    /// Reads where it listens.
    #[track_caller]
    fn hear(&mut self) -> Vec<String> {
        let mut addresses = Vec::new();
        while addresses.len() < doors(&self.line) {
            match self.says.recv_timeout(PATIENCE) {
                Ok(line) => addresses.extend(line.split_whitespace().last().map(str::to_owned)),
                Err(_) => panic!("{} does not listen: {}", self.line, self.log()),
            }
        }
        addresses
    }
}

impl Drop for Server {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        end(&mut self.child);
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            eprintln!("-- {} at {}\n{last}", self.line, self.addresses.join(" and "));
        }
    }
}

/// At how many addresses a server listens.
fn doors(line: &str) -> usize {
    (if line.starts_with("stindex ") { 2 } else { 1 }) + usize::from(line.contains(" --metrics "))
}

/// Starts a server; what it says on stdout comes out of the channel.
#[track_caller]
fn launch(line: &str, folder: &Path, log: &Path) -> (Child, Receiver<String>) {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let log_file = must(File::options().create(true).append(true).open(log), log.display());
    let mut command = Command::new(program(name));
    command.args(words).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file);
    let mut child = must(command.spawn(), line);
    let (told, heard) = mpsc::channel();
    let (stdout, doors) = (child.stdout.take(), doors(line));
    std::thread::spawn(move || {
        for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).take(doors).flatten() {
            // Nobody listens any more when the test has given up.
            let _ = told.send(line);
        }
    });
    (child, heard)
}
