//! The rows of a statement as they arrive, and their second chance.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context as Wake, Poll},
};

use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use sea_orm::{DbErr, QueryResult, Statement};
use tracing::Instrument;

use super::{
    arbiter::{AfterRefusal, RejectedRead, Unserved},
    run::{
        Asked, Certainty, Chosen, Failed, Operation, ReadRoute, SeenMark, WriteEffect, WriteMark, has_another_pool,
        until_down,
    },
    session::KeptNode,
    shared::{Context, Shared},
};
use crate::{
    driver::{Fault, Rows},
    routing::{Refusal, Requirement, StatementClass},
    telemetry,
    topology::{Lane, Lease, Node, NodeId},
};

/// The rows of one statement.
///
/// As with SeaORM, the statement goes out when the stream is first polled. A routed read that
/// loses its node *before its first row* runs once more on another node, and one that a server refuses
/// as a write runs on the primary; after the first row the error comes through, because rows that were
/// seen cannot be taken back.
///
/// The stream holds its place on the node until it is dropped, also through a swap or a drain.
pub struct RowStream<'a> {
    state: State<'a>,
}

/// Another attempt on its way.
type Reopening = BoxFuture<'static, Result<State<'static>, DbErr>>;

enum State<'a> {
    /// A routed read that can still lose its node without anybody noticing.
    BeforeFirstRow(Box<Hopeful>),
    /// Another attempt is being opened.
    Reopening(Reopening),
    /// Nothing runs again from here on.
    Flowing(Box<Flow<'a>>),
    Done,
}

/// A routed read before its first row. It moves on when its node goes down.
struct Hopeful {
    rows: Rows<'static>,
    lease: Lease,
    down: BoxFuture<'static, ()>,
    shared: Arc<Shared>,
    again: Again,
}

/// What another attempt needs.
struct Again {
    context: Context,
    class: Option<StatementClass>,
    requirement: Requirement,
    route: ReadRoute<'static>,
    kept: Option<Arc<KeptNode>>,
    statement: Statement,
    /// Whether the node of this attempt is the first one.
    is_first: bool,
    /// What a server refused before this attempt.
    refused: Option<RejectedRead>,
}

impl Again {
    fn operation(&self) -> Operation<'_> {
        Operation { context: &self.context, class: self.class, text: Some(&self.statement.sql) }
    }

    fn route(&self) -> ReadRoute<'_> {
        ReadRoute { kept: self.kept.as_ref(), ..self.route }
    }
}

struct Flow<'a> {
    rows: Rows<'a>,
    shared: Arc<Shared>,
    node: Arc<Node>,
    /// Held until the rows end. None inside a transaction, which holds the node itself.
    lease: Option<Lease>,
    mark: Option<WriteMark>,
    inside: Option<Inside<'a>>,
    /// For a routed read after its first row: what it was, and what becomes of it when it is refused now.
    routed: Option<(String, ReadRoute<'static>)>,
    /// What a server refused, and the primary perhaps runs.
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
        let mut first = Some(statement.clone());
        let mut attempts = 0;
        let asked = shared.ask(&operation, route);
        let read = shared.read(&asked, route, |driver, _| {
            attempts += 1;
            driver.stream(first.take().unwrap_or_else(|| statement.clone()), None)
        });
        let (rows, lease) = read.await.map_err(Unserved::into_error)?;
        let shared = Arc::clone(shared);
        let state = if lease.lane() == Lane::Write {
            let _seen = route.kept.cloned().map(|kept| SeenMark::begin(&shared, kept, &lease));
            State::Flowing(Box::new(Flow { _seen, ..Flow::new(rows, shared, lease, None) }))
        } else {
            let kept = route.kept.cloned();
            let route = ReadRoute { kept: None, ..route };
            let again = Again {
                kept,
                context: operation.context.clone(),
                class: operation.class,
                requirement: asked.requirement,
                route,
                statement,
                is_first: attempts == 1,
                refused: None,
            };
            State::BeforeFirstRow(Box::new(Hopeful::new(rows, shared, lease, again)))
        };
        Ok(Self { state })
    }

    /// Opens something that is not a plain read: it runs once, on the primary.
    pub(super) async fn open_write(
        shared: &Arc<Shared>,
        operation: Operation<'_>,
        effect: WriteEffect,
        statement: Statement,
    ) -> Result<Self, DbErr> {
        Ok(Self { state: State::Flowing(Box::new(open_write(shared, operation, effect, statement).await?)) })
    }
}

