//! The state that all handles of one connection share.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use sea_orm::{DbBackend, DbErr};

use super::{
    budget::ReadBudget,
    event_limit::EventLimit,
    floors::{self, AtomicFloor},
    hedge::Hedging,
    lent::LentWrites,
    operation::Operation,
    record::RouteLog,
    session::{ConnectionId, HandleSession, SessionRef},
    token_costs::TokenCosts,
};
use crate::{
    config::{Consistency, Settings},
    driver::Fault,
    monitor::{Monitor, Writer},
    routing::{DrawSource, Policy, Requirement, StalenessBound, StatementClass, StatementRouter},
    telemetry,
    topology::{Belief, EjectionCause, FAILURES_IN_A_ROW, Floor, Lane, Node, SnapshotCell, Stamp, Tick, Topology},
};

/// How often the suspicion of one node is logged.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// The shared part of every handle. Dropped with the last one, and with it the monitor.
pub(crate) struct Shared {
    pub(super) id: ConnectionId,
    pub(super) monitor: Monitor,
    pub(super) policy: Arc<dyn Policy>,
    pub(super) draws: DrawSource,
    /// The floor of plain reads: every acknowledged write of this process, through whatever handle.
    pub(super) process_floor: AtomicFloor,
    pub(super) budget: ReadBudget,
    /// `None` while no read is hedged.
    pub(super) hedging: Option<Hedging>,
    /// The event that says that the writes of others delay reads.
    delay_said: EventLimit,
    pub(super) token_costs: TokenCosts,
    pub(super) lent_writes: Mutex<LentWrites>,
    pub(super) rerun_on_primary: AtomicU64,
    pub(super) backend: DbBackend,
}

/// The session of an operation and its consistency: taken when the operation begins.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(super) session: SessionRef,
    pub(super) consistency: Consistency,
    /// The log that records the decisions about the operation.
    pub(super) log: Option<RouteLog>,
}

impl Context {
    /// Whether a log or a subscriber records the decisions about the operation.
    pub(super) fn is_watched(&self) -> bool {
        self.log.is_some() || telemetry::wants_routes()
    }
}

/// The options that a handle gives to every operation.
#[derive(Clone, Debug)]
pub(super) struct SessionOptions {
    pub(super) session: HandleSession,
    pub(super) consistency: Consistency,
    pub(super) log: Option<RouteLog>,
}

impl SessionOptions {
    /// The options for a handle that the code of an operation makes.
    pub(super) fn of(context: &Context) -> Self {
        Self {
            session: HandleSession::inherited(context.session.clone()),
            consistency: context.consistency,
            log: context.log.clone(),
        }
    }

    /// The context of an operation that begins now.
    pub(super) fn context(&self, connection: ConnectionId) -> Context {
        Context { session: self.session.current(connection), consistency: self.consistency, log: self.log.clone() }
    }
}

impl Shared {
    pub(super) fn new(writer: Arc<Writer>, policy: Arc<dyn Policy>, seed: u64, backend: DbBackend) -> Self {
        let budget = ReadBudget::new(writer.settings.primary_staleness_cap);
        let hedging = Hedging::new(writer.settings.hedge);
        Self {
            id: ConnectionId::unique(),
            monitor: Monitor::new(writer),
            policy,
            draws: DrawSource::new(seed),
            process_floor: AtomicFloor::default(),
            budget,
            hedging,
            delay_said: EventLimit::default(),
            token_costs: TokenCosts::default(),
            lent_writes: Mutex::default(),
            rerun_on_primary: AtomicU64::new(0),
            backend,
        }
    }

    /// The text of a statement, when a log or a subscriber records decisions.
    pub(super) fn text_for_record(&self, context: &Context, sql: &str) -> Option<Box<str>> {
        (context.is_watched() || self.reports_stale_reads(context)).then(|| sql.into())
    }

    /// Whether reads in this context are reported that may miss what their session wrote.
    pub(super) fn reports_stale_reads(&self, context: &Context) -> bool {
        context.consistency == Consistency::Eventual && self.settings().report_stale_reads
    }

