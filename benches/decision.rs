//! What one decision costs: from a statement to the node that runs it, without a database.
//!
//! The nodes are drivers that answer at once, so that what is measured is the resolver and not a
//! server: `draw` is a new `db.read()` (load the snapshot, select, remember the node), `operation`
//! a whole read through `&db` (classify, load, select, lease, run), and `driver alone` the same
//! read without the resolver. The difference of the last two is the price of a routed read.
//! `classify` is the part of it that reads the text, by the kind of text; of that the fastest slice is
//! printed too: whoever shares the machine can only add to it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use entity::{customer, order};
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};
use sea_orm_resolver::{Intent, classify, driver::Driver};
use testkit::Instantly;
use tokio::runtime::Runtime;

fn draw(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("draw");
    for replicas in [0, 1, 2, 4, 16] {
        let db = runtime.block_on(Instantly::connect(replicas)).expect("these nodes always answer");
        group.bench_with_input(BenchmarkId::from_parameter(replicas), &db, |b, db| b.iter(|| db.read()));
    }
    group.finish();
}

fn operation(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let query = customer::Entity::find().filter(customer::COLUMN.city.eq("Lisbon")).limit(20).into_query();
    let mut group = c.benchmark_group("operation");
    group.bench_function("driver alone", |b| {
        b.to_async(&runtime).iter(|| Instantly.query_all(DbBackend::Sqlite.build(&query), None));
    });
    for replicas in [0, 2] {
        let db = runtime.block_on(Instantly::connect(replicas)).expect("these nodes always answer");
        group.bench_with_input(BenchmarkId::new("replicas", replicas), &db, |b, db| {
            b.to_async(&runtime).iter(|| db.query_all(&query));
        });
    }
    group.finish();
}

/// What SeaORM sends, and long texts of one kind each.
fn texts() -> Vec<(&'static str, DbBackend, String)> {
    let typical = |backend| {
        let query = customer::Entity::find().filter(customer::COLUMN.city.eq("Lisbon")).limit(20);
        query.order_by_asc(customer::COLUMN.id).build(backend).sql
    };
    let related = |backend| customer::Entity::find().find_also_related(order::Entity).limit(20).build(backend).sql;
    let long = |piece: &str| format!("SELECT {} FROM t", vec![piece; 100_000 / piece.len()].join(", "));
    vec![
        ("typical, postgres", DbBackend::Postgres, typical(DbBackend::Postgres)),
        ("typical, mysql", DbBackend::MySql, typical(DbBackend::MySql)),
        ("typical, sqlite", DbBackend::Sqlite, typical(DbBackend::Sqlite)),
        ("related, postgres", DbBackend::Postgres, related(DbBackend::Postgres)),
        ("long columns", DbBackend::Postgres, long("\"customer\".\"name\"")),
        ("long words", DbBackend::Postgres, long("customer.name + 17 * price")),
        ("long parameters", DbBackend::Postgres, long("$1234")),
        ("long text", DbBackend::Postgres, long("'a literal that is not very long'")),
        ("long calls", DbBackend::Postgres, long("coalesce(upper(\"name\"), lower(\"town\"))")),
        ("long calls, mysql", DbBackend::MySql, long("coalesce(upper(`name`), lower(`town`))")),
    ]
}

fn classification(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify");
    for (name, backend, sql) in texts() {
        assert_eq!(classify(&sql, backend).intent, Intent::Read, "{name}");
        group.throughput(Throughput::Bytes(sql.len() as u64));
        let name = format!("{name}, {} bytes", sql.len());
        group.bench_with_input(name, sql.as_str(), |b, sql| b.iter(|| classify(black_box(sql), backend)));
    }
    group.finish();
}

/// The time of one classification in the fastest of many short slices.
fn fastest(_: &mut Criterion) {
    const SLICE: Duration = Duration::from_micros(100);
    const SLICES: u32 = 5_000;
    // `cargo test --benches` runs this without `--bench`, and wants to know only that it runs.
    let slices = if std::env::args().any(|argument| argument == "--bench") { SLICES } else { 3 };
    for (name, backend, sql) in texts() {
        let timed = |times: u32| {
            let started = Instant::now();
            for _ in 0..times {
                black_box(classify(black_box(&sql), backend));
            }
            started.elapsed() / times
        };
        let once = timed(10).max(Duration::from_nanos(1));
        let times = u32::try_from(SLICE.as_nanos() / once.as_nanos()).unwrap_or(u32::MAX).max(1);
        let fastest = (0..slices).map(|_| timed(times)).min().unwrap_or_default().as_nanos();
        let per_byte = fastest as f64 / sql.len() as f64;
        println!("classify/{name}, {} bytes: fastest {fastest} ns, {per_byte:.2} ns per byte", sql.len());
    }
}

criterion_group!(benches, classification, fastest, draw, operation);
criterion_main!(benches);
