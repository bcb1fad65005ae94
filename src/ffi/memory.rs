//! The library's allocator: the system's, with a reserve for when the system
//! has no memory.
//!
//! Rust code that gets no memory ends the process, but a library must not do
//! that. Memory whose size depends on the server or the caller is allocated in
//! a way that can fail (`memory` in the crate `dbss`). The other allocations of
//! a call are small. If the system refuses one, it comes from a static reserve,
//! and the thread is marked. A marked call ends with DBSS_ERR_OUT_OF_MEMORY at
//! its next step, and returns the memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{self, dbss_error};
use dbss::internal::{self, on_exhaustion};

/// Tests and fuzz targets include these files too; they only use the system's
/// allocator.
const IS_LIBRARY: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"dbss");

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

struct Allocator;

/// The free memory that a call needs to begin: the C library ends the process
/// if it has none for its own small allocations, such as those of a new thread.
const MIN_FREE_MEMORY: usize = 16 * 1024;

thread_local! {
    /// Whether the thread has used memory from the reserve in this call.
    static MARKED: Cell<bool> = const { Cell::new(false) };
}

/// The memory state of a call. When it is dropped, the mark of the surrounding
/// call is restored: a callback may have made a nested call.
pub(super) struct CallMemory {
    outer: bool,
    enough: bool,
}

impl CallMemory {
    /// Whether the system has enough memory to begin a call.
    pub(super) fn is_enough(&self) -> bool {
        self.enough
    }

    /// Makes the call end at its next step, as if it had used the reserve.
    pub(super) fn mark(&self) {
        MARKED.set(true);
    }
}

impl Drop for CallMemory {
    fn drop(&mut self) {
        MARKED.set(self.outer);
    }
}

/// Allocates the library's thread-local data.
pub(super) fn prepare_thread() {
    on_exhaustion(|| MARKED.get());
    internal::prepare_thread();
    error::prepare_thread();
    drop(dbss_error::of(internal::out_of_memory()));
}

/// Begins a call without a mark.
pub(super) fn begin_call() -> CallMemory {
    CallMemory {
        enough: !IS_LIBRARY || has_enough(),
        outer: MARKED.replace(false),
    }
}

pub(super) fn has_enough() -> bool {
    let layout = Layout::new::<[u8; MIN_FREE_MEMORY]>();
    // SAFETY: the layout's size is not zero; the allocation is freed with the
    // same layout.
    unsafe {
        // The unused allocation must not be optimised away.
        let probe = black_box(System.alloc(layout));
        if probe.is_null() {
            return false;
        }
        System.dealloc(probe, layout);
    }
    true
}

/// Allocates from the reserve after the system refused. NULL if that fails too.
#[cold]
fn from_reserve(layout: Layout) -> *mut u8 {
    if IS_LIBRARY {
        RESERVE.take(layout)
    } else {
        ptr::null_mut()
    }
}

// SAFETY: every allocation comes from the system or the reserve, and is
// returned there according to its address.
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
            // SAFETY: it has as many bytes, and nobody else uses it.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !RESERVE.release(block) {
            // SAFETY: by contract it came from here, and not from the reserve.
            unsafe { System.dealloc(block, layout) };
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by contract the size is not 0 and fits the alignment. Only
        // blocks of the system are passed to it; otherwise the block is copied
        // to a new one, up to the smaller size, and then freed.
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

/// A class of blocks of one size.
struct Class {
    size: usize,
    count: usize,
    /// The offset of its blocks, and the index of its first word of bits.
    start: usize,
    word: usize,
}

/// The sizes of blocks, and the number of each. A connection's buffers are
/// larger and allocated in a way that can fail; a TLS record has 18 KiB.
const SIZES: [(usize, usize); 6] = [
    (128, 512),
    (256, 512),
    (1024, 128),
    (4096, 32),
    (20 * 1024, 8),
    (68 * 1024, 2),
];

/// The alignment of every block. Queues between threads need as much.
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

const BLOCKS_SIZE: usize = {
    let last = &CLASSES[CLASSES.len() - 1];
    last.start + last.size * last.count
};

/// Blocks, and a bit for each that is in use. There is no lock that a signal
/// could interrupt or a child of `fork` could inherit: one atomic instruction
/// takes a block, and one returns it. Its pages become resident when they are
/// first used.
struct Reserve {
    blocks: Blocks,
    taken: [AtomicU64; WORDS],
}

#[repr(align(128))]
struct Blocks(UnsafeCell<[u8; BLOCKS_SIZE]>);

// SAFETY: only addresses of the blocks are computed here; a block belongs to
// the caller that took it.
unsafe impl Sync for Blocks {}

static RESERVE: Reserve = Reserve {
    blocks: Blocks(UnsafeCell::new([0; BLOCKS_SIZE])),
    taken: [const { AtomicU64::new(0) }; WORDS],
};

impl Reserve {
    /// Takes a block and marks the thread. NULL if none is free.
    fn take(&self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGNMENT {
            return ptr::null_mut();
        }
        for class in CLASSES.iter().filter(|class| class.size >= layout.size()) {
            if let Some(index) = self.take_from(class) {
                MARKED.set(true);
                let offset = class.start + index * class.size;
                return self.blocks.0.get().cast::<u8>().wrapping_add(offset);
            }
        }
        ptr::null_mut()
    }

    fn take_from(&self, class: &Class) -> Option<usize> {
        for first in (0..class.count).step_by(64) {
            let word = &self.taken[class.word + first / 64];
            let existing = u64::MAX >> (64 - (class.count - first).min(64));
            loop {
                let free = !word.load(Ordering::Relaxed) & existing;
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

    /// Returns the offset of a block in the reserve.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        let offset = block.addr().wrapping_sub(self.blocks.0.get().addr());
        (offset < BLOCKS_SIZE).then_some(offset)
    }

    fn holds(&self, block: *mut u8) -> bool {
        self.offset(block).is_some()
    }

    /// Returns a block to the reserve. False if it is not from the reserve.
    fn release(&self, block: *mut u8) -> bool {
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
    fn reserve_returns_each_block_only_once() {
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
        assert!(blocks.iter().all(|block| RESERVE.release(*block)));
        assert!(!RESERVE.take(layout).is_null());
        assert!(!RESERVE.release(ptr::from_ref(&all).cast_mut().cast()));
        assert!(MARKED.replace(false));
    }

    #[test]
    fn too_large_or_unusually_aligned_block_is_refused() {
        for (size, align) in [(68 * 1024 + 1, 1), (8, 256)] {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            assert!(RESERVE.take(layout).is_null());
        }
        assert!(!MARKED.get());
    }
}
