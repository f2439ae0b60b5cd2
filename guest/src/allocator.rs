//! The allocator of a handler: what its memory has from the start comes first.
//!
//! `std`'s own begins with `memory.grow`. On the node that is two system calls for each request,
//! and each of them stops the other processors for a moment: more than a small handler costs. Here
//! the first 128 KiB are part of the memory that the handler starts with; beyond them it grows as
//! usual.
#![allow(unsafe_code, reason = "an allocator hands out raw memory")]

use dlmalloc::{Allocator, Dlmalloc};
use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32;
use std::cell::{Cell, UnsafeCell};
use std::ptr;

/// Memory that is there from the start. Zeros are not part of the component, and pages that are
/// never touched cost nothing.
const ARENA_BYTES: usize = 128 * 1024;
/// A page of linear memory.
const PAGE_BYTES: usize = 64 * 1024;

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: the target has no threads.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));

/// Where the heap gets its memory.
struct Source {
    arena_is_used: Cell<bool>,
}

// SAFETY: each region is handed out once, is as large as it says, and lasts as long as the
// instance.
unsafe impl Allocator for Source {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= ARENA_BYTES && !self.arena_is_used.replace(true) {
            return (ARENA.0.get().cast(), ARENA_BYTES, 0);
        }
        let pages = size.div_ceil(PAGE_BYTES);
        let before = wasm32::memory_grow(0, pages);
        // The last page of the address space is left alone: its end is no pointer.
        if before == usize::MAX || before + pages >= 1 << 16 {
            return (ptr::null_mut(), 0, 0);
        }
        ((before * PAGE_BYTES) as *mut u8, pages * PAGE_BYTES, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

struct Heap(UnsafeCell<Dlmalloc<Source>>);

// SAFETY: the target has no threads.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap =
    Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Source { arena_is_used: Cell::new(false) })));

// SAFETY: `Dlmalloc` keeps the contract; there are no threads and no re-entry, so it is borrowed
// once at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { (*self.0.get()).free(place, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe { (*self.0.get()).realloc(place, layout.size(), layout.align(), size) }
    }
}
