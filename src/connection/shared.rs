//! What all handles of one connection share.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use sea_orm::{DbBackend, DbErr};

use super::{
    budget::RetryBudget,
    record::RouteLog,
    run::Operation,
    session::{ConnectionId, Floors, Handle, SessionRef},
};
use crate::{
    config::{Consistency, Settings},
    driver::Fault,
    monitor::{Monitor, Writer},
    routing::{DrawSource, Policy, Requirement, StalenessBound, StatementClass, StatementRouter},
    telemetry,
    topology::{Belief, Floor, Lane, Node, SnapshotCell, Stamp, Tick, Topology},
};

/// How often the suspicion of one node is worth an event.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// The shared part of every handle. Dropped with the last one, and with it the monitor.
pub(crate) struct Shared {
    pub(super) id: ConnectionId,
    pub(super) monitor: Monitor,
    pub(super) policy: Arc<dyn Policy>,
    pub(super) draws: DrawSource,
    pub(super) floors: Floors,
    pub(super) budget: RetryBudget,
    pub(super) overruled: AtomicU64,
    pub(super) backend: DbBackend,
}

/// Whose operation it is and what it must see: taken when the operation begins.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(super) session: SessionRef,
    pub(super) consistency: Consistency,
    /// Where the decisions about it are written down.
    pub(super) log: Option<RouteLog>,
}

impl Context {
    /// Whether somebody wants to know where the operation goes.
    pub(super) fn is_watched(&self) -> bool {
        self.log.is_some() || telemetry::wants_routes()
    }
}

/// What a handle says about every operation.
#[derive(Clone, Debug)]
pub(super) struct SessionOptions {
    pub(super) session: Handle,
    pub(super) consistency: Consistency,
    pub(super) log: Option<RouteLog>,
}

impl SessionOptions {
    /// For a handle that is made by an operation's code.
    pub(super) fn of(context: &Context) -> Self {
        Self {
            session: Handle::made_by(context.session.clone()),
            consistency: context.consistency,
            log: context.log.clone(),
        }
    }

    /// For an operation that begins now.
    pub(super) fn context(&self, shared: ConnectionId) -> Context {
        Context { session: self.session.current(shared), consistency: self.consistency, log: self.log.clone() }
    }
}

impl Shared {
    pub(super) fn new(writer: Arc<Writer>, policy: Arc<dyn Policy>, seed: u64, backend: DbBackend) -> Self {
        let stick_after_write = writer.settings.stick_after_write;
        Self {
            id: ConnectionId::unique(),
            monitor: Monitor::new(writer),
            policy,
            draws: DrawSource::new(seed),
            floors: Floors::new(stick_after_write),
            budget: RetryBudget::new(),
            overruled: AtomicU64::new(0),
            backend,
        }
    }

    /// The text of a statement, if somebody wants to know where it goes.
    pub(super) fn text_for_record(&self, context: &Context, sql: &str) -> Option<Box<str>> {
        (context.is_watched() || self.reports_stale_reads(context)).then(|| sql.into())
    }

    /// Whether reads in this context are reported that may miss what their session wrote.
    pub(super) fn reports_stale_reads(&self, context: &Context) -> bool {
        context.consistency == Consistency::Eventual && self.settings().report_stale_reads
    }

    /// Whether the primary answers.
    pub(super) async fn ping_primary(&self, context: &Context) -> Result<(), DbErr> {
        let lease = self.choose_primary(Operation::bare(context)).await.lease;
        lease.driver().ping().await.inspect_err(|error| self.suspect(lease.node(), Fault::of(error)))
    }

    pub(super) fn support_returning(&self) -> bool {
        self.cell().load().primary.node.driver(Lane::Write).support_returning()
    }

    pub(super) fn is_mock(&self) -> bool {
        self.cell().load().primary.node.driver(Lane::Write).is_mock()
    }

    pub(super) fn cell(&self) -> &SnapshotCell {
        self.monitor.writer().cell()
    }

    pub(super) fn router(&self) -> &StatementRouter {
        &self.monitor.writer().router
    }

    /// Where a statement belongs.
    pub(super) fn class(&self, sql: &str) -> StatementClass {
        self.router().class(sql, || self.now())
    }

    pub(super) fn topology(&self) -> Arc<Topology> {
        self.cell().load_full()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.monitor.writer().settings
    }

    pub(super) fn now(&self) -> Tick {
        self.monitor.writer().clock.now()
    }

    /// Now, with a place in the order of events.
    pub(super) fn stamp(&self) -> Stamp {
        self.monitor.writer().clock.stamp()
    }

    /// What a read in this context asks of its node.
    pub(super) fn requirement(&self, context: &Context, now: Tick) -> Requirement {
        // SeaORM's own read-back of a row it just wrote must find it whatever was asked for, and
        // however short a session sticks.
        if context.consistency != Consistency::Strong && self.floors.take_read_back(&context.session, now) {
            return self.past(Floor::never());
        }
        if let Consistency::BoundedStaleness(within) = context.consistency {
            self.monitor.writer().demand.within(within, now);
        }
        self.requirement_but_for_read_backs(context, now)
    }

    /// As [`requirement`](Self::requirement), and takes no read-back.
    pub(super) fn requirement_but_for_read_backs(&self, context: &Context, now: Tick) -> Requirement {
        match context.consistency {
            Consistency::Strong => Requirement::Primary,
            // A session that came with a token has seen what nobody here wrote.
            Consistency::Process => self.past(self.floors.of_process().join(self.floor(context, now))),
            Consistency::Session => self.past(self.floor(context, now)),
            Consistency::BoundedStaleness(within) => {
                Requirement::Past { floor: self.floor(context, now), within: StalenessBound::of(within) }
            }
            Consistency::Eventual => Requirement::Any,
        }
    }

    /// What a read in this context must see of its session's writes.
    pub(super) fn floor(&self, context: &Context, now: Tick) -> Floor {
        if let SessionRef::Explicit(session) = &context.session
            && session.awaited().is_some()
        {
            self.look_for_awaited(session);
            if session.awaited().is_some() {
                return Floor::never();
            }
        }
        self.floors.of_session(&context.session, now, self.monitor.writer().settled())
    }

    pub(super) fn past(&self, floor: Floor) -> Requirement {
        Requirement::Past { floor, within: StalenessBound::NONE }
    }

    /// An operation failed on a node in a way that says something about the node.
    pub(super) fn suspect(&self, node: &Node, fault: Fault) {
        if fault.casts_suspicion() {
            let ended = self.monitor.writer().invalidate(node);
            // All operations on a lost node fail at the same time; one line says it.
            let is_news = |ended: Belief| ended.began == Tick::default() || self.now().since(ended.began) > SAY_AGAIN;
            if ended.is_some_and(is_news) {
                telemetry::suspected(node.name(), fault);
            }
        }
    }

    pub(super) fn reads_served(&self) -> u64 {
        self.cell().load().nodes().map(|node| node.served_reads()).sum()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("topology", self.cell()).finish_non_exhaustive()
    }
}
