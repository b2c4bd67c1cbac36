//! A hedged read: a read that has run far longer than its like on its node is started once more on another node, and the
//! first answer counts.
//!
//! The idea is that of Dean and Barroso ("The Tail at Scale", 2013). Only the first attempt of a read is hedged, so that
//! the rules of further attempts (`next_attempt.rs`) stand as they are: two attempts without an answer are for them one
//! failure on a node, and another node that was tried.

use std::{mem, pin::pin, time::Duration};

use futures_util::future::BoxFuture;
use sea_orm::{DbErr, Statement};
use tokio::{runtime::Handle, time};

use super::{
    journey::Journey,
    operation::{Operation, ReadRoute},
    run::{Failed, RepeatableRead},
    shared::Shared,
    stopwatch::Stopwatch,
};
use crate::{
    driver::{Driver, Fault, Race, Ran},
    routing::{How, ReadPlan, RouteDecision, TriedNodes},
    telemetry,
    token_bucket::TokenBucket,
    topology::{Lane, Lease, Shape, Tick},
};

/// The second attempts that a connection may begin at once, after a quiet time.
const DEPTH: f64 = 10.0;

/// The budget of second attempts. Each routed read that was served earns a share of one.
#[derive(Debug)]
pub(super) struct Hedging {
    share: f64,
    tokens: TokenBucket,
}

impl Hedging {
    /// `None` for a share of zero: then a read does no work for the budget.
    pub(super) fn new(share: f64) -> Option<Self> {
        (share > 0.0).then(|| Self { share, tokens: TokenBucket::full(DEPTH) })
    }

    /// Whether one more read may be started a second time; takes its token.
    fn takes_token(&self, reads: u64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a budget needs no exact count")]
        let earned = reads as f64 * self.share;
        self.tokens.take(earned)
    }
}

pub(super) type RunInRace<T> = for<'d> fn(&'d dyn Driver, Statement, Race) -> BoxFuture<'d, Result<T, DbErr>>;

/// A statement for one attempt in a race.
pub(super) struct RacingStatement<T> {
    pub(super) statement: Statement,
    pub(super) run: RunInRace<T>,
}

/// One of the two attempts.
struct Attempt<T> {
    race: Race,
    run: BoxFuture<'static, Result<T, DbErr>>,
    began: Tick,
}

impl<T: Send + 'static> Attempt<T> {
    fn new(lease: &Lease, racing: RacingStatement<T>, began: Tick) -> Self {
        let (race, driver) = (Race::default(), std::sync::Arc::clone(lease.driver()));
        let RacingStatement { statement, run } = racing;
        let in_race = race.clone();
        Self { race, run: Box::pin(async move { run(&*driver, statement, in_race).await }), began }
    }

    /// The other attempt has answered. The lease lasts until the server has ended this one.
    fn lose(self, lease: Lease) {
        self.race.lose();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                drop(self.run.await);
                drop(lease);
            });
        }
    }
}

/// The second attempt of a read.
struct Second<T> {
    attempt: Attempt<T>,
    lease: Lease,
    how: How,
    record: Option<Box<RouteDecision>>,
}

/// The end of a hedged read.
enum End<T> {
    /// The first attempt ended alone.
    Alone(Result<T, Failed>),
    /// Two attempts ran.
    Raced(Raced<T>, Second<T>),
}

enum Raced<T> {
    /// The first attempt has answered. The second one still runs, or failed.
    First(T, Option<Failed>),
    /// The second attempt has answered. The first one still runs, or failed.
    Second(T, Option<Failed>),
    /// Both attempts failed.
    Neither(Failed, Failed),
}

impl Shared {
    /// Whether a read is hedged: the first attempt at a statement that is a read by its text, on a pool that can end it.
    pub(super) fn may_hedge(&self, operation: &Operation<'_>, journey: &Journey, lease: &Lease) -> bool {
        self.hedging.is_some()
            && lease.lane() == Lane::Read
            && journey.how != How::Alone
            && journey.is_first_attempt()
            && operation.class.is_some_and(|class| class.intent.is_read())
            && lease.driver().racing().is_some()
    }

