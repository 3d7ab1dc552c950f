//! The sessions of applications: who may connect, what it may ask, and that it hears of it what concerns it.
//!
//! | what happens | effect |
//! |---|---|
//! | a registered app connects | admitted; `Hello`, then [`Output::Snapshot`] asks the funder for the full report |
//! | anybody else connects | closed |
//! | the funder's snapshot | `Report` messages up to the first `complete`, then the app's kept events; from now on the session is live |
//! | a change of the report | to all live sessions, as numbered `Report` messages |
//! | `Command` | to the funder, or refused here: [`Refusal::NotPermitted`], [`Refusal::Busy`] |
//! | the funder's reply | to the newest session that asked; to nobody if that is gone |
//! | an event | to all live sessions of its app |
//! | `Acknowledge` | to the funder |
//! | bytes that are no message | the session closes |
//! | the app is distrusted, or its permissions change | all its sessions close |
//!
//! Invariants:
//! 1. A session hears no change twice and misses none: it is given the changes after its snapshot, in order.
//! 2. The report is never behind a reply or an event that an app hears on the same session.
//! 3. While a command of an app is under way, its id names that command alone: repeated in whatever session of the app,
//!    it is not done again, and its one reply goes to the newest session that asked: what a broken session brings late is
//!    not where the app listens.
//! 4. At most [`MAX_SESSIONS`] sessions, [`MAX_APP_SESSIONS`] of one app and [`MAX_COMMANDS`] commands of one app under
//!    way. An app at its limit of sessions loses its oldest, so that dead ones never keep it out.
//!
//! Changes that arrive in one turn are told together, and of several changes of one thing only the last. A long report with
//! thousands of kept events is told in bursts, so that an app that reads at a fair pace is never taken for a slow one.
//!
//! Not checked here: what a command says (the funder does), and whether an app reads (the runtime closes a slow one).

mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offset_protocol::app::{AppMessage, Command, Event, NodeMessage, Outcome, Permissions, Refusal, ReportChange};
use offset_protocol::bytes::{CommandId, PublicKey};
use offset_protocol::codec::{Text, decode, encode};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::{Alarm, Duration, Instant, Machine};
use offset_protocol::net::{ConnId, NetCommand, NetEvent, Purpose};
use offset_protocol::{buggify, mutant, sometimes};

use crate::funder::{KeptEvent, SessionId};
use offset_protocol::deadlines::Deadlines;
use report::{PendingChanges, chunks};

/// Sessions of all apps. Chosen freely: a node serves a person or a shop, not the public.
pub const MAX_SESSIONS: usize = 256;
/// Sessions of one app. Chosen freely: a script may run several `stctrl` at once.
pub const MAX_APP_SESSIONS: usize = 16;
/// Commands of one app that have no reply yet, those of closed sessions included. Chosen freely: far above what keeps the
/// funder busy.
pub const MAX_COMMANDS: usize = 1_024;

/// A new session's report and kept events leave in bursts of about this many bytes. Chosen freely: an eighth of what a
/// runtime holds for a slow reader.
const BURST_BYTES: usize = 512 * 1024;
/// Messages in such a burst. Chosen freely, likewise.
const BURST_MESSAGES: usize = 512;
/// The time between bursts. Chosen freely: 10 MiB a second.
const BURST_GAP: Duration = Duration::from_millis(50);
/// What may wait for a session behind its report, in bytes; beyond it the session closes. Chosen freely: twice the longest
/// report of a large node.
const MAX_BACKLOG: usize = 64 << 20;

/// What the node calls itself in `Hello`.
const VERSION: &str = concat!("offset ", env!("CARGO_PKG_VERSION"));

/// What can happen to the sessions of apps.
#[derive(Clone, Debug)]
pub enum Input {
    /// Something happened to an app's connection.
    Net(NetEvent),
    /// This app may connect, and do this.
    Trust {
        /// The app.
        app: PublicKey,
        /// What it may do.
        permissions: Permissions,
    },
    /// This app may not connect.
    Distrust {
        /// The app.
        app: PublicKey,
    },
    /// The funder's answer to [`Output::Command`].
    Reply {
        /// The app.
        app: PublicKey,
        /// The command.
        id: CommandId,
        /// What it came to.
        outcome: Outcome,
    },
    /// What became of a command.
    Event {
        /// The app.
        app: PublicKey,
        /// The command.
        id: CommandId,
        /// For its acknowledgement.
        number: Option<u64>,
        /// What happened.
        event: Event,
    },
    /// The report changed.
    Report(ReportChange),
    /// The funder's answer to [`Output::Snapshot`]: everything that came before it is in it, nothing that comes after.
    Snapshot {
        /// The session.
        session: SessionId,
        /// The whole report, as changes from nothing.
        report: Vec<ReportChange>,
        /// Kept events, oldest first.
        events: Vec<KeptEvent>,
    },
    /// The alarm is due.
    Tick,
}

