//! The library's allocator: the system's, and a reserve for when that has
//! nothing left.
//!
//! Rust code that gets no memory ends the process, and a library must not. What a
//! server or a caller sizes is reserved in a way that can fail (`memory` in the
//! crate `dbss`). Whatever else a call needs is small: when the system refuses
//! it, it comes from a static reserve, and the thread is marked. A marked call
//! ends with DBSS_ERR_OUT_OF_MEMORY at its next step, and gives back what it took.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::dbss_error;
use dbss::internal::{self, on_exhaustion};

/// Tests and fuzz targets include these files as a part of themselves; their
/// allocator is the system's alone.
const IS_LIBRARY: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"dbss");

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

struct Allocator;

/// What the system must have when a call begins: the C library ends the process
/// when it has none for small things of its own, such as a new thread's.
const LEAST: usize = 16 * 1024;

thread_local! {
    /// Whether the thread has got memory from the reserve in this call.
    static MARKED: Cell<bool> = const { Cell::new(false) };
}

/// A call; the mark of the one around it, which a callback interrupts, comes back
/// when it is dropped.
pub(super) struct CallMemory {
    outer: bool,
    enough: bool,
}

impl CallMemory {
    /// Whether the system has memory for a call to begin with.
    pub(super) fn is_enough(&self) -> bool {
        self.enough
    }

    /// Has the call end at its next step, as if it had used the reserve.
    pub(super) fn mark(&self) {
        MARKED.set(true);
    }
}

impl Drop for CallMemory {
    fn drop(&mut self) {
        MARKED.set(self.outer);
    }
}

/// Makes what a thread has of its own in the library.
pub(super) fn prepare_thread() {
    on_exhaustion(|| MARKED.get());
    internal::prepare_thread();
    drop(dbss_error::of(internal::out_of_memory()));
}

/// Begins a call, without a mark.
pub(super) fn begin_call() -> CallMemory {
    CallMemory {
        enough: !IS_LIBRARY || has_least(),
        outer: MARKED.replace(false),
    }
}

pub(super) fn has_least() -> bool {
    let layout = Layout::new::<[u8; LEAST]>();
    // SAFETY: the layout has a size; the allocation is given back as it came.
    unsafe {
        // Not to be optimised away: nothing else uses it.
        let probe = black_box(System.alloc(layout));
        if probe.is_null() {
            return false;
        }
        System.dealloc(probe, layout);
    }
    true
}

/// What the system refused; NULL where that was the last word.
#[cold]
fn from_reserve(layout: Layout) -> *mut u8 {
    if IS_LIBRARY {
        RESERVE.take(layout)
    } else {
        ptr::null_mut()
    }
}

