//! How one operation runs: decide on a snapshot, take a lease, run; for a plain read once more on
//! another node when the first one failed it.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sea_orm::{DbErr, Statement};
use smallvec::SmallVec;
use tokio::time;
use tracing::Instrument;

use super::{
    arbiter::{IfRefused, RejectedRead, Unserved},
    session::{KeptNode, SessionRef},
    shared::{Context, Shared},
};
use crate::{
    Error, clock,
    driver::{Driver, Fault, WriteProgress},
    error::Kind,
    routing::{
        How, ReadRequest, Rejected, Requirement, RouteDecision, Selected, SessionFloor, StalenessBound, StatementClass,
        StatementRouter, select_read,
    },
    telemetry,
    topology::{Floor, Lane, Lease, Node, NodeId, Role, Seq, Tick, Topology},
};

/// How often a read that waits for a node looks again though nothing was published.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often a read is decided again because the belief in its node was shaken, before it goes to the primary.
const MOST_SHAKEN: u8 = 2;

/// How long a read of a session waits to go back to a replica that has all the session wrote, and needs only to
/// be known to have all it has read. Each read on the primary moves that further on, so a session that reads without
/// a pause would never go back; a sample of the primary takes a few milliseconds.
const RETURNS_WITHIN: Duration = Duration::from_millis(20);

/// How a read is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadRoute<'a> {
    /// Where the node of this read connection or session is remembered.
    pub(super) kept: Option<&'a Arc<KeptNode>>,
    /// The primary's pool that is used while there are no replicas.
    pub(super) alone: Lane,
    pub(super) among: Among,
    pub(super) if_refused: IfRefused,
}

impl ReadRoute<'_> {
    /// Any member, and without replicas what SeaORM alone would do.
    pub(super) fn anywhere() -> Self {
        Self { kept: None, alone: Lane::Write, among: Among::All, if_refused: IfRefused::RunOnPrimary }
    }
}

/// One operation: whose it is, and where its statement belongs if it has one (a BEGIN has none).
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'a> {
    pub(super) context: &'a Context,
    pub(super) class: Option<StatementClass>,
    /// Its text, when somebody wants to know where it goes.
    pub(super) text: Option<&'a str>,
}

/// What a read asks of its node: once, for all its attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) operation: &'a Operation<'a>,
    pub(super) at: Tick,
    pub(super) requirement: Requirement,
}

/// Which members may run a read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    All,
    /// What no standby can run (a serializable transaction, an unlogged table).
    Primary,
}

/// The text and values of an operation, once for each attempt.
pub(super) enum RetryableStatement<'a> {
    /// Built by SeaORM: built again for a second attempt, not copied for a first one.
    Built { first: Option<Statement>, again: &'a (dyn Fn() -> Statement + Sync) },
    /// Handed over as it is.
    Raw(Option<Statement>),
}

impl RetryableStatement<'_> {
    /// The text, before the first attempt.
    pub(super) fn sql(&self) -> &str {
        match self {
            Self::Built { first, .. } | Self::Raw(first) => first.as_ref().map_or("", |statement| &statement.sql),
        }
    }

    /// The statement for the next attempt. `more` says whether there may be yet another.
    pub(super) fn next(&mut self, more: Attempts) -> Statement {
        match self {
            Self::Built { first, again } => first.take().unwrap_or_else(again),
            Self::Raw(statement) => match more {
                Attempts::Last => statement.take(),
                Attempts::More => statement.clone(),
            }
            .expect("a raw statement is kept until its last attempt"),
        }
    }
}

/// Whether an attempt can be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempts {
    More,
    Last,
}