/// What the sessions of apps want done. A crash loses all of it harmlessly: apps connect and ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Do something with a connection.
    Net(NetCommand),
    /// A permitted command, for the funder; answered by one [`Input::Reply`].
    Command {
        /// The app.
        app: PublicKey,
        /// Chosen by the app.
        id: CommandId,
        /// What it wants.
        command: Command,
    },
    /// An app took note of a kept event; for the funder.
    Acknowledge {
        /// The app.
        app: PublicKey,
        /// The command that the event belongs to.
        id: CommandId,
        /// The event.
        number: u64,
    },
    /// A session began: the funder answers with [`Input::Snapshot`].
    Snapshot {
        /// The session.
        session: SessionId,
        /// The app.
        app: PublicKey,
    },
}

/// The sessions of all apps of a node. See the module.
#[derive(Debug, Default)]
pub struct Apps {
    apps: BTreeMap<PublicKey, App>,
    sessions: BTreeMap<SessionId, Session>,
    by_conn: BTreeMap<ConnId, SessionId>,
    live: BTreeSet<SessionId>,
    /// Sessions whose report is not told whole yet: when the next burst leaves.
    bursts: Deadlines<SessionId>,
    next_session: u64,
    changes: PendingChanges,
    /// Replies and events that wait until the report is told.
    held: VecDeque<(SessionId, NodeMessage)>,
    outputs: VecDeque<Output>,
}

/// A registered app.
#[derive(Debug)]
struct App {
    permissions: Permissions,
    sessions: BTreeSet<SessionId>,
    /// Commands without a reply, and the newest session that asked.
    commands: BTreeMap<CommandId, SessionId>,
}

#[derive(Debug)]
struct Session {
    app: PublicKey,
    conn: ConnId,
    next_report: u64,
    /// What waits for the next burst, in order.
    backlog: VecDeque<Vec<u8>>,
    backlog_bytes: usize,
}

impl Machine for Apps {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Net(NetEvent::Incoming { conn, purpose, peer, .. }) => self.on_incoming(conn, purpose, peer),
            // Nothing here opens a connection.
            Input::Net(NetEvent::Opened { .. }) => {}
            Input::Net(NetEvent::Message { conn, bytes }) => self.on_message(conn, &bytes),
            Input::Net(NetEvent::Closed { conn }) => self.on_closed(conn),
            Input::Trust { app, permissions } => self.on_trust(app, permissions),
            Input::Distrust { app } => self.on_distrust(app),
            Input::Reply { app, id, outcome } => self.on_reply(app, id, outcome),
            Input::Event { app, id, number, event } => self.on_event(app, &NodeMessage::Event { id, number, event }),
            Input::Report(change) => self.changes.add(change),
            Input::Snapshot { session, report, events } => self.on_snapshot(now, session, report, events),
            Input::Tick => {
                while let Some(session) = self.bursts.pop_due(now) {
                    self.burst(now, session);
                }
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.tell_changes();
        }
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        self.bursts.next().map(|at| Alarm { at, why: "apps: the next part of a report" })
    }
}

