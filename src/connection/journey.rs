//! The journey of one read: what it requires, which node it is given, and what follows when an attempt has ended.
//!
//! Statements, streams, READ ONLY transactions and read connections all travel this way, so each bound and each rule
//! of retrying stands here once ([`ended`](Shared::ended)).

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use sea_orm::DbErr;
use tokio::time;

use super::{
    arbiter::{IfRefused, Unserved},
    operation::{Among, Operation, ReadRoute},
    session::{AffinityState, SessionRef},
    shared::{Context, Shared},
};
use crate::{
    Error, clock,
    driver::{Fault, Ran},
    error::Kind,
    routing::{
        How, ReadPlan, ReadRequest, Refusal, Rejections, Requirement, RouteDecision, Selected, SessionFloor,
        StalenessBound, TriedNodes,
    },
    telemetry,
    topology::{EjectionCause, Floor, Health, Lane, Lease, NodeId, Role, Tick, Topology},
};

/// How often a read that waits for a node looks again though nothing was published.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often a read is decided again because the belief in its node broke meanwhile, before it goes to the primary.
const MOST_INVALIDATED: u8 = 2;

/// How long a read of a session waits to go back to a replica that has all the session wrote, and needs only to
/// be known to have all the session has read. Each read on the primary moves that further on, so a session that reads
/// without a pause would never go back; a sample of the primary takes a few milliseconds.
const RETURNS_WITHIN: Duration = Duration::from_millis(20);

/// How soon a replica must be expected to be known to have a write, for a read to wait for that while the primary is
/// busy; also how long the read waits at most.
const EXPECTED_WITHIN: Duration = Duration::from_millis(50);

/// How often a read moves that may have run: each time the servers may do its work once more, and a statement that
/// crashes its server must not be given to all of them.
const MOST_MOVES: u8 = 2;

/// How often a read is sent again because the plan of a prepared statement does not fit any more: the connections of a
/// pool learn it one by one.
pub(super) const MOST_STALE_PLANS: u8 = 16;

/// The pause of a read that no node could give a connection, before it asks all of them again.
const PAUSE_BETWEEN_ROUNDS: Duration = Duration::from_millis(50);

/// One read on its way: what it requires, once for all its attempts, and what the attempts so far have come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Journey {
    pub(super) requirement: Requirement,
    began: Tick,
    /// The nodes on which the read has failed already.
    tried: TriedNodes,
    /// How the node of the present attempt was selected.
    pub(super) how: How,
    /// How long the read waits for a fresh replica; decided when it first finds none.
    patience: Option<Duration>,
    /// The error of a node that another node has to confirm.
    unsettled: Option<Unsettled>,
    /// Every node was tried: the read pauses before the next round.
    is_round_over: bool,
    /// No node had a connection for reads, because servers refused new ones: the primary's read-write pool, which has
    /// the connections of writes, serves the read as SeaORM alone would.
    is_for_write_lane: bool,
    moves: u8,
    times_invalidated: u8,
    stale_plans: u8,
}

/// An error that may be the statement's own, or the fault of the node that gave it.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    node: NodeId,
    fault: Fault,
    /// The hash of the error's code.
    code: u64,
}

/// The end of an attempt at a read that failed.
pub(super) struct Failure<'a> {
    pub(super) fault: Fault,
    pub(super) error: &'a DbErr,
    /// The text of the statement, if the read has one.
    pub(super) sql: &'a dyn Fn() -> Option<String>,
}

/// The node that an operation was given.
pub(super) struct Chosen {
    pub(super) lease: Lease,
    /// The reason of the choice, when a log or a subscriber records decisions.
    pub(super) record: Option<Box<RouteDecision>>,
}

/// The step that follows the end of an attempt at a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The read has its answer.
    Served,
    /// The read is attempted again, decided on the snapshot of that moment.
    Again,
    /// The server refused to run the statement as a read.
    Refused(Refusal),
    /// The read fails with the error of the attempt.
    Fail,
}

