//! What all connections of a program hold in their buffers, counted together, so that many slow readers cannot take more
//! memory than the operator gives.
//!
//! Counted are sealed bytes on their way out, what has come in and is not whole or not handed on, what waits in pipes, and
//! what the machine has said and a task has not taken. While all that is as much as [`Budget::limit`] the budget is *tight*:
//!
//! 1. A tunnel takes one message at a time: nothing more is read at one end until the other end has taken the last.
//! 2. A wire takes the next message only when it is empty.
//! 3. Nothing is dropped, and nobody waits for the budget: each connection goes on with one message in each direction, whose
//!    way out needs no room from anybody. So there is no circle of waiting, and a reader that takes nothing is closed as ever.
//!
//! So the most that is ever held is the limit, and beyond it two messages a connection, of at most `MAX_FRAME` each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The least budget that makes sense: sixteen messages of the greatest length.
pub const LEAST_BUDGET: usize = 16 << 20;

/// The buffers of all connections of a program. Copies are the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(limit: usize) -> Self {
        Budget(Arc::new(Inner { limit, held: AtomicUsize::new(0) }))
    }

    /// Bytes that may be held before it is tight.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.0.held.load(Relaxed)
    }

    /// Whether so much is held that everybody gets by with little.
    pub(super) fn is_tight(&self) -> bool {
        self.held() >= self.0.limit
    }

    /// A share of it that holds nothing yet.
    pub(super) fn charge(&self) -> Charge {
        Charge { budget: self.clone(), bytes: 0 }
    }
}

/// What one holder has of a budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Budget,
    bytes: usize,
}

impl Charge {
    /// The budget that it is of.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Holds so many bytes from now on.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        // The sum of all charges fits: they are bytes in memory.
        if bytes >= self.bytes {
            self.budget.0.held.fetch_add(bytes - self.bytes, Relaxed);
        } else {
            self.budget.0.held.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }

    /// As [`set`](Self::set), but in steps, for holders that change with every message: never less than is held, and less
    /// than two steps more.
    pub(super) fn set_roughly(&mut self, bytes: usize) {
        if bytes == 0 || bytes > self.bytes || self.bytes - bytes >= 2 * ROUGH {
            self.set(bytes.next_multiple_of(ROUGH));
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The step of what is told roughly: smaller changes are not worth a shared counter.
const ROUGH: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_the_sum_of_what_is_held_and_is_empty_when_all_are_gone() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.charge(), budget.charge());
        a.set(60);
        b.set(39);
        assert_eq!((budget.held(), budget.is_tight()), (99, false));
        b.set(41);
        assert!(budget.is_tight());
        drop(a);
        assert_eq!(budget.held(), 41);
        b.set(0);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_is_told_roughly_is_never_less_than_is_held_and_an_end_is_always_told() {
        let budget = Budget::new(100_000);
        let mut charge = budget.charge();
        for bytes in (0..40_000).step_by(77).chain((0..40_000).rev().step_by(91)) {
            charge.set_roughly(bytes);
            assert!((bytes..=bytes + 2 * ROUGH).contains(&budget.held()), "{} for {bytes}", budget.held());
        }
        for (bytes, told) in [(0, 0), (1, ROUGH), (0, 0)] {
            charge.set_roughly(bytes);
            assert_eq!(budget.held(), told);
        }
    }
}