impl Shared {
    /// Runs a plain read on the node decided for it, and once more on another when that fails it.
    ///
    /// # Cancel safety
    /// Dropping the future gives its place on the node back; the server may go on with the read.
    pub(super) async fn read<T, F>(
        &self,
        asked: &Asked<'_>,
        route: ReadRoute<'_>,
        mut run: F,
    ) -> Result<(T, Lease), Unserved>
    where
        F: for<'d> FnMut(&'d dyn Driver, Attempts) -> BoxFuture<'d, Result<T, DbErr>>,
    {
        let mut tried = None;
        let mut is_second = false;
        let mut times_shaken = 0_u8;
        loop {
            // Decided here and not by `choose`, whose future would be a part of this one.
            // Why not is not kept: this future would be larger by it.
            let decided = self.decide(self.after(times_shaken, asked), route, tried, asked.at).ok();
            let Chosen { lease, how, record } = match decided {
                Some(chosen) => chosen,
                None => {
                    let waiting = Box::pin(self.wait_for_node(self.after(times_shaken, asked), route, tried));
                    waiting.await.map_err(Unserved::Failed)?
                }
            };
            // What runs on the read-write pool (alone, or `Strong`) runs as it would in SeaORM. Elsewhere
            // even the last attempt keeps the statement: the server may refuse it.
            let attempts = match lease.lane() {
                Lane::Read => Attempts::More,
                Lane::Write => Attempts::Last,
            };
            let attempt = run(&**lease.driver(), attempts);
            let outcome = match record {
                None => until_down(&lease, attempt).await,
                // Boxed, so that the future of a read that nobody watches is the smaller one.
                Some(record) => {
                    let span = telemetry::route_span(Some(&record));
                    Box::pin(until_down(&lease, attempt).instrument(span)).await
                }
            };
            let (error, fault) = match outcome {
                // Meanwhile another server was met in the node's place, or a connection to it was lost: perhaps
                // it was not the believed one that answered.
                Ok(_) if lease.is_shaken() => {
                    times_shaken += 1;
                    continue;
                }
                Ok(value) => {
                    lease.served();
                    if let Some(kept) = route.kept {
                        self.has_read(kept, lease.node().id(), lease.life());
                    }
                    return Ok((value, lease));
                }
                Err(failed) => failed.on(lease.node()),
            };
            self.suspect(lease.node(), fault);
            if let Some(refusal) = Self::refusal(&lease, fault) {
                return Err(Unserved::Refused(RejectedRead { error, refusal, lease }));
            }
            if fault == Fault::Closed && has_another_pool(&lease) {
                continue; // It did not run, and this is not the node's doing.
            }
            if attempts == Attempts::Last || how == How::Alone || is_second || !self.may_retry(fault) {
                return Err(Unserved::Failed(match (fault, lease.lane()) {
                    (Fault::Exhausted, Lane::Read) => self.nobody_is_free(&lease, asked.at),
                    _ => error,
                }));
            }
            telemetry::read_retried(lease.node().name(), fault);
            tried = Some(lease.node().id());
            is_second = true;
        }
    }

    /// A read of a session, or of a read connection, has ended.
    fn has_read(&self, kept: &KeptNode, node: NodeId, life: Seq) {
        let is_at_home = kept.read_on(node, life);
        if !is_at_home && kept.may_come_back() {
            // What it has seen now is newer than what was wanted when it began: who reads often would stay away
            // from its node for ever.
            self.monitor.writer().demand.want(kept.seen(), self.now());
        }
    }

    /// What a read asks whose belief in its nodes was shaken so often: at last only the primary is sure to have it.
    fn after<'a>(&self, times_shaken: u8, asked: &Asked<'a>) -> Asked<'a> {
        if times_shaken > MOST_SHAKEN { Asked { requirement: self.past(Floor::never()), ..*asked } } else { *asked }
    }

    pub(super) fn may_retry(&self, fault: Fault) -> bool {
        match fault {
            // What a lost node ran moves, all of it: that is bounded by itself and happens once.
            Fault::NodeDown => true,
            _ => fault.is_worth_another_node() && self.budget.withdraw(self.now(), self.reads_served()),
        }
    }

    /// The typed error of a read for which no read-only session came free in time.
    fn nobody_is_free(&self, lease: &Lease, started: Tick) -> DbErr {
        let rejected = vec![(lease.node().name().to_owned(), "all its read connections are busy".to_owned())];
        Error::new(Kind::NoEligibleNode { waited: self.now().since(started), rejected }).into()
    }

    /// What a read that begins now asks of its node.
    pub(super) fn ask<'a>(&self, operation: &'a Operation<'a>, route: ReadRoute<'_>) -> Asked<'a> {
        let at = self.now();
        let requirement = match route.among {
            Among::All => self.requirement(operation.context, at),
            Among::Primary => self.past(Floor::never()),
        };
        Asked { operation, at, requirement }
    }

    /// Takes a lease on the node for a read, waiting for a node when none is eligible, until the
    /// selection time-out has passed since it was asked for.
    #[cfg(feature = "stream")]
    pub(super) async fn choose(
        &self,
        asked: Asked<'_>,
        route: ReadRoute<'_>,
        tried: Option<NodeId>,
    ) -> Result<Chosen, DbErr> {
        match self.decide(asked, route, tried, asked.at) {
            Ok(chosen) => Ok(chosen),
            // Boxed, so that the future of every read is not as large as that of the rare one that waits.
            Err(_) => Box::pin(self.wait_for_node(asked, route, tried)).await,
        }
    }

    /// Decides on the current snapshot and takes the lease. Nobody may be chosen though the primary could serve it:
    /// then the read waits for a replica first.
    fn decide(
        &self,
        asked: Asked<'_>,
        route: ReadRoute<'_>,
        tried: Option<NodeId>,
        now: Tick,
    ) -> Result<Chosen, SmallVec<[Rejected; 4]>> {
        let (kept, seen) = route.kept.map(|kept| kept.get()).unwrap_or_default();
        let stick_after_write = self.floors.stick_after_write();
        let request =
            ReadRequest { requirement: asked.requirement, tried, kept, seen, stick_after_write, alone: route.alone };
        loop {
            let (selected, record) = {
                let topology = self.cell().load();
                if !topology.is_single() {
                    self.monitor.ensure_running();
                }
                let mut draw = self.draws.draw();
                let selected = select_read(&topology, self.policy.as_ref(), &request, now, &mut draw)?;
                if selected.how.is_by_staleness() {
                    self.want(&request, now);
                    if now.since(asked.at) < self.longest_wait(asked.requirement, route, selected.how, now) {
                        return Err(SmallVec::new()); // The primary could serve it; a replica shall, if one soon can.
                    }
                }
                if self.reports_stale_reads(asked.operation.context) {
                    self.report_if_stale(&topology, &selected, *asked.operation, now);
                }
                let record = asked.operation.record(self.router(), |class| {
                    RouteDecision::of_selected(&topology, self.policy.as_ref(), &request, class, now, &selected)
                });
                (selected, record)
            };
            let Selected { node, lane, role, how, life, relies_on } = selected;
            let lease = Lease::take(node, lane, role).believing(life, relies_on);
            // A node that retired in between has been published without: decide again. (It looks
            // at its running operations after it retired, we at that after we are one of them, so
            // one of the two always sees the other.)
            if lease.node().is_retired() {
                std::thread::yield_now();
                continue;
            }
            if let (Some(kept), Among::All) = (route.kept, route.among) {
                let is_open = matches!(asked.requirement, Requirement::Past { floor, .. } if now < floor.parts().2);
                kept.went_to(lease.node().id(), life, how);
                kept.set_bound_to_primary(is_open);
                if how == How::ForcedByReads && now > asked.at {
                    kept.waited_in_vain(now);
                }
            }
            asked.operation.log(record.as_deref());
            return Ok(Chosen { lease, how, record });
        }
    }

    /// Warns of a read that may miss what its own session wrote.
    #[cold]
    fn report_if_stale(&self, topology: &Topology, selected: &Selected, operation: Operation<'_>, now: Tick) {
        let floor = self.floor(operation.context, now);
        let Some(member) = topology.member_of(selected.node.id()).filter(|_| selected.role == Role::Replica) else {
            return;
        };
        if !member.is_past(floor, now, self.floors.stick_after_write())
            && let Some(must_see) = SessionFloor::of(self.past(floor), now)
        {
            let statement = operation.text.map(|sql| self.router().shown(sql));
            telemetry::read_behind_session(member.name(), statement.as_deref(), must_see);
        }
    }

    /// How long a read waits for a replica that is fresh enough, before the primary serves it.
    fn longest_wait(&self, requirement: Requirement, route: ReadRoute<'_>, how: How, now: Tick) -> Duration {
        if matches!(requirement, Requirement::Past { floor, .. } if now < floor.parts().2) {
            return Duration::ZERO; // Nobody can have it yet.
        }
        let for_reads = match (how, route.kept) {
            (How::ForcedByReads, Some(kept)) if kept.may_wait(now) => RETURNS_WITHIN,
            _ => Duration::ZERO,
        };
        self.settings().wait_for_replica.max(for_reads).min(self.settings().read_selection_timeout)
    }

    /// Has the monitor find out who has what this read must see.
    #[cold]
    fn want(&self, request: &ReadRequest, now: Tick) {
        let Requirement::Past { floor, within, .. } = request.requirement else { return };
        let (seen, _, open_until) = floor.parts();
        if now < open_until {
            return; // Nobody can have it yet.
        }
        // What has no place in the order is after now, and so is the end of a write that had none.
        let is_after_now = within != StalenessBound::NONE || open_until != Tick::default();
        self.monitor.writer().demand.want(if is_after_now { clock::next_seq() } else { seen.max(request.seen) }, now);
    }

    /// Waits for a node that may serve the read, until the selection time-out.
    #[cold]
    async fn wait_for_node(
        &self,
        asked: Asked<'_>,
        route: ReadRoute<'_>,
        tried: Option<NodeId>,
    ) -> Result<Chosen, DbErr> {
        let timeout = self.settings().read_selection_timeout;
        // Mark seen, decide, then wait: a change between the two is not missed.
        let mut changes = self.cell().changes();
        loop {
            let now = self.now();
            let waited = now.since(asked.at);
            let rejected = match self.decide(asked, route, tried, now) {
                Ok(chosen) => return Ok(chosen),
                Err(rejected) => rejected,
            };
            let for_replica = self.settings().wait_for_replica.max(RETURNS_WITHIN).saturating_sub(waited);
            if waited >= timeout {
                let topology = self.cell().load();
                let rejected = rejected
                    .iter()
                    .filter_map(|(id, why)| {
                        topology.member_of(*id).map(|member| (member.name().to_owned(), member.says(*why)))
                    })
                    .collect();
                return Err(Error::new(Kind::NoEligibleNode { waited, rejected }).into());
            }
            telemetry::read_waits(changes.seen());
            // Floors pass with time, not with a publication, so look again now and then.
            let pause = if for_replica.is_zero() { timeout - waited } else { for_replica.min(timeout - waited) };
            let _ = time::timeout(pause.min(LOOK_AGAIN), changes.changed()).await;
        }
    }

    /// Takes a lease on the primary's read-write pool.
    pub(super) async fn choose_primary(&self, operation: Operation<'_>) -> Chosen {
        loop {
            let (primary, record) = {
                let topology = self.cell().load();
                if !topology.is_single() {
                    self.monitor.ensure_running();
                }
                let record = operation.record(self.router(), |class| RouteDecision::of_write(&topology, class));
                (Arc::clone(&topology.primary.node), record)
            };
            let lease = Lease::take(primary, Lane::Write, Role::Primary);
            if !lease.node().is_retired() {
                operation.log(record.as_deref());
                return Chosen { lease, how: How::Forced, record };
            }
            // It was swapped in between; the next snapshot has the other one.
            drop(lease);
            tokio::task::yield_now().await;
        }
    }

    /// Runs something that is not a plain read on the primary, once.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; the session then reads from the primary
    /// for `unknown_outcome_hold`.
    pub(super) async fn write<T, F>(
        self: &Arc<Self>,
        operation: Operation<'_>,
        effect: WriteEffect,
        run: F,
    ) -> Result<(T, Lease), DbErr>
    where
        F: for<'d> FnOnce(&'d dyn Driver, WriteProgress) -> BoxFuture<'d, Result<T, DbErr>>,
    {
        let Chosen { lease, record, .. } = self.choose_primary(operation).await;
        let session = operation.context.session.clone();
        let mark = WriteMark::begin(Arc::clone(self), session, effect, Certainty::Unknown);
        let result =
            run(&**lease.driver(), WriteProgress::queued()).instrument(telemetry::route_span(record.as_deref())).await;
        match &result {
            Ok(_) => {
                lease.served();
                // What was read on the primary was read too. (A BEGIN reads nothing.)
                let reads = effect == WriteEffect::Nothing && operation.class.is_some();
                if let (true, Some(kept)) = (reads, operation.context.session.kept()) {
                    self.has_read(kept, lease.node().id(), lease.life());
                }
            }
            Err(error) => self.suspect(lease.node(), Fault::of(error)),
        }
        mark.ended(&result);
        result.map(|value| (value, lease))
    }
}

