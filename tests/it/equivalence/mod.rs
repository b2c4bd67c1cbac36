//! SeaORM, method by method: this crate's handles give the same as SeaORM alone on the primary.
//!
//! A [scenario](scenario::Scenario) is a function over any connection that says what it saw; errors are seen too,
//! by kind, text and `sql_err`. [`play`] runs each of them with SeaORM alone and through `&db`, `db.session()`,
//! `db.read()` (what reads) and `db.write()`, on PostgreSQL, MariaDB and SQLite, and compares.
//!
//! * **Reads** run with a primary read share of 0 in sessions that have not written. The replicas' counters rise by
//!   exactly the number of statements that SeaORM's metrics count, and the primary's by none (`db.write()`: the
//!   other way round).
//! * **Writes** run one after the other in one session, while no replica replays anything: a single read that
//!   strays to one shows. After each, every row of every table is compared.
//!
//! | file | covers |
//! |---|---|
//! | `selects` | `find`, `find_by_id` (integer, uuid, composite), `find_by_<unique>`, `filter` and conditions, `belongs_to`, `apply_if`, `order_by*`, nulls first/last, `limit`/`offset`, `distinct`, `distinct_on`, `select_only`, `column(s)`, `column_as`, `expr(s)`, `expr_as`, `tbl_col_as`, `select_except`, `group_by`/`having`, aggregates, `into_tuple`/`into_values`/`into_model`/`into_json`/`into_partial_model`, `count`, `exists`, subqueries, unions, common tables, windows, CASE and functions, enum/json/uuid/decimal/time/bytes columns, dynamic models, errors |
//! | `relations` | joins (left, right, inner, reverse, aliased), `has_related`, `find_related`, `find_related_rev`, `find_also_related`, `find_both_related`, `find_with_related`, `find_linked`, `find_also_linked`, `find_with_linked`, `left_join_linked`, recursive links, `select_also`, `select_with`, `select_two_required`, selects of three to six models, `consolidate` |
//! | `loaders` | `load_one`, `load_many`, `load_many_to_many`, `load_self`, `load_self_many`, `load_self_via`, `load_self_via_rev`; `Entity::load()` with one, several, nested and self-referring relations, `filter_by_*`, its pages |
//! | `pages` | `paginate` (`num_items`, `num_pages`, `num_items_and_pages`, `fetch`, `fetch_page`, `fetch_and_next`, `set_page`, `into_stream`) of models, pairs, partial models, JSON and raw text; `cursor_by` (one and several columns, `cursor_by_other`, `before`, `after`, `first`, `last`, `asc`, `desc`); `stream`, `stream_partial_model`, streams of pairs, statements and raw text, left early and failing |
//! | `raw` | `query_one_raw`, `query_all_raw`, `execute_raw`, `execute_unprepared`, values, `from_raw_sql`, `raw_sql!`, `find_by_statement`, `JsonValue`, all ways to take a row apart, EXPLAIN and catalogues |
//! | `inserts` | `insert`, `save`, `Insert::{exec, exec_without_returning, exec_with_returning, exec_with_returning_keys, exec_with_returning_many}`, `insert_many` and its forms, none at all, `on_conflict` (nothing, columns, values), `TryInsert`, `from_json`, INSERT … SELECT, `Inserter`, constraint violations |
//! | `changes` | `update`, `update_without_returning`, `Update::one` with filters, `update_many` (with `set`, `col_expr`, returning), no-ops, rows that are not there, `save`, `set_from_json`, every form of `delete` (models, keys, unique keys, many, returning, `Deleter`), foreign keys that refuse and that cascade |
//! | `behaviour` | `before_save`, `after_save`, `before_delete`, `after_delete` that read and write; nested active models: has one, has many, belongs to, many to many, self-referring, append, replace, failure, `cascade_delete` |
//! | `transactions` | closures, `begin`/`commit`/`rollback`/drop, nested, every isolation level × access mode, `begin_with_options`, what is seen inside and outside, streams, pages and loaders inside, `lock_exclusive`, `lock_shared`, `lock_with_behavior`, errors inside, READ ONLY |
//! | `statements` | raw writes, RETURNING as text, several statements in one text, DDL, session statements over the pool and in a transaction, writes that look like reads |
//! | `meaning` | where statements go that are no reads, in a session that could read anywhere |
//! | `read_back` | rows that come back without RETURNING though replicas lag, under `Eventual` too |
//!
//! `transaction_async` and `transaction_with_config_async` are no trait's methods; `surface.rs` has them.
//!
//! The necessary differences: SQLite says of an executed SELECT how many rows *its connection* changed last, and
//! which connection that is depends on the handle. And SeaORM's pool of a SQLite file has one connection, so that a
//! read beside an open transaction waits in vain, while this crate has a second pool and reads.

mod behaviour;
mod changes;
mod inserts;
mod loaders;
mod meaning;
mod pages;
mod play;
mod raw;
mod read_back;
mod relations;
mod scenario;
mod selects;
mod stage;
mod statements;
mod transactions;

use anyhow::Result;

use self::{
    scenario::{Conn, Scenario},
    stage::Stage,
};
use crate::servers::on_each_database;

fn reads<C: Conn>() -> Vec<Scenario<C>> {
    [selects::reads(), relations::reads(), loaders::reads(), pages::reads(), raw::reads()]
        .into_iter()
        .flatten()
        .collect()
}

fn writes<C: Conn>() -> Vec<Scenario<C>> {
    [inserts::writes(), changes::writes(), behaviour::writes(), transactions::writes(), statements::writes()]
        .into_iter()
        .flatten()
        .collect()
}

async fn writes_are_seaorms_and_run_on_the_primary(stage: &Stage) -> Result<()> {
    play::writes(stage).await
}

on_each_database!(writes_are_seaorms_and_run_on_the_primary, Stage: [postgres, mariadb, sqlite]);

async fn reads_are_seaorms_and_run_on_replicas(stage: &Stage) -> Result<()> {
    play::reads(stage).await
}

on_each_database!(reads_are_seaorms_and_run_on_replicas, Stage: [postgres, mariadb, sqlite]);