    /// Runs the first attempt at a read, and another one beside it when the first takes far too long. Returns the end of
    /// the read; `lease` is then the lease of the node that ended it.
    pub(super) async fn hedged<T: Send + 'static>(
        &self,
        operation: &Operation<'_>,
        journey: &mut Journey,
        route: ReadRoute<'_>,
        lease: &mut Lease,
        statement: &mut impl RepeatableRead<T>,
    ) -> Result<T, Failed> {
        let racing = statement.in_race().expect("only a read that may race is hedged");
        let shape = Shape::of(&racing.statement.sql);
        let mut first = Attempt::new(lease, racing, self.now());
        let second = || self.second_attempt(operation, journey, route, lease, statement);
        let end = self.race(journey, lease, &mut first, lease.node().usual().far_beyond(shape), second).await;
        let measure = |lease: &Lease, began: Tick| lease.node().usual().add(shape, self.now().since(began));
        match end {
            End::Alone(result) => {
                if result.is_ok() {
                    measure(lease, first.began);
                }
                result
            }
            End::Raced(Raced::First(value, other), second) => {
                measure(lease, first.began);
                match other {
                    None => {
                        journey.counts_other_attempt();
                        second.attempt.lose(second.lease);
                    }
                    Some(failed) => self.second_failed(journey, &second.lease, failed),
                }
                Ok(value)
            }
            End::Raced(Raced::Second(value, other), second) => {
                let Second { attempt, lease: of_second, how, record } = second;
                measure(&of_second, attempt.began);
                // An answer of the first node would have taken at least so long.
                measure(lease, first.began);
                operation.log(record.as_deref());
                journey.how = how;
                journey.counts_other_attempt();
                let of_first = mem::replace(lease, of_second);
                match other {
                    None => first.lose(of_first),
                    Some(failed) => self.first_failed_alone(journey, &of_first, failed),
                }
                Ok(value)
            }
            End::Raced(Raced::Neither(failed, other), second) => {
                self.second_failed(journey, &second.lease, other);
                Err(failed)
            }
        }
    }

    /// Runs the first attempt, and the second one from the moment in which the first has run for `patience`. Where one of
    /// them fails the other one decides.
    async fn race<T: Send + 'static>(
        &self,
        journey: &Journey,
        lease: &Lease,
        first: &mut Attempt<T>,
        patience: Option<Duration>,
        second: impl FnOnce() -> Option<Second<T>>,
    ) -> End<T> {
        let mut running = pin!(self.follow(journey, lease, &mut first.run));
        let Some(patience) = patience else { return End::Alone(running.await) };
        if let Ok(result) = time::timeout(patience, running.as_mut()).await {
            return End::Alone(result);
        }
        let Some(mut second) = second() else { return End::Alone(running.await) };
        telemetry::read_hedged(lease.node().name(), second.lease.node().name(), patience);
        let raced = {
            let mut other = pin!(self.follow(journey, &second.lease, &mut second.attempt.run));
            tokio::select! {
                biased;
                of_first = running.as_mut() => match of_first {
                    Ok(value) => Raced::First(value, None),
                    Err(failed) => match other.await {
                        Ok(value) => Raced::Second(value, Some(failed)),
                        Err(other) => Raced::Neither(failed, other),
                    },
                },
                of_second = other.as_mut() => match of_second {
                    Ok(value) => Raced::Second(value, None),
                    Err(other) => match running.await {
                        Ok(value) => Raced::First(value, Some(other)),
                        Err(failed) => Raced::Neither(failed, other),
                    },
                },
            }
        };
        End::Raced(raced, second)
    }

    /// Runs one attempt for as long as its node is not lost.
    async fn follow<T: Send + 'static>(
        &self,
        journey: &Journey,
        lease: &Lease,
        run: &mut BoxFuture<'static, Result<T, DbErr>>,
    ) -> Result<T, Failed> {
        let stopwatch = Stopwatch::start(self, lease.node());
        let ended = self.until_lost(journey, lease, Box::pin(run)).await;
        if let (Some(stopwatch), Ok(_)) = (stopwatch, &ended) {
            stopwatch.stop();
        }
        ended
    }

    /// Begins the second attempt, if the budget lasts and another node may serve the read at once.
    #[cold]
    fn second_attempt<T: Send + 'static>(
        &self,
        operation: &Operation<'_>,
        journey: &Journey,
        route: ReadRoute<'_>,
        first: &Lease,
        statement: &mut impl RepeatableRead<T>,
    ) -> Option<Second<T>> {
        let now = self.now();
        let affinity = route.affinity.map(|affinity| affinity.state()).unwrap_or_default();
        let mut tried = TriedNodes::default();
        tried.insert(first.node().id());
        let request = self.request(journey.requirement, tried, route, &affinity);
        let topology = self.cell().load();
        let mut plan = ReadPlan::of(&topology, &request, now);
        let selected = plan.draw(self.policy.as_ref(), &mut self.draws.draw())?;
        let node = &selected.node;
        let is_other = node.id() != first.node().id() && selected.lane == Lane::Read;
        // Reads that only a busy primary is fresh enough for have a budget, and a node that failed has its trials.
        let is_for_busy_primary = selected.how.is_by_staleness() && node.is_read_busy();
        let is_well = !is_for_busy_primary && !node.has_failed() && !node.is_read_exhausted();
        if !is_other || !is_well || !self.hedging.as_ref()?.takes_token(self.reads_served()) {
            return None;
        }
        let record = operation.record(self.router(), |class| {
            RouteDecision::of_plan(&topology, &mut plan, self.policy.as_ref(), class, now).drawn(&topology, &selected)
        });
        let lease =
            Lease::take(selected.node, selected.lane, selected.role).believing(selected.generation, selected.reliance);
        if lease.node().is_retired() || lease.driver().racing().is_none() {
            return None;
        }
        let attempt = Attempt::new(&lease, statement.in_race()?, now);
        Some(Second { attempt, lease, how: selected.how, record })
    }

    /// The second attempt failed. The read, if it goes on, does not come back to that node at once.
    #[cold]
    fn second_failed(&self, journey: &mut Journey, lease: &Lease, failed: Failed) {
        let (_, fault) = failed.on(lease.node());
        self.suspect(lease.node(), fault);
        journey.tried.insert(lease.node().id());
        if fault.ran() == Ran::Unknown || fault == Fault::ReplayConflict {
            journey.counts_other_attempt();
        }
    }

    /// The first attempt failed, and the second one has answered: an error that needs a second opinion was the fault of its
    /// node. Whether a replica is behind in schema, only the primary can say.
    #[cold]
    fn first_failed_alone(&self, journey: &mut Journey, lease: &Lease, failed: Failed) {
        let (_, fault) = failed.on(lease.node());
        self.suspect(lease.node(), fault);
        if fault.needs_second_opinion() && fault != Fault::BehindInSchema && self.may_retry() {
            journey.is_settled_by_answer(lease.node().id(), fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_reads_at_once_and_then_a_share_of_the_reads_are_started_twice() {
        assert!(Hedging::new(0.0).is_none());
        let hedging = Hedging::new(0.02).expect("on");
        assert_eq!((0..1_000).filter(|_| hedging.takes_token(0)).count(), 10);
        assert_eq!((1..=10_000).filter(|reads| hedging.takes_token(*reads)).count(), 200);
    }
}