impl<'a> RowStream<'a> {
    /// The rows of a statement inside a transaction, which holds the node itself.
    pub(super) fn of_transaction(
        rows: Rows<'a>,
        shared: &Arc<Shared>,
        node: &Arc<Node>,
        inside: Option<Inside<'a>>,
    ) -> Self {
        let (shared, node) = (Arc::clone(shared), Arc::clone(node));
        Self {
            state: State::Flowing(Box::new(Flow {
                rows,
                shared,
                node,
                lease: None,
                mark: None,
                inside,
                routed: None,
                refused: None,
                _seen: None,
            })),
        }
    }
}

impl Hopeful {
    fn new(rows: Rows<'static>, shared: Arc<Shared>, lease: Lease, again: Again) -> Self {
        let node = Arc::clone(lease.node());
        let down = async move { node.down().wait().await }.boxed();
        Self { rows, lease, down, shared, again }
    }

    /// Gives this attempt up and opens another, if that may be.
    fn once_more(self, error: DbErr, fault: Fault) -> Result<Reopening, DbErr> {
        self.shared.suspect(self.lease.node(), fault);
        match Shared::refusal(&self.lease, fault) {
            Some(refusal) => self.after_refusal(error, refusal),
            None => self.retry(error, fault),
        }
    }

    /// On another node.
    fn retry(self, error: DbErr, fault: Fault) -> Result<Reopening, DbErr> {
        let Self { rows, lease, shared, again, .. } = self;
        if fault == Fault::Closed && has_another_pool(&lease) {
            return Ok(reopen(shared, again, None).boxed()); // It did not run, and this is not the node's doing.
        }
        if shared.topology().is_single() || !again.is_first || !shared.may_retry(fault) {
            return Err(error);
        }
        telemetry::read_retried(lease.node().name(), fault);
        drop(rows);
        let tried = lease.node().id();
        drop(lease);
        Ok(reopen(shared, Again { is_first: false, ..again }, Some(tried)).boxed())
    }

    /// Where a statement runs that a server refused.
    fn after_refusal(self, error: DbErr, refusal: Refusal) -> Result<Reopening, DbErr> {
        let Self { rows, lease, shared, mut again, .. } = self;
        drop(rows);
        let refused = RejectedRead { error, refusal, lease };
        match shared.after_refusal(again.route, &refused, &again.statement.sql) {
            AfterRefusal::RunOnPrimary => Ok(async move {
                let operation = again.operation().overruled(refused.refusal);
                let flow = open_write(&shared, operation, WriteEffect::Written, again.statement.clone()).await?;
                Ok(State::Flowing(Box::new(Flow { refused: Some((refused, again.statement.sql)), ..flow })))
            }
            .boxed()),
            AfterRefusal::ReadOnPrimary(route) => {
                again.requirement = shared.ask(&again.operation(), route).requirement;
                again.route = route;
                again.refused = Some(refused);
                Ok(reopen(shared, again, None).boxed())
            }
            AfterRefusal::Fail => Err(refused.into_error(again.route)),
        }
    }

    /// A row, the end, or what became of this attempt.
    fn poll(&mut self, cx: &mut Wake<'_>) -> Poll<Result<Option<QueryResult>, Failed>> {
        match self.rows.poll_next_unpin(cx) {
            Poll::Ready(item) => Poll::Ready(item.transpose().map_err(Failed::Itself)),
            Poll::Pending => self.down.poll_unpin(cx).map(|()| Err(Failed::NodeWentDown)),
        }
    }
}

