//! Streams of rows that a future produces.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::{Duration, SystemTime},
};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sea_orm::{DbErr, QueryResult, Statement, metric::Info};

use super::{Metric, Rows, WriteProgress};

type Row = Result<QueryResult, DbErr>;

/// The slot in which the producing future puts one row at a time.
pub(super) struct RowSlot(Arc<Mutex<Option<Row>>>);

impl RowSlot {
    /// Puts a row down, and waits until the stream has handed it out.
    pub(super) async fn put(&self, row: Row) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(row);
        // Nothing wakes this wait: the stream polls the future again when its caller asks for the next row.
        std::future::poll_fn(|_| if self.is_empty() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// The rows that `produce` puts into its slot. The future runs as the stream is polled, and is dropped with it.
/// `metered` is told of the statement when the stream is dropped, as SeaORM tells of a stream.
pub(super) fn produced<F>(metered: Option<(Metric, Statement)>, produce: impl FnOnce(RowSlot) -> F) -> Rows<'static>
where
    F: Future<Output = ()> + Send + 'static,
{
    let slot = Arc::new(Mutex::new(None));
    let mut producing: Option<BoxFuture<'static, ()>> = Some(produce(RowSlot(Arc::clone(&slot))).boxed());
    let mut meter = metered.map(|(metric, statement)| Meter { metric, statement, elapsed: Duration::ZERO });
    stream::poll_fn(move |cx| {
        let started = meter.as_ref().map(|_| SystemTime::now());
        if let Some(future) = &mut producing
            && future.poll_unpin(cx).is_ready()
        {
            producing = None;
        }
        if let (Some(meter), Some(started)) = (&mut meter, started) {
            meter.elapsed += started.elapsed().unwrap_or_default();
        }
        match slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(row) => Poll::Ready(Some(row)),
            None if producing.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    })
    .boxed()
}

/// Tells the metric callback of a stream when the stream is dropped.
struct Meter {
    metric: Metric,
    statement: Statement,
    elapsed: Duration,
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.metric.tell(&Info { elapsed: self.elapsed, statement: &self.statement, failed: false });
    }
}

/// Holds a value until the rows are dropped.
pub(super) fn holding<'a, T: Send + 'a>(rows: Rows<'a>, held: T) -> Rows<'a> {
    let held_while_read = move |row| {
        let _ = &held;
        row
    };
    rows.map(held_while_read).boxed()
}

/// Marks a write as sent when its rows are first asked for, and holds the write as long as the rows. For streams of
/// SeaORM: such a stream does not tell when the connection of a stream that was dropped halfway has answered, so
/// the write may be over later than its progress says.
pub(super) fn follow(rows: BoxStream<'_, Row>, write: Option<WriteProgress>) -> Rows<'_> {
    let Some(write) = write else { return rows };
    let mut rows = rows;
    stream::poll_fn(move |cx| {
        write.sent();
        rows.poll_next_unpin(cx)
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Row {
        Err(DbErr::Custom(text.to_owned()))
    }

    #[tokio::test]
    async fn rows_come_one_by_one_and_the_future_waits_for_the_reader() {
        let produced_rows = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&produced_rows);
        let mut rows = produced(None, async move |slot: RowSlot| {
            for text in ["a", "b"] {
                *counted.lock().expect("no panic") += 1;
                slot.put(error(text)).await;
            }
        });
        for (count, text) in [(1, "a"), (2, "b")] {
            let row = rows.next().await.expect("a row");
            assert_eq!(row.expect_err("an error").to_string(), format!("Custom Error: {text}"));
            assert_eq!(*produced_rows.lock().expect("no panic"), count);
        }
        assert!(rows.next().await.is_none());
        assert!(rows.next().await.is_none(), "the end stays the end");
    }

    #[tokio::test]
    async fn a_future_that_ends_with_a_row_in_the_slot_loses_no_row() {
        let rows = produced(None, async move |slot: RowSlot| {
            slot.put(error("a")).now_or_never();
        });
        assert_eq!(rows.count().await, 1);
    }
}
