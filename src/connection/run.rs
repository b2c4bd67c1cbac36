//! How one operation runs on the node that was chosen for it: a plain read perhaps more than once, everything else once.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::{DbErr, TransactionOptions};
use tracing::Instrument;

use super::{
    arbiter::{RejectedRead, Unserved},
    hedge::RacingStatement,
    journey::{Chosen, Journey},
    marks::{WriteEffect, WriteMark},
    next_attempt::{Failure, Next},
    operation::{Attempts, Operation, ReadRoute},
    session::ReadRecord,
    shared::Shared,
    stopwatch::Stopwatch,
};
use crate::{
    driver::{Driver, DriverTransaction, Fault, WriteProgress},
    error::Outcome,
    routing::How,
    telemetry,
    topology::{Lane, Lease, Loss, Node},
};

/// A read that can be sent again.
pub(super) trait RepeatableRead<T>: Send + Sync {
    /// Begins one attempt.
    fn start<'d>(&mut self, driver: &'d dyn Driver, attempts: Attempts) -> BoxFuture<'d, Result<T, DbErr>>;

    /// Makes a statement for one attempt in a race; `None` for a read that is never hedged.
    fn in_race(&mut self) -> Option<RacingStatement<T>> {
        None
    }

    /// Whether the read can be hedged.
    fn may_race(&self) -> bool {
        false
    }

    /// The text of the statement; `None` for a read without a statement of its own, and after the last attempt of a
    /// statement that cannot be built again.
    fn sql(&self) -> Option<String>;

    /// The part of the read that one attempt runs.
    fn extent(&self) -> Extent {
        Extent::Opening
    }
}

/// The part of a read that one attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// A statement with all its rows: the time of the attempt tells how fast the node is.
    Statement,
    /// A BEGIN, a ping, or the session of a stream, whose statement goes out later.
    Opening,
}

/// Asks whether the server answers.
pub(super) struct PingRead;

impl RepeatableRead<()> for PingRead {
    fn start<'d>(&mut self, driver: &'d dyn Driver, _: Attempts) -> BoxFuture<'d, Result<(), DbErr>> {
        driver.ping()
    }

    fn sql(&self) -> Option<String> {
        None
    }
}

/// Begins a transaction that only reads.
impl RepeatableRead<Box<dyn DriverTransaction>> for TransactionOptions {
    fn start<'d>(
        &mut self,
        driver: &'d dyn Driver,
        _: Attempts,
    ) -> BoxFuture<'d, Result<Box<dyn DriverTransaction>, DbErr>> {
        driver.begin(*self)
    }

    fn sql(&self) -> Option<String> {
        None
    }
}

