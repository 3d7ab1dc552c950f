//! Processes of the demo: servers that run until they are told to end, tools that run once.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cost::Cost;
use crate::programs::exit::Failure;

/// How long a server may take to listen, or to end. Chosen freely, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Lets the system end this process when its parent dies, so that an interrupted demo leaves nothing behind.
pub(super) fn end_with_parent() {
    #[cfg(target_os = "linux")]
    // Without it the process only outlives a demo that was killed.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
}

/// A command that is this very file, as another program.
fn program(name: &str) -> Result<Command, Failure> {
    let this = std::env::current_exe()
        .map_err(|error| Failure::failed(format_args!("cannot find the demo's own file: {error}")))?;
    let mut command = Command::new(this);
    command.args(["--as", name]);
    Ok(command)
}

/// Runs a tool to its end; gives what it printed.
pub(super) fn run<A: AsRef<OsStr>>(name: &str, args: &[A]) -> Result<String, Failure> {
    let output = program(name)?.args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Failure::failed(format_args!("cannot start {name}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::failed(format_args!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    /// For people: `stnode 2`.
    pub(super) name: String,
    /// The program.
    pub(super) program: &'static str,
    /// Where it listens, in the order in which it said so.
    pub(super) addresses: Vec<String>,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a server and waits until it listens at `doors` addresses.
    pub(super) fn start<A: AsRef<OsStr>>(
        folder: &Path,
        name: &str,
        program_name: &'static str,
        args: &[A],
        doors: usize,
    ) -> Result<Server, Failure> {
        let cannot = |error: std::io::Error| Failure::failed(format_args!("cannot start {name}: {error}"));
        let log = folder.join(format!("{}.log", name.replace(' ', "")));
        let mut child = program(program_name)?
            .args(args)
            .args(["--log-format", "json"])
            .env("RUST_LOG", "warn,offset::cost=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(cannot)?)
            .spawn()
            .map_err(cannot)?;
        let stdout = child.stdout.take();
        let mut server = Server { name: name.to_owned(), program: program_name, addresses: Vec::new(), child, log };
        for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).take(doors) {
            let line = line.map_err(cannot)?;
            server.addresses.extend(line.split_whitespace().last().map(str::to_owned));
        }
        if server.addresses.len() < doors {
            return Err(Failure::failed(format_args!("{name} did not start: {}", server.log_text().trim())));
        }
        Ok(server)
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn signal(&self, signal: Signal) {
        // A process that has gone already needs no signal.
        let _ = self.pid().map(|pid| kill_process(pid, signal));
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What the server has cost since it started, by its own counters and the system's.
    pub(super) async fn cost(&self) -> Result<Cost, Failure> {
        let before = Cost::lines(&self.log_text());
        self.signal(Signal::USR1);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.log_text();
            if Cost::lines(&text) > before
                && let Some(cost) = Cost::last(&text)
            {
                return Ok(Cost { cpu_s: self.cpu_s(), disk_bytes: self.disk_bytes(), ..cost });
            }
            if Instant::now() > deadline {
                return Err(Failure::failed(format_args!("{} does not tell what it costs", self.name)));
            }
            smol::Timer::after(Duration::from_millis(5)).await;
        }
    }

    /// Seconds of processor time so far, user and system; 0 where the system does not say.
    fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The second field is the name in parentheses; utime and stime are the 12th and 13th after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// Bytes that the system wrote to disks for it so far; 0 where the system does not say.
    fn disk_bytes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        written.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
    }

    /// Asks the server to end, and waits.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait();
            match ended {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    let log = self.log_text();
                    return Err(Failure::failed(format_args!("{} ended with {status}: {}", self.name, log.trim())));
                }
                Ok(None) if Instant::now() < deadline => {
                    smol::Timer::after(Duration::from_millis(5)).await;
                }
                Ok(None) => return Err(Failure::failed(format_args!("{} does not end", self.name))),
                Err(error) => return Err(Failure::failed(format_args!("cannot wait for {}: {error}", self.name))),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `end` there is nothing left to kill; after a failure nothing may stay behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
