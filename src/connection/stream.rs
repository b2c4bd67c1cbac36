//! The rows of a statement as they arrive, and the retry before the first row.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context as Wake, Poll, ready},
};

use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use sea_orm::{DbErr, QueryResult, Statement};
use tracing::Instrument;

use super::{
    arbiter::{AfterRefusal, RejectedRead},
    journey::{Chosen, Journey},
    marks::{SeenMark, WriteEffect, WriteMark},
    next_attempt::{Failure, Next},
    operation::{Attempts, Operation, ReadRoute},
    run::{Failed, RepeatableRead},
    session::{Affinity, ReadRecord},
    shared::{Context, Shared},
};
use crate::{
    driver::{Driver, Fault, Rows, WriteProgress},
    error::Outcome,
    routing::{Refusal, StatementClass},
    telemetry,
    topology::{Lane, Lease, Loss, Node, Silences},
};

/// The rows of one statement.
///
/// As with SeaORM, the statement goes out when the stream is first polled. A routed read that loses its node
/// *before its first row* runs once more on another node, and a read that a server refuses as a write runs on the
/// primary. After the first row the reader gets the error, because rows that were delivered cannot be taken back.
///
/// The stream holds its lease on the node until it is dropped, also through a swap or a drain.
pub struct RowStream<'a> {
    state: StreamState<'a>,
}

/// An item of the stream.
type Item = Option<Result<QueryResult, DbErr>>;

/// The future that opens another attempt.
type Reopening = BoxFuture<'static, Result<StreamState<'static>, DbErr>>;

enum StreamState<'a> {
    /// A routed read that can still lose its node without the reader noticing.
    BeforeFirstRow(Box<Unread>),
    /// Another attempt is being opened.
    Reopening(Reopening),
    /// The stream runs no statement again from here on.
    Flowing(Box<Flow<'a>>),
    Done,
}

/// A routed read before its first row. The read moves to another node when its node goes down.
struct Unread {
    rows: Rows<'static>,
    lease: Lease,
    loss: BoxFuture<'static, Loss>,
    shared: Arc<Shared>,
    again: Again,
}

/// The inputs of another attempt.
struct Again {
    context: Context,
    class: Option<StatementClass>,
    journey: Journey,
    route: ReadRoute<'static>,
    affinity: Option<Arc<Affinity>>,
    statement: Statement,
    /// The refusal before this attempt.
    refused: Option<RejectedRead>,
    /// The error that this attempt was to settle.
    unsettled: Option<DbErr>,
}

impl RepeatableRead<Rows<'static>> for Statement {
    fn start<'d>(&mut self, driver: &'d dyn Driver, _: Attempts) -> BoxFuture<'d, Result<Rows<'static>, DbErr>> {
        driver.stream(self.clone(), None)
    }

    fn sql(&self) -> Option<String> {
        Some(self.sql.clone())
    }
}

impl Again {
    fn operation(&self) -> Operation<'_> {
        Operation { context: &self.context, class: self.class, text: Some(&self.statement.sql) }
    }

    fn seen_mark(&self, shared: &Arc<Shared>, lease: &Lease) -> Option<SeenMark> {
        let read = ReadRecord::new(lease, self.journey.how, self.journey.is_open());
        self.affinity.as_ref().map(|affinity| SeenMark::begin(shared, affinity, read))
    }
}

struct Flow<'a> {
    rows: Rows<'a>,
    shared: Arc<Shared>,
    node: Arc<Node>,
    /// Held until the rows end. `None` inside a transaction, which holds the node itself.
    lease: Option<Lease>,
    loss: BoxFuture<'static, Loss>,
    mark: Option<WriteMark>,
    inside: Option<Inside<'a>>,
    /// A routed read after its first row: its text, and the route that decides about a refusal.
    routed: Option<(String, ReadRoute<'static>)>,
    /// The refusal before a run on the primary, and the text.
    refused: Option<(RejectedRead, String)>,
    /// Ends with the rows.
    _seen: Option<SeenMark>,
}