impl Shared {
    /// Runs a plain read on the node decided for it, and again where the journey says so.
    ///
    /// # Cancel safety
    /// Dropping the future gives its lease back; the server may go on with the read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: &Operation<'_>,
        journey: &mut Journey,
        route: ReadRoute<'_>,
        statement: &mut impl RepeatableRead<T>,
    ) -> Result<(T, Lease), Unserved> {
        // The error that a second node was to confirm.
        let mut unsettled: Option<Box<DbErr>> = None;
        loop {
            let Chosen { mut lease, record } = match self.choose(operation, journey, route).await {
                Ok(chosen) => chosen,
                Err(error) => return Err(Unserved::Failed(unsettled.map_or(error, |first| *first))),
            };
            // Outside of the read-write lane even the last attempt keeps the statement: the server may refuse the
            // read.
            let attempts = match lease.lane() {
                Lane::Read => Attempts::More,
                Lane::Write => Attempts::Last,
            };
            let outcome = if statement.may_race() && self.may_hedge(operation, journey, &lease) {
                // Boxed, so that the future of a read that is not hedged is the smaller one.
                let span = telemetry::route_span(record.as_deref());
                let hedged = self.hedged(operation, journey, route, &mut lease, statement);
                Box::pin(hedged.instrument(span)).await
            } else {
                let stopwatch = match statement.extent() {
                    Extent::Statement => Stopwatch::start(self, lease.node()),
                    Extent::Opening => None,
                };
                let attempt = statement.start(&**lease.driver(), attempts);
                let outcome = match record {
                    None => self.until_lost(journey, &lease, attempt).await,
                    // Boxed, so that the future of a read without a record is the smaller one.
                    Some(record) => {
                        let span = telemetry::route_span(Some(&record));
                        Box::pin(self.until_lost(journey, &lease, attempt).instrument(span)).await
                    }
                };
                if let (Some(stopwatch), Ok(_)) = (stopwatch, &outcome) {
                    stopwatch.stop();
                }
                outcome
            };
            match outcome {
                Ok(value) => match self.answered(journey, &lease, &|| statement.sql()) {
                    Next::Served => {
                        if attempts == Attempts::Last
                            && let Some(error) = self.primary_is_a_replica(&self.cell().load())
                        {
                            return Err(Unserved::Failed(error));
                        }
                        lease.served();
                        if let Some(affinity) = route.affinity {
                            self.has_read(affinity, ReadRecord::new(&lease, journey.how, journey.is_open()));
                        }
                        return Ok((value, lease));
                    }
                    _ if attempts == Attempts::Last => return Ok((value, lease)),
                    _ => {}
                },
                Err(failed) => {
                    let (error, fault) = failed.on(lease.node());
                    let failure = Failure { fault, error: &error, sql: &|| statement.sql() };
                    match self.ended(journey, &lease, &failure) {
                        Next::Refused(refusal) => {
                            return Err(Unserved::Refused(RejectedRead { error, refusal, lease }));
                        }
                        Next::Again if attempts == Attempts::More || statement.sql().is_some() => {
                            if journey.is_second_opinion() && unsettled.is_none() {
                                unsettled = Some(Box::new(error));
                            }
                        }
                        _ => return Err(self.unserved(journey, &lease, error, fault)),
                    }
                }
            }
        }
    }

    /// Runs a read for as long as its node is not lost. A read whose connection may be dead moves while the budget of
    /// retries lasts, and goes on otherwise: the node may only be slow.
    pub(super) async fn until_lost<T>(
        &self,
        journey: &Journey,
        lease: &Lease,
        mut run: BoxFuture<'_, Result<T, DbErr>>,
    ) -> Result<T, Failed> {
        let losses = lease.node().losses();
        let mut silences = lease.silences();
        loop {
            // Written out, because the future of every read holds this one.
            let raised = losses.raised();
            if let Some(loss) = losses.seen(lease.lane(), Some(silences)) {
                if self.leaves(journey, loss) {
                    return Err(Failed::NodeLost(loss));
                }
                silences = losses.silences();
            }
            tokio::select! {
                biased;
                result = &mut run => return result.map_err(Failed::Itself),
                () = raised => {}
            }
        }
    }

    /// Whether a read leaves its node for this reason.
    pub(super) fn leaves(&self, journey: &Journey, loss: Loss) -> bool {
        loss != Loss::SilentConnections || journey.may_move() && self.may_retry()
    }

    /// Runs everything that is not a plain read: on the primary, once.
    ///
    /// # Errors
    /// Those of the statement; also, a read was answered by a server that says it is a replica, or the server stopped
    /// answering.
    ///
    /// # Cancel safety
    /// Dropping the future while the statement waits for a connection runs nothing. Dropping it later leaves the outcome
    /// unknown: an explicit session then reads from the primary for `unknown_outcome_hold`.
    pub(super) async fn write<T, F>(
        self: &Arc<Self>,
        operation: Operation<'_>,
        effect: WriteEffect,
        run: F,
    ) -> Result<(T, Lease), DbErr>
    where
        F: for<'d> FnOnce(&'d dyn Driver, WriteProgress) -> BoxFuture<'d, Result<T, DbErr>>,
    {
        let Chosen { lease, record } = self.choose_primary(operation).await?;
        let progress = WriteProgress::queued();
        let mark = WriteMark::following(self, &operation.context.session, effect, progress.clone());
        let running = run(&**lease.driver(), progress.clone()).instrument(telemetry::route_span(record.as_deref()));
        let result = tokio::select! {
            biased;
            result = running => result,
            loss = lease.lost() => {
                // The mark follows the statement, which may happen yet.
                drop(mark);
                let outcome = if progress.is_sent() { Outcome::Unknown } else { Outcome::NothingChanged };
                return Err(loss.error(lease.node(), outcome).into());
            }
        };
        mark.ended(&result);
        let value = result.inspect_err(|error| self.suspect(lease.node(), Fault::of(error)))?;
        // A new connection may have met another server than the primary. What that server answered to a read or a BEGIN may be older
        // than what was acknowledged before; a write that it acknowledged stays acknowledged.
        if operation.class.is_none_or(|class| class.intent.is_read())
            && let Some(error) = self.primary_is_a_replica(&self.cell().load())
        {
            return Err(error);
        }
        lease.served();
        // A session has seen what it read on the primary, too. (A BEGIN reads nothing.)
        if let (WriteEffect::Nothing, Some(_), Some(affinity)) =
            (effect, operation.class, operation.context.session.affinity())
        {
            self.has_read(affinity, ReadRecord::new(&lease, How::Forced, false));
        }
        Ok((value, lease))
    }
}

/// Why an attempt at a read has no answer.
pub(super) enum Failed {
    Itself(DbErr),
    NodeLost(Loss),
}

impl Failed {
    /// The error, and what it proves about the node.
    pub(super) fn on(self, node: &Node) -> (DbErr, Fault) {
        match self {
            Self::Itself(error) => {
                let fault = Fault::of(&error);
                (error, fault)
            }
            Self::NodeLost(loss) => (loss.error(node, Outcome::NothingChanged).into(), Fault::NodeDown),
        }
    }
}
