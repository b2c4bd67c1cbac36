//! The positions that servers of each kind report to the prober's question.

use std::{collections::BTreeMap, fmt::Write};

use sea_orm::DbBackend;

use super::{
    log::{Gtid, Layout, Timeline},
    server::Server,
};
use crate::scripted::Row;

/// The kind of database a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Positions are places in a write-ahead log.
    Postgres,
    /// Positions are sets of transactions.
    MySql,
    /// Positions are the last transaction of each domain.
    MariaDb,
}

impl Dialect {
    /// SeaORM's name for the dialect.
    pub fn backend(self) -> DbBackend {
        match self {
            Self::Postgres => DbBackend::Postgres,
            Self::MySql | Self::MariaDb => DbBackend::MySql,
        }
    }
}

/// The common properties of all servers of a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) dialect: Dialect,
    pub(super) layout: Layout,
    pub(super) system: u64,
    /// Whether a MariaDB replica writes the transactions that it replays into a log of its own.
    pub(super) logs_replay: bool,
}

/// The answer to the prober's question.
pub(super) fn answer(kind: Kind, server: &Server, timeline: &Timeline, said_timeline: u32) -> Row {
    let mut row = Row::new();
    let mut say = |column: &str, text: String| row.insert(column.to_owned(), text.into());
    let is_replica = !server.is_primary;
    say("incarnation", server.incarnation());
    match kind.dialect {
        Dialect::Postgres => {
            let end = timeline.end(server.applied);
            let lsn = if is_replica { end } else { kind.layout.insert_position(end) };
            say("in_recovery", is_replica.to_string());
            say("system", kind.system.to_string());
            say("timeline", said_timeline.to_string());
            say("lsn", lsn.to_string());
            say("block_size", kind.layout.block.to_string());
            say("segment_size", kind.layout.segment.to_string());
        }
        Dialect::MySql => {
            say("read_only", if is_replica { "1" } else { "0" }.to_owned());
            say("gtid_executed", set(gtids(timeline, server.applied)));
        }
        Dialect::MariaDb => {
            say("read_only", if is_replica { "ON" } else { "OFF" }.to_owned());
            let last = timeline.last_gtid(server.applied).map(name).unwrap_or_default();
            let state = state(gtids(timeline, server.applied));
            match (is_replica, kind.logs_replay) {
                (false, _) => {
                    say("gtid_binlog_pos", last);
                    say("gtid_binlog_state", state);
                    say("gtid_slave_pos", String::new());
                }
                (true, true) => {
                    say("gtid_binlog_pos", last.clone());
                    say("gtid_binlog_state", state);
                    say("gtid_slave_pos", last);
                }
                (true, false) => {
                    say("gtid_binlog_pos", String::new());
                    say("gtid_binlog_state", String::new());
                    say("gtid_slave_pos", last);
                }
            }
        }
    }
    row
}

fn gtids(timeline: &Timeline, applied: usize) -> impl Iterator<Item = Gtid> {
    timeline.records[..applied].iter().filter_map(|record| record.gtid)
}

/// MySQL's `uuid:1-7,⏎uuid:1-3`.
fn set(gtids: impl Iterator<Item = Gtid>) -> String {
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    for gtid in gtids {
        last.insert(gtid.origin, gtid.of_origin);
    }
    let mut text = String::new();
    for (origin, last) in last {
        let separator = if text.is_empty() { "" } else { ",\n" };
        let _ = write!(text, "{separator}{origin:08x}-5eed-11ee-8000-0242ac120002:1");
        if last > 1 {
            let _ = write!(text, "-{last}");
        }
    }
    text
}

/// MariaDB's `0-1-7`.
fn name(gtid: Gtid) -> String {
    format!("0-{}-{}", gtid.origin, gtid.of_domain)
}

/// The last GTID of each server, the very last one last.
fn state(gtids: impl Iterator<Item = Gtid>) -> String {
    let mut last: Vec<Gtid> = Vec::new();
    for gtid in gtids {
        last.retain(|known| known.origin != gtid.origin);
        last.push(gtid);
    }
    last.into_iter().map(name).collect::<Vec<_>>().join(",")
}
