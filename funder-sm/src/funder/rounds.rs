//! Rounds: one batch a friend, one revision, and nothing said before it is durable.

use std::collections::VecDeque;

use offset_protocol::bytes::{PaymentId, PublicKey, RequestId};
use offset_protocol::friend::{Batch, FriendMessage};
use offset_protocol::money::Currency;
use offset_protocol::persist::Revision;
use offset_protocol::{mutant, sometimes};

use super::buyer::PartEnd;
use super::io::{CheckedMessage, FunderInput, FunderOutput};
use super::records::Target;
use super::{Friend, Funder};
use crate::friend_channel::{ChannelEvent, Env, SignedAnswer};
use offset_protocol::lean::LeanSet;

/// One step of what an input brings about.
pub(super) enum Todo {
    /// A friend's channel says something.
    Channel(PublicKey, ChannelEvent),
    /// A request of our own ended without being paid.
    PartEnded(PaymentId, PartEnd),
}

/// An output that waits for its revision.
pub(super) struct Held {
    output: FunderOutput,
    /// The link that a friend's message was made for.
    link: u64,
}

impl Funder {
    pub(super) fn on_input(&mut self, input: FunderInput) {
        match input {
            FunderInput::LinkUp { friend } => self.on_link_up(friend),
            FunderInput::LinkDown { friend } => self.on_link_down(friend),
            FunderInput::Friend { friend, message } => self.on_friend_message(friend, message),
            FunderInput::Command { app, id, command } => self.on_command(app, id, command),
            FunderInput::Acknowledge { app, id, number } => self.on_acknowledge(&app, &id, number),
            FunderInput::Snapshot { session, app } => self.snapshots.push((session, app)),
            FunderInput::Routes { query, result } => self.on_routes(query, result),
            FunderInput::RelayStatus { relay, connected } => self.on_relay_status(relay, connected),
            FunderInput::IndexStatus { server, connected } => self.on_index_status(server, connected),
            FunderInput::SideRecord(change) => {
                self.side_keys.push(change.key.clone());
                self.changes.add(change);
            }
            FunderInput::Durable(revision) => self.on_durable(revision),
            FunderInput::Wall(wall) => {
                self.wall = wall;
                if !self.expire_offers() {
                    return;
                }
            }
            FunderInput::Tick => {
                self.on_tick();
                return;
            }
        }
        self.round_due = true;
    }

    /// Does everything that the input at hand brings about.
    pub(super) fn settle(&mut self) {
        if self.todo.is_empty() {
            return;
        }
        while let Some(step) = self.todo.pop_front() {
            match step {
                Todo::Channel(friend, event) => self.on_channel_event(friend, event),
                Todo::PartEnded(payment_id, end) => self.on_own_cancelled(payment_id, end),
            }
        }
        // A node that has nothing to do holds no room for it.
        self.todo = VecDeque::new();
    }

    fn on_link_up(&mut self, friend: PublicKey) {
        let Some(state) = self.friends.get_mut(&friend) else { return };
        state.link += 1;
        state.online = true;
        state.channel.link_up();
        self.touch(friend);
    }

    fn on_link_down(&mut self, friend: PublicKey) {
        let Some(state) = self.friends.get_mut(&friend).filter(|_| !mutant!(LinkDownSkipped)) else { return };
        state.link += 1;
        state.online = false;
        let mut events = Vec::new();
        state.channel.link_down(&mut events);
        self.on_channel_events(friend, events);
    }

    /// What sellers have signed in a friend's batch: see [`Channel::signed_answers`](crate::friend_channel::Channel::signed_answers).
    pub fn signed_answers(&self, friend: &PublicKey, batch: &Batch) -> Vec<SignedAnswer> {
        self.friends.get(friend).map_or_else(Vec::new, |state| state.channel.signed_answers(batch))
    }

    fn on_friend_message(&mut self, friend: PublicKey, message: CheckedMessage) {
        let Some(state) = self.friends.get_mut(&friend).filter(|state| state.online) else { return };
        if matches!(message, CheckedMessage::Unreadable) {
            self.drop_link(friend);
            return;
        }
        let mut events = Vec::new();
        let mut env = Env { now: self.now, verifier: &*self.signer, rng: &mut self.rng };
        let channel = &mut state.channel;
        match message {
            CheckedMessage::Resume(resume) => channel.on_resume(&mut env, &resume, &mut events),
            CheckedMessage::Batch(batch) => channel.on_batch(&mut env, batch, &mut events),
            CheckedMessage::Inconsistent(terms) => channel.on_inconsistent(&mut env, terms, &mut events),
            CheckedMessage::Limits(limits) => channel.on_limits(env.now, &limits),
            CheckedMessage::Reset(reset) => channel.on_reset(&mut env, reset, &mut events),
            CheckedMessage::Forged => channel.on_forged(&mut env, &mut events),
            CheckedMessage::Unreadable => {}
        }
        self.on_channel_events(friend, events);
    }

