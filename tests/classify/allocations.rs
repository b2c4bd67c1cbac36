//! A classification allocates nothing, and neither does a decision.
#![expect(unsafe_code, reason = "counting allocations takes a global allocator, whose trait is unsafe")]

use crate::support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use entity::customer;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryTrait};
use sea_orm_resolver::{DatabaseConnection, classify, driver::Driver};
use testkit::Instantly;

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

/// The allocations of one read, after some that fill what is filled once.
async fn of_one_read(db: &impl ConnectionTrait) -> Result<usize, DbErr> {
    let query = customer::Entity::find_by_id(7).into_query();
    for _ in 0..10 {
        db.query_one(&query).await?;
    }
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        db.query_one(&query).await?;
    }
    Ok((ALLOCATIONS.get() - before) / 100)
}

/// Load the snapshot, look the statement up, select, take a lease, run: beside what the statement and the
/// driver allocate there is only the future that SeaORM's trait has boxed, which its own connection boxes too.
#[tokio::test]
async fn a_routed_read_allocates_no_more_than_seaorms_trait_demands() -> Result<(), DbErr> {
    let query = customer::Entity::find_by_id(7).into_query();
    let before = ALLOCATIONS.get();
    Instantly.query_one(DbBackend::Sqlite.build(&query), None).await?;
    let alone = ALLOCATIONS.get() - before;
    for replicas in [0, 1, 2, 4, 8] {
        let db = Instantly::connect(replicas).await?;
        assert_eq!(of_one_read(&db).await?, alone + 1, "&db, {replicas} replicas");
        assert_eq!(of_one_read(&db.session()).await?, alone + 1, "a session, {replicas} replicas");
        assert_eq!(of_one_read(&db.read()).await?, alone + 1, "a read connection, {replicas} replicas");
    }
    Ok(())
}

/// Drawing the node of a read connection: one block, for what it has read, which its streams and transactions keep too.
#[tokio::test]
async fn a_draw_allocates_one_block() -> Result<(), DbErr> {
    let db: DatabaseConnection = Instantly::connect(4).await?;
    drop(db.read());
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        drop(db.read());
    }
    assert_eq!(ALLOCATIONS.get() - before, 100);
    Ok(())
}

/// The largest block that glibc's malloc keeps ready for each thread. A larger one goes through its arena, which
/// was seen to cost a read some microseconds.
const KEPT_READY: usize = 1_032;

/// What SeaORM's trait has boxed is small enough to be had at once.
#[tokio::test]
async fn the_future_of_a_routed_read_is_a_small_block() -> Result<(), DbErr> {
    let query = customer::Entity::find_by_id(7).into_query();
    let db: DatabaseConnection = Instantly::connect(2).await?;
    let size = size_of_val(&*db.query_one(&query)).max(size_of_val(&*db.query_all(&query)));
    assert!(size <= KEPT_READY, "{size} bytes");
    Ok(())
}