    /// Asks whether the primary answers.
    pub(super) async fn ping_primary(&self, context: &Context) -> Result<(), DbErr> {
        let lease = self.choose_primary(Operation::bare(context)).await?.lease;
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

    /// The class of a statement.
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

    /// The present instant, with a place in the order of events.
    pub(super) fn stamp(&self) -> Stamp {
        self.monitor.writer().clock.stamp()
    }

    /// The requirement of a read in this context.
    pub(super) fn requirement(&self, context: &Context, now: Tick) -> Requirement {
        // SeaORM's own read-back of a row that it just wrote must find the row under every consistency.
        if context.consistency != Consistency::Strong
            && floors::take_read_back(&self.process_floor, &context.session, now)
        {
            return Requirement::past(Floor::never());
        }
        if let Consistency::BoundedStaleness(within) = context.consistency {
            self.monitor.writer().demand.within(within, now);
        }
        self.requirement_but_for_read_backs(context)
    }

    /// As [`requirement`](Self::requirement), and takes no read-back.
    pub(super) fn requirement_but_for_read_backs(&self, context: &Context) -> Requirement {
        match context.consistency {
            Consistency::Strong => Requirement::Primary,
            Consistency::Session => Requirement::past(self.floor(context)),
            Consistency::Process => Requirement::past(self.process_floor.get().join(self.floor(context))),
            Consistency::BoundedStaleness(within) => {
                // The staleness bound covers the writes of others; a plain read has no writes of its own.
                let floor = match &context.session {
                    SessionRef::Explicit(_) => self.floor(context),
                    SessionRef::Process => Floor::default(),
                };
                Requirement::Past { floor, within: StalenessBound::of(within) }
            }
            Consistency::Eventual => Requirement::Any,
        }
    }

    /// The floor of a read in this context: the writes of its explicit session, or all writes of this process.
    pub(super) fn floor(&self, context: &Context) -> Floor {
        match &context.session {
            SessionRef::Process => self.process_floor.get(),
            SessionRef::Explicit(session) => {
                if session.awaited().is_some() {
                    self.look_for_awaited(session);
                    if session.awaited().is_some() {
                        return Floor::never();
                    }
                }
                session.written()
            }
        }
    }

    /// Records that an operation failed on a node in a way that says something about the node.
    pub(super) fn suspect(&self, node: &Node, fault: Fault) {
        if fault.casts_suspicion() {
            let ended = self.monitor.writer().invalidate(node);
            // All operations on a lost node fail at the same time; one event is enough.
            let is_news = |ended: Belief| ended.began == Tick::default() || self.now().since(ended.began) > SAY_AGAIN;
            if ended.is_some_and(is_news) {
                telemetry::suspected(node.name(), fault);
            }
        }
    }

    /// Counts a failure that only this node gave; several in a row eject the node.
    #[cold]
    pub(super) fn failed_alone(&self, node: &Node, cause: EjectionCause) {
        if node.count_failure() >= FAILURES_IN_A_ROW {
            let (now, jitter) = (self.now(), self.draws.draw().unit());
            let _ = self.monitor.writer().update(|topology| topology.ejected(node.id(), now, jitter, cause).ok_or(()));
        }
    }

    /// A node that failed by itself before has served an operation.
    #[cold]
    pub(super) fn succeeded(&self, node: &Node) {
        node.forget_failures();
        let now = self.now();
        let _ = self.monitor.writer().update(|topology| topology.readmitted(node.id(), now).ok_or(()));
    }

    /// Whether a read may run on a node that failed by itself: the read is the trial of the node, or the node awaits none.
    #[cold]
    pub(super) fn may_try(&self, node: &Node, now: Tick) -> bool {
        let awaits_trial =
            self.cell().load().member_of(node.id()).is_some_and(|member| member.ejection.awaits_trial(now));
        !awaits_trial || self.monitor.writer().update(|topology| topology.trial_began(node.id(), now).ok_or(())).is_ok()
    }

    /// Logs, once in ten minutes, that plain reads wait or go to the primary because other tasks write.
    #[cold]
    pub(super) fn writes_of_others_delay_reads(&self, now: Tick) {
        if self.delay_said.is_due(now).is_some() {
            telemetry::writes_delay_reads();
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