/// The READ ONLY transaction that a statement runs in.
pub(super) struct Inside<'a> {
    pub(super) lease: &'a Lease,
    pub(super) sql: String,
}

impl RowStream<'static> {
    /// Opens a routed read.
    pub(super) async fn open_read(
        shared: &Arc<Shared>,
        operation: Operation<'_>,
        route: ReadRoute<'_>,
        statement: Statement,
    ) -> Result<Self, DbErr> {
        let again = Again {
            context: operation.context.clone(),
            class: operation.class,
            journey: shared.journey(operation.context, route.among),
            route: ReadRoute { affinity: None, ..route },
            affinity: route.affinity.cloned(),
            statement,
            refused: None,
            unsettled: None,
        };
        Ok(Self { state: open(Arc::clone(shared), again).await? })
    }

    /// Opens a statement that is not a plain read: the statement runs once, on the primary.
    pub(super) async fn open_write(
        shared: &Arc<Shared>,
        operation: Operation<'_>,
        effect: WriteEffect,
        statement: Statement,
    ) -> Result<Self, DbErr> {
        Ok(Self { state: StreamState::Flowing(Box::new(open_write(shared, operation, effect, statement).await?)) })
    }
}

impl<'a> RowStream<'a> {
    /// The rows of a statement inside a transaction; the transaction holds the node.
    pub(super) fn of_transaction(
        rows: Rows<'a>,
        shared: &Arc<Shared>,
        lease: &Lease,
        inside: Option<Inside<'a>>,
    ) -> Self {
        let (shared, node, loss) = (Arc::clone(shared), Arc::clone(lease.node()), loss_of(lease, None));
        Self {
            state: StreamState::Flowing(Box::new(Flow {
                rows,
                shared,
                node,
                lease: None,
                loss,
                mark: None,
                inside,
                routed: None,
                refused: None,
                _seen: None,
            })),
        }
    }
}

impl Unread {
    fn new(rows: Rows<'static>, shared: Arc<Shared>, lease: Lease, again: Again) -> Self {
        let loss = loss_of(&lease, Some(lease.silences()));
        Self { rows, lease, loss, shared, again }
    }

    /// The step that follows the first row, the end of the rows, or an error in their place: the next state, and
    /// the item that the stream yields now, if any.
    fn ended(mut self, item: Result<Option<QueryResult>, Failed>) -> (StreamState<'static>, Option<Item>) {
        let journey = &mut self.again.journey;
        let sql = || Some(self.again.statement.sql.clone());
        let failed = match item {
            Ok(row) => match self.shared.answered(journey, &self.lease, &sql) {
                Next::Again => return (self.reopen(), None),
                _ => return (self.flow(), Some(row.map(Ok))),
            },
            Err(failed) => failed,
        };
        let (error, fault) = failed.on(self.lease.node());
        match self.shared.ended(journey, &self.lease, &Failure { fault, error: &error, sql: &sql }) {
            Next::Again => {
                if journey.is_second_opinion() && self.again.unsettled.is_none() {
                    self.again.unsettled = Some(error);
                }
                (self.reopen(), None)
            }
            Next::Refused(refusal) => self.after_refusal(error, refusal),
            _ => (StreamState::Done, Some(Some(Err(error)))),
        }
    }