impl Shared {
    /// A read that begins now.
    pub(super) fn journey(&self, context: &Context, among: Among) -> Journey {
        let began = self.now();
        let requirement = match among {
            Among::All => self.requirement(context, began),
            Among::Primary => Requirement::past(Floor::never()),
        };
        Journey {
            requirement,
            began,
            tried: TriedNodes::default(),
            how: How::Drawn,
            patience: None,
            unsettled: None,
            is_round_over: false,
            is_for_write_lane: false,
            moves: 0,
            times_invalidated: 0,
            stale_plans: 0,
        }
    }

    /// The read's requirement, in the form that the selection takes.
    pub(super) fn request(
        &self,
        requirement: Requirement,
        tried: TriedNodes,
        route: ReadRoute<'_>,
        affinity: &AffinityState,
    ) -> ReadRequest {
        ReadRequest {
            requirement,
            tried,
            kept: affinity.kept,
            seen: affinity.seen,
            stick_after_write: self.settings().stick_after_write,
            alone: route.alone,
        }
    }

    /// Takes a lease on the node for the next attempt of a read, waiting for a node when no member may serve it, until
    /// the selection time-out has passed since the read began.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub(super) async fn choose(
        &self,
        operation: &Operation<'_>,
        journey: &mut Journey,
        route: ReadRoute<'_>,
    ) -> Result<Chosen, DbErr> {
        if journey.is_round_over {
            Box::pin(time::sleep(PAUSE_BETWEEN_ROUNDS)).await;
            journey.is_round_over = false;
        }
        let now = if journey.is_first_decision() { journey.began } else { self.now() };
        let chosen = match self.decide(operation, journey, route, now) {
            Some(chosen) => chosen,
            // Boxed, so that the future of every read is not as large as that of the rare one that waits.
            None => Box::pin(self.wait_for_node(operation, journey, route)).await?,
        };
        if journey.unsettled.is_some_and(|first| first.node == chosen.lease.node().id()) {
            // No other node can confirm the error of this one.
            let now = self.now();
            return Err(self.no_eligible_node(journey, route, now.since(journey.began), now));
        }
        Ok(chosen)
    }

    /// Decides on the current snapshot and takes the lease. `None` when no member may serve the read, or when the read
    /// waits for a replica before the primary serves it.
    fn decide(
        &self,
        operation: &Operation<'_>,
        journey: &mut Journey,
        route: ReadRoute<'_>,
        now: Tick,
    ) -> Option<Chosen> {
        loop {
            let affinity = route.affinity.map(|affinity| affinity.state()).unwrap_or_default();
            let (selected, record) = self.select(operation, journey, route, &affinity, now)?;
            let Selected { node, mut lane, role, how, generation, reliance } = selected;
            if journey.is_for_write_lane && role == Role::Primary && route.if_refused == IfRefused::RunOnPrimary {
                lane = Lane::Write;
            }
            let lease = Lease::take(node, lane, role).believing(generation, reliance);
            // A node that retired in between has been published without: decide again. (The drain looks at the
            // running operations after it retired the node, this code looks at the mark after it is one of them, so
            // one of the two always sees the other.)
            if lease.node().is_retired() {
                std::thread::yield_now();
                continue;
            }
            if lease.node().has_failed() && !self.may_try(lease.node(), now) {
                continue; // Another read is the trial of the ejected node, which the next snapshot says.
            }
            journey.how = how;
            if let (Some(kept_by), Among::All) = (route.affinity, route.among) {
                let is_kept =
                    affinity.kept.is_some_and(|kept| (kept.node, kept.generation) == (lease.node().id(), generation));
                if how == How::Drawn && !is_kept {
                    kept_by.keep(lease.node().id(), generation);
                }
                if how == How::ForcedByReads && now > journey.began {
                    kept_by.waited_in_vain(now);
                }
            }
            operation.log(record.as_deref());
            return Some(Chosen { lease, record });
        }
    }

    /// Draws a node on the current snapshot. `None` as for [`decide`](Self::decide).
    pub(super) fn select(
        &self,
        operation: &Operation<'_>,
        journey: &mut Journey,
        route: ReadRoute<'_>,
        affinity: &AffinityState,
        now: Tick,
    ) -> Option<(Selected, Option<Box<RouteDecision>>)> {
        let request = self.request(journey.requirement, journey.tried, route, affinity);
        let topology = self.cell().load();
        if !topology.is_single() {
            self.monitor.ensure_running();
        }
        let mut plan = ReadPlan::of(&topology, &request, now);
        let selected = plan.draw(self.policy.as_ref(), &mut self.draws.draw())?;
        if selected.how.is_by_staleness() {
            self.want(&request, now);
            let patience = match journey.patience {
                Some(patience) => patience,
                None => {
                    let patience = self.patience(operation.context, &request, affinity, selected.how, &topology, now);
                    *journey.patience.insert(patience)
                }
            };
            if now.since(journey.began) < patience {
                return None; // The primary could serve the read; a replica shall, if one soon can.
            }
        }
        if self.reports_stale_reads(operation.context) {
            self.report_if_stale(&topology, &selected, operation, now);
        }
        let record = operation.record(self.router(), |class| {
            RouteDecision::of_plan(&topology, &mut plan, self.policy.as_ref(), class, now).drawn(&topology, &selected)
        });
        Some((selected, record))
    }

    /// How long a read waits for a replica that is fresh enough, before the primary serves it.
    #[cold]
    fn patience(
        &self,
        context: &Context,
        request: &ReadRequest,
        affinity: &AffinityState,
        how: How,
        topology: &Topology,
        now: Tick,
    ) -> Duration {
        if request.requirement.is_open(now) {
            return Duration::ZERO; // No replica can have the write yet.
        }
        let settings = self.settings();
        let for_reads = how == How::ForcedByReads && now >= affinity.waits_from;
        let for_reads = if for_reads { RETURNS_WITHIN } else { Duration::ZERO };
        let within_cap = self.budget.takes_forced_read(self.reads_served());
        let for_cap = if within_cap {
            Duration::ZERO
        } else {
            if matches!(context.session, SessionRef::Process) {
                self.writes_of_others_delay_reads(now);
            }
            // While questions are scarce, the read waits for one to the primary and one to the replica, too.
            let questions = Duration::from_secs(2) / settings.max_questions_per_second().get();
            let is_soon = |delay: Duration| delay.saturating_add(questions) <= EXPECTED_WITHIN;
            let is_worth_it = topology.primary.node.is_read_busy() && topology.expected_delay(now).is_some_and(is_soon);
            if is_worth_it { EXPECTED_WITHIN } else { Duration::ZERO }
        };
        settings.wait_for_replica.max(for_reads).max(for_cap).min(settings.read_selection_timeout)
    }

    /// Warns of a read that may miss what its own session wrote.
    #[cold]
    fn report_if_stale(&self, topology: &Topology, selected: &Selected, operation: &Operation<'_>, now: Tick) {
        let SessionRef::Explicit(_) = &operation.context.session else { return };
        let floor = self.floor(operation.context);
        let Some(member) = topology.member_of(selected.node.id()).filter(|_| selected.role == Role::Replica) else {
            return;
        };
        if !member.is_past(floor, now, self.settings().stick_after_write)
            && let Some(must_see) = SessionFloor::of(Requirement::past(floor), now)
        {
            let statement = operation.text.map(|sql| self.router().shown(sql));
            telemetry::read_behind_session(member.name(), statement.as_deref(), must_see);
        }
    }

    /// Has the monitor find a replica that has what this read must see.
    #[cold]
    fn want(&self, request: &ReadRequest, now: Tick) {
        let Requirement::Past { floor, within, .. } = request.requirement else { return };
        let (seen, _, open_until) = floor.parts();
        if request.requirement.is_open(now) {
            return; // No replica can have the write yet.
        }
        // A write of unknown outcome has no sequence number; it lies before now, as does the end of a staleness bound.
        let is_before_now = within != StalenessBound::NONE || open_until != Tick::default();
        let wanted = if is_before_now { clock::next_seq() } else { seen.max(request.seen) };
        self.monitor.writer().demand.want(wanted, now);
    }

    /// Waits for a node that may serve the read, until the selection time-out.
    #[cold]
    async fn wait_for_node(
        &self,
        operation: &Operation<'_>,
        journey: &mut Journey,
        route: ReadRoute<'_>,
    ) -> Result<Chosen, DbErr> {
        let timeout = self.selection_timeout();
        // A read that moved here from a node that was lost later has the whole time.
        let since = if journey.is_first_decision() { journey.began } else { self.now() };
        // Mark seen, decide, then wait: a change between the two is not missed.
        let mut changes = self.cell().changes();
        loop {
            let now = self.now();
            let waited = now.since(since);
            if let Some(chosen) = self.decide(operation, journey, route, now) {
                return Ok(chosen);
            }
            if waited >= timeout {
                return Err(self.no_eligible_node(journey, route, waited, now));
            }
            telemetry::read_waits(changes.seen());
            let for_replica = journey.patience.unwrap_or_default().saturating_sub(now.since(journey.began));
            // Floors pass with time, not with a publication, so look again now and then.
            let pause = if for_replica.is_zero() { timeout - waited } else { for_replica.min(timeout - waited) };
            let _ = time::timeout(pause.min(LOOK_AGAIN), changes.changed()).await;
            // A node that failed the read may serve it by now.
            journey.forget_tried();
        }
    }

    /// How long a read waits for a node that may serve it: not longer than SeaORM alone would wait for the primary.
    fn selection_timeout(&self) -> Duration {
        let of_primary = self.cell().load().primary.node.driver(Lane::Write).acquire_timeout();
        self.settings().read_selection_timeout.min(of_primary.unwrap_or(Duration::MAX))
    }

    fn no_eligible_node(&self, journey: &Journey, route: ReadRoute<'_>, waited: Duration, now: Tick) -> DbErr {
        let affinity = route.affinity.map(|affinity| affinity.state()).unwrap_or_default();
        let (topology, request) =
            (self.cell().load(), self.request(journey.requirement, journey.tried, route, &affinity));
        let rejections: Rejections = ReadPlan::of(&topology, &request, now).rejected().clone();
        let named = rejections.iter().filter_map(|(id, why)| {
            topology.member_of(*id).map(|member| (member.name().to_owned(), member.says(*why)))
        });
        Error::new(Kind::NoEligibleNode { waited, rejected: named.collect() }).into()
    }

    /// The step that follows an attempt that had an answer.
    pub(super) fn answered(&self, journey: &mut Journey, lease: &Lease, sql: &dyn Fn() -> Option<String>) -> Next {
        // Meanwhile another server was met at the node's address, or a connection to the node was lost: another
        // server than the believed one may have answered.
        if !lease.is_invalidated(&self.cell().load()) {
            if lease.node().has_failed() {
                self.succeeded(lease.node());
            }
            if let Some(first) = journey.unsettled {
                self.was_the_nodes_fault(first, sql);
            }
            return Next::Served;
        }
        journey.times_invalidated += 1;
        if journey.times_invalidated > MOST_INVALIDATED {
            journey.go_to_the_primary();
        }
        Next::Again
    }

    /// The step that follows an attempt that failed. What did not run costs the servers nothing, so it is tried for as
    /// long as SeaORM alone would wait for a connection; what may have run moves a few times; an error that may be the
    /// statement's own is settled by one other node.
    pub(super) fn ended(&self, journey: &mut Journey, lease: &Lease, failure: &Failure<'_>) -> Next {
        let fault = failure.fault;
        self.suspect(lease.node(), fault);
        if let Some(refusal) = Self::refusal(lease, fault) {
            return if self.is_own_error(failure) { Next::Fail } else { Next::Refused(refusal) };
        }
        if fault == Fault::StalePlan {
            journey.stale_plans += 1;
            return if journey.stale_plans <= MOST_STALE_PLANS { Next::Again } else { Next::Fail };
        }
        // On the read-write lane (alone, or `Strong`) a read runs once, as with SeaORM.
        if lease.lane() != Lane::Read {
            return Next::Fail;
        }
        let next = match fault.ran() {
            // The node has a new pool, which is ready.
            Ran::No if fault == Fault::Closed && has_another_pool(lease) => return Next::Again,
            Ran::No => self.try_elsewhere(journey, lease, fault),
            _ if journey.how == How::Alone => Next::Fail,
            Ran::Unknown => self.move_on(journey, lease, fault),
            Ran::Yes if fault == Fault::ReplayConflict && lease.role() == Role::Replica => {
                journey.go_to_the_primary();
                journey.counts_move()
            }
            Ran::Yes if fault.needs_second_opinion() => self.settle(journey, lease, failure),
            Ran::Yes => Next::Fail,
        };
        if next == Next::Again {
            telemetry::read_retried(lease.node().name(), fault);
        }
        next
    }

    /// Another node gives the read a connection, or the same one later, until the time is over that SeaORM alone would
    /// wait.
    fn try_elsewhere(&self, journey: &mut Journey, lease: &Lease, fault: Fault) -> Next {
        let longest = lease.driver().acquire_timeout().unwrap_or(self.settings().read_selection_timeout);
        if self.now().since(journey.began) >= longest {
            return Next::Fail;
        }
        match fault {
            Fault::ConnectionRefused => self.failed_alone(lease.node(), EjectionCause::RefusesConnections),
            Fault::Unreachable { refused: false } => self.failed_alone(lease.node(), EjectionCause::CannotConnect),
            _ => {}
        }
        let node = lease.node().id();
        let was_tried = journey.tried.contains(node);
        journey.tried.insert(node);
        if was_tried || self.cell().load().nodes().all(|node| journey.tried.contains(node.id())) {
            journey.forget_tried();
            journey.is_round_over = true;
            journey.is_for_write_lane = fault == Fault::ConnectionRefused;
        }
        Next::Again
    }

    /// A read whose connection broke goes to another node. What ran on a node when the node was lost moves without
    /// charge: the loss bounds these reads by itself, and happens once. A budget bounds all others.
    fn move_on(&self, journey: &mut Journey, lease: &Lease, fault: Fault) -> Next {
        let generation = self.cell().load().member_of(lease.node().id()).map(|member| member.belief.generation);
        let was_lost = fault == Fault::NodeDown || generation != Some(lease.generation());
        if !was_lost && !self.may_retry() {
            return Next::Fail;
        }
        journey.tried.insert(lease.node().id());
        journey.counts_move()
    }

    fn may_retry(&self) -> bool {
        self.budget.takes_retry(self.now(), self.reads_served())
    }

    /// Whose fault is it? One other node says it: the primary, where a replica may be behind in schema.
    #[cold]
    fn settle(&self, journey: &mut Journey, lease: &Lease, failure: &Failure<'_>) -> Next {
        let (Some(code), Some(sql)) = (Fault::code(failure.error), (failure.sql)()) else { return Next::Fail };
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&*code);
        let now = self.now();
        if let Some(first) = journey.unsettled {
            if first.code == hash {
                self.router().remember_own_error(&sql, &code, now);
            }
            return Next::Fail;
        }
        let is_for_primary = failure.fault == Fault::BehindInSchema;
        let primary_can_tell = lease.role() == Role::Replica && self.cell().load().primary.health() == Health::Up;
        if is_for_primary && !primary_can_tell || self.router().is_own_error(&sql, &code, now) || !self.may_retry() {
            return Next::Fail;
        }
        journey.unsettled = Some(Unsettled { node: lease.node().id(), fault: failure.fault, code: hash });
        journey.tried.insert(lease.node().id());
        if is_for_primary {
            journey.go_to_the_primary();
        }
        Next::Again
    }

    /// Whether two nodes gave this error to statements of this shape before.
    fn is_own_error(&self, failure: &Failure<'_>) -> bool {
        let (Some(code), Some(sql)) = (Fault::code(failure.error), (failure.sql)()) else { return false };
        self.router().is_own_error(&sql, &code, self.now())
    }

    /// Another node has served the read: the first error was the fault of its node.
    #[cold]
    fn was_the_nodes_fault(&self, first: Unsettled, sql: &dyn Fn() -> Option<String>) {
        // The second attempt was worth it: only fruitless ones use the budget up.
        self.budget.give_retry_back();
        let topology = self.cell().load();
        let Some(member) = topology.member_of(first.node) else { return };
        match first.fault {
            Fault::BehindInSchema => {
                telemetry::behind_in_schema(
                    member.name(),
                    &sql().map(|sql| self.router().shown(&sql)).unwrap_or_default(),
                );
            }
            _ => self.failed_alone(&member.node, EjectionCause::FailsAlone),
        }
    }

    /// The error of a read that fails: for want of a free read-only session, a typed one.
    pub(super) fn unserved(&self, journey: &Journey, lease: &Lease, error: DbErr, fault: Fault) -> Unserved {
        if fault != Fault::Exhausted || lease.lane() != Lane::Read {
            return Unserved::Failed(error);
        }
        let rejected = vec![(lease.node().name().to_owned(), "all its read connections are busy".to_owned())];
        let waited = self.now().since(journey.began);
        Unserved::Failed(Error::new(Kind::NoEligibleNode { waited, rejected }).into())
    }

    /// Takes a lease on the primary's read-write lane.
    ///
    /// # Errors
    /// The node in the primary's seat says that it is a replica.
    pub(super) async fn choose_primary(&self, operation: Operation<'_>) -> Result<Chosen, DbErr> {
        loop {
            let (primary, record) = {
                let topology = self.cell().load();
                if !topology.is_single() {
                    self.monitor.ensure_running();
                }
                if let Some(error) = self.primary_is_a_replica(&topology) {
                    return Err(error);
                }
                let record = operation.record(self.router(), |class| RouteDecision::of_write(&topology, class));
                (std::sync::Arc::clone(&topology.primary.node), record)
            };
            let lease = Lease::take(primary, Lane::Write, Role::Primary);
            if !lease.node().is_retired() {
                operation.log(record.as_deref());
                return Ok(Chosen { lease, record });
            }
            // The primary was swapped in between; the next snapshot has the other one.
            drop(lease);
            tokio::task::yield_now().await;
        }
    }

    /// The error of an operation for the primary while the server in its seat says that it is a replica: an answer of that
    /// server may be older than what was acknowledged before.
    pub(super) fn primary_is_a_replica(&self, topology: &Topology) -> Option<DbErr> {
        let primary = &topology.primary;
        if topology.is_single() || !primary.contradicts(Role::Primary, self.now(), topology.believed_for) {
            return None;
        }
        Some(Error::new(Kind::NotPrimary { node: primary.name().to_owned() }).into())
    }
}

