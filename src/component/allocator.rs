//! Memory that a model no longer needs once it is loaded is left as zeros.
//!
//! A packed component is made of the memory that loading leaves behind, what was
//! freed included. What was read there before (the manifest's JSON and its
//! pieces) would be stored, sent and mapped with every copy of the model.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether freed memory is cleared.
static CLEARS: AtomicBool = AtomicBool::new(false);

/// The system's allocator, which clears what is freed within [`clearing`].
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Runs `f`, and clears all memory that is freed meanwhile, and the stack.
pub(super) fn clearing<R>(f: impl FnOnce() -> R) -> R {
    CLEARS.store(true, Ordering::Relaxed);
    let result = apart(f);
    CLEARS.store(false, Ordering::Relaxed);
    clear_stack();
    result
}

/// Runs `f` with a part of the stack that ends with the call.
#[inline(never)]
fn apart<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Clears the part of the stack that calls before this one used.
#[inline(never)]
fn clear_stack() {
    // Far more than loading takes, and a quarter of what there is.
    black_box(&mut [0_u8; 256 << 10]);
}

// SAFETY: all memory is the system's, with the layouts that it was asked for;
// what is written lies in a block that its owner gives back. Functions of their
// own, because they are called from everywhere.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if CLEARS.load(Ordering::Relaxed) {
            unsafe { block.write_bytes(0, layout.size()) };
            // A compiler may leave out what is written just before `free`.
            black_box(block);
        }
        unsafe { System.dealloc(block, layout) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !CLEARS.load(Ordering::Relaxed) {
            return unsafe { System.realloc(block, layout, size) };
        }
        // The system could move a block and leave the old one as it was, or
        // shorten it.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}
