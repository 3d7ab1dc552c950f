//! The app's side of the conversation with a node: one connection, many commands in flight, a report that keeps itself up to date.
//!
//! | call | gives |
//! |---|---|
//! | [`AppClient::connect`] | a client that has the full report |
//! | [`AppClient::ask`] | the answer of one command |
//! | [`AppClient::submit`] | the reply, and later the events, of one command |
//! | [`AppClient::report`], [`AppClient::changed`] | what the node looks like now; when it looks different |
//! | [`AppClient::other_events`] | events of commands that this client did not submit: kept ones of an earlier connection |
//!
//! 1. A command gets its reply, or [`ClientError::Lost`] when the connection ends first: then nobody knows whether the node carried it out.
//! 2. No call here has a deadline of its own except `connect`: see [`within`].
//! 3. Nothing grows without bound: commands wait for room, a receiver of events that nobody reads loses its events, and kept
//!    events come again with the next connection.
//!
//! A client never reconnects by itself: what may be sent twice is for its owner to know.

#[cfg(test)]
pub(crate) mod fake_node;
mod link;
mod report;
mod state;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::FutureExt;
use offset_protocol::app::{Answer, AppMessage, Command, Event, Outcome, Permissions, Refusal};
use offset_protocol::bytes::{CommandId, PublicKey};
use offset_protocol::channel::CloseReason;
use offset_protocol::codec;
use offset_protocol::identity::SharedSigner;
use offset_protocol::machine::{Rng, Seed};
use offset_protocol::net::Address;
use smol::channel::{Receiver, Sender, bounded};

pub use report::Report;

use crate::tcp::{self, TcpError};
use link::Link;
use state::Shared;

/// Commands that wait to be sent; more wait in their callers. Chosen freely.
const MAX_WAITING: usize = 1_024;

/// Which node, and as whom.
#[derive(Clone)]
pub struct Target {
    /// Who must be there.
    pub node: PublicKey,
    /// Where it listens for apps.
    pub address: Address,
    /// The app's identity.
    pub app: SharedSigner,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("node", &self.node).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why a client got nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection to be had.
    #[error(transparent)]
    Unreachable(#[from] TcpError),
    /// The node knows the app's identity not, or no longer.
    #[error("the node does not trust this app")]
    Untrusted,
    /// The connection ended; a command without reply may have been carried out or not.
    #[error("the connection to the node ended: {0}")]
    Lost(CloseReason),
    /// The node said something that breaks the protocol.
    #[error("the node broke the protocol: {0}")]
    Misbehaved(String),
    /// It took longer than the caller wanted to wait.
    #[error("the node did not answer in time")]
    TimedOut,
    /// The node refused the command; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// An event of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The command.
    pub id: CommandId,
    /// For [`AppClient::acknowledge`]; `None` for an event that is not kept.
    pub number: Option<u64>,
    /// What happened.
    pub event: Event,
}

/// A connection to a node. Clones share it; it closes in order when the last one is dropped.
#[derive(Clone, Debug)]
pub struct AppClient {
    shared: Arc<Shared>,
    outgoing: Sender<Vec<u8>>,
    ids: Arc<Mutex<Rng>>,
}

/// A command on its way.
#[derive(Debug)]
pub struct Submitted {
    id: CommandId,
    shared: Arc<Shared>,
    reply: Receiver<Outcome>,
    events: Receiver<Told>,
}

impl AppClient {
    /// Connects, proves the app's identity and waits for the full report. `seed` must be fresh.
    ///
    /// # Errors
    /// [`ClientError`], [`ClientError::TimedOut`] after `limit` at the latest.
    pub async fn connect(target: &Target, seed: Seed, limit: Duration) -> Result<AppClient, ClientError> {
        within(limit, Self::connect_without_limit(target, seed)).await
    }