impl Journey {
    fn is_first_decision(&self) -> bool {
        self.times_invalidated == 0
            && self.moves == 0
            && self.stale_plans == 0
            && self.unsettled.is_none()
            && self.tried.is_empty()
            && self.patience.is_none()
    }

    /// Lets every node be tried again, but for the one whose error another node has to confirm.
    fn forget_tried(&mut self) {
        self.tried = TriedNodes::default();
        if let Some(first) = self.unsettled {
            self.tried.insert(first.node);
        }
    }

    /// Only the primary is sure to have what the read must see.
    fn go_to_the_primary(&mut self) {
        self.requirement = Requirement::past(Floor::never());
    }

    fn counts_move(&mut self) -> Next {
        self.moves += 1;
        if self.moves <= MOST_MOVES { Next::Again } else { Next::Fail }
    }

    /// Whether the read was sent to a second node to settle whose fault an error is.
    pub(super) fn is_second_opinion(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Whether only the primary can have what the read must see, however soon the replicas are asked.
    pub(super) fn is_open(&self) -> bool {
        self.requirement.is_open(self.began)
    }
}

/// Whether the pool of the lease was closed because its node has a new one.
fn has_another_pool(lease: &Lease) -> bool {
    !std::sync::Arc::ptr_eq(lease.driver(), &lease.node().driver(lease.lane()))
}
