//! All connections of a program: carries out a machine's commands, accepts peers, and knows every connection's mailbox.
//!
//! Owned by the state thread; the connections' tasks tell it of their begin and end through the inbox.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_lite::FutureExt;
use futures_lite::future::poll_fn;
use offset_protocol::bytes::PublicKey;
use offset_protocol::channel::{ChannelConfig, SecureChannel};
use offset_protocol::identity::SharedSigner;
use offset_protocol::machine::{Rng, Seed};
use offset_protocol::net::{Address, ConnId, NetCommand, NetEvent, Purpose};
use smol::{Async, Timer};

use crate::clock::Clock;
use crate::connection::counters::{self, NetCounters};
use crate::connection::rate::{Bucket, Buckets, Rate};
use crate::connection::{self, Bounds, Budget, Connection, JoinEnd, Mail, Opening, Outlet, Parts, PipeLimits, Reading};
use crate::executor::Executor;
use crate::gate::{self, DoorLimits, Full, Gate, Ticket};
use crate::limits::NetLimits;
use crate::tcp;

/// How long accepting rests when the system has no more sockets or memory to give.
const EXHAUSTED_REST: Duration = Duration::from_millis(100);
/// Accepts in a row before others have their turn.
const ACCEPTS_IN_A_ROW: u32 = 32;
/// Refusals in a row after which accepting rests, for [`REFUSAL_REST`]: at most 20,000 refusals a second.
const REFUSALS_IN_A_ROW: u32 = 100;
/// See [`REFUSALS_IN_A_ROW`].
const REFUSAL_REST: Duration = Duration::from_millis(5);
/// How long it rests after any other error that is not the peer's, so that an error that stays does not burn a core.
const ERROR_REST: Duration = Duration::from_millis(5);

/// What a hub and its connections need to know.
pub struct HubConfig {
    /// Our identity.
    pub signer: SharedSigner,
    /// The seed of all channels.
    pub seed: Seed,
    /// The program's clock.
    pub clock: Clock,
    /// The program's executor.
    pub executor: Executor,
    /// Where the connections' events go.
    pub outlet: Arc<dyn Outlet>,
    /// What they may hold and take.
    pub limits: NetLimits,
}

/// All connections of a program.
pub struct Hub {
    shared: Arc<Shared>,
    connections: BTreeMap<ConnId, Known>,
    /// What identities with tunnels may send.
    buckets: Buckets<PublicKey>,
    tunnel_rate: Rate,
    pipes: PipeLimits,
    /// Connections with new mail since the last [`Hub::flush`].
    touched: Vec<Arc<Mail>>,
    listeners: Vec<smol::Task<()>>,
    door: DoorLimits,
    gates: Vec<Gate>,
}

/// A connection.
struct Known {
    mail: Arc<Mail>,
    /// Who came, if it came to us.
    peer: Option<PublicKey>,
    purpose: Purpose,
}

/// What the tasks share.
struct Shared {
    signer: SharedSigner,
    rng: Mutex<Rng>,
    clock: Clock,
    executor: Executor,
    outlet: Arc<dyn Outlet>,
    counters: Arc<NetCounters>,
    bounds: Bounds,
    accepted: AtomicU64,
}

impl Hub {
    /// A hub without connections.
    pub fn new(config: HubConfig) -> Self {
        let HubConfig { signer, seed, clock, executor, outlet, limits } = config;
        let budget = Budget::new(limits.memory_bytes);
        let shared = Shared {
            signer,
            rng: Mutex::new(seed.rng()),
            clock,
            executor,
            outlet,
            counters: Arc::default(),
            bounds: Bounds { stall: limits.stall, budget: budget.clone(), checks: Arc::default() },
            accepted: AtomicU64::new(0),
        };
        Hub {
            shared: Arc::new(shared),
            connections: BTreeMap::new(),
            buckets: Buckets::default(),
            tunnel_rate: offset_relay_sm::server::TunnelRate::default().into(),
            pipes: PipeLimits { bytes: limits.pipe_bytes, budget },
            touched: Vec::new(),
            listeners: Vec::new(),
            door: limits.door,
            gates: Vec::new(),
        }
    }

