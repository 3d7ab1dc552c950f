//! What nodes say to each other, in words, for those who read a trace: batches, disputes, resets.
//!
//! Nodes speak through relays, sealed; so nothing of it is seen on the way. It is seen at its two ends: a batch was made when
//! a channel shows one more of its own, and taken in when the friend's channel shows that it applied it. Looked at after each
//! turn of a node, and only if the trace is kept: it changes nothing, and costs a look at all channels of the node.
//!
//! Not told: what is not in a batch (resumes, what goes to relays, index servers, apps).

use std::collections::BTreeMap;

use offset_funder_sm::friend_channel::{Channel, Standing};
use offset_funder_sm::node::Node;
use offset_protocol::bytes::PublicKey;
use offset_protocol::friend::{Batch, Operation};
use offset_protocol::machine::Instant;

use crate::host::HostId;
use crate::trace::Said;
use crate::world::World;

/// One end of a friendship, as it was when it was looked at last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    epoch: u64,
    made: u64,
    applied: u64,
    is_disputed: bool,
}

/// Which batch: from, to, epoch, number.
type BatchKey = (HostId, HostId, u64, u64);

/// Listens to all nodes of a world.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    hosts: BTreeMap<PublicKey, HostId>,
    seen: BTreeMap<(HostId, HostId), Seen>,
    under_way: BTreeMap<BatchKey, usize>,
    said: Vec<Said>,
}

impl Talk {
    /// Listens to the nodes on these hosts.
    pub(crate) fn new(world: &World, nodes: &[HostId]) -> Self {
        Talk { hosts: nodes.iter().map(|&host| (world.key_of(host), host)).collect(), ..Talk::default() }
    }

    /// Everything that was said.
    pub(crate) fn into_said(self) -> Vec<Said> {
        self.said
    }

    /// The host has taken a turn.
    pub(crate) fn look(&mut self, world: &World, host: HostId) {
        let Some(node) = world.machine::<Node>(host) else { return };
        let moment = (world.trace().events(), world.now());
        for channel in node.money().channels() {
            if let Some(&friend) = self.hosts.get(&channel.friend()) {
                self.look_at(moment, (host, friend), channel);
            }
        }
    }

    fn look_at(&mut self, moment: (u64, Instant), (host, friend): (HostId, HostId), channel: &Channel) {
        let marks = channel.marks();
        let before = self.seen.get(&(host, friend)).copied().unwrap_or_default();
        let is_disputed = matches!(channel.standing(), Standing::Inconsistent { .. });
        let now = Seen { epoch: marks.epoch, made: marks.made, applied: marks.applied, is_disputed };
        if before == now {
            return;
        }
        self.seen.insert((host, friend), now);
        let (made, applied) = if before.epoch == now.epoch { (before.made, before.applied) } else { (0, 0) };
        for seq in applied + 1..=now.applied {
            if let Some(index) = self.under_way.remove(&(friend, host, now.epoch, seq)) {
                self.said[index].taken = Some(moment);
            }
        }
        if before.epoch != now.epoch {
            self.say(moment, (host, friend), 0, format!("begins epoch {}", now.epoch));
        }
        if is_disputed && !before.is_disputed {
            self.say(moment, (host, friend), 0, "finds that the logs disagree".to_owned());
        }
        for (seq, batch) in channel.unacked().filter(|(seq, _)| *seq > made) {
            self.under_way.insert((host, friend, now.epoch, seq), self.said.len());
            self.say(moment, (host, friend), seq, format!("batch {seq}: {}", content(batch)));
        }
    }

    fn say(&mut self, made: (u64, Instant), (from, to): (HostId, HostId), number: u64, words: String) {
        self.said.push(Said { from: from.0, to: to.0, number, made, taken: None, words });
    }
}

/// What is in a batch.
fn content(batch: &Batch) -> String {
    let Ok(body) = batch.decode_body() else { return "what cannot be read".to_owned() };
    let mut parts: Vec<String> = Vec::new();
    if let Some(currencies) = &body.currencies {
        let names: Vec<String> = currencies.iter().map(ToString::to_string).collect();
        parts.push(format!("lists {}", if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }));
    }
    if body.relays.is_some() {
        parts.push("relays".to_owned());
    }
    for group in &body.operations {
        parts.extend(group.operations.iter().map(in_words));
    }
    if parts.is_empty() { "acknowledges".to_owned() } else { parts.join(", ") }
}

/// An operation, with the first letters of its request's name.
fn in_words(operation: &Operation) -> String {
    let (what, id) = match operation {
        Operation::Request(request) => ("request", request.request_id),
        Operation::Response(response) => ("response", response.request_id),
        Operation::Cancel(cancel) => ("cancel", cancel.request_id),
        Operation::Commit(commit) => ("commit", commit.request_id),
        Operation::Withdraw(withdraw) => ("withdraw", withdraw.request_id),
        Operation::Collect(collect) => ("collect", collect.request_id),
    };
    let [a, b, ..] = id.0;
    format!("{what} {a:02x}{b:02x}")
}
