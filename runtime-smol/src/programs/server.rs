//! What `strelay`, `stindex` and `stnode` have in common: start, announce, run, end, and say what it cost.
//!
//! At the end, and whenever SIGUSR1 comes, one line of the log with target `offset::cost` tells all counters since the
//! start, as numbers:
//!
//! | field | what |
//! |---|---|
//! | `bytes_in`, `bytes_out` | bytes of all sockets |
//! | `messages_in`, `messages_out` | messages of all connections, forwarded ones included |
//! | `reads`, `writes` | system calls that moved at least a byte |
//! | `commits`, `page_commits`, `flushes` | commits of the database, how often its pages took what stood in the log, and flushes to the disk for both |
//! | `records`, `record_bytes` | records written or removed; bytes written to the log, and of keys and values to the pages |
//! | `database_bytes` | the database's pages in use, now, and what waits for them |
//!
//! With `--metrics` the same numbers and more are told to whoever asks: see [`crate::metrics`].

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use offset_protocol::identity::SharedSigner;
use offset_protocol::machine::Seed;
use offset_protocol::net::Purpose;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::exit::{Exit, Failure};
use super::identity;
use super::limit_args::NetArgs;
use crate::clock::Clock;
use crate::connection::rate::Rate;
use crate::connection::{NetCounters, Reading};
use crate::driver::{Driver, DriverParts, Program, Sender};
use crate::executor::Executor;
use crate::hub::{Hub, HubConfig};
use crate::limits::NetLimits;
use crate::logging::{self, LogFormat};
use crate::metrics::{self, Meters, Sources};
use crate::store::{Store, StoreCounters};
use crate::{entropy, signals, tcp};

/// Everything that a server has before its machine.
pub(super) struct Server<I> {
    pub(super) signer: SharedSigner,
    pub(super) seed: Seed,
    pub(super) clock: Clock,
    pub(super) inbox: Sender<I>,
    hub: Hub,
    cost: Cost,
    executor: Executor,
    watch: Option<Watch>,
}

/// The flags of all servers.
#[derive(Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// The server's identity file (see `stmgr gen-ident`)
    #[arg(short, long, value_name = "FILE")]
    idfile: PathBuf,
    /// If the identity is locked: its passphrase is the first line of this file; without it, it is typed on the terminal
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Where to tell metrics to Prometheus (`/metrics`) and whether all is well (`/health`); nowhere if left out
    #[arg(long, value_name = "HOST:PORT", value_parser = super::args::door)]
    metrics: Option<String>,
    /// How to write the log on stderr (the variable RUST_LOG says how much)
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// A TOML file with flags: keys are their long names; what the command line says counts more
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Limits of its connections.
    #[command(flatten)]
    pub(super) net: NetArgs,
}

/// What metrics say of the program itself: its name and version.
pub(super) type Build = &'static [(&'static str, &'static str)];

/// The socket of `--metrics`.
struct Watch {
    listener: smol::Async<TcpListener>,
    address: SocketAddr,
    build: Build,
}

impl Watch {
    fn listen(address: &str, build: Build) -> Result<Self, Failure> {
        let listener = tcp::listen(address).map_err(Failure::failed)?;
        let cannot = |error| Failure::failed(format_args!("cannot listen on {address}: {error}"));
        let address = listener.get_ref().local_addr().map_err(cannot)?;
        Ok(Watch { listener, address, build })
    }
}

