//! What an app was told (I16): the report that it rebuilt from changes is what the node knows; what was said to be done is
//! done; every command was answered.
//!
//! Looked at when nothing is under way: a change takes a moment to reach the app. What an app notices by itself, replies that
//! nobody asked for and refusals that make no sense, it complains about, and that is looked at here too.

use std::collections::{BTreeMap, BTreeSet};

use offset_funder_sm::node::Node;
use offset_protocol::app::Command;
use offset_protocol::bytes::PublicKey;

use super::{Invariant, Violation};
use crate::host::HostId;
use crate::people::{ReportBook, SharedPerson};
use crate::world::World;

/// Compares what a person's app shows of friends and currencies with what the node knows. `unsteady` friends are not looked
/// at: what they say may change at any time.
///
/// # Errors
/// [`Invariant::Report`] with the first difference; [`Invariant::People`] if the person noticed something before.
pub fn check(
    world: &World,
    host: HostId,
    person: &SharedPerson,
    unsteady: &BTreeSet<PublicKey>,
) -> Result<(), Violation> {
    let fail = |invariant, what| Err(Violation { invariant, at: world.now(), host: Some(host), what });
    let person = person.0.borrow();
    if let Some(complaint) = person.complaints().first() {
        return fail(Invariant::People, complaint.clone());
    }
    let Some(node) = world.machine::<Node>(host) else { return Ok(()) };
    if !person.is_connected() || !person.book().is_complete() {
        return fail(Invariant::Report, "the app has no whole report".to_owned());
    }
    let mut known: BTreeMap<_, Vec<_>> =
        node.money().channels().map(|channel| (channel.friend(), channel.currencies().collect())).collect();
    let mut shown: BTreeMap<_, Vec<_>> =
        person.book().friends.iter().map(|(key, friend)| (*key, friend.currencies.to_vec())).collect();
    known.retain(|friend, _| !unsteady.contains(friend));
    shown.retain(|friend, _| !unsteady.contains(friend));
    if known != shown {
        return fail(Invariant::Report, format!("the app shows {shown:?}, the node knows {known:?}"));
    }
    if let Some(difference) = compare(node, person.book(), unsteady) {
        return fail(Invariant::Report, difference);
    }
    if let Some(contradiction) = person.contradiction() {
        return fail(Invariant::Report, contradiction);
    }
    // Who waits for somebody who is gone asks again and again, and who has a cheater for a friend accepts its terms so.
    let friends = &person.book().friends;
    let cheats = |name: &_| friends.iter().any(|(key, friend)| friend.name == *name && unsteady.contains(key));
    let accepts = |command: &&Command| matches!(command, Command::ResetFriend { name, .. } if cheats(name));
    let mut unanswered = person.unanswered().filter(|command| !accepts(command));
    match unanswered.next().filter(|_| person.deals().open() == 0) {
        None => Ok(()),
        Some(command) => fail(Invariant::Report, format!("no answer to {command:?}")),
    }
}

/// Compares the app's book with the report that a new session would get.
fn compare(node: &Node, shown: &ReportBook, unsteady: &BTreeSet<PublicKey>) -> Option<String> {
    let mut known = ReportBook::default();
    node.money().full_report().iter().for_each(|change| known.apply(change));
    if known.relays != shown.relays || known.indexes != shown.indexes {
        let (relays, indexes) = (&shown.relays, &shown.indexes);
        return Some(format!(
            "the app shows {relays:?} and {indexes:?}, the node knows {:?} and {:?}",
            known.relays, known.indexes
        ));
    }
    let other = |friend: &&PublicKey| known.friends.get(*friend) != shown.friends.get(*friend);
    let all: BTreeSet<&PublicKey> = known.friends.keys().chain(shown.friends.keys()).collect();
    let other = all.into_iter().filter(|friend| !unsteady.contains(*friend)).find(other)?;
    Some(format!("the app shows {:?}, the node knows {:?}", shown.friends.get(other), known.friends.get(other)))
}