/// The place an operation was given.
pub(super) struct Chosen {
    pub(super) lease: Lease,
    pub(super) how: How,
    /// Why, if somebody wants to know.
    pub(super) record: Option<Box<RouteDecision>>,
}

impl<'a> Operation<'a> {
    /// One that sends no statement of its own.
    pub(super) fn bare(context: &'a Context) -> Self {
        Self { context, class: None, text: None }
    }

    /// Makes the record of a decision, if somebody wants to know.
    fn record(
        &self,
        router: &StatementRouter,
        make: impl FnOnce(Option<StatementClass>) -> RouteDecision,
    ) -> Option<Box<RouteDecision>> {
        if !self.context.is_watched() {
            return None;
        }
        let made = make(self.class);
        Some(Box::new(match self.text {
            Some(sql) => made.about(sql, router.shown(sql)),
            None => made,
        }))
    }

    /// Writes it down.
    fn log(&self, record: Option<&RouteDecision>) {
        if let (Some(log), Some(record)) = (&self.context.log, record) {
            log.add(record.clone());
        }
    }
}

/// Whether the node closed the pool of the lease because it has a new one.
pub(super) fn has_another_pool(lease: &Lease) -> bool {
    !Arc::ptr_eq(lease.driver(), &lease.node().driver(lease.lane()))
}

