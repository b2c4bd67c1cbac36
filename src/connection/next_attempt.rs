//! What follows when an attempt at a read has ended: the answer, another attempt, or the error.
//!
//! The phase and the code of an error say whether the statement ran, and whose fault the failure is (`driver/fault/`).
//! Each rule of retrying, each bound and each budget stands here once.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use sea_orm::DbErr;

use super::{arbiter::Unserved, journey::Journey, shared::Shared};
use crate::{
    Error,
    driver::{Fault, Ran},
    error::Kind,
    routing::{How, Refusal, Requirement, TriedNodes},
    telemetry,
    topology::{EjectionCause, Floor, Health, Lane, Lease, NodeId, Role},
};

/// How often a read is decided again because the belief in its node broke meanwhile, before it goes to the primary.
const MOST_INVALIDATED: u8 = 2;

/// How often a read moves that may have run: each time the servers may do its work once more, and a statement that
/// crashes its server must not be given to all of them.
const MOST_MOVES: u8 = 2;

/// How often a read is sent again because the plan of a prepared statement does not fit any more: the connections of a
/// pool learn it one by one.
pub(super) const MOST_STALE_PLANS: u8 = 16;

/// A read that its server ended at a limit of time is run on another node only within this time: that finds the limit
/// which one server has by mistake, and lets no caller wait twice for a long limit that all servers have.
const SHORT_LIMIT: Duration = Duration::from_secs(5);

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

/// An error that may be the statement's own, or the fault of the node that gave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsettled {
    pub(super) node: NodeId,
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

impl Shared {
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

    /// Sends a read that did not run to another node, or to the same node later, for as long as SeaORM alone would wait for
    /// a connection.
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

    pub(super) fn may_retry(&self) -> bool {
        self.budget.takes_retry(self.now(), self.reads_served())
    }

    /// Has one other node settle whose fault an error is: the primary, where a replica may be behind in schema.
    #[cold]
    fn settle(&self, journey: &mut Journey, lease: &Lease, failure: &Failure<'_>) -> Next {
        let (Some(code), Some(sql)) = (Fault::code(failure.error), (failure.sql)()) else { return Next::Fail };
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&*code);
        let now = self.now();
        if failure.fault == Fault::TimeLimit
            && (lease.driver().limits_statements() || now.since(journey.began) > SHORT_LIMIT)
        {
            return Next::Fail;
        }
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
            // A statement that is close to the limit of all servers fails on the busier one.
            Fault::TimeLimit => {}
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
}

impl Journey {
    /// Lets every node be tried again, but for the one whose error another node has to confirm.
    pub(super) fn forget_tried(&mut self) {
        self.tried = TriedNodes::default();
        if let Some(first) = self.unsettled {
            self.tried.insert(first.node);
        }
    }

    /// Only the primary is sure to have what the read must see.
    fn go_to_the_primary(&mut self) {
        self.requirement = Requirement::past(Floor::never());
    }

    /// Whether the read may move once more, where it may have run.
    pub(super) fn may_move(&self) -> bool {
        self.moves < MOST_MOVES
    }

    /// Whether nothing came of the read yet.
    pub(super) fn is_first_attempt(&self) -> bool {
        let again = self.moves + self.times_invalidated + self.stale_plans;
        again == 0 && self.unsettled.is_none() && self.tried.is_empty()
    }

    /// One of the two attempts of a hedged read ended without an answer.
    pub(super) fn counts_other_attempt(&mut self) {
        self.moves += 1;
    }

    /// Another attempt has an answer, so the error of this node was not the statement's own.
    pub(super) fn is_settled_by_answer(&mut self, node: NodeId, fault: Fault) {
        self.tried.insert(node);
        self.unsettled = Some(Unsettled { node, fault, code: 0 });
    }

    fn counts_move(&mut self) -> Next {
        self.moves += 1;
        if self.moves <= MOST_MOVES { Next::Again } else { Next::Fail }
    }
}

/// Whether the pool of the lease was closed because its node has a new one.
fn has_another_pool(lease: &Lease) -> bool {
    !std::sync::Arc::ptr_eq(lease.driver(), &lease.node().driver(lease.lane()))
}