impl Apps {
    /// No app is registered.
    pub fn new() -> Self {
        Apps::default()
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many commands have no reply yet, those of closed sessions included.
    pub fn commands(&self) -> usize {
        self.apps.values().map(|app| app.commands.len()).sum()
    }

    /// For simulations and tests: panics if an invariant does not hold.
    #[cfg(any(test, feature = "probes"))]
    pub(crate) fn assert_consistent(&self) {
        assert!(self.sessions.len() <= MAX_SESSIONS);
        assert_eq!(self.by_conn.len(), self.sessions.len(), "a session has one connection");
        for (id, session) in &self.sessions {
            assert_eq!(self.by_conn.get(&session.conn), Some(id));
            assert!(self.apps.get(&session.app).is_some_and(|app| app.sessions.contains(id)), "a session has its app");
            let bytes: usize = session.backlog.iter().map(Vec::len).sum();
            assert_eq!(bytes, session.backlog_bytes);
            assert!(bytes <= MAX_BACKLOG && (bytes == 0 || self.bursts.has(*id)), "what waits is told some day");
        }
        for app in self.apps.values() {
            assert!(app.sessions.len() <= MAX_APP_SESSIONS && app.commands.len() <= MAX_COMMANDS);
        }
        let of_apps: usize = self.apps.values().map(|app| app.sessions.len()).sum();
        assert_eq!(of_apps, self.sessions.len(), "an app has its sessions and no others");
        assert!(self.live.iter().all(|id| self.sessions.contains_key(id)), "nobody is told after the end");
    }

    /// Whether this connection is a session's.
    pub fn owns(&self, conn: ConnId) -> bool {
        self.by_conn.contains_key(&conn)
    }

    fn on_incoming(&mut self, conn: ConnId, purpose: Purpose, peer: PublicKey) {
        if self.by_conn.contains_key(&conn) {
            return;
        }
        let Some(app) = self.apps.get(&peer).filter(|_| purpose == Purpose::AppNode) else {
            return self.net(NetCommand::Close { conn });
        };
        let oldest = app.sessions.first().copied();
        let share_used_up = app.sessions.len() >= MAX_APP_SESSIONS || self.sessions.len() >= MAX_SESSIONS;
        if share_used_up {
            sometimes!("apps: the oldest session of an app gives way", oldest.is_some());
            let Some(oldest) = oldest else { return self.net(NetCommand::Close { conn }) };
            self.close(oldest);
        }
        self.open(conn, peer);
    }

    fn open(&mut self, conn: ConnId, peer: PublicKey) {
        let Some(app) = self.apps.get_mut(&peer) else { return };
        let session = SessionId(self.next_session);
        self.next_session += 1;
        app.sessions.insert(session);
        let permissions = app.permissions;
        self.sessions
            .insert(session, Session { app: peer, conn, next_report: 0, backlog: VecDeque::new(), backlog_bytes: 0 });
        self.by_conn.insert(conn, session);
        self.net(NetCommand::Admit { conn });
        self.send(session, &NodeMessage::Hello { permissions, version: Text::new(VERSION).unwrap_or_default() });
        self.outputs.push_back(Output::Snapshot { session, app: peer });
    }

    fn on_message(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(&session) = self.by_conn.get(&conn) else { return };
        let Some(app) = self.sessions.get(&session).map(|session| session.app) else { return };
        match decode(bytes, MAX_FRAME) {
            Ok(AppMessage::Command { id, command }) => self.on_command(session, app, id, command),
            Ok(AppMessage::Acknowledge { id, number }) => {
                self.outputs.push_back(Output::Acknowledge { app, id, number });
            }
            Err(_) => self.close(session),
        }
    }

    fn on_command(&mut self, session: SessionId, key: PublicKey, id: CommandId, command: Command) {
        let Some(app) = self.apps.get_mut(&key) else { return };
        if let Some(newest) = app.commands.get_mut(&id) {
            sometimes!("apps: a command is asked again before it is answered", true);
            *newest = session.max(*newest);
            return;
        }
        let refusal = match command.permission() {
            Some(permission) if !app.permissions.allow(permission) && !mutant!(PermissionNotChecked) => {
                Some(Refusal::NotPermitted(permission))
            }
            Some(_) | None if app.commands.len() >= MAX_COMMANDS => Some(Refusal::Busy),
            Some(_) | None if buggify!("apps: refuse a command as busy", 50) => Some(Refusal::Busy),
            Some(_) | None => None,
        };
        match refusal {
            Some(refusal) => {
                self.held.push_back((session, NodeMessage::Reply { id, outcome: Outcome::Refused(refusal) }));
            }
            None => {
                let is_lost = mutant!(CommandLost) && app.commands.len() == 1;
                app.commands.insert(id, session);
                if is_lost {
                    return;
                }
                self.outputs.push_back(Output::Command { app: key, id, command });
            }
        }
    }

    fn on_closed(&mut self, conn: ConnId) {
        if let Some(&session) = self.by_conn.get(&conn) {
            self.forget(session);
        }
    }

    fn on_trust(&mut self, key: PublicKey, permissions: Permissions) {
        match self.apps.get_mut(&key) {
            None => {
                let app = App { permissions, sessions: BTreeSet::new(), commands: BTreeMap::new() };
                self.apps.insert(key, app);
            }
            Some(app) if app.permissions == permissions => {}
            Some(app) => {
                app.permissions = permissions;
                // What they were told in `Hello` holds no more.
                for session in app.sessions.clone() {
                    self.close(session);
                }
            }
        }
    }

    fn on_distrust(&mut self, key: PublicKey) {
        let Some(app) = self.apps.get(&key) else { return };
        for session in app.sessions.clone() {
            self.close(session);
        }
        self.apps.remove(&key);
    }

    fn on_reply(&mut self, app: PublicKey, id: CommandId, outcome: Outcome) {
        let Some(app) = self.apps.get_mut(&app) else { return };
        if let Some(session) = app.commands.remove(&id) {
            sometimes!("apps: a reply finds no session", !self.sessions.contains_key(&session));
            if mutant!(ReplyTwice) {
                self.hold(session, NodeMessage::Reply { id, outcome: outcome.clone() });
            }
            self.hold(session, NodeMessage::Reply { id, outcome });
        }
    }

    fn on_event(&mut self, app: PublicKey, message: &NodeMessage) {
        let Some(app) = self.apps.get(&app) else { return };
        for session in app.sessions.intersection(&self.live) {
            self.held.push_back((*session, message.clone()));
        }
    }

    fn on_snapshot(&mut self, now: Instant, session: SessionId, report: Vec<ReportChange>, events: Vec<KeptEvent>) {
        if !self.sessions.contains_key(&session) || self.live.contains(&session) {
            return;
        }
        // What changed before the snapshot is in it: the others hear of it now, this one never.
        self.tell_changes();
        self.bursts.set(session, now);
        self.tell_report(session, report);
        for KeptEvent { id, number, event } in events {
            self.send(session, &NodeMessage::Event { id, number: Some(number), event });
        }
        if self.sessions.contains_key(&session) {
            self.live.insert(session);
            self.burst(now, session);
        }
    }

    /// Sends the next part of what waits for a session.
    fn burst(&mut self, now: Instant, session: SessionId) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let (conn, mut bytes, mut messages) = (state.conn, 0, 0);
        while bytes < BURST_BYTES
            && messages < BURST_MESSAGES
            && !(messages > 0 && buggify!("apps: a report in small bursts", 300))
            && let Some(message) = state.backlog.pop_front()
        {
            bytes += message.len();
            messages += 1;
            self.outputs.push_back(Output::Net(NetCommand::Send { conn, bytes: message }));
        }
        state.backlog_bytes -= bytes;
        sometimes!("apps: a report takes several bursts", !state.backlog.is_empty());
        if state.backlog.is_empty() {
            self.bursts.clear(session);
        } else {
            self.bursts.set(session, now + BURST_GAP);
        }
    }

