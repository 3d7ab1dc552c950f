//! The `--trusted` folder of a server, and the `--allowed` folder of a relay: tickets in it take effect at once, and no
//! longer when they are gone.
//!
//! Several files may name the same key; it stays trusted until the last of them is gone. If they disagree, the first by
//! name counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use offset_protocol::bytes::PublicKey;
use offset_protocol::files::{self, Document, FriendTicket, Kind, NodeTicket};

use super::exit::Failure;
use crate::folder::{Folder, FolderChange, FolderWatch};

/// What changed about whom we trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust<V> {
    /// This key is trusted, with this; also if it was before with something else.
    Granted(PublicKey, V),
    /// This key is no longer trusted.
    Withdrawn(PublicKey),
}

/// Reads the folder, tells `report` of everyone in it before it returns, and of every change afterwards.
///
/// `parts` takes a ticket apart: who, and what it says about that one.
///
/// # Errors
/// If the folder cannot be read. A ticket that cannot is named in the log.
pub fn watch<T, V>(
    folder: &Path,
    parts: impl Fn(T) -> (PublicKey, V) + Send + 'static,
    report: impl FnMut(Trust<V>) + Send + 'static,
) -> Result<FolderWatch, Failure>
where
    T: Document,
    V: Clone + PartialEq + Send + 'static,
{
    let parse =
        move |_: &Path, content: &[u8]| files::parse::<T>(content).map(&parts).map_err(|error| error.to_string());
    start(Folder::new(folder, parse), report)
}

/// Nodes that a relay may be told to serve: as many as it lets listen from one address, and more. Chosen freely; looking at
/// so many files takes a hundredth of a core.
pub const MAX_NODES: usize = 16_384;

/// As [`watch`], of files that name a node: its friend ticket, which its owner gives to friends and operators, or its node
/// ticket, which an operator of nodes has.
///
/// # Errors
/// As of [`watch`].
pub fn watch_nodes(folder: &Path, report: impl FnMut(Trust<()>) + Send + 'static) -> Result<FolderWatch, Failure> {
    start(Folder::new(folder, |_: &Path, content: &[u8]| node_of(content)).with_most(MAX_NODES), report)
}

fn node_of(content: &[u8]) -> Result<(PublicKey, ()), String> {
    let key = match files::kind_of(content) {
        Ok(Kind::NodeTicket) => files::parse::<NodeTicket>(content).map(|ticket| ticket.public_key),
        Ok(_) | Err(_) => files::parse::<FriendTicket>(content).map(|ticket| ticket.public_key),
    };
    key.map(|key| (key, ())).map_err(|error| error.to_string())
}

fn start<V, P>(
    mut folder: Folder<(PublicKey, V), P>,
    mut report: impl FnMut(Trust<V>) + Send + 'static,
) -> Result<FolderWatch, Failure>
where
    V: Clone + PartialEq + Send + 'static,
    P: FnMut(&Path, &[u8]) -> Result<(PublicKey, V), String> + Send + 'static,
{
    let mut grants = Grants::default();
    for change in folder.scan().map_err(Failure::failed)? {
        grants.apply(change).into_iter().for_each(&mut report);
    }
    let watch = folder.watch(move |change| grants.apply(change).into_iter().for_each(&mut report));
    watch.map_err(|error| Failure::failed(format_args!("cannot watch a folder: {error}")))
}

/// Who is trusted, and by which files.
struct Grants<V> {
    by_key: BTreeMap<PublicKey, BTreeMap<OsString, V>>,
}

impl<V> Default for Grants<V> {
    fn default() -> Self {
        Grants { by_key: BTreeMap::new() }
    }
}

impl<V: Clone + PartialEq> Grants<V> {
    fn apply(&mut self, change: FolderChange<(PublicKey, V)>) -> Vec<Trust<V>> {
        match change {
            FolderChange::Added { name, value: (key, value) } => self.update(key, name, Some(value)),
            FolderChange::Removed { name, value: (key, _) } => self.update(key, name, None),
            FolderChange::Changed { name, old: (old, _), new: (new, value) } => {
                let mut trust = if old == new { Vec::new() } else { self.update(old, name.clone(), None) };
                trust.extend(self.update(new, name, Some(value)));
                trust
            }
        }
    }

    fn update(&mut self, key: PublicKey, name: OsString, value: Option<V>) -> Vec<Trust<V>> {
        let files = self.by_key.entry(key).or_default();
        let before = files.values().next().cloned();
        match value {
            Some(value) => drop(files.insert(name, value)),
            None => drop(files.remove(&name)),
        }
        let after = files.values().next().cloned();
        if files.values().any(|value| Some(value) != after.as_ref()) {
            tracing::warn!(%key, "several tickets of this key disagree; the first by name counts");
        }
        match after {
            after if after == before => Vec::new(),
            Some(value) => vec![Trust::Granted(key, value)],
            None => {
                self.by_key.remove(&key);
                vec![Trust::Withdrawn(key)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::app::Permissions;
    use offset_protocol::codec::List;
    use offset_protocol::files::AppTicket;

    use super::*;

    const A: PublicKey = PublicKey([1; 32]);
    const B: PublicKey = PublicKey([2; 32]);

    fn add(name: &str, key: PublicKey, value: u8) -> FolderChange<(PublicKey, u8)> {
        FolderChange::Added { name: name.into(), value: (key, value) }
    }

    fn remove(name: &str, key: PublicKey) -> FolderChange<(PublicKey, u8)> {
        FolderChange::Removed { name: name.into(), value: (key, 0) }
    }

    #[test]
    fn a_key_is_trusted_until_the_last_of_its_tickets_is_gone() {
        let mut grants = Grants::default();
        assert_eq!(grants.apply(add("b", A, 1)), [Trust::Granted(A, 1)]);
        assert_eq!(grants.apply(add("c", A, 2)), []);
        assert_eq!(grants.apply(add("a", A, 3)), [Trust::Granted(A, 3)]);
        assert_eq!(grants.apply(remove("a", A)), [Trust::Granted(A, 1)]);
        assert_eq!(grants.apply(remove("b", A)), [Trust::Granted(A, 2)]);
        assert_eq!(grants.apply(remove("c", A)), [Trust::Withdrawn(A)]);
        assert!(grants.by_key.is_empty());
    }

    #[test]
    fn a_ticket_that_now_names_another_key_withdraws_the_first() {
        let mut grants = Grants::default();
        grants.apply(add("a", A, 1));
        let changed = FolderChange::Changed { name: "a".into(), old: (A, 1), new: (B, 1) };
        assert_eq!(grants.apply(changed), [Trust::Withdrawn(A), Trust::Granted(B, 1)]);
    }

    #[test]
    fn a_node_is_named_by_its_friend_ticket_or_its_node_ticket_and_by_nothing_else() {
        let friend = FriendTicket { public_key: A, relays: List::new() };
        let node = NodeTicket { public_key: B, address: "host:1".parse().unwrap() };
        assert_eq!(node_of(files::print(&friend).as_bytes()), Ok((A, ())));
        assert_eq!(node_of(files::print(&node).as_bytes()), Ok((B, ())));
        let app = AppTicket { public_key: A, permissions: Permissions::default() };
        let why = node_of(files::print(&app).as_bytes()).unwrap_err();
        assert!(why.contains("app") && why.contains("friend"), "{why}");
        assert!(node_of(b"{}").is_err());
    }
}