// SAFETY: every allocation is the system's or the reserve's, and goes back to
// where its address tells that it came from.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same contract.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() {
            from_reserve(layout)
        } else {
            block
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same contract.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            return block;
        }
        let block = from_reserve(layout);
        if !block.is_null() {
            // SAFETY: it has as many bytes, and is nobody else's.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !RESERVE.give_back(block) {
            // SAFETY: by contract it came from here, and not from the reserve.
            unsafe { System.dealloc(block, layout) };
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by contract the size is not 0 and fits the alignment. The system
        // gets what is its own alone; otherwise the block is copied to a new one,
        // of which no more is written than both have, and then given back.
        unsafe {
            let wanted = Layout::from_size_align_unchecked(size, layout.align());
            let larger = if RESERVE.holds(block) {
                self.alloc(wanted)
            } else {
                let moved = System.realloc(block, layout, size);
                if !moved.is_null() {
                    return moved;
                }
                from_reserve(wanted)
            };
            if !larger.is_null() {
                ptr::copy_nonoverlapping(block, larger, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            larger
        }
    }
}

/// Blocks of one size.
struct Class {
    size: usize,
    count: usize,
    /// Where its blocks begin in the room, and its bits in the words.
    start: usize,
    word: usize,
}

/// Sizes and how many there are of each. A connection's buffers are larger and
/// reserved in a way that can fail; a TLS record has 18 KiB.
const SIZES: [(usize, usize); 6] = [
    (128, 512),
    (256, 512),
    (1024, 128),
    (4096, 32),
    (20 * 1024, 8),
    (68 * 1024, 2),
];

/// What every block is aligned to; queues between threads want as much.
const ALIGNMENT: usize = 128;

const CLASSES: [Class; SIZES.len()] = {
    let mut classes = [const {
        Class {
            size: 0,
            count: 0,
            start: 0,
            word: 0,
        }
    }; SIZES.len()];
    let (mut i, mut start, mut word) = (0, 0, 0);
    while i < SIZES.len() {
        let (size, count) = SIZES[i];
        assert!(size % ALIGNMENT == 0);
        classes[i] = Class {
            size,
            count,
            start,
            word,
        };
        start += size * count;
        word += count.div_ceil(64);
        i += 1;
    }
    classes
};

const WORDS: usize = {
    let last = &CLASSES[CLASSES.len() - 1];
    last.word + last.count.div_ceil(64)
};

const ROOM: usize = {
    let last = &CLASSES[CLASSES.len() - 1];
    last.start + last.size * last.count
};

/// Blocks and a bit for each that is taken. There is no lock that a signal could
/// interrupt or a child of `fork` inherit: one atomic instruction takes a block,
/// and one gives it back. Its pages become resident when they are used first.
struct Reserve {
    room: ConnectionBuffers,
    taken: [AtomicU64; WORDS],
}

#[repr(align(128))]
struct ConnectionBuffers(UnsafeCell<[u8; ROOM]>);

// SAFETY: of the room only addresses are made here; a block belongs to the one
// who took it.
unsafe impl Sync for ConnectionBuffers {}

static RESERVE: Reserve = Reserve {
    room: ConnectionBuffers(UnsafeCell::new([0; ROOM])),
    taken: [const { AtomicU64::new(0) }; WORDS],
};

impl Reserve {
    /// A block, or NULL; marks the thread.
    fn take(&self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGNMENT {
            return ptr::null_mut();
        }
        for class in CLASSES.iter().filter(|class| class.size >= layout.size()) {
            if let Some(index) = self.take_from(class) {
                MARKED.set(true);
                let offset = class.start + index * class.size;
                return self.room.0.get().cast::<u8>().wrapping_add(offset);
            }
        }
        ptr::null_mut()
    }

    fn take_from(&self, class: &Class) -> Option<usize> {
        for first in (0..class.count).step_by(64) {
            let word = &self.taken[class.word + first / 64];
            let there = u64::MAX >> (64 - (class.count - first).min(64));
            loop {
                let free = !word.load(Ordering::Relaxed) & there;
                if free == 0 {
                    break;
                }
                let bit = free.trailing_zeros();
                if word.fetch_or(1 << bit, Ordering::Acquire) & (1 << bit) == 0 {
                    return Some(first + bit as usize);
                }
            }
        }
        None
    }

    /// Where in the room a block stands.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        let offset = block.addr().wrapping_sub(self.room.0.get().addr());
        (offset < ROOM).then_some(offset)
    }

    fn holds(&self, block: *mut u8) -> bool {
        self.offset(block).is_some()
    }

    /// False for a block that is not the reserve's.
    fn give_back(&self, block: *mut u8) -> bool {
        let Some(offset) = self.offset(block) else {
            return false;
        };
        if let Some(class) = CLASSES.iter().rev().find(|class| class.start <= offset) {
            let index = (offset - class.start) / class.size;
            self.taken[class.word + index / 64].fetch_and(!(1 << (index % 64)), Ordering::Release);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_gives_each_block_once_until_it_comes_back() {
        let layout = Layout::from_size_align(100, 16).expect("a layout");
        let mut blocks = Vec::new();
        loop {
            let block = RESERVE.take(layout);
            if block.is_null() {
                break;
            }
            assert_eq!(block.addr() % ALIGNMENT, 0);
            blocks.push(block);
        }
        let all: usize = SIZES.iter().map(|(_, count)| count).sum();
        assert_eq!(blocks.len(), all);
        let mut sorted = blocks.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), blocks.len());
        assert!(blocks.iter().all(|block| RESERVE.give_back(*block)));
        assert!(!RESERVE.take(layout).is_null());
        assert!(!RESERVE.give_back(ptr::from_ref(&all).cast_mut().cast()));
        assert!(MARKED.replace(false));
    }

    #[test]
    fn what_is_larger_or_oddly_aligned_is_refused() {
        for (size, align) in [(68 * 1024 + 1, 1), (8, 256)] {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            assert!(RESERVE.take(layout).is_null());
        }
        assert!(!MARKED.get());
    }
}
