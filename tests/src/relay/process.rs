//! The processes that are measured, what they cost, and the bench's own helpers, which are the same program.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::client::Place;
use crate::programs::{Server, Shell};

/// A real `strelay` in a folder of its own.
pub(super) struct Relay {
    // Declared first: the relay ends before its folder goes.
    server: Server,
    _shell: Shell,
    /// Where to find it.
    pub(super) place: Place,
}

impl Relay {
    /// Starts one, with all limits as they are without flags.
    ///
    /// # Errors
    /// If it says nothing that makes sense.
    ///
    /// # Panics
    /// As everything in [`crate::programs`], if the programs cannot be built or started.
    pub(super) fn start() -> Result<Relay> {
        Relay::start_with("")
    }

    /// Starts one with these flags.
    ///
    /// # Errors
    /// As of [`Relay::start`].
    pub(super) fn start_with(flags: &str) -> Result<Relay> {
        let shell = Shell::new();
        shell.ok("stmgr gen-ident --output relay.ident");
        let identity: serde_json::Value = serde_json::from_str(&shell.read("relay.ident"))?;
        let key = identity["public_key"].as_str().unwrap_or_default().parse().context("the relay's identity file")?;
        let server = shell.start(&format!("strelay --idfile relay.ident --laddr 127.0.0.1:0 {flags}"));
        let address = server.address().parse().context("the relay's address")?;
        Ok(Relay { server, _shell: shell, place: Place { address, key } })
    }

    /// Its process.
    pub(super) fn process(&self) -> Process {
        Process(self.server.id())
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again where it was.
    pub(super) fn restart(&mut self) {
        self.server.restart();
    }

    /// Lets it open no more than `files` files, as if it had been started so: it raised its own limit when it started, and
    /// cannot do that again.
    ///
    /// # Errors
    /// If the system does not let us.
    pub(super) fn limit_files(&self, files: u64) -> Result<()> {
        let limit = Rlimit { current: Some(files), maximum: Some(files) };
        prlimit(self.process().pid(), Resource::Nofile, limit).context("the relay's limit of files")?;
        Ok(())
    }

    /// Ends the bench if the relay has ended, with what it logged.
    ///
    /// # Errors
    /// If it has.
    pub(super) fn must_run(&mut self) -> Result<()> {
        if !self.server.runs() {
            bail!("the relay has ended: {}", self.server.log());
        }
        Ok(())
    }
}

/// A process on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    fn pid(self) -> Option<Pid> {
        i32::try_from(self.0).ok().and_then(Pid::from_raw)
    }

    fn file(self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.0);
        std::fs::read_to_string(&path).with_context(|| path)
    }

    /// CPU seconds that it has used so far, its own and the system's on its behalf; in steps of 10 ms.
    ///
    /// # Errors
    /// If it is gone.
    pub(crate) fn cpu_s(self) -> Result<f64> {
        let stat = self.file("stat")?;
        // The name, in parentheses, may hold spaces; the state is the first field after it, user time the twelfth.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("too few fields in stat")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) as f64 / clock_ticks_per_second() as f64)
    }

    /// Bytes of its resident memory. What the system holds for its sockets is not in it.
    ///
    /// # Errors
    /// If it is gone.
    pub(crate) fn resident_bytes(self) -> Result<u64> {
        let statm = self.file("statm")?;
        let pages: u64 = statm.split_whitespace().nth(1).context("too few fields in statm")?.parse()?;
        Ok(pages * page_size() as u64)
    }
}

/// Files that a process on this machine may open at most.
pub(super) fn most_files() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Lets this process open as many files as the system allows. How many.
pub(crate) fn raise_file_limit() -> u64 {
    let most = getrlimit(Resource::Nofile).maximum;
    // If the system does not let us, it says what it lets us.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A helper: this program again, in another role. It ends when its stdin does, at the latest with the value.
pub(super) struct Helper {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts one.
    ///
    /// # Errors
    /// If the program cannot be started again.
    pub(super) fn start(args: &[String]) -> Result<Helper> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("relay-helper").args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a helper")?;
        let stdout = child.stdout.take().context("a helper without stdout")?;
        Ok(Helper { child, stdout: BufReader::new(stdout) })
    }

    /// Its process.
    pub(super) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// What it says next: a line `WORD VALUE` with this word.
    ///
    /// # Errors
    /// If it says something else or has ended; it has said why on stderr.
    pub(super) fn hear(&mut self, word: &str) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        match line.trim().split_once(' ') {
            Some((said, value)) if said == word => Ok(value.to_owned()),
            _ => bail!("a helper should say `{word}` and said {line:?}"),
        }
    }

    /// Asks it to come to its end; it may say something more.
    pub(super) fn finish(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a helper says.
///
/// # Errors
/// If nobody listens any more.
pub(super) fn say(word: &str, value: impl std::fmt::Display) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{word} {value}")?;
    Ok(stdout.flush()?)
}

/// A plain TCP proxy in a process of its own.
pub(super) struct Proxy {
    helper: Helper,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Proxy {
    /// Starts one that forwards to `target`.
    ///
    /// # Errors
    /// If it does not listen.
    pub(super) fn start(target: SocketAddr) -> Result<Proxy> {
        let mut helper = Helper::start(&["proxy".to_owned(), target.to_string()])?;
        let address = helper.hear("listening")?.parse()?;
        Ok(Proxy { helper, address })
    }

    /// Its process.
    pub(super) fn process(&self) -> Process {
        self.helper.process()
    }
}
