//! Counts the memory that is in use, so that a target can say how much is too much.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator with a count for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// What this thread holds, and the most that it held since the last reset. What another thread
    /// frees or takes over is not followed: the targets have one thread.
    static IN_USE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// How many bytes `run` needed at most at one time, beyond those in use before it.
pub fn peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let (before, outer) = IN_USE.get();
    IN_USE.set((before, before));
    let value = run();
    let (now, peak) = IN_USE.get();
    IN_USE.set((now, peak.max(outer)));
    (value, usize::try_from(peak - before).unwrap_or(0))
}

fn count(size: usize, sign: isize) {
    // A thread that ends allocates after its count is gone.
    let _gone = IN_USE.try_with(|cell| {
        let (now, peak) = cell.get();
        let now = now + sign * isize::try_from(size).unwrap_or(0);
        cell.set((now, peak.max(now)));
    });
}

#[expect(unsafe_code, reason = "there is no other way to see what is allocated")]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above; what `alloc` gave out is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_at_one_time_counts() {
        let (kept, peak) = peak(|| {
            drop(vec![0_u8; 3000]);
            vec![0_u8; 1000]
        });
        assert_eq!((kept.len(), peak), (1000, 3000));
    }
}
