//! Sizes (I17): nothing grows past its limit, and what is under way only falls back to nothing at rest.

use offset_funder_sm::friend_channel::Size;

use super::Invariant;
use super::ledger::Fault;

/// What sizes are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Things are under way.
    Busy,
    /// Nothing is.
    AtRest,
}

/// Checks the sizes of a node or of a channel.
///
/// # Errors
/// [`Invariant::Bounds`] with the first that is too large.
pub fn check(sizes: impl IntoIterator<Item = Size>, when: When) -> Result<(), Fault> {
    let limit = |size: &Size| match when {
        When::Busy => size.limit,
        When::AtRest => size.limit.min(size.at_rest),
    };
    match sizes.into_iter().find(|size| size.size > limit(size)) {
        None => Ok(()),
        Some(size) => Err((Invariant::Bounds, format!("{size:?} ({when:?})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_past_its_limit_or_stays_at_rest_is_noticed() {
        let size = Size { name: "queue", size: 3, limit: 3, at_rest: 0 };
        assert_eq!(check([size], When::Busy), Ok(()));
        assert!(matches!(check([size], When::AtRest), Err((Invariant::Bounds, _))));
        assert!(matches!(check([size, Size { size: 4, ..size }], When::Busy), Err((Invariant::Bounds, _))));
        assert_eq!(check([Size { size: 0, ..size }], When::AtRest), Ok(()));
    }
}
