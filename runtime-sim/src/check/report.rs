//! The report that an app rebuilt from changes is what the node knows (I16).
//!
//! Looked at when nothing is under way: a change takes a moment to reach the app.

use std::collections::{BTreeMap, BTreeSet};

use offset_funder_sm::node::Node;
use offset_protocol::bytes::PublicKey;

use super::{Invariant, Violation};
use crate::host::HostId;
use crate::people::SharedPerson;
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
    if known == shown {
        return Ok(());
    }
    fail(Invariant::Report, format!("the app shows {shown:?}, the node knows {known:?}"))
}
