//! An allocator that counts, so that a target can say what an input made it hold.
//!
//! Counts of a thread are its own: tests run side by side.
// An allocator cannot be written without it; this one passes everything on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(more: isize) {
    HELD.with(|held| {
        held.set(held.get().wrapping_add(more));
        PEAK.with(|peak| peak.set(peak.get().max(held.get())));
    });
}

const fn signed(size: usize) -> isize {
    // No layout is larger than `isize::MAX`.
    size as isize
}

// Whatever `System` promises holds: nothing but its own results is returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it is moved, both may be there.
        count(signed(size));
        let moved = unsafe { System.realloc(block, layout, size) };
        count(-signed(layout.size()));
        moved
    }
}

/// The most that this thread held at once while it did something, in bytes beyond what it held before.
pub fn peak_of<T>(deed: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let result = deed();
    let peak = PEAK.with(Cell::get);
    (result, usize::try_from(peak.wrapping_sub(before)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_at_once_is_counted_and_what_came_after_the_other_is_not() {
        let (_, peak) = peak_of(|| (0..4).map(|_| vec![0_u8; 10_000].len()).sum::<usize>());
        assert!((10_000..20_000).contains(&peak), "{peak}");
        let (_, peak) = peak_of(|| (vec![0_u8; 10_000], vec![1_u8; 10_000]));
        assert!((20_000..30_000).contains(&peak), "{peak}");
    }
}