    /// The state of a stream that is decided again.
    fn reopen(self) -> StreamState<'static> {
        let Self { rows, lease, shared, again, .. } = self;
        drop((rows, lease));
        StreamState::Reopening(open(shared, again).boxed())
    }

    /// The state after the first row: the other rows follow.
    fn flow(self) -> StreamState<'static> {
        let Self { rows, lease, shared, again, .. } = self;
        if let Some(refused) = &again.refused {
            shared.was_rerun(&again.statement.sql, refused);
        }
        let seen = again.seen_mark(&shared, &lease);
        if let Some(seen) = &seen {
            seen.now();
        }
        let routed = Some((again.statement.sql, again.route));
        StreamState::Flowing(Box::new(Flow { routed, _seen: seen, ..Flow::new(rows, shared, lease, None) }))
    }

    /// The step that follows a refusal.
    fn after_refusal(self, error: DbErr, refusal: Refusal) -> (StreamState<'static>, Option<Item>) {
        let Self { rows, lease, shared, mut again, .. } = self;
        drop(rows);
        let refused = RejectedRead { error, refusal, lease };
        let reopening = match shared.after_refusal(again.route, &refused, &again.statement.sql) {
            AfterRefusal::RunOnPrimary => async move {
                let operation = again.operation().overruled(refused.refusal);
                let flow = open_write(&shared, operation, WriteEffect::Written, again.statement.clone()).await?;
                Ok(StreamState::Flowing(Box::new(Flow { refused: Some((refused, again.statement.sql)), ..flow })))
            }
            .boxed(),
            AfterRefusal::ReadOnPrimary(route) => {
                again.journey = shared.journey(&again.context, route.among);
                again.route = route;
                again.refused = Some(refused);
                open(shared, again).boxed()
            }
            AfterRefusal::Fail => return (StreamState::Done, Some(Some(Err(refused.into_error(again.route))))),
        };
        (StreamState::Reopening(reopening), None)
    }

    /// Polls for a row, the end of the rows, or the failure of this attempt.
    fn poll(&mut self, cx: &mut Wake<'_>) -> Poll<Result<Option<QueryResult>, Failed>> {
        match self.rows.poll_next_unpin(cx) {
            Poll::Ready(item) => Poll::Ready(item.transpose().map_err(Failed::Itself)),
            Poll::Pending => loop {
                let loss = ready!(self.loss.poll_unpin(cx));
                if self.shared.leaves(&self.again.journey, loss) {
                    return Poll::Ready(Err(Failed::NodeLost(loss)));
                }
                self.loss = loss_of(&self.lease, Some(self.lease.node().losses().silences()));
            },
        }
    }
}

/// The loss of the node of a stream, which outlives every borrow. `began` is for a read that can still move.
fn loss_of(lease: &Lease, began: Option<Silences>) -> BoxFuture<'static, Loss> {
    let (node, lane) = (Arc::clone(lease.node()), lease.lane());
    async move { node.losses().wait(lane, began).await }.boxed()
}

/// Opens the next attempt of a routed read.
async fn open(shared: Arc<Shared>, mut again: Again) -> Result<StreamState<'static>, DbErr> {
    let mut journey = again.journey;
    let route = ReadRoute { affinity: again.affinity.as_ref(), ..again.route };
    let operation = again.operation();
    let mut statement = again.statement.clone();
    let opened = shared.read(&operation, &mut journey, route, &mut statement).await;
    let (rows, lease) = opened.map_err(|unserved| again.unsettled.take().unwrap_or_else(|| unserved.into_error()))?;
    again.journey = journey;
    if lease.lane() == Lane::Read {
        return Ok(StreamState::BeforeFirstRow(Box::new(Unread::new(rows, shared, lease, again))));
    }
    // The read-write lane serves the read as SeaORM alone would.
    let seen = again.seen_mark(&shared, &lease);
    Ok(StreamState::Flowing(Box::new(Flow { _seen: seen, ..Flow::new(rows, shared, lease, None) })))
}

async fn open_write(
    shared: &Arc<Shared>,
    operation: Operation<'_>,
    effect: WriteEffect,
    statement: Statement,
) -> Result<Flow<'static>, DbErr> {
    let Chosen { lease, record } = shared.choose_primary(operation).await?;
    let progress = WriteProgress::queued();
    let mark = WriteMark::following(shared, &operation.context.session, effect, progress.clone());
    let span = telemetry::route_span(record.as_deref());
    match lease.driver().stream(statement, Some(progress)).instrument(span).await {
        Ok(rows) => {
            lease.served();
            Ok(Flow::new(rows, Arc::clone(shared), lease, Some(mark)))
        }
        Err(error) => {
            shared.suspect(lease.node(), Fault::of(&error));
            let error = Err(error);
            mark.ended(&error);
            error
        }
    }
}

