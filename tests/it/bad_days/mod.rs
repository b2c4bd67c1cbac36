//! Ordinary bad days: each fault × each way to connect, held against SeaORM alone in the same moment.
//!
//! ```sh
//! cargo test --test it bad_days -- --nocapture             # prints the table
//! BAD_DAYS=full cargo test --test it bad_days -- --nocapture # only the faults whose name contains the text
//! ```
//!
//! Within a cell all operations run at once: plain reads, reads of `db.read()` and of sessions, streams, READ ONLY
//! transactions, writes, transactions. The acquire time-out is 3 s for all parties, the rest of the library's settings
//! are the defaults. An operation that was in flight when the fault struck is counted apart.
//!
//! The law: the resolver has never more failures than SeaORM alone in the same cell, and no read fails where a healthy
//! node has what the read wants.

mod cells;
mod deeds;
mod faults;
mod load;
mod matrix;
mod not_yet;
mod party;
mod table;
mod world;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use futures_util::{StreamExt, future::BoxFuture, stream};
use tokio::time::Instant;

use self::{
    cells::CELLS,
    faults::FAULTS,
    not_yet::{NOT_YET, Seen},
    table::{Row, heading},
};

/// How many clusters live at the same time: most of a cell is waiting.
const AT_ONCE: usize = 5;
/// No cell takes a third of this.
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_ordinary_bad_day_costs_more_than_with_seaorm_alone() -> Result<()> {
    let started = Instant::now();
    let wanted = std::env::var("BAD_DAYS").unwrap_or_default();
    let runs = runs().into_iter().filter(|(name, _)| name.contains(&wanted));
    let runs = runs.map(async |(name, run)| {
        let rows = tokio::time::timeout(LIMIT, run).await;
        (name, rows.context("the cell does not end").flatten())
    });
    let mut ended: Vec<_> = stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
    ended.sort_by(|(a, _), (b, _)| a.cmp(b));

    let mut wrong = Vec::new();
    let mut rows = Vec::new();
    for (name, outcome) in ended {
        match outcome {
            Ok(of_run) => rows.extend(of_run),
            Err(error) => wrong.push(format!("{name}: the cell did not run: {error:#}")),
        }
    }
    println!("\n{}", heading());
    for row in &rows {
        println!("{row}");
    }
    println!("{} cells in {:.0?}; reads, r/o tx, writes: failed/all", rows.len(), started.elapsed());
    wrong.extend(rows.iter().filter_map(verdict));
    if wanted.is_empty() {
        let names: BTreeSet<_> = rows.iter().map(Row::name).collect();
        let unknown = NOT_YET.iter().filter(|(name, _)| !names.contains(*name));
        wrong.extend(unknown.map(|(name, _)| format!("{name}: NOT_YET lists a cell that does not exist")));
    }
    assert!(wrong.is_empty(), "{} cells are not as they should be:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// All cells, each as the name and the work of its run.
fn runs() -> Vec<(String, BoxFuture<'static, Result<Vec<Row>>>)> {
    let mut runs: Vec<(String, BoxFuture<'static, Result<Vec<Row>>>)> = Vec::new();
    for cell in CELLS {
        for &database in cell.databases {
            runs.push((format!("{database} / {}", cell.name), cell.run(database)));
        }
    }
    for fault in FAULTS {
        for &database in fault.databases {
            runs.push((format!("{database} / {}", fault.title()), Box::pin(matrix::run(fault, database))));
        }
    }
    runs
}

/// What is wrong with a row, by the law and by the list of what is not kept yet.
fn verdict(row: &Row) -> Option<String> {
    let name = row.name();
    let listed = NOT_YET.iter().find(|(listed, _)| *listed == name).map(|(_, seen)| seen);
    match (listed, row.breaches.is_empty()) {
        (None, true) | (Some(Seen::Always(_)), false) | (Some(Seen::Sometimes(_)), _) => None,
        (None, false) => Some(format!("{name}: {}", row.breaches.join("; "))),
        (Some(Seen::Always(seen)), true) => Some(format!("{name} passes: take it out of NOT_YET ({seen})")),
    }
}
