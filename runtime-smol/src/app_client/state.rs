//! What a client and its link share: the report, and who waits for what.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use offset_protocol::app::{NodeMessage, Outcome, Permissions};
use offset_protocol::bytes::CommandId;
use offset_protocol::channel::CloseReason;
use smol::channel::{Receiver, Sender, bounded};

use super::{ClientError, Report, Told};

/// Events of one command that nobody has read. Chosen freely: a payment has a few per part.
const MAX_EVENTS: usize = 1_024;

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    others: (Sender<Told>, Receiver<Told>),
}

#[derive(Debug, Default)]
struct State {
    hello: Option<(Permissions, String)>,
    report: Report,
    next_report: u64,
    complete: bool,
    waiting: BTreeMap<CommandId, Waiting>,
    watchers: Vec<Sender<()>>,
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Waiting {
    reply: Sender<Outcome>,
    events: Sender<Told>,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// The channel closed.
    Closed(CloseReason),
    /// The node broke the protocol of apps.
    Misbehaved(String),
}

impl Default for Shared {
    fn default() -> Self {
        Shared { state: Mutex::default(), others: bounded(MAX_EVENTS) }
    }
}

impl Shared {
    pub(super) fn permissions(&self) -> Permissions {
        self.lock().hello.as_ref().map(|(permissions, _)| *permissions).unwrap_or_default()
    }

    pub(super) fn version(&self) -> String {
        self.lock().hello.as_ref().map(|(_, version)| version.clone()).unwrap_or_default()
    }

    pub(super) fn report(&self) -> Report {
        self.lock().report.clone()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.lock().complete
    }

    pub(super) fn other_events(&self) -> Receiver<Told> {
        self.others.1.clone()
    }

    pub(super) fn ended(&self) -> Option<ClientError> {
        self.lock().ended.clone().map(|ended| match ended {
            Ended::Closed(CloseReason::Refused) => ClientError::Untrusted,
            Ended::Closed(reason) => ClientError::Lost(reason),
            Ended::Misbehaved(why) => ClientError::Misbehaved(why),
        })
    }

    /// A receiver that gets something at the next change of anything.
    pub(super) fn watch(&self) -> Receiver<()> {
        let (tell, hear) = bounded(1);
        let mut state = self.lock();
        state.watchers.retain(|watcher| !watcher.is_closed());
        state.watchers.push(tell);
        hear
    }

    /// Makes room for the reply and the events of a command. A connection that has ended gives neither.
    pub(super) fn expect(&self, id: CommandId) -> (Receiver<Outcome>, Receiver<Told>) {
        let (reply, hear_reply) = bounded(1);
        let (events, hear_events) = bounded(MAX_EVENTS);
        let mut state = self.lock();
        if state.ended.is_none() {
            state.waiting.insert(id, Waiting { reply, events });
        }
        (hear_reply, hear_events)
    }

    pub(super) fn forget(&self, id: CommandId) {
        self.lock().waiting.remove(&id);
    }

    /// Takes note of what the node said. The error says which rule it broke.
    pub(super) fn on_message(&self, message: NodeMessage) -> Result<(), String> {
        let mut state = self.lock();
        if state.hello.is_none() && !matches!(message, NodeMessage::Hello { .. }) {
            return Err("it spoke before its greeting".to_owned());
        }
        match message {
            NodeMessage::Hello { permissions, version } => {
                if state.hello.is_some() {
                    return Err("it greeted twice".to_owned());
                }
                state.hello = Some((permissions, version.as_str().to_owned()));
            }
            NodeMessage::Report { number, changes, complete } => {
                if number != state.next_report {
                    return Err(format!("report {number} came instead of {}", state.next_report));
                }
                state.next_report += 1;
                changes.into_iter().for_each(|change| state.report.apply(change));
                state.complete |= complete;
            }
            NodeMessage::Reply { id, outcome } => {
                // Nobody may wait for it any more; a second reply finds the place taken.
                if let Some(waiting) = state.waiting.get(&id) {
                    let _ = waiting.reply.try_send(outcome);
                }
            }
            NodeMessage::Event { id, number, event } => {
                let told = Told { id, number, event };
                let events = state.waiting.get(&id).map_or(&self.others.0, |waiting| &waiting.events);
                // Full: a kept event comes again with the next connection, the others are news of the moment.
                let _ = events.try_send(told);
            }
        }
        state.wake();
        Ok(())
    }

    /// The connection is over: whoever waits for something is told.
    pub(super) fn end(&self, how: Ended) {
        let mut state = self.lock();
        state.ended.get_or_insert(how);
        state.waiting.clear();
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        // A full watcher has something to hear already.
        self.watchers.retain(|watcher| !matches!(watcher.try_send(()), Err(smol::channel::TrySendError::Closed(()))));
    }
}
