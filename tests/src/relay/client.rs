//! A client of the relay: one real secure channel over one blocking socket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant as StdInstant};

use anyhow::{Context, Result, bail};
use offset_protocol::bytes::PublicKey;
use offset_protocol::channel::{ChannelConfig, ChannelEvent, SecureChannel};
use offset_protocol::codec::{decode, encode};
use offset_protocol::identity::{Identity, SharedSigner};
use offset_protocol::machine::{Instant, Seed};
use offset_protocol::net::Purpose;
use offset_protocol::relay::{FromRelay, MAX_RELAY_MESSAGE, ToRelay};
use socket2::{Domain, Protocol, Socket, Type};

/// Nothing here waits longer for one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

thread_local! {
    /// One buffer for all clients of a thread: some figures hold ten thousand of them.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A node of the bench, by its number: the same number is the same identity.
#[derive(Clone)]
pub(crate) struct Who(SharedSigner);

impl Who {
    /// The node with this number.
    pub(crate) fn number(number: u64) -> Who {
        let private_key = Seed::from_number(number).fork("stbench relay").rng().bytes();
        Who(Arc::new(Identity::from_private_key(&private_key)))
    }

    /// A node that did not exist before in this process. Numbers below 2^32 are left to [`Who::number`].
    pub(crate) fn fresh() -> Who {
        static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
        Who::number(NEXT.fetch_add(1, Relaxed))
    }

    /// Its public key.
    pub(crate) fn key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// Signs as this node.
    pub(crate) fn signer(&self) -> SharedSigner {
        self.0.clone()
    }

    /// What a new channel of it to a relay needs.
    pub(crate) fn channel(&self) -> ChannelConfig {
        self.channel_for(Purpose::NodeRelay)
    }

    /// What a new channel of it needs. Seeds never repeat within a process, and nothing here is a secret.
    pub(crate) fn channel_for(&self, purpose: Purpose) -> ChannelConfig {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let seed = Seed::from_number(NEXT.fetch_add(1, Relaxed)).fork(&std::process::id().to_string());
        ChannelConfig { purpose, signer: self.0.clone(), seed }
    }
}

/// Where a server is, and who it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its identity.
    pub(crate) key: PublicKey,
}

/// An open channel.
pub(crate) struct Client {
    stream: TcpStream,
    channel: SecureChannel,
    started: StdInstant,
    wire: Vec<u8>,
    messages: VecDeque<Vec<u8>>,
    open: bool,
}

impl Client {
    /// Connects to a relay from the loopback address `from`, and shakes hands.
    ///
    /// # Errors
    /// If the peer does not answer in time, or ends the connection.
    pub(crate) fn open(place: Place, from: Ipv4Addr, who: &Who) -> Result<Client> {
        Client::open_for(place, from, who.channel())
    }

    /// The same with any server.
    ///
    /// # Errors
    /// As of [`Client::open`].
    pub(crate) fn open_for(place: Place, from: Ipv4Addr, channel: ChannelConfig) -> Result<Client> {
        let stream = connect(place.address, from)?;
        let mut client = Client::new(stream, SecureChannel::initiator(channel, place.key, Instant::ZERO))?;
        client.channel.start(client.now(), &mut client.wire);
        client.write()?;
        client.shake_hands()
    }

    /// Answers a handshake that somebody began over `stream`.
    ///
    /// # Errors
    /// As of [`Client::open`].
    pub(crate) fn accept(stream: TcpStream, who: &Who) -> Result<Client> {
        Client::new(stream, SecureChannel::responder(who.channel(), Instant::ZERO))?.shake_hands()
    }

