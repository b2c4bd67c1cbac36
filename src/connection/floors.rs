//! Floors that many tasks raise and read, and SeaORM's read-back of a row that it just wrote.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::session::{Session, SessionRef};
use crate::topology::{Floor, Seq, Tick};

/// A [`Floor`] that only rises: the floor of a session, or of all plain reads of one connection.
#[derive(Debug, Default)]
pub(crate) struct AtomicFloor {
    seen: AtomicU64,
    written_at: AtomicU64,
    open_until: AtomicU64,
}

impl AtomicFloor {
    /// Makes the floor at least `floor`.
    pub(crate) fn raise(&self, floor: Floor) {
        let (seen, written_at, open_until) = floor.parts();
        self.open_until.fetch_max(open_until.0, Ordering::AcqRel);
        self.written_at.fetch_max(written_at.0, Ordering::AcqRel);
        self.seen.fetch_max(seen.0, Ordering::AcqRel);
    }

    /// The present floor. A raise that has returned is always part of the result.
    pub(crate) fn get(&self) -> Floor {
        let tick = |of: &AtomicU64| Tick(of.load(Ordering::Acquire));
        Floor::from_parts(Seq(self.seen.load(Ordering::Acquire)), tick(&self.written_at), tick(&self.open_until))
    }
}

/// How soon after its write SeaORM reads the row back.
const READ_BACK_WITHIN: Duration = Duration::from_secs(1);

/// A write has ended after which SeaORM may read the row back.
#[derive(Clone, Copy, Debug)]
struct ReadBack {
    reader: Reader,
    until: Tick,
}

/// The code that may read a row back: one task, through one connection or one explicit session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reader {
    /// The connection or the session, by its address in memory.
    of: usize,
    task: Option<tokio::task::Id>,
}

impl Reader {
    fn of(process: &AtomicFloor, session: &SessionRef) -> Self {
        let of = match session {
            SessionRef::Explicit(session) => Arc::<Session>::as_ptr(session).addr(),
            SessionRef::Process => std::ptr::from_ref(process).addr(),
        };
        Self { of, task: tokio::task::try_id() }
    }
}

thread_local! {
    /// The write that ended last on this thread. SeaORM reads back in the very poll in which its write ends, so no other
    /// read of the task comes between. Rejected: a mark in the session, which a read of another task could take.
    static READ_BACK: Cell<Option<ReadBack>> = const { Cell::new(None) };
}

/// Expects SeaORM to read back the row that it just wrote on a database without `RETURNING`.
pub(crate) fn expect_read_back(process: &AtomicFloor, session: &SessionRef, now: Tick) {
    READ_BACK.set(Some(ReadBack { reader: Reader::of(process, session), until: now.after(READ_BACK_WITHIN) }));
}

/// Whether this read is SeaORM's read-back: the first read of the writing task on the thread of its write. The
/// expectation ends with the answer.
pub(crate) fn take_read_back(process: &AtomicFloor, session: &SessionRef, now: Tick) -> bool {
    let Some(expected) = READ_BACK.get() else { return false };
    if now >= expected.until {
        READ_BACK.set(None);
        return false;
    }
    let is_read_back = expected.reader == Reader::of(process, session);
    if is_read_back {
        READ_BACK.set(None);
    }
    is_read_back
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Stamp;

    const NOW: Tick = Tick(1_000_000_000);

    fn end(seq: u64, at: u64) -> Floor {
        Floor::written(Stamp { seq: Seq(seq), at: Tick(at) })
    }

    #[test]
    fn a_floor_only_rises() {
        let floor = AtomicFloor::default();
        assert!(floor.get().is_none());
        floor.raise(end(5, 50));
        floor.raise(end(3, 30));
        assert_eq!(floor.get(), end(5, 50));
    }

    #[tokio::test]
    async fn a_read_back_is_expected_once_and_by_the_task_that_wrote() {
        let process = Arc::new(AtomicFloor::default());
        let task = |process: Arc<AtomicFloor>| async move { take_read_back(&process, &SessionRef::Process, NOW) };
        let writer = tokio::spawn({
            let process = Arc::clone(&process);
            async move {
                expect_read_back(&process, &SessionRef::Process, NOW);
                let other = tokio::spawn(task(Arc::clone(&process))).await.expect("the other task ends");
                let session = SessionRef::Explicit(Arc::default());
                let elsewhere = take_read_back(&process, &session, NOW);
                let own = take_read_back(&process, &SessionRef::Process, NOW);
                let again = take_read_back(&process, &SessionRef::Process, NOW);
                (other, elsewhere, own, again)
            }
        });
        assert_eq!(writer.await.expect("the writer ends"), (false, false, true, false));
    }

    #[test]
    fn a_read_back_is_not_taken_on_another_thread() {
        let (process, session) = (AtomicFloor::default(), SessionRef::Explicit(Arc::default()));
        expect_read_back(&process, &session, NOW);
        std::thread::scope(|threads| {
            threads.spawn(|| assert!(!take_read_back(&process, &session, NOW)));
        });
        assert!(take_read_back(&process, &session, NOW));
    }

    #[test]
    fn an_expectation_ends_with_its_time() {
        let (process, session) = (AtomicFloor::default(), SessionRef::Process);
        expect_read_back(&process, &session, NOW);
        assert!(!take_read_back(&process, &session, NOW.after(READ_BACK_WITHIN)));
        assert!(!take_read_back(&process, &session, NOW));
    }
}