impl<'a> Flow<'a> {
    fn new(rows: Rows<'a>, shared: Arc<Shared>, lease: Lease, mark: Option<WriteMark>) -> Self {
        let (node, loss) = (Arc::clone(lease.node()), loss_of(&lease, None));
        let lease = Some(lease);
        Self { rows, shared, node, lease, loss, mark, inside: None, routed: None, refused: None, _seen: None }
    }

    /// Handles a refusal in the middle of the rows, which cannot come from another node any more.
    fn refused_late(&mut self, error: DbErr) -> DbErr {
        if let Some(Inside { lease, sql }) = self.inside.take() {
            return self.shared.refused_in_transaction(lease, &sql, error);
        }
        match (self.routed.take(), &self.lease) {
            (Some((sql, route)), Some(lease)) if lease.lane() == Lane::Read => {
                self.shared.refused_late(route, lease, &sql, error)
            }
            _ => error,
        }
    }

    /// Polls for a row, the end of the rows, or the error that ends them.
    fn poll(&mut self, cx: &mut Wake<'_>) -> Poll<Option<Result<QueryResult, DbErr>>> {
        let item = self.rows.poll_next_unpin(cx);
        if item.is_pending() {
            let loss = ready!(self.loss.poll_unpin(cx));
            // A statement that writes may happen yet, and its mark follows the statement.
            let outcome = if self.mark.take().is_some() { Outcome::Unknown } else { Outcome::NothingChanged };
            self.rows = futures_util::stream::empty().boxed();
            return Poll::Ready(Some(Err(loss.error(&self.node, outcome).into())));
        }
        // The end of the rows, or an error in their place, is the end of the statement: the floor rises now, not
        // when the stream happens to be dropped.
        let fault = match &item {
            Poll::Pending => return item,
            Poll::Ready(Some(Err(error))) => {
                if let Some((refused, sql)) = self.refused.take() {
                    self.shared.was_refused_twice(&sql, &refused, error);
                }
                Some(Fault::of(error))
            }
            Poll::Ready(Some(Ok(_)) | None) => {
                if let Some((refused, sql)) = self.refused.take() {
                    self.shared.was_rerun(&sql, &refused);
                }
                if let Poll::Ready(Some(_)) = item {
                    return item;
                }
                None
            }
        };
        if let Some(fault) = fault {
            self.shared.suspect(&self.node, fault);
        }
        if let Some(mark) = self.mark.take() {
            mark.ended_with(fault);
        }
        match (item, fault) {
            (Poll::Ready(Some(Err(error))), Some(Fault::ReadOnlySession)) => {
                Poll::Ready(Some(Err(self.refused_late(error))))
            }
            (item, _) => item,
        }
    }
}

impl Stream for RowStream<'_> {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Wake<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::mem::replace(&mut self.state, StreamState::Done) {
                StreamState::Done => return Poll::Ready(None),
                StreamState::BeforeFirstRow(mut unread) => {
                    let Poll::Ready(item) = unread.poll(cx) else {
                        self.state = StreamState::BeforeFirstRow(unread);
                        return Poll::Pending;
                    };
                    let (next, yielded) = unread.ended(item);
                    self.state = next;
                    if let Some(item) = yielded {
                        return Poll::Ready(item);
                    }
                }
                StreamState::Reopening(mut reopening) => match reopening.poll_unpin(cx) {
                    Poll::Pending => {
                        self.state = StreamState::Reopening(reopening);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(state)) => self.state = state,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                },
                StreamState::Flowing(mut flow) => {
                    let item = flow.poll(cx);
                    if !matches!(item, Poll::Ready(None)) {
                        self.state = StreamState::Flowing(flow);
                    }
                    return item;
                }
            }
        }
    }
}

impl fmt::Debug for RowStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream").finish_non_exhaustive()
    }
}
