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
    run::{Asked, Attempts, ReadRoute, WriteMark},
};
use crate::{
    Error,
    driver::{Fault, Rows},
    error::Kind,
    telemetry,
    topology::{Lane, Lease},
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
type Reopening = BoxFuture<'static, Result<(Rows<'static>, Lease), DbErr>>;

enum State<'a> {
    /// A routed read that may still run again.
    BeforeFirstRow(Box<Hopeful>),
    /// The second attempt is being opened.
    Reopening(Reopening),
    /// Nothing can run again from here on.
    Flowing {
        rows: Rows<'a>,
        lease: Option<Lease>,
        mark: Option<WriteMark>,
        ended: Ended,
    },
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Not,
    WithError(Fault),
}

struct Hopeful {
    rows: Rows<'static>,
    lease: Lease,
    down: BoxFuture<'static, ()>,
    core: Arc<Core>,
    context: Context,
    asked: Asked,
    again: Statement,
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
        let (rows, lease) =
            core.read(asked, route, |driver, _| driver.stream(first.take().unwrap_or_else(|| again.clone()))).await?;
        if lease.lane() == Lane::Write {
            return Ok(Self { state: State::Flowing { rows, lease: Some(lease), mark: None, ended: Ended::Not } });
        }
        let node = Arc::clone(lease.node());
        let down = async move { node.down().wait().await }.boxed();
        let hopeful = Hopeful { rows, lease, down, core: Arc::clone(core), context: context.clone(), asked, again };
        Ok(Self { state: State::BeforeFirstRow(Box::new(hopeful)) })
    }

    /// The rows of something that is not a plain read: it runs once.
    pub(super) fn of_write(rows: Rows<'static>, lease: Lease, mark: WriteMark) -> Self {
        Self { state: State::Flowing { rows, lease: Some(lease), mark: Some(mark), ended: Ended::Not } }
    }
}

impl<'a> RowStream<'a> {
    /// The rows of a statement inside a transaction, which holds the node itself.
    pub(super) fn of_transaction(rows: Rows<'a>) -> Self {
        Self { state: State::Flowing { rows, lease: None, mark: None, ended: Ended::Not } }
    }
}

impl Hopeful {
    /// Gives this attempt up and opens another on another node, if that may be.
    fn retry(self, error: DbErr, fault: Fault) -> Result<Reopening, DbErr> {
        self.core.suspect(self.lease.node(), fault);
        if !self.core.may_retry(fault, Attempts::More) {
            return Err(error);
        }
        telemetry::read_retried(self.lease.node().name(), fault);
        let Self { rows, lease, core, context, asked, again, .. } = self;
        drop(rows);
        let tried = lease.node().id();
        drop(lease);
        Ok(async move {
            let route = ReadRoute { kept: context.session.kept(), ..ReadRoute::anywhere() };
            let lease = core.choose(Asked { at: core.now(), ..asked }, route, Some(tried)).await?;
            let rows = lease.driver().stream(again).await.inspect_err(|error| {
                core.suspect(lease.node(), Fault::of(error));
            })?;
            lease.served();
            Ok((rows, lease))
        }
        .boxed())
    }
}

impl Stream for RowStream<'_> {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Wake<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::BeforeFirstRow(mut hopeful) => {
                    let (error, fault) = match hopeful.rows.poll_next_unpin(cx) {
                        Poll::Ready(Some(Err(error))) => {
                            let fault = Fault::of(&error);
                            (error, fault)
                        }
                        Poll::Ready(item) => {
                            let Hopeful { rows, lease, .. } = *hopeful;
                            self.state = State::Flowing { rows, lease: Some(lease), mark: None, ended: Ended::Not };
                            return Poll::Ready(item);
                        }
                        Poll::Pending => {
                            if hopeful.down.poll_unpin(cx).is_pending() {
                                self.state = State::BeforeFirstRow(hopeful);
                                return Poll::Pending;
                            }
                            let node = hopeful.lease.node().name().to_owned();
                            (Error::new(Kind::WentDown { node }).into(), Fault::Broken)
                        }
                    };
                    match hopeful.retry(error, fault) {
                        Ok(reopening) => self.state = State::Reopening(reopening),
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
                State::Reopening(mut reopening) => match reopening.poll_unpin(cx) {
                    Poll::Pending => {
                        self.state = State::Reopening(reopening);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok((rows, lease))) => {
                        self.state = State::Flowing { rows, lease: Some(lease), mark: None, ended: Ended::Not };
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                },
                State::Flowing { mut rows, lease, mark, mut ended } => {
                    let item = rows.poll_next_unpin(cx);
                    if let Poll::Ready(Some(Err(error))) = &item {
                        ended = Ended::WithError(Fault::of(error));
                    }
                    if let Poll::Ready(None) = &item {
                        // The end of the rows is the end of the statement: the floor rises now,
                        // not when the stream happens to be dropped.
                        if let Some(mark) = mark {
                            mark.ended_with(match ended {
                                Ended::Not => None,
                                Ended::WithError(fault) => Some(fault),
                            });
                        }
                        return Poll::Ready(None);
                    }
                    self.state = State::Flowing { rows, lease, mark, ended };
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
