//! Many small worlds: sessions write and read while replicas fall behind, break, come back and are promoted, and
//! every read is checked: its rows must be allowed. The topology, the monitor and the selection are the real ones;
//! the servers are the model of `testkit::sim`; the clock is paused, and everything follows from a number.
//!
//! * `cargo test --test it simulation` plays 10 000 of them, in some four minutes of one processor. `.ci/run`
//!   plays the first 2 000; play all when the topology, the monitor or the selection changed.
//! * `SIM_SEEDS=100000 cargo test --test it simulation` plays more of them.
//! * `SIM_SEED=17 cargo test --test it simulation` plays one, and prints what happened in it.
#![doc = include_str!("mutations.md")]

mod actor;
mod ledger;
mod operator;
mod scenario;
mod trials;

use std::{
    fmt::Write,
    num::NonZero,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use ledger::Tally;
use scenario::Detail;

/// How many simulations are played by default.
const SEEDS: u64 = 10_000;

#[test]
fn a_session_never_reads_an_older_state_than_it_may() {
    if let Some(seed) = number("SIM_SEED") {
        let (result, trace) = scenario::run(seed, &Arc::default(), Detail::Probes);
        println!("{trace}");
        if let Err(failure) = result {
            panic!("seed {seed}:\n{}", failure.violations.join("\n"));
        }
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let (tally, next, failed) = (Arc::new(Tally::default()), AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(2, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds || lock(&failed).len() >= 3 {
                        return;
                    }
                    if let (Err(failure), _) = scenario::run(seed, &tally, Detail::Statements) {
                        lock(&failed).push((seed, failure));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|(_, failure)| failure.trace.len());
    if let Some((seed, failure)) = failed.first() {
        let mut text = format!("{failure}");
        for (seed, failure) in &failed {
            let _ = writeln!(text, "seed {seed}: {}", failure.violations[0]);
        }
        panic!("{text}again with: SIM_SEED={seed} cargo test --test it simulation -- --nocapture");
    }
    println!("{seeds} simulations: {tally:#?}");
    tally.is_worth_something(seeds);
}

/// The events of a seed follow from the seed alone.
#[test]
fn a_simulation_replays_exactly() {
    for seed in 0..30 {
        let play = || scenario::run(seed, &Arc::default(), Detail::Probes).1;
        let (first, second) = (play(), play());
        let differs = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert!(differs.is_none() && first.len() == second.len(), "seed {seed}: {differs:?}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