    fn new(stream: TcpStream, channel: SecureChannel) -> Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let started = StdInstant::now();
        Ok(Client { stream, channel, started, wire: Vec::new(), messages: VecDeque::new(), open: false })
    }

    fn shake_hands(mut self) -> Result<Client> {
        while !self.open {
            self.read().context("no handshake")?;
        }
        Ok(self)
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// Sends one message.
    ///
    /// # Errors
    /// If the channel has ended, or the peer takes nothing in time.
    pub(crate) fn send(&mut self, message: &[u8]) -> Result<()> {
        self.seal(message)?;
        self.write()
    }

    /// Seals one message, which leaves with the next [`Client::write`]. The number of sealed bytes that wait.
    ///
    /// # Errors
    /// If the channel has ended.
    pub(crate) fn seal(&mut self, message: &[u8]) -> Result<usize> {
        let now = self.now();
        self.channel.send(now, message, &mut self.wire)?;
        Ok(self.wire.len())
    }

    /// Writes what is sealed.
    ///
    /// # Errors
    /// If the peer takes nothing in time.
    pub(crate) fn write(&mut self) -> Result<()> {
        self.stream.write_all(&self.wire).context("cannot write")?;
        self.wire.clear();
        Ok(())
    }

    /// The next message.
    ///
    /// # Errors
    /// If none comes in time.
    pub(crate) fn receive(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(message);
            }
            self.read()?;
        }
    }

    /// Says something to the relay.
    ///
    /// # Errors
    /// As of [`Client::send`].
    pub(crate) fn tell(&mut self, message: &ToRelay) -> Result<()> {
        self.send(&encode(message))
    }

    /// Waits until the relay says this and nothing else.
    ///
    /// # Errors
    /// If it says something else, or nothing in time.
    pub(crate) fn expect(&mut self, expected: &FromRelay) -> Result<()> {
        let said = self.receive().with_context(|| format!("the relay should say {expected:?}"))?;
        let said = decode::<FromRelay>(&said, MAX_RELAY_MESSAGE)?;
        if said != *expected {
            bail!("the relay should say {expected:?} and said {said:?}");
        }
        Ok(())
    }

    /// Listens for calls.
    ///
    /// # Errors
    /// If the relay does not let it.
    pub(super) fn listen(&mut self) -> Result<()> {
        self.tell(&ToRelay::Listen)?;
        let said = self.receive().context("no answer to a listener")?;
        match decode::<FromRelay>(&said, MAX_RELAY_MESSAGE)? {
            FromRelay::Listening { .. } => Ok(()),
            said => bail!("the relay should let it listen and said {said:?}"),
        }
    }

    /// Answers keepalives and sends our own, without waiting. Whether the connection is still open.
    pub(crate) fn serve(&mut self) -> bool {
        if self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        let now = self.now();
        self.channel.tick(now, &mut self.wire);
        let alive = match self.read() {
            Ok(()) => true,
            Err(error) => error.downcast_ref().is_some_and(is_nothing),
        };
        alive && self.write().is_ok() && self.stream.set_nonblocking(false).is_ok()
    }

    /// A message that came meanwhile.
    pub(crate) fn heard(&mut self) -> Option<Vec<u8>> {
        self.messages.pop_front()
    }

    /// Reads once, and answers what the channel itself answers.
    fn read(&mut self) -> Result<()> {
        let now = self.now();
        BUFFER.with_borrow_mut(|buffer| -> Result<()> {
            let read = self.stream.read(buffer)?;
            if read == 0 {
                bail!("the peer closed the connection");
            }
            self.channel.receive(now, buffer.get(..read).unwrap_or_default(), &mut self.wire);
            Ok(())
        })?;
        while let Some(event) = self.channel.poll_event() {
            match event {
                ChannelEvent::Identified { .. } => self.channel.admit(now, &mut self.wire),
                ChannelEvent::Opened { .. } => self.open = true,
                ChannelEvent::Message(message) => self.messages.push_back(message),
                // What came before the end is still to be had; the next read finds the stream's own end.
                ChannelEvent::Closed(_) if !self.messages.is_empty() => return Ok(()),
                ChannelEvent::Closed(reason) => bail!("the channel closed: {reason}"),
            }
        }
        if self.wire.is_empty() { Ok(()) } else { self.write() }
    }
}

/// Whether a read found nothing in a socket that is open.
pub(crate) fn is_nothing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Whether the peer has neither closed nor said anything; for sockets without a channel.
pub(crate) fn is_quiet(stream: &TcpStream) -> bool {
    let found = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    found.is_err_and(|error| is_nothing(&error))
}

/// A TCP connection from the loopback address `from`.
///
/// # Errors
/// If there is no socket, or nobody listens at `to`.
pub(crate) fn connect(to: SocketAddr, from: Ipv4Addr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&to.into(), PATIENCE).with_context(|| format!("cannot connect to {to}"))?;
    Ok(socket.into())
}
