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
//! `BAD_DAYS_TIMES=1` prints how long each cell took.
//!
//! The law: the resolver has never more failures than SeaORM alone in the same cell, and no read fails where a healthy
//! node has what the read wants.

mod account;
mod cells;
mod deeds;
mod faults;
mod load;
mod matrix;
mod not_yet;
mod party;
mod table;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::{StreamExt, future::BoxFuture, stream};
use tokio::time::Instant;

use self::{
    cells::CELLS,
    deeds::Deed,
    faults::FAULTS,
    not_yet::NOT_YET,
    table::{Row, heading},
    world::Database,
};

/// How many clusters live at the same time: most of a cell is waiting. A cell that is not as it should be is run again when
/// the others are done, with less beside it, and the last run counts: with both processors busy for a second, healthy
/// servers miss their probes.
const AT_ONCE: [usize; 3] = [4, 2, 1];
/// No cell takes a third of this on an idle machine.
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_ordinary_bad_day_costs_more_than_with_seaorm_alone() -> Result<()> {
    let started = Instant::now();
    let wanted = std::env::var("BAD_DAYS").unwrap_or_default();
    let mut ended = BTreeMap::new();
    let mut doubtful: Option<BTreeSet<String>> = None;
    for at_once in AT_ONCE {
        let is_due = |name: &str| doubtful.as_ref().map_or(name.contains(&wanted), |names| names.contains(name));
        ended.extend(outcomes(at_once, is_due).await);
        let wrong = ended.iter().filter(|(_, outcome)| !is_as_it_should_be(outcome)).map(|(name, _)| name.clone());
        doubtful = Some(wrong.collect());
        println!("not as they should be, with {at_once} at once: {doubtful:?}");
    }

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
    for row in rows.iter().filter(|row| !row.breaches.is_empty()) {
        let known = listed(row).unwrap_or_default();
        println!("! {}: {} ({known})", row.name(), row.breaches.join("; "));
    }
    println!("{} cells in {:.0?}; reads, r/o tx, writes: failed/all", rows.len(), started.elapsed());
    wrong.extend(rows.iter().filter_map(verdict));
    if wanted.is_empty() {
        let names: BTreeSet<_> = rows.iter().map(Row::name).collect();
        // A cell that cannot run on this machine is not listed in vain.
        let can_all_run =
            FAULTS.iter().all(|fault| fault.databases.iter().all(|&database| is_here(database, fault.deed)));
        let unknown = NOT_YET.iter().filter(|(name, _)| can_all_run && !names.contains(*name));
        wrong.extend(unknown.map(|(name, _)| format!("{name}: NOT_YET lists a cell that does not exist")));
    }
    assert!(wrong.is_empty(), "{} cells are not as they should be:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Runs the cells that are wanted; the outcomes are in the order of their names.
async fn outcomes(at_once: usize, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Result<Vec<Row>>> {
    let runs = runs().into_iter().filter(|(name, _)| is_wanted(name));
    let runs = runs.map(async |(name, run)| {
        let begun = Instant::now();
        let rows = tokio::time::timeout(LIMIT, run).await;
        if std::env::var_os("BAD_DAYS_TIMES").is_some() {
            println!("{name}: {:.1?}", begun.elapsed());
        }
        (name, rows.context("the cell does not end").flatten())
    });
    stream::iter(runs).buffer_unordered(at_once).collect().await
}

fn is_as_it_should_be(outcome: &Result<Vec<Row>>) -> bool {
    outcome.as_ref().is_ok_and(|rows| rows.iter().all(|row| verdict(row).is_none()))
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
        for database in fault.databases.iter().copied().filter(|&database| is_here(database, fault.deed)) {
            runs.push((format!("{database} / {}", fault.title()), Box::pin(matrix::run(fault, database))));
        }
    }
    runs
}

/// Whether the cell can run on this machine.
fn is_here(database: Database, deed: Deed) -> bool {
    let is_left_out = database == Database::MySql && testkit::MySqlCluster::is_left_out();
    !is_left_out && (deed != Deed::NoRoom || testkit::SmallDisk::is_possible())
}

/// The entry of the list for the cell.
fn listed(row: &Row) -> Option<&'static str> {
    let name = row.name();
    NOT_YET.iter().find(|(listed, _)| *listed == name).map(|&(_, seen)| seen)
}

/// The complaint about a row, by the law and by the list of cells that do not keep the law yet.
fn verdict(row: &Row) -> Option<String> {
    let name = row.name();
    match (listed(row), row.breaches.is_empty()) {
        (None, true) | (Some(_), false) => None,
        (None, false) => Some(format!("{name}: {}", row.breaches.join("; "))),
        (Some(seen), true) => Some(format!("{name} passes: take it out of NOT_YET ({seen})")),
    }
}