    /// Accepts peers that come for `purpose`, until [`Hub::stop_listening`]. The address that `listener` has.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn listen(
        &mut self,
        listener: Async<TcpListener>,
        purpose: Purpose,
        reading: Reading,
    ) -> io::Result<SocketAddr> {
        let address = listener.get_ref().local_addr()?;
        // Each door has limits of its own: a flood at one keeps nobody out of another.
        let gate = Gate::new(self.door);
        self.gates.push(gate.clone());
        let accepting = accept_all(self.shared.clone(), gate, listener, purpose, reading);
        self.listeners.push(self.shared.executor.spawn_owned(accepting));
        Ok(address)
    }

    /// Closes all listeners.
    pub fn stop_listening(&mut self) {
        self.listeners.clear();
    }

    /// Carries out a command. Its effects may wait for [`Hub::flush`].
    pub fn command(&mut self, command: NetCommand) {
        match command {
            NetCommand::Connect { conn, purpose, address, peer } => self.connect(conn, purpose, address, peer),
            NetCommand::Admit { conn } => self.tell(conn, Mail::admit),
            NetCommand::Send { conn, bytes } => self.tell(conn, |mail| mail.send(bytes)),
            NetCommand::Close { conn } => self.tell(conn, Mail::close),
        }
    }

    /// Lets a connection that is read message by message give the next one.
    pub fn resume(&mut self, conn: ConnId) {
        self.tell(conn, Mail::resume);
    }

    /// Joins two connections. If one is gone already the other closes.
    pub fn join(&mut self, a: ConnId, b: ConnId) {
        let now = self.shared.clock.now();
        let buckets = [self.bucket_of(a), self.bucket_of(b)];
        match (self.connections.get(&a), self.connections.get(&b)) {
            (Some(known_a), Some(known_b)) => {
                let [bucket_a, bucket_b] = buckets;
                let end_a = JoinEnd { conn: a, mail: &known_a.mail, bucket: bucket_a };
                let end_b = JoinEnd { conn: b, mail: &known_b.mail, bucket: bucket_b };
                connection::join(&end_a, &end_b, &self.pipes, now, self.shared.outlet.clone());
                self.touched.extend([known_a.mail.clone(), known_b.mail.clone()]);
            }
            (left, right) => {
                for known in left.into_iter().chain(right) {
                    known.mail.close();
                    self.touched.push(known.mail.clone());
                }
                self.shared.outlet.join_ended(a, b);
            }
        }
    }

    /// The bucket that all tunnels of a connection's identity share.
    fn bucket_of(&mut self, conn: ConnId) -> Option<Arc<Bucket>> {
        let peer = self.connections.get(&conn)?.peer?;
        Some(self.buckets.of(&peer, self.tunnel_rate, self.shared.clock.now()))
    }

    /// Wakes the tasks of all connections that were told something since the last time: once each, so that what they were
    /// told leaves in one write.
    pub fn flush(&mut self) {
        for mail in self.touched.drain(..) {
            mail.wake();
        }
    }

    /// Remembers a connection that was accepted.
    pub fn on_incoming(&mut self, conn: ConnId, purpose: Purpose, peer: PublicKey, mail: Arc<Mail>) {
        self.remember(conn, Known { mail, peer: Some(peer), purpose });
    }

    /// Forgets a connection that closed.
    pub fn on_closed(&mut self, conn: ConnId) {
        if let Some(known) = self.connections.remove(&conn) {
            self.shared.counters.open.remove(counters::kind_of(known.purpose));
        }
    }

    fn remember(&mut self, conn: ConnId, known: Known) {
        self.shared.counters.open.add(counters::kind_of(known.purpose));
        if let Some(old) = self.connections.insert(conn, known) {
            self.shared.counters.open.remove(counters::kind_of(old.purpose));
        }
    }

    /// Closes every connection in order.
    pub fn close_all(&mut self) {
        for known in self.connections.values() {
            known.mail.close();
            self.touched.push(known.mail.clone());
        }
        self.flush();
    }

    /// Connections that are open or being opened.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// What each identity may send through tunnels that are joined from now on.
    pub fn limit_tunnels(&mut self, rate: Rate) {
        self.tunnel_rate = rate;
    }

    #[cfg(test)]
    pub(crate) fn mail(&self, conn: ConnId) -> Arc<Mail> {
        self.connections.get(&conn).map(|known| known.mail.clone()).unwrap()
    }

    /// What connections have cost so far.
    pub fn counters(&self) -> Arc<NetCounters> {
        self.shared.counters.clone()
    }

    /// What the buffers of all connections hold.
    pub fn budget(&self) -> Budget {
        self.shared.bounds.budget.clone()
    }

    /// The handshakes of those who come to us.
    pub fn gates(&self) -> Vec<Gate> {
        self.gates.clone()
    }

    fn tell(&mut self, conn: ConnId, say: impl FnOnce(&Mail)) {
        // A command to a connection that is gone already: its `Closed` is on the way.
        let Some(Known { mail, .. }) = self.connections.get(&conn) else { return };
        say(mail);
        if self.touched.last().is_none_or(|last| !Arc::ptr_eq(last, mail)) {
            self.touched.push(mail.clone());
        }
    }

    fn connect(&mut self, conn: ConnId, purpose: Purpose, address: Address, peer: PublicKey) {
        let mail = Arc::<Mail>::default();
        self.remember(conn, Known { mail: mail.clone(), peer: None, purpose });
        self.shared.executor.spawn(connect(self.shared.clone(), Target { conn, purpose, address, peer }, mail));
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}

struct Target {
    conn: ConnId,
    purpose: Purpose,
    address: Address,
    peer: PublicKey,
}