/// Why an attempt at a read has no answer.
pub(super) enum Failed {
    Itself(DbErr),
    NodeWentDown,
}

impl Failed {
    pub(super) fn on(self, node: &Node) -> (DbErr, Fault) {
        match self {
            Self::Itself(error) => {
                let fault = Fault::of(&error);
                (error, fault)
            }
            Self::NodeWentDown => (Error::new(Kind::WentDown { node: node.name().to_owned() }).into(), Fault::NodeDown),
        }
    }
}

/// Runs a read for as long as its node is not believed to be down. What runs on the read-write
/// pool has no other node to go to, and runs to its end.
pub(super) async fn until_down<T>(lease: &Lease, run: impl Future<Output = Result<T, DbErr>>) -> Result<T, Failed> {
    if lease.lane() == Lane::Write {
        return run.await.map_err(Failed::Itself);
    }
    tokio::select! {
        biased;
        result = run => result.map_err(Failed::Itself),
        () = lease.node().down().wait() => Err(Failed::NodeWentDown),
    }
}

/// What an operation on the primary leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteEffect {
    /// Perhaps something was written.
    Written,
    /// As above, by a statement that SeaORM may follow with a read of what it wrote.
    WrittenWithoutReturning,
    /// A plain read that went to the primary.
    Nothing,
}

