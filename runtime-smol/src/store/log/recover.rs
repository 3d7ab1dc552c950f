//! What a log holds, when its file is read again.
//!
//! 1. A group is on the disk before the next one is begun: so at most the last may be torn, and it was never acknowledged.
//! 2. A half begins anew only when the pages have all of its groups. So the first group that the pages do not have stands at the
//!    beginning of a half, and the others follow it, in that half and then in the other.
//! 3. Groups count on without a gap. What is not the next one ends the log; a later one behind it proves that it is not the end
//!    but damage.
//! 4. Nothing here believes a length; nothing panics; memory is the file's, and what its groups hold.
//!
//! Not seen here: damage to the very last group (it looks like one that was torn), and a log that is older than the database.

use super::super::overlay::Overlay;
use super::frame::{self, Group, HEAD, Layout, SMALLEST_BLOCK};

/// What stands in a log and not in the pages.
#[derive(Debug, Default)]
pub(in crate::store) struct Recovered {
    pub(in crate::store) overlay: Overlay,
    pub(in crate::store) groups: u64,
}

/// Reads all groups after `applied` of a file that is as long as `layout` says.
///
/// # Errors
/// What is wrong with it.
pub(in crate::store) fn recover(file: &[u8], layout: &Layout, applied: u64) -> Result<Recovered, &'static str> {
    let halves = file.get(HEAD..layout.length()).ok_or("it is shorter than its head says")?.split_at(layout.half);
    let halves = [halves.0, halves.1];
    let mut recovered = Recovered::default();
    let mut next = applied.saturating_add(1);
    let stands_in = |half: &&[u8]| Group::at(layout.id, half).is_some_and(|group| group.number == next);
    let first = halves.iter().position(stands_in).unwrap_or(0);
    for half in [halves[first], halves[1 - first]] {
        let mut rest = half;
        while let Some(group) = Group::at(layout.id, rest).filter(|group| group.number == next) {
            let Some(body) = group.body(rest) else { break };
            let changes = frame::changes(body).ok_or("it has a group that no program wrote")?;
            recovered.overlay.put(changes);
            recovered.groups += 1;
            next = next.saturating_add(1);
            rest = rest.get(group.size().next_multiple_of(layout.block)..).unwrap_or_default();
        }
    }
    if halves.iter().any(|half| has_later(half, layout, next)) {
        return Err("a group is not what was written, and later ones are there");
    }
    Ok(recovered)
}

/// Whether a group after `number` was ever begun here.
fn has_later(half: &[u8], layout: &Layout, number: u64) -> bool {
    let at = |bytes: &[u8]| Group::at(layout.id, bytes).is_some_and(|group| group.number > number);
    (0..half.len()).step_by(SMALLEST_BLOCK).any(|start| at(&half[start..]))
}

/// Whether a file holds any group of this log, complete or not.
pub(super) fn has_groups(file: &[u8], layout: &Layout) -> bool {
    has_later(file.get(HEAD..).unwrap_or_default(), layout, 0)
}