    /// Takes note of what a friend's channel said.
    pub(super) fn on_channel_events(&mut self, friend: PublicKey, events: Vec<ChannelEvent>) {
        self.todo.extend(events.into_iter().map(|event| Todo::Channel(friend, event)));
        self.touch(friend);
    }

    /// The friend's channel may have something to say, or its report may differ.
    pub(super) fn touch(&mut self, friend: PublicKey) {
        self.touched.insert(friend);
    }

    /// Says something when this round is durable.
    pub(super) fn hold(&mut self, output: FunderOutput) {
        self.held.push(Held { output, link: 0 });
    }

    pub(super) fn drop_link(&mut self, friend: PublicKey) {
        self.hold(FunderOutput::DropLink { friend });
    }

    fn on_tick(&mut self) {
        while let Some(friend) = self.alarms.pop_due(self.now) {
            self.touch(friend);
            self.round_due = true;
        }
    }

    fn on_durable(&mut self, revision: Revision) {
        if revision != self.revision {
            return;
        }
        let held = self.in_flight.take().unwrap_or_default();
        self.release(held);
    }

    /// Lets outputs leave.
    fn release(&mut self, held: Vec<Held>) {
        if self.ready.is_empty() {
            self.ready = VecDeque::from(held);
        } else {
            self.ready.extend(held);
        }
    }

    /// The next output that may leave. A message that was made for a link which is gone by now is left out: the resume of
    /// the next one makes it again.
    pub(super) fn next_ready(&mut self) -> Option<FunderOutput> {
        while let Some(Held { output, link }) = self.ready.pop_front() {
            let FunderOutput::Friend { friend, .. } = &output else { return Some(output) };
            sometimes!("funder: a batch becomes durable after its link went", self.is_of_old_link(friend, link));
            if self.friends.get(friend).is_some_and(|state| state.link == link && state.online) {
                return Some(output);
            }
        }
        // As `todo`: the room is given back.
        self.ready = VecDeque::new();
        None
    }

    fn is_of_old_link(&self, friend: &PublicKey, link: u64) -> bool {
        self.friends.get(friend).is_some_and(|state| state.link != link)
    }

    /// Makes one round, unless a revision is in flight: then the next one waits for it.
    pub(super) fn round(&mut self) {
        self.round_due = false;
        if self.in_flight.is_some() {
            sometimes!("funder: a round waits for the disk", true);
            return;
        }
        let spoken = self.make_batches();
        self.report_friends(&spoken);
        self.take_snapshots();
        for key in std::mem::take(&mut self.side_keys) {
            self.hold(FunderOutput::SideRecordDurable { key });
        }
        let held = std::mem::take(&mut self.held);
        if mutant!(SkipPersist) {
            self.changes.take();
        }
        if self.changes.is_empty() {
            self.release(held);
            return;
        }
        self.revision.0 += 1;
        let output = FunderOutput::Persist { revision: self.revision, changes: self.changes.take() };
        self.ready.push_back(Held { output, link: 0 });
        if mutant!(SayBeforeDurable) {
            self.release(held);
            return;
        }
        self.in_flight = Some(held);
    }

    /// Lets every touched friend's channel speak once; gives the friends that were touched.
    fn make_batches(&mut self) -> LeanSet<PublicKey> {
        let mut spoken = LeanSet::new();
        let mut later = LeanSet::new();
        while let Some(friend) = self.touched.pop_first() {
            if spoken.insert(friend) {
                self.speak(friend);
                self.settle();
            } else {
                later.insert(friend);
            }
        }
        self.touched = later;
        spoken
    }

    fn speak(&mut self, friend: PublicKey) {
        let Some(state) = self.friends.get_mut(&friend) else { return };
        let mut messages: Vec<FriendMessage> = Vec::new();
        state.channel.make_messages(self.now, &*self.signer, &mut messages);
        self.changes.take_from(&mut state.channel, &friend);
        let link = state.link;
        let collected = collected(state);
        for message in messages {
            self.held.push(Held { output: FunderOutput::Friend { friend, message }, link });
        }
        self.set_alarm(friend);
        for (currency, request_id) in collected {
            if !self.was_brought_by(friend, currency, &request_id) {
                continue;
            }
            if let Some(Target::Invoice(invoice_id)) = self.transits.get(&request_id).map(|transit| transit.to) {
                self.on_part_collected(invoice_id, &request_id);
            }
        }
    }

    fn set_alarm(&mut self, friend: PublicKey) {
        let Some(state) = self.friends.get(&friend) else { return };
        match state.channel.poll_timeout() {
            Some(alarm) => self.alarms.set(friend, alarm.at),
            None => self.alarms.clear(friend),
        }
    }
}

/// Collects that stand in our log now: their requests are open no more. They were queued in this order.
fn collected(state: &mut Friend) -> Vec<(Currency, RequestId)> {
    let mut collected = Vec::new();
    while let Some((currency, request_id)) = state.collecting.front() {
        if state.channel.incoming(currency, request_id).is_some() {
            break;
        }
        collected.push((*currency, *request_id));
        state.collecting.pop_front();
    }
    if !collected.is_empty() && state.collecting.is_empty() {
        state.collecting = VecDeque::new();
    }
    collected
}