async fn open_write(
    shared: &Arc<Shared>,
    operation: Operation<'_>,
    effect: WriteEffect,
    statement: Statement,
) -> Result<Flow<'static>, DbErr> {
    let session = operation.context.session.clone();
    let mark = WriteMark::begin(Arc::clone(shared), session, effect, Certainty::Unknown);
    let Chosen { lease, record, .. } = shared.choose_primary(operation).await;
    let span = telemetry::route_span(record.as_deref());
    match lease.driver().stream(statement, None).instrument(span).await {
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

/// Opens another attempt of a routed read.
async fn reopen(shared: Arc<Shared>, again: Again, tried: Option<NodeId>) -> Result<State<'static>, DbErr> {
    let operation = again.operation();
    let asked = Asked { operation: &operation, at: shared.now(), requirement: again.requirement };
    loop {
        let Chosen { lease, record, .. } = shared.choose(asked, again.route(), tried).await?;
        let span = telemetry::route_span(record.as_deref());
        match until_down(&lease, lease.driver().stream(again.statement.clone(), None)).instrument(span).await {
            Ok(rows) => {
                lease.served();
                return Ok(State::BeforeFirstRow(Box::new(Hopeful::new(rows, shared, lease, again))));
            }
            Err(failed) => {
                let (error, fault) = failed.on(lease.node());
                shared.suspect(lease.node(), fault);
                if fault == Fault::Closed && has_another_pool(&lease) {
                    continue; // It did not run, and this is not the node's doing.
                }
                return Err(error);
            }
        }
    }
}

impl<'a> Flow<'a> {
    fn new(rows: Rows<'a>, shared: Arc<Shared>, lease: Lease, mark: Option<WriteMark>) -> Self {
        let node = Arc::clone(lease.node());
        Self { rows, shared, node, lease: Some(lease), mark, inside: None, routed: None, refused: None, _seen: None }
    }

    /// A server refused to go on, in rows that can no longer come from elsewhere.
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

    fn poll(&mut self, cx: &mut Wake<'_>) -> Poll<Option<Result<QueryResult, DbErr>>> {
        let item = self.rows.poll_next_unpin(cx);
        // The end of the rows, or an error in their place, is the end of the statement: the floor
        // rises now, not when the stream happens to be dropped.
        let fault = match &item {
            Poll::Pending => return item,
            Poll::Ready(Some(Err(error))) => Some(Fault::of(error)),
            Poll::Ready(Some(Ok(_)) | None) => {
                if let Some((refused, sql)) = self.refused.take() {
                    self.shared.was_overruled(&sql, &refused);
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
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::BeforeFirstRow(mut hopeful) => match hopeful.poll(cx) {
                    Poll::Pending => {
                        self.state = State::BeforeFirstRow(hopeful);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(_)) if hopeful.lease.is_invalidated(&hopeful.shared.cell().load()) => {
                        let Hopeful { lease, shared, again, .. } = *hopeful;
                        drop(lease);
                        self.state = State::Reopening(reopen(shared, again, None).boxed());
                    }
                    Poll::Ready(Ok(row)) => {
                        let Hopeful { rows, lease, shared, again, .. } = *hopeful;
                        if let Some(refused) = &again.refused {
                            shared.was_overruled(&again.statement.sql, refused);
                        }
                        let _seen = again.kept.map(|kept| SeenMark::begin(&shared, kept, &lease));
                        if let Some(seen) = &_seen {
                            seen.now();
                        }
                        let routed = Some((again.statement.sql, again.route));
                        let flow = Flow { routed, _seen, ..Flow::new(rows, shared, lease, None) };
                        self.state = State::Flowing(Box::new(flow));
                        return Poll::Ready(row.map(Ok));
                    }
                    Poll::Ready(Err(failed)) => {
                        let (error, fault) = failed.on(hopeful.lease.node());
                        match hopeful.once_more(error, fault) {
                            Ok(reopening) => self.state = State::Reopening(reopening),
                            Err(error) => return Poll::Ready(Some(Err(error))),
                        }
                    }
                },
                State::Reopening(mut reopening) => match reopening.poll_unpin(cx) {
                    Poll::Pending => {
                        self.state = State::Reopening(reopening);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(state)) => self.state = state,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                },
                State::Flowing(mut flow) => {
                    let item = flow.poll(cx);
                    if !matches!(item, Poll::Ready(None)) {
                        self.state = State::Flowing(flow);
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