/// Whether the outcome is known when a mark is dropped without being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    Known,
    Unknown,
}

/// Raises the floor of a session when the write it stands for ends, in whatever way.
#[derive(Debug)]
pub(super) struct WriteMark {
    shared: Arc<Shared>,
    session: SessionRef,
    effect: WriteEffect,
    if_dropped: Certainty,
}

impl WriteMark {
    pub(super) fn begin(shared: Arc<Shared>, session: SessionRef, effect: WriteEffect, if_dropped: Certainty) -> Self {
        Self { shared, session, effect, if_dropped }
    }

    /// From here on, being dropped means that nobody knows what happened.
    pub(super) fn is_uncertain_now(&mut self) {
        self.if_dropped = Certainty::Unknown;
    }

    /// A second mark for the same write.
    pub(super) fn copied(&self) -> Self {
        let Self { shared, session, effect, if_dropped } = self;
        Self { shared: Arc::clone(shared), session: session.clone(), effect: *effect, if_dropped: *if_dropped }
    }

    /// The write needs this mark no more.
    pub(super) fn without_effect(mut self) {
        self.effect = WriteEffect::Nothing;
    }

    /// The operation came back with this.
    pub(super) fn ended<T>(self, result: &Result<T, DbErr>) {
        self.ended_with(result.as_ref().err().map(Fault::of));
    }

    /// The operation came back with this fault, or with none.
    pub(super) fn ended_with(mut self, fault: Option<Fault>) {
        self.if_dropped = match fault {
            Some(fault) if fault.proves_not_executed() => {
                self.effect = WriteEffect::Nothing;
                Certainty::Known
            }
            Some(Fault::Broken) => Certainty::Unknown,
            Some(_) | None => Certainty::Known,
        };
    }
}

impl Drop for WriteMark {
    fn drop(&mut self) {
        if self.effect == WriteEffect::Nothing {
            return;
        }
        let end = self.shared.stamp();
        let floor = match self.if_dropped {
            Certainty::Known => Floor::written(end),
            Certainty::Unknown => Floor::open(end, end.at.after(self.shared.settings().unknown_outcome_hold)),
        };
        self.shared.floors.raise(&self.session, floor);
        if self.effect == WriteEffect::WrittenWithoutReturning {
            self.shared.floors.expect_read_back(&self.session, end.at);
        }
    }
}

/// A read that goes on: rows that come one by one, a READ ONLY transaction. When it ends, its session has seen
/// what there was.
#[derive(Debug)]
pub(super) struct SeenMark {
    shared: Arc<Shared>,
    kept: Arc<KeptNode>,
    node: NodeId,
    life: Seq,
}

impl SeenMark {
    pub(super) fn begin(shared: &Arc<Shared>, kept: Arc<KeptNode>, lease: &Lease) -> Self {
        Self { shared: Arc::clone(shared), kept, node: lease.node().id(), life: lease.life() }
    }
}

impl SeenMark {
    /// Some of it was seen.
    pub(super) fn now(&self) {
        self.shared.has_read(&self.kept, self.node, self.life);
    }
}

impl Drop for SeenMark {
    fn drop(&mut self) {
        self.now();
    }
}