    async fn connect_without_limit(target: &Target, seed: Seed) -> Result<AppClient, ClientError> {
        let stream = tcp::connect(target.address.as_str()).await?;
        let (outgoing, to_send) = bounded(MAX_WAITING);
        let shared = Arc::new(Shared::default());
        let link = Link::new(stream, target, seed.fork("channel"), to_send, shared.clone());
        // The link ends by itself when the last sender is dropped, after its goodbye.
        smol::spawn(link.run()).detach();
        let client = AppClient { shared, outgoing, ids: Arc::new(Mutex::new(seed.fork("commands").rng())) };
        loop {
            let changed = client.shared.watch();
            if let Some(error) = client.shared.ended() {
                return Err(error);
            }
            if client.shared.is_complete() {
                return Ok(client);
            }
            // The sender lives in `shared`; an error would mean that it is gone.
            let _ = changed.recv().await;
        }
    }

    /// What the app may do.
    pub fn permissions(&self) -> Permissions {
        self.shared.permissions()
    }

    /// The version of the node's software.
    pub fn version(&self) -> String {
        self.shared.version()
    }

    /// The report as it stands now.
    pub fn report(&self) -> Report {
        self.shared.report()
    }

    /// A receiver that gets something whenever the report changed, an event came or the connection ended.
    /// Make it, look at what it is about, then wait.
    pub fn changed(&self) -> Receiver<()> {
        self.shared.watch()
    }

    /// Why the connection ended, if it has.
    pub fn ended(&self) -> Option<ClientError> {
        self.shared.ended()
    }

    /// An id that no other command has.
    pub fn new_id(&self) -> CommandId {
        let mut ids = self.ids.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        CommandId(ids.bytes())
    }

    /// Sends a command. Waits only while too many others wait to be sent.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn submit(&self, id: CommandId, command: Command) -> Result<Submitted, ClientError> {
        let (reply, events) = self.shared.expect(id);
        let submitted = Submitted { id, shared: self.shared.clone(), reply, events };
        self.send(&AppMessage::Command { id, command }).await?;
        Ok(submitted)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the node refused it.
    pub async fn ask(&self, command: Command) -> Result<Answer, ClientError> {
        self.submit(self.new_id(), command).await?.reply().await
    }

    /// Tells the node that it need not repeat this event. Does nothing for an event that is not kept.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn acknowledge(&self, told: &Told) -> Result<(), ClientError> {
        match told.number {
            Some(number) => self.send(&AppMessage::Acknowledge { id: told.id, number }).await,
            None => Ok(()),
        }
    }

    /// Events of commands that this client did not submit.
    pub fn other_events(&self) -> Receiver<Told> {
        self.shared.other_events()
    }

    /// Sends what waits, says goodbye and waits until that is done. For the end of a program, which would cut it off.
    pub async fn close(self) {
        self.outgoing.close();
        loop {
            let changed = self.shared.watch();
            if self.shared.ended().is_some() {
                return;
            }
            let _ = changed.recv().await;
        }
    }

    async fn send(&self, message: &AppMessage) -> Result<(), ClientError> {
        let sent = self.outgoing.send(codec::encode(message)).await;
        sent.map_err(|_| self.shared.ended().unwrap_or(ClientError::Lost(CloseReason::Cut)))
    }
}

impl Submitted {
    /// The id of the command.
    pub fn id(&self) -> CommandId {
        self.id
    }

    /// Waits for the answer, which comes once.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the node refused the command; else the connection ended.
    pub async fn reply(&self) -> Result<Answer, ClientError> {
        match self.reply.recv().await {
            Ok(Outcome::Done(answer)) => Ok(answer),
            Ok(Outcome::Refused(refusal)) => Err(ClientError::Refused(refusal)),
            Err(_) => Err(self.shared.ended().unwrap_or(ClientError::Lost(CloseReason::Cut))),
        }
    }

    /// Waits for the next event of the command.
    ///
    /// # Errors
    /// If the connection ended.
    pub async fn event(&self) -> Result<Told, ClientError> {
        let told = self.events.recv().await;
        told.map_err(|_| self.shared.ended().unwrap_or(ClientError::Lost(CloseReason::Cut)))
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        self.shared.forget(self.id);
    }
}

/// Waits for `future`, but not longer than `limit`.
///
/// # Errors
/// Those of `future`, and [`ClientError::TimedOut`].
pub async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let late = async {
        smol::Timer::after(limit).await;
        Err(ClientError::TimedOut)
    };
    future.or(late).await
}
