//! The journey of one read: what it requires, and which node it is given. `next_attempt.rs` says what follows when an
//! attempt has ended.
//!
//! Statements, streams, READ ONLY transactions and read connections all travel this way, so each bound and each rule
//! stands once.

use std::time::Duration;

use sea_orm::DbErr;
use tokio::time;

use super::{
    arbiter::IfRefused,
    next_attempt::Unsettled,
    operation::{Among, Operation, ReadRoute},
    session::{AffinityState, SessionRef},
    shared::{Context, Shared},
};
use crate::{
    Error, clock,
    error::Kind,
    routing::{
        How, ReadPlan, ReadRequest, Rejections, Requirement, RouteDecision, Selected, SessionFloor, StalenessBound,
        TriedNodes,
    },
    telemetry,
    topology::{Floor, Lane, Lease, Role, Tick, Topology},
};

/// How often a read that waits for a node looks again though nothing was published.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a read of a session waits to go back to a replica that has all the session wrote, and needs only to
/// be known to have all the session has read. Each read on the primary moves that further on, so a session that reads
/// without a pause would never go back; a sample of the primary takes a few milliseconds.
const RETURNS_WITHIN: Duration = Duration::from_millis(20);

/// How soon a replica must be expected to be known to have a write, for a read to wait for that while the primary is
/// busy; also how long the read waits at most.
const EXPECTED_WITHIN: Duration = Duration::from_millis(50);

/// The pause of a read that no node could give a connection, before it asks all of them again.
const PAUSE_BETWEEN_ROUNDS: Duration = Duration::from_millis(50);

/// One read on its way: what it requires, once for all its attempts, and what the attempts so far have come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Journey {
    pub(super) requirement: Requirement,
    pub(super) began: Tick,
    /// The nodes on which the read has failed already.
    pub(super) tried: TriedNodes,
    /// How the node of the present attempt was selected.
    pub(super) how: How,
    /// How long the read waits for a fresh replica; decided when it first finds none.
    patience: Option<Duration>,
    /// The error of a node that another node has to confirm.
    pub(super) unsettled: Option<Unsettled>,
    /// Every node was tried: the read pauses before the next round.
    pub(super) is_round_over: bool,
    /// No node had a connection for reads, because servers refused new ones: the primary's read-write pool, which has
    /// the connections of writes, serves the read as SeaORM alone would.
    pub(super) is_for_write_lane: bool,
    pub(super) moves: u8,
    pub(super) times_invalidated: u8,
    pub(super) stale_plans: u8,
}

/// The node that an operation was given.
pub(super) struct Chosen {
    pub(super) lease: Lease,
    /// The reason of the choice, when a log or a subscriber records decisions.
    pub(super) record: Option<Box<RouteDecision>>,
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
            self.cell().load().nodes().for_each(|node| node.miss());
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
        primary.node.miss();
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

    /// Whether the read was sent to a second node to settle whose fault an error is.
    pub(super) fn is_second_opinion(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Whether only the primary can have what the read must see, however soon the replicas are asked.
    pub(super) fn is_open(&self) -> bool {
        self.requirement.is_open(self.began)
    }
}
