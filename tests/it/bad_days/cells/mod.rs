//! The cells that need operations of their own.

mod lost;
mod queues;
mod statements;

use std::time::Duration;

use anyhow::Result;
use futures_util::future::BoxFuture;

use super::{table::Row, world::Database};

/// A fault with the operations that meet it.
pub(super) struct Cell {
    pub(super) name: &'static str,
    pub(super) databases: &'static [Database],
    work: fn(&'static str, Database) -> BoxFuture<'static, Result<Vec<Row>>>,
}

impl Cell {
    pub(super) fn run(&self, database: Database) -> BoxFuture<'static, Result<Vec<Row>>> {
        (self.work)(self.name, database)
    }
}

const BOTH: &[Database] = &[Database::Postgres, Database::MariaDb];

pub(super) const CELLS: &[Cell] = &[
    // B4
    Cell {
        name: "200 slow reads at once",
        databases: BOTH,
        work: |name, database| Box::pin(queues::burst(name, database)),
    },
    // B5
    Cell {
        name: "replicas held by streams",
        databases: BOTH,
        work: |name, database| Box::pin(queues::held_by_streams(name, database)),
    },
    // B14
    Cell {
        name: "handles of killed nodes",
        databases: BOTH,
        work: |name, database| Box::pin(lost::handles(name, database, Duration::from_millis(2_500))),
    },
    Cell {
        name: "handles of killed nodes, just read",
        databases: BOTH,
        work: |name, database| Box::pin(lost::handles(name, database, Duration::ZERO)),
    },
    // B15
    Cell {
        name: "200 tasks, a replica killed",
        databases: BOTH,
        work: |name, database| Box::pin(lost::many_tasks(name, database)),
    },
    // B7
    Cell {
        name: "sessions ended while idle",
        databases: BOTH,
        work: |name, database| Box::pin(lost::ended_while_idle(name, database)),
    },
    // B6
    Cell {
        name: "an account of six sessions",
        databases: BOTH,
        work: |name, database| Box::pin(lost::capped(name, database)),
    },
    // G2
    Cell {
        name: "a statement that fails by itself",
        databases: BOTH,
        work: |name, database| Box::pin(statements::refused(name, database)),
    },
    // G3
    Cell {
        name: "70 000 bind values",
        databases: BOTH,
        work: |name, database| Box::pin(statements::too_many_values(name, database)),
    },
];
