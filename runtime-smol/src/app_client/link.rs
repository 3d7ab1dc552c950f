//! The task behind a client: socket, secure channel, messages both ways.

use std::future::{Future, pending};
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use offset_protocol::app::NodeMessage;
use offset_protocol::channel::{ChannelConfig, ChannelEvent, SecureChannel};
use offset_protocol::codec;
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::Seed;
use offset_protocol::net::Purpose;
use smol::channel::Receiver;
use smol::{Async, Timer};

use super::Target;
use super::state::{Ended, Shared};
use crate::clock::Clock;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// While more bytes wait to be written no further command is taken. Chosen freely.
const MAX_WIRE: usize = 256 * 1024;
/// How long the goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Link {
    stream: Async<TcpStream>,
    channel: SecureChannel,
    clock: Clock,
    open: bool,
    wire: Vec<u8>,
    outgoing: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
}

/// The next thing that happens.
enum Step {
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    Send(Vec<u8>),
    NoMoreToSend,
    Tick,
}

impl Link {
    pub(super) fn new(
        stream: Async<TcpStream>,
        target: &Target,
        seed: Seed,
        outgoing: Receiver<Vec<u8>>,
        shared: Arc<Shared>,
    ) -> Self {
        let clock = Clock::start();
        let config = ChannelConfig { purpose: Purpose::AppNode, signer: target.app.clone(), seed };
        let mut channel = SecureChannel::initiator(config, target.node, clock.now());
        let mut wire = Vec::new();
        channel.start(clock.now(), &mut wire);
        Link { stream, channel, clock, open: false, wire, outgoing, shared }
    }

    /// Runs until the connection ends, or until nobody has anything to send any more.
    pub(super) async fn run(mut self) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.step(&mut buffer).await {
                Step::Read(Ok(0)) | Step::Read(Err(_)) | Step::Written(Err(_)) => self.channel.lost(self.clock.now()),
                Step::Read(Ok(length)) => self.channel.receive(self.clock.now(), &buffer[..length], &mut self.wire),
                Step::Written(Ok(length)) => drop(self.wire.drain(..length)),
                Step::Send(message) => {
                    // Only commands of ours, all far below the largest message, on an open channel.
                    if let Err(error) = self.channel.send(self.clock.now(), &message, &mut self.wire) {
                        tracing::debug!(%error, "a command was not sent");
                    }
                }
                Step::NoMoreToSend => self.channel.close(self.clock.now(), &mut self.wire),
                Step::Tick => self.channel.tick(self.clock.now(), &mut self.wire),
            }
            if let Some(how) = self.take_events() {
                self.channel.close(self.clock.now(), &mut self.wire);
                // Commands that wait find a closed door from now on; those that were sent are told last.
                self.outgoing.close();
                self.goodbye().await;
                return self.shared.end(how);
            }
        }
    }

    async fn step(&mut self, buffer: &mut [u8]) -> Step {
        let Link { stream, channel, clock, open, wire, outgoing, .. } = self;
        let (mut reader, mut writer) = (&*stream, &*stream);
        let read = async { Step::Read(reader.read(buffer).await) };
        let write = when(!wire.is_empty(), async { Step::Written(writer.write(wire).await) });
        let send = when(*open && wire.len() < MAX_WIRE, async {
            outgoing.recv().await.map_or(Step::NoMoreToSend, Step::Send)
        });
        let due = channel.poll_timeout().and_then(|alarm| clock.system(alarm.at));
        let tick = async {
            due.map_or_else(Timer::never, Timer::at).await;
            Step::Tick
        };
        read.or(write).or(send).or(tick).await
    }

    /// Hands on what the channel gave; how it ended, if it did.
    fn take_events(&mut self) -> Option<Ended> {
        while let Some(event) = self.channel.poll_event() {
            match event {
                ChannelEvent::Opened { .. } => self.open = true,
                // A responder's; we are none.
                ChannelEvent::Identified { .. } => {}
                ChannelEvent::Closed(reason) => return Some(Ended::Closed(reason)),
                ChannelEvent::Message(bytes) => {
                    let message = codec::decode::<NodeMessage>(&bytes, MAX_FRAME).map_err(|error| error.to_string());
                    if let Err(why) = message.and_then(|message| self.shared.on_message(message)) {
                        return Some(Ended::Misbehaved(why));
                    }
                }
            }
        }
        None
    }

    /// Writes what is left, for a short while.
    async fn goodbye(&mut self) {
        let wire = std::mem::take(&mut self.wire);
        let late = async {
            Timer::after(GOODBYE_LIMIT).await;
        };
        let write = async {
            // The other end may be gone; nobody is left to tell.
            let _ = (&self.stream).write_all(&wire).await;
        };
        write.or(late).await;
    }
}

/// `future` if `condition`, else nothing ever.
async fn when<T>(condition: bool, future: impl Future<Output = T>) -> T {
    if condition { future.await } else { pending().await }
}