impl Shared {
    fn channel_config(&self, purpose: Purpose) -> ChannelConfig {
        // No code that can panic runs under the lock.
        let seed = self.rng.lock().unwrap_or_else(PoisonError::into_inner).seed();
        ChannelConfig { purpose, signer: self.signer.clone(), seed }
    }
}

/// The life of a connection that we open.
async fn connect(shared: Arc<Shared>, target: Target, mail: Arc<Mail>) {
    let Target { conn, purpose, address, peer } = target;
    let connecting = async { tcp::connect(address.as_str()).await.map(Some) };
    let unwanted = async {
        poll_fn(|cx| mail.poll_ended(cx)).await;
        Ok(None)
    };
    let stream = match connecting.or(unwanted).await {
        Ok(Some(stream)) => stream,
        Ok(None) => return shared.outlet.event(NetEvent::Closed { conn }),
        Err(error) => {
            shared.counters.ended.add(counters::UNREACHABLE);
            tracing::debug!(?conn, %error, "no connection");
            return shared.outlet.event(NetEvent::Closed { conn });
        }
    };
    let now = shared.clock.now();
    let channel = SecureChannel::initiator(shared.channel_config(purpose), peer, now);
    let counters = shared.counters.clone();
    let (outlet, clock, bounds) = (shared.outlet.clone(), shared.clock, shared.bounds.clone());
    let (opening, reading) = (Opening::Ours { purpose }, Reading::Freely);
    let parts = Parts { conn, stream, channel, opening, reading, mail, outlet, counters, bounds, clock };
    Connection::new(parts).await;
}

async fn accept_all(shared: Arc<Shared>, gate: Gate, listener: Async<TcpListener>, purpose: Purpose, reading: Reading) {
    let (mut exhausted, mut refused, mut in_a_row) = (false, 0, 0);
    loop {
        // Nothing is set up for a socket before the gate has let it in.
        match listener.read_with(TcpListener::accept).await {
            Ok((stream, from)) => {
                exhausted = false;
                if arrive(&shared, &gate, (stream, from), purpose, reading) {
                    refused = 0;
                } else {
                    refused += 1;
                }
                in_a_row += 1;
                // While some wait, accepting is always ready: others must get their turn, and a flood waits in the system's
                // queue, which costs nobody anything.
                if refused >= REFUSALS_IN_A_ROW {
                    (refused, in_a_row) = (0, 0);
                    Timer::after(REFUSAL_REST).await;
                } else if in_a_row >= ACCEPTS_IN_A_ROW {
                    in_a_row = 0;
                    futures_lite::future::yield_now().await;
                }
            }
            Err(error) if is_exhausted(&error) => {
                if !exhausted {
                    tracing::warn!(%error, "no connection can be accepted for now");
                }
                exhausted = true;
                Timer::after(EXHAUSTED_REST).await;
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                Timer::after(ERROR_REST).await;
            }
        }
    }
}

/// Somebody came: shakes hands with them, unless the gate refuses. Whether it let them in.
fn arrive(
    shared: &Arc<Shared>,
    gate: &Gate,
    (stream, from): (TcpStream, SocketAddr),
    purpose: Purpose,
    reading: Reading,
) -> bool {
    let mail = Arc::<Mail>::default();
    match gate.enter(from.ip(), shared.clock.now(), &mail) {
        Ok(ticket) => {
            match Async::new(stream) {
                Ok(stream) => accept(shared, stream, from, (ticket, mail), purpose, reading),
                Err(error) => tracing::debug!(%from, %error, "a connection was not accepted"),
            }
            true
        }
        Err(full) => {
            shared.counters.refused.add(match full {
                Full::Address => counters::ADDRESS_LIMIT,
                Full::Total => counters::TOTAL_LIMIT,
                Full::AddressRate => counters::ADDRESS_RATE,
                Full::TotalRate => counters::TOTAL_RATE,
            });
            tcp::cut(stream);
            tracing::debug!(%from, ?full, "connection refused");
            false
        }
    }
}

fn accept(
    shared: &Arc<Shared>,
    stream: Async<TcpStream>,
    from: SocketAddr,
    (ticket, mail): (Ticket, Arc<Mail>),
    purpose: Purpose,
    reading: Reading,
) {
    // What the machine counts by address is one subscriber. The text of an IP address is far shorter than an address may be.
    let Ok(from) = Address::new(&gate::site(from.ip()).to_string()) else { return };
    tcp::configure(&stream);
    let conn = ConnId::incoming(shared.accepted.fetch_add(1, Relaxed));
    let channel = SecureChannel::responder(shared.channel_config(purpose), shared.clock.now());
    let opening = Opening::Theirs { purpose, from, ticket };
    let (outlet, counters, clock) = (shared.outlet.clone(), shared.counters.clone(), shared.clock);
    let bounds = shared.bounds.clone();
    let parts = Parts { conn, stream, channel, opening, reading, mail, outlet, counters, bounds, clock };
    shared.executor.spawn(Connection::new(parts));
}

/// Whether the system has no more files, buffers or memory to give; it will again.
fn is_exhausted(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOMEM | ENOBUFS))
}
