//! Topologies for the tests of the pure core: nodes whose pools cannot run anything.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement, TransactionOptions};

use super::{Identity, Lanes, Member, MemberSettings, Node, RoleCheck, Topology};
use crate::driver::{Driver, DriverTransaction, ProbeLink, WriteProgress};

#[derive(Debug)]
struct NoPool {
    max_connections: Option<u32>,
}

const NO_SQL: &str = "the pure core runs no statement";

impl Driver for NoPool {
    fn backend(&self) -> DbBackend {
        DbBackend::Postgres
    }
    fn execute(&self, _: Statement, _: Option<WriteProgress>) -> BoxFuture<'_, Result<ExecResult, DbErr>> {
        unreachable!("{NO_SQL}")
    }
    fn execute_unprepared<'a>(
        &'a self,
        _: &'a str,
        _: Option<WriteProgress>,
    ) -> BoxFuture<'a, Result<ExecResult, DbErr>> {
        unreachable!("{NO_SQL}")
    }
    fn query_one(&self, _: Statement, _: Option<WriteProgress>) -> BoxFuture<'_, Result<Option<QueryResult>, DbErr>> {
        unreachable!("{NO_SQL}")
    }
    fn query_all(&self, _: Statement, _: Option<WriteProgress>) -> BoxFuture<'_, Result<Vec<QueryResult>, DbErr>> {
        unreachable!("{NO_SQL}")
    }
    #[cfg(feature = "stream")]
    fn stream(
        &self,
        _: Statement,
        _: Option<WriteProgress>,
    ) -> BoxFuture<'_, Result<crate::driver::Rows<'static>, DbErr>> {
        unreachable!("{NO_SQL}")
    }
    fn begin(&self, _: TransactionOptions) -> BoxFuture<'_, Result<Box<dyn DriverTransaction>, DbErr>> {
        unreachable!("{NO_SQL}")
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        unreachable!("{NO_SQL}")
    }
    fn close(&self) -> BoxFuture<'_, Result<(), DbErr>> {
        unreachable!("{NO_SQL}")
    }
    fn open_probe(&self) -> Option<BoxFuture<'_, Result<Box<dyn ProbeLink>, DbErr>>> {
        None
    }
    fn max_connections(&self) -> Option<u32> {
        self.max_connections
    }
}

fn member(name: &str, weight: u32, max_connections: Option<u32>) -> Member {
    let lanes = Lanes { write: Arc::new(NoPool { max_connections }), read: Arc::new(NoPool { max_connections }) };
    let identity = Identity { readable: name.into(), value: Arc::new(()) };
    let settings = MemberSettings {
        weight: NonZeroU32::new(weight).expect("tests use weights above zero"),
        zone: None,
        tags: Arc::default(),
        role_check: RoleCheck::On,
        positions: super::Positions::On,
    };
    Member::new(Arc::new(Node::new(name.into(), identity, lanes, None)), settings)
}

pub(crate) fn replica(name: &str, weight: u32) -> Member {
    member(name, weight, None)
}

pub(crate) fn topology(replicas: usize) -> Topology {
    build(replicas, None)
}

pub(crate) fn topology_with_read_capacity(replicas: usize, max_connections: u32) -> Topology {
    build(replicas, Some(max_connections))
}

fn build(replicas: usize, max_connections: Option<u32>) -> Topology {
    Topology {
        generation: 1,
        primary: member("primary", 1, max_connections),
        replicas: (0..replicas).map(|index| member(&format!("replica-{index}"), 1, max_connections)).collect(),
        primary_read_share: 0.10,
        believed_for: Duration::from_secs(3),
        samples: super::Samples::default(),
        lag_limit: super::LagLimit::default(),
        slow_start: Duration::ZERO,
    }
}

/// A position of a PostgreSQL server.
pub(crate) fn wal(timeline: u32, lsn: u64) -> super::Position {
    wal_of(7, timeline, lsn)
}

/// A position of a server of this cluster.
pub(crate) fn wal_of(system: u64, timeline: u32, lsn: u64) -> super::Position {
    super::Position::Wal(super::WalPosition { system, timeline, lsn: super::Lsn(lsn) })
}
