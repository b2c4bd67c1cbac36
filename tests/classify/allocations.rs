//! A classification allocates nothing.
#![expect(unsafe_code, reason = "counting allocations takes a global allocator, whose trait is unsafe")]

use crate::support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sea_orm_resolver::classify;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn no_statement_of_the_spec_allocates() {
    let cases = support::cases();
    let long = format!(
        "SELECT {}1{} FROM t WHERE f('{}') = \"x\"",
        "(".repeat(9_999),
        ")".repeat(9_999),
        "\\'x".repeat(9_999)
    );
    let before = ALLOCATIONS.get();
    for case in &cases {
        std::hint::black_box(classify(&case.sql, case.backend));
        std::hint::black_box(classify(&long, case.backend));
    }
    assert_eq!(ALLOCATIONS.get(), before);
}
