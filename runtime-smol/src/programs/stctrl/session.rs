//! The connection of one `stctrl` run: made when first needed, made again when it breaks, within a deadline.
//!
//! A command whose connection breaks before the reply is sent again, with the same command id and the same ids inside.
//! Whoever asks learns by [`Asked::repeated`] that a refusal may mean that the first try had done it already.

use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use offset_protocol::app::{Answer, Command, Permission, Refusal};
use offset_protocol::bytes::PublicKey;
use offset_protocol::machine::{Rng, WallTime};
use smol::Timer;

use crate::app_client::{AppClient, ClientError, Report, Target, Told, within};
use crate::clock::Clock;
use crate::entropy;
use crate::programs::exit::Failure;

/// How long a node that does not listen is waited for: it may be about to start. Chosen freely, shorter than patience.
const REACH_LIMIT: Duration = Duration::from_secs(3);
/// Between two tries to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Session {
    target: Target,
    timeout: Duration,
    rng: Rng,
    client: Option<AppClient>,
    /// Whether the node was ever reached: from then on a lost connection is worth more patience.
    reached: bool,
}

/// What came of a command.
pub(super) struct Asked {
    /// The answer or the refusal.
    pub(super) outcome: Result<Answer, Refusal>,
    /// Whether an earlier try may have been carried out.
    pub(super) repeated: bool,
}

impl Session {
    pub(super) fn new(target: Target, timeout: Duration) -> Result<Self, Failure> {
        let rng = entropy::seed().map_err(Failure::failed)?.rng();
        Ok(Session { target, timeout, rng, client: None, reached: false })
    }

    /// The node's key.
    pub(super) fn node(&self) -> PublicKey {
        self.target.node
    }

    /// Fresh randomness, for ids.
    pub(super) fn random<const N: usize>(&mut self) -> [u8; N] {
        self.rng.bytes()
    }

    /// What time it is, for a human.
    pub(super) fn wall(&self) -> WallTime {
        Clock::start().wall()
    }

    /// The report.
    pub(super) async fn report(&mut self) -> Result<Report, Failure> {
        Ok(self.client().await?.report())
    }

    /// Checks a permission before anything is done that would have to be undone.
    pub(super) async fn demand(&mut self, permission: Permission) -> Result<(), Failure> {
        let permissions = self.client().await?.permissions();
        if permissions.allow(permission) { Ok(()) } else { Err(refused(&Refusal::NotPermitted(permission))) }
    }

    /// Sends a command until it is answered.
    ///
    /// # Errors
    /// Exit 3 or 4 when the node cannot be reached; a refusal is no error here.
    pub(super) async fn ask(&mut self, command: Command) -> Result<Asked, Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut id = None;
        let mut repeated = false;
        loop {
            let client = self.client_until(deadline).await?;
            let id = *id.get_or_insert_with(|| client.new_id());
            let once = async { client.submit(id, command.clone()).await?.reply().await };
            match within(deadline.saturating_duration_since(Instant::now()), once).await {
                Ok(answer) => return Ok(Asked { outcome: Ok(answer), repeated }),
                Err(ClientError::Refused(refusal)) => return Ok(Asked { outcome: Err(refusal), repeated }),
                Err(ClientError::Lost(_)) if Instant::now() < deadline => {
                    self.client = None;
                    repeated = true;
                }
                Err(error) => return Err(self.failure(&error)),
            }
        }
    }

    /// Sends a command that is done or refused.
    ///
    /// # Errors
    /// As [`Session::ask`], and a refusal: exit 1 or 4.
    pub(super) async fn order(&mut self, command: Command) -> Result<Answer, Failure> {
        self.ask(command).await?.outcome.map_err(|refusal| refused(&refusal))
    }

    /// Waits until something happened at the node, at most `pause`, and gives the events that were told since the last time.
    /// Kept ones are acknowledged: what they say can be asked for, and that is what `stctrl` does.
    pub(super) async fn pause(&mut self, pause: Duration) -> Vec<Told> {
        let Some(client) = self.client.clone() else {
            Timer::after(pause).await;
            return Vec::new();
        };
        let changed = client.changed();
        let others = client.other_events();
        if others.is_empty() && client.ended().is_none() {
            let happened = async {
                // The sender lives as long as the client.
                let _ = changed.recv().await;
            };
            let late = async {
                Timer::after(pause).await;
            };
            happened.or(late).await;
        }
        let mut told = Vec::new();
        while let Ok(one) = others.try_recv() {
            // If it does not get there, it is told again.
            let _ = client.acknowledge(&one).await;
            told.push(one);
        }
        told
    }

    /// The end: says goodbye.
    pub(super) async fn close(mut self) {
        self.pause(Duration::ZERO).await;
        if let Some(client) = self.client.take() {
            client.close().await;
        }
    }

    async fn client(&mut self) -> Result<AppClient, Failure> {
        self.client_until(Instant::now() + self.timeout).await
    }

    /// The connection, made if there is none.
    async fn client_until(&mut self, deadline: Instant) -> Result<AppClient, Failure> {
        if let Some(client) = self.client.as_ref().filter(|client| client.ended().is_none()) {
            return Ok(client.clone());
        }
        let deadline = if self.reached { deadline } else { deadline.min(Instant::now() + REACH_LIMIT) };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match AppClient::connect(&self.target, self.rng.seed(), left).await {
                Ok(client) => {
                    self.reached = true;
                    return Ok(self.client.insert(client).clone());
                }
                Err(ClientError::Unreachable(_) | ClientError::Lost(_)) if left > RETRY_PAUSE => {
                    Timer::after(RETRY_PAUSE).await;
                }
                Err(error) => return Err(self.failure(&error)),
            }
        }
    }

    fn failure(&self, error: &ClientError) -> Failure {
        let address = self.target.address.as_str();
        match error {
            ClientError::Unreachable(why) => Failure::unreachable(format_args!("cannot reach the node: {why}")),
            ClientError::Untrusted => Failure::not_permitted(format_args!(
                "the node at {address} does not know this app: put its app ticket into the node's trusted folder"
            )),
            ClientError::Lost(_) => Failure::unreachable(format_args!(
                "the connection to the node at {address} was lost ({error}); the same command can be given again"
            )),
            ClientError::Misbehaved(_) => {
                Failure::unreachable(format_args!("no node of ours is at {address}: {error}"))
            }
            ClientError::TimedOut => Failure::unreachable(format_args!("the node at {address} did not answer in time")),
            ClientError::Refused(refusal) => refused(refusal),
        }
    }
}

/// A refusal as it ends the program.
pub(super) fn refused(refusal: &Refusal) -> Failure {
    let is_permission = matches!(refusal, Refusal::NotPermitted(_));
    if is_permission { Failure::not_permitted(refusal) } else { Failure::failed(refusal) }
}

/// An answer of another kind than the command's.
pub(super) fn wrong_answer() -> Failure {
    Failure::failed("the node answered with something else than what was asked")
}