    /// Tells all live sessions what changed, then what was held back for that.
    fn tell_changes(&mut self) {
        if !self.changes.is_empty() {
            let changes = chunks(self.changes.take());
            let live: Vec<_> = self.live.iter().copied().collect();
            for chunk in changes {
                for &session in &live {
                    self.send_report(session, chunk.clone());
                }
            }
        }
        while let Some((session, message)) = self.held.pop_front() {
            self.send(session, &message);
        }
    }

    fn tell_report(&mut self, session: SessionId, report: Vec<ReportChange>) {
        let mut chunks = chunks(report).peekable();
        if chunks.peek().is_none() {
            return self.send_report(session, report::Chunk::default());
        }
        while let Some(mut chunk) = chunks.next() {
            chunk.complete = chunks.peek().is_none();
            self.send_report(session, chunk);
        }
    }

    fn send_report(&mut self, session: SessionId, chunk: report::Chunk) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let number = state.next_report;
        state.next_report += 1;
        let report::Chunk { changes, complete } = chunk;
        self.send(session, &NodeMessage::Report { number, changes, complete });
    }

    /// Holds a message back until the report is told; drops it if its session is gone.
    fn hold(&mut self, session: SessionId, message: NodeMessage) {
        if self.sessions.contains_key(&session) {
            self.held.push_back((session, message));
        }
    }

    fn close(&mut self, session: SessionId) {
        if let Some(conn) = self.forget(session) {
            self.net(NetCommand::Close { conn });
        }
    }

    fn forget(&mut self, session: SessionId) -> Option<ConnId> {
        let Session { app, conn, .. } = self.sessions.remove(&session)?;
        self.by_conn.remove(&conn);
        self.live.remove(&session);
        self.bursts.clear(session);
        if let Some(app) = self.apps.get_mut(&app) {
            app.sessions.remove(&session);
        }
        Some(conn)
    }

    /// Sends a message; behind the report, if that is still being told.
    fn send(&mut self, session: SessionId, message: &NodeMessage) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let (conn, bytes) = (state.conn, encode(message));
        if !self.bursts.has(session) {
            return self.net(NetCommand::Send { conn, bytes });
        }
        state.backlog_bytes += bytes.len();
        state.backlog.push_back(bytes);
        if state.backlog_bytes > MAX_BACKLOG {
            self.close(session);
        }
    }

    fn net(&mut self, command: NetCommand) {
        self.outputs.push_back(Output::Net(command));
    }
}