impl<I: Send + 'static> Server<I> {
    /// Starts logging, reads the identity, draws the seed, starts the threads, listens to signals. No door is open yet.
    pub(super) fn start(build: Build, args: &ServerArgs, limits: NetLimits) -> Result<Self, Failure> {
        logging::start(args.log_format);
        end_at_a_panic();
        raise_file_limit();
        let cannot = |error| Failure::failed(format_args!("cannot start: {error}"));
        let signer: SharedSigner = Arc::new(identity::read(&args.idfile, args.passphrase_file.as_deref())?);
        // Before any door: who announces one and then ends for a port that is taken confuses whoever waits for it.
        let watch = args.metrics.as_deref().map(|address| Watch::listen(address, build)).transpose()?;
        let seed = entropy::seed().map_err(Failure::failed)?;
        let (clock, executor, inbox) = (Clock::start(), Executor::start().map_err(cannot)?, Sender::new());
        let outlet = Arc::new(inbox.clone());
        let channels = HubConfig {
            signer: signer.clone(),
            seed: seed.fork("channels"),
            clock,
            executor: executor.clone(),
            outlet,
            limits,
        };
        let hub = Hub::new(channels);
        let cost = Cost { net: hub.counters(), store: Arc::default() };
        // Before anything is announced: whoever reads the announcement may end us at once.
        let (end, report) = (inbox.clone(), cost.clone());
        signals::listen(move || end.end(), move || report.log()).map_err(cannot)?;
        Ok(Server { signer, seed: seed.fork("machine"), clock, inbox, hub, cost, executor, watch })
    }

    /// Listens, and says so on stdout: `ANNOUNCEMENT HOST:PORT`.
    pub(super) fn listen(&mut self, door: &Door<'_>) -> Result<SocketAddr, Failure> {
        let listener = tcp::listen(door.address).map_err(Failure::failed)?;
        let cannot = |error| Failure::failed(format_args!("cannot listen on {}: {error}", door.address));
        let address = self.hub.listen(listener, door.purpose, door.reading).map_err(cannot)?;
        announce(door.announcement, address);
        Ok(address)
    }

    /// What each identity may send through tunnels.
    pub(super) fn limit_tunnels(&mut self, rate: Rate) {
        self.hub.limit_tunnels(rate);
    }

    /// Runs the machine until SIGINT or SIGTERM, or until its store fails.
    pub(super) fn run<P>(self, program: P, machine: P::Machine, store: Option<Store>) -> Result<(), Failure>
    where
        P: Program<Input = I>,
    {
        let Server { inbox, hub, clock, cost, executor, watch, .. } = self;
        if let Some(store) = &store {
            cost.store.get_or_init(|| store.counters());
        }
        let meters = watch.is_some().then(Meters::new);
        let _watching = watch.zip(meters.clone()).map(|(watch, meters)| {
            let (build, net, gates, budget) = (watch.build, hub.counters(), hub.gates(), hub.budget());
            let (store, inbox) = (store.as_ref().map(Store::counters), inbox.clone());
            let observe = Box::new(move || inbox.observe());
            let sources = Sources { build, net, gates, budget, store, meters, observe };
            announce("listening for metrics on", watch.address);
            metrics::start(watch.listener, &executor, sources)
        });
        let driver = Driver::new(DriverParts { program, machine, inbox, hub, store, clock, meters });
        let ended = driver.run();
        cost.log();
        ended.map(drop).map_err(Failure::failed)
    }
}

/// One line on stdout: `ANNOUNCEMENT HOST:PORT`.
fn announce(announcement: &str, address: SocketAddr) {
    let mut stdout = std::io::stdout().lock();
    // A server whose stdout is closed serves all the same.
    let _ = writeln!(stdout, "{announcement} {address}").and_then(|()| stdout.flush());
}

/// Lets a panic end the program, whichever thread it comes from. A panic is a bug of ours; a task or thread that died of it
/// alone would leave a server that looks alive and waits for ever, such as a node without its storage thread.
fn end_at_a_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        // Not an abort: the image of a process that a system may keep then holds its private key.
        std::process::exit(Exit::Failed.code().into());
    }));
}

/// Takes as many open files as the system allows: the usual first limit, 1,024, is far below what a relay or an index server
/// may hold, and one address could use it up.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, files = ?limit.current, "the limit of open files stays low");
    }
}

/// One door of a server.
pub(super) struct Door<'a> {
    pub(super) address: &'a str,
    pub(super) purpose: Purpose,
    pub(super) reading: Reading,
    pub(super) announcement: &'a str,
}

/// Where the counters are.
#[derive(Clone)]
struct Cost {
    net: Arc<NetCounters>,
    /// Known once the store is open.
    store: Arc<OnceLock<Arc<StoreCounters>>>,
}

impl Cost {
    fn log(&self) {
        let net = &self.net;
        let none = StoreCounters::default();
        let store = self.store.get().map_or(&none, |store| store);
        tracing::info!(
            target: "offset::cost",
            bytes_in = net.bytes_in.load(Relaxed),
            bytes_out = net.bytes_out.load(Relaxed),
            messages_in = net.messages_in.load(Relaxed),
            messages_out = net.messages_out.load(Relaxed),
            reads = net.reads.load(Relaxed),
            writes = net.writes.load(Relaxed),
            commits = store.commits.load(Relaxed),
            page_commits = store.page_commits.load(Relaxed),
            flushes = store.flushes.load(Relaxed),
            records = store.records.load(Relaxed),
            record_bytes = store.bytes.load(Relaxed),
            database_bytes = store.database_bytes(),
            "cost"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    const PANICKING: &str = "OFFSET_TEST_PANICKING";

    #[test]
    fn a_panic_in_a_task_ends_the_program() {
        if std::env::var_os(PANICKING).is_some() {
            end_at_a_panic();
            let executor = Executor::start().unwrap();
            executor.spawn(async { panic!("on purpose") });
            std::thread::sleep(Duration::from_secs(60));
            std::process::exit(0);
        }
        let mut this = Command::new(std::env::current_exe().unwrap());
        this.args(["--exact", "programs::server::tests::a_panic_in_a_task_ends_the_program"]).env(PANICKING, "1");
        let status = this.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(1));
    }
}
