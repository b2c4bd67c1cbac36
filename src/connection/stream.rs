//! The rows of a statement as they arrive, and their second chance.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context as Wake, Poll},
};

use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use sea_orm::{DbErr, QueryResult, Statement};

use super::{
    core::{Context, Core},
    run::{Asked, Attempts, Failed, ReadRoute, WriteMark, until_down},
};
use crate::{
    driver::{Fault, Rows},
    telemetry,
    topology::{Lane, Lease, Node},
};

/// The rows of one statement.
///
/// As with SeaORM, the statement goes out when the stream is first polled. A routed read that
/// loses its node *before its first row* runs once more on another node; after the first row the
/// error comes through, because rows that were seen cannot be taken back.
///
/// The stream holds its place on the node until it is dropped, also through a swap or a drain.
pub struct RowStream<'a> {
    state: State<'a>,
}

/// The second attempt on its way.
type Reopening = BoxFuture<'static, Result<Hopeful, DbErr>>;

enum State<'a> {
    /// A routed read that can still lose its node without anybody noticing.
    BeforeFirstRow(Box<Hopeful>),
    /// The second attempt is being opened.
    Reopening(Reopening),
    /// Nothing runs again from here on.
    Flowing(Flow<'a>),
    Done,
}

/// A routed read before its first row. It moves on when its node goes down.
struct Hopeful {
    rows: Rows<'static>,
    lease: Lease,
    down: BoxFuture<'static, ()>,
    core: Arc<Core>,
    /// What a second attempt needs; `None` for the second one.
    chance: Option<Chance>,
}

struct Chance {
    context: Context,
    asked: Asked,
    alone: Lane,
    again: Statement,
}

struct Flow<'a> {
    rows: Rows<'a>,
    core: Arc<Core>,
    node: Arc<Node>,
    /// Held until the rows end. None inside a transaction, which holds the node itself.
    _lease: Option<Lease>,
    mark: Option<WriteMark>,
}

impl RowStream<'static> {
    /// Opens a routed read.
    pub(super) async fn open_read(
        core: &Arc<Core>,
        context: &Context,
        route: ReadRoute<'_>,
        statement: Statement,
    ) -> Result<Self, DbErr> {
        let asked = core.ask(context, route);
        let again = statement.clone();
        let mut first = Some(statement);
        let mut attempts = Attempts::More;
        let (rows, lease) = core
            .read(asked, route, |driver, more| {
                attempts = more;
                driver.stream(first.take().unwrap_or_else(|| again.clone()))
            })
            .await?;
        if lease.lane() == Lane::Write {
            return Ok(Self { state: State::Flowing(Flow::new(rows, Arc::clone(core), lease, None)) });
        }
        // A read that found its node in a second attempt has had its chance.
        let chance =
            (attempts == Attempts::More).then(|| Chance { context: context.clone(), asked, alone: route.alone, again });
        Ok(Self { state: State::BeforeFirstRow(Box::new(Hopeful::new(rows, Arc::clone(core), lease, chance))) })
    }

    /// The rows of something that is not a plain read: it runs once.
    pub(super) fn of_write(rows: Rows<'static>, core: Arc<Core>, lease: Lease, mark: WriteMark) -> Self {
        Self { state: State::Flowing(Flow::new(rows, core, lease, Some(mark))) }
    }
}

impl<'a> RowStream<'a> {
    /// The rows of a statement inside a transaction, which holds the node itself.
    pub(super) fn of_transaction(rows: Rows<'a>, core: &Arc<Core>, node: &Arc<Node>) -> Self {
        let flow = Flow { rows, core: Arc::clone(core), node: Arc::clone(node), _lease: None, mark: None };
        Self { state: State::Flowing(flow) }
    }
}

impl Hopeful {
    fn new(rows: Rows<'static>, core: Arc<Core>, lease: Lease, chance: Option<Chance>) -> Self {
        let node = Arc::clone(lease.node());
        let down = async move { node.down().wait().await }.boxed();
        Self { rows, lease, down, core, chance }
    }

    /// Gives this attempt up and opens another on another node, if that may be.
    fn retry(self, error: DbErr, fault: Fault) -> Result<Reopening, DbErr> {
        self.core.suspect(self.lease.node(), fault);
        let Self { rows, lease, core, chance, .. } = self;
        let Some(chance) = chance.filter(|_| core.may_retry(fault, Attempts::More)) else { return Err(error) };
        telemetry::read_retried(lease.node().name(), fault);
        drop(rows);
        let tried = lease.node().id();
        drop(lease);
        Ok(async move {
            let Chance { context, asked, alone, again } = chance;
            let route = ReadRoute { kept: context.session.kept(), alone, ..ReadRoute::anywhere() };
            let lease = core.choose(Asked { at: core.now(), ..asked }, route, Some(tried)).await?;
            match until_down(&lease, lease.driver().stream(again)).await {
                Ok(rows) => {
                    lease.served();
                    Ok(Self::new(rows, core, lease, None))
                }
                Err(failed) => {
                    let (error, fault) = failed.on(lease.node());
                    core.suspect(lease.node(), fault);
                    Err(error)
                }
            }
        }
        .boxed())
    }

    /// A row, the end, or what became of this attempt.
    fn poll(&mut self, cx: &mut Wake<'_>) -> Poll<Result<Option<QueryResult>, Failed>> {
        match self.rows.poll_next_unpin(cx) {
            Poll::Ready(item) => Poll::Ready(item.transpose().map_err(Failed::Itself)),
            Poll::Pending => self.down.poll_unpin(cx).map(|()| Err(Failed::NodeWentDown)),
        }
    }
}

impl<'a> Flow<'a> {
    fn new(rows: Rows<'a>, core: Arc<Core>, lease: Lease, mark: Option<WriteMark>) -> Self {
        Self { rows, core, node: Arc::clone(lease.node()), _lease: Some(lease), mark }
    }

    fn poll(&mut self, cx: &mut Wake<'_>) -> Poll<Option<Result<QueryResult, DbErr>>> {
        let item = self.rows.poll_next_unpin(cx);
        // The end of the rows, or an error in their place, is the end of the statement: the floor
        // rises now, not when the stream happens to be dropped.
        let fault = match &item {
            Poll::Pending | Poll::Ready(Some(Ok(_))) => return item,
            Poll::Ready(None) => None,
            Poll::Ready(Some(Err(error))) => Some(Fault::of(error)),
        };
        if let Some(fault) = fault {
            self.core.suspect(&self.node, fault);
        }
        if let Some(mark) = self.mark.take() {
            mark.ended_with(fault);
        }
        item
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
                    Poll::Ready(Ok(row)) => {
                        let Hopeful { rows, lease, core, .. } = *hopeful;
                        self.state = State::Flowing(Flow::new(rows, core, lease, None));
                        return Poll::Ready(row.map(Ok));
                    }
                    Poll::Ready(Err(failed)) => {
                        let (error, fault) = failed.on(hopeful.lease.node());
                        match hopeful.retry(error, fault) {
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
                    Poll::Ready(Ok(hopeful)) => self.state = State::BeforeFirstRow(Box::new(hopeful)),
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
