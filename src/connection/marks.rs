//! The marks of operations: the floor that a write raises, and what a read has seen.

use std::sync::Arc;

use sea_orm::DbErr;

use super::{
    floors,
    session::{Affinity, ReadRecord, SessionRef},
    shared::Shared,
};
use crate::{
    driver::{Fault, Ran, WriteProgress},
    routing::{DecidedBy, Reason, StatementClass},
    topology::Floor,
};

/// The effect of an operation on the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteEffect {
    /// Rows may have changed.
    Written,
    /// As `Written`, by a statement that SeaORM may follow with a read of its row.
    WrittenWithoutReturning,
    /// No row has changed: a plain read on the primary, a lock, a setting, a subscription.
    Nothing,
}

impl WriteEffect {
    /// The effect of one statement for the primary, where `written` is the effect of a statement that changes rows.
    pub(super) fn of(class: &StatementClass, sql: &str, written: Self) -> Self {
        // A plain read that no standby can run is a plain read on the primary.
        let is_read = class.is_read_by_text() && class.decided_by == DecidedBy::Standby;
        if !is_read && changes_rows(class, sql) { written } else { Self::Nothing }
    }
}

/// Whether a statement for the primary may change rows. A locking read, SET and LISTEN do not; a call or a second
/// statement in their text may.
fn changes_rows(class: &StatementClass, sql: &str) -> bool {
    const OF_THE_SESSION: [&str; 4] = ["SET", "RESET", "LISTEN", "UNLISTEN"];
    // The part of the text after a beginning that is known to change nothing.
    let unknown = match class.reason {
        // The classifier reads a text from its start: the text before the clause is a plain read.
        Reason::LockingClause { at, .. } => sql.get(at..),
        Reason::Verb { .. } => class
            .reason
            .text(sql)
            .filter(|verb| OF_THE_SESSION.iter().any(|known| verb.eq_ignore_ascii_case(known)))
            .map(|_| sql),
        _ => None,
    };
    unknown.is_none_or(|text| text.trim_end().trim_end_matches(';').contains(['(', ';']))
}

/// Raises floors when the marked write has ended, in whatever way.
#[derive(Debug)]
pub(super) struct WriteMark {
    shared: Arc<Shared>,
    session: SessionRef,
    effect: WriteEffect,
    ending: Ending,
}

/// The known outcome of a write.
#[derive(Debug)]
enum Ending {
    /// The write is on its way, and its driver says how far.
    Underway(WriteProgress),
    /// The server has answered, or rolls back.
    Known,
    /// The write was lost on its way: the write may have happened, and its connection is gone.
    Lost,
    /// The caller stopped waiting for a COMMIT, which runs on.
    Unseen,
    /// SeaORM's own transaction was given away, so its end cannot be seen.
    OutOfSight,
    /// The statement provably did not run.
    NotExecuted,
}

impl WriteMark {
    /// Marks one statement, whose driver reports its progress.
    pub(super) fn following(
        shared: &Arc<Shared>,
        session: &SessionRef,
        effect: WriteEffect,
        progress: WriteProgress,
    ) -> Self {
        Self { shared: Arc::clone(shared), session: session.clone(), effect, ending: Ending::Underway(progress) }
    }

    /// Marks a transaction, or another operation that ends with the mark. Dropping a transaction rolls it back, and
    /// its end counts as a write all the same: DDL commits implicitly, and some engines roll nothing back.
    pub(super) fn of_transaction(shared: &Arc<Shared>, session: &SessionRef, effect: WriteEffect) -> Self {
        Self { shared: Arc::clone(shared), session: session.clone(), effect, ending: Ending::Known }
    }

    /// Dropping the mark after this call leaves the write's outcome unknown.
    pub(super) fn is_uncertain_now(&mut self) {
        self.ending = Ending::Lost;
    }

    /// A mark for the caller of a COMMIT, which runs on when the caller stops waiting: dropping it holds the session, and
    /// the first mark raises the floors at the end.
    pub(super) fn of_commits_caller(&self) -> Self {
        self.beside(Ending::Unseen)
    }

    /// A mark for the caller of a ROLLBACK, which runs on too: dropping the mark counts as the end.
    pub(super) fn of_rollbacks_caller(&self) -> Self {
        self.beside(Ending::Known)
    }

    fn beside(&self, ending: Ending) -> Self {
        let Self { shared, session, effect, .. } = self;
        Self { shared: Arc::clone(shared), session: session.clone(), effect: *effect, ending }
    }

    /// The caller has learned the outcome.
    pub(super) fn was_learned(mut self) {
        self.effect = WriteEffect::Nothing;
    }

    /// The transaction goes on where its end cannot be seen.
    pub(super) fn give_away(mut self) {
        self.ending = Ending::OutOfSight;
    }

    /// The operation came back with this result.
    pub(super) fn ended<T>(self, result: &Result<T, DbErr>) {
        self.ended_with(result.as_ref().err().map(Fault::of));
    }

    /// The operation came back with this fault, or with none.
    pub(super) fn ended_with(mut self, fault: Option<Fault>) {
        self.ending = match fault.map(Fault::ran) {
            Some(Ran::No) => Ending::NotExecuted,
            Some(Ran::Unknown) => Ending::Lost,
            Some(Ran::Yes) | None => Ending::Known,
        };
    }
}

impl Drop for WriteMark {
    fn drop(&mut self) {
        if self.effect == WriteEffect::Nothing {
            return;
        }
        match std::mem::replace(&mut self.ending, Ending::Known) {
            Ending::NotExecuted => {}
            Ending::Known => {
                let end = self.shared.stamp();
                self.shared.raise(&self.session, Floor::written(end));
                if self.effect == WriteEffect::WrittenWithoutReturning {
                    floors::expect_read_back(&self.shared.process_floor, &self.session, end.at);
                }
            }
            Ending::Lost => {
                self.hold_session();
                self.shared.raise_process();
            }
            Ending::Unseen => self.hold_session(),
            Ending::OutOfSight => {
                self.hold_session();
                self.shared.watch_lent_connections(&self.session);
            }
            Ending::Underway(progress) if progress.is_sent() => {
                self.hold_session();
                // Other sessions are bound only when the write cannot happen any more; until then no caller was
                // told of the write.
                let shared = Arc::downgrade(&self.shared);
                progress.when_over(move || {
                    if let Some(shared) = shared.upgrade() {
                        shared.raise_process();
                    }
                });
            }
            // The statement waited for a connection: it never ran.
            Ending::Underway(_) => {}
        }
    }
}

impl WriteMark {
    /// The explicit session reads from the primary while the write may still happen.
    fn hold_session(&self) {
        if let SessionRef::Explicit(session) = &self.session {
            let end = self.shared.stamp();
            session.wrote(Floor::open(end, end.at.after(self.shared.settings().unknown_outcome_hold())));
        }
    }
}

impl Shared {
    /// A write has ended: reads of its session, and plain reads of the process, must see it from now on.
    pub(super) fn raise(&self, session: &SessionRef, floor: Floor) {
        self.process_floor.raise(floor);
        if let SessionRef::Explicit(session) = session {
            session.wrote(floor);
        }
    }

    /// Raises the process's floor: some session has written by now, and plain reads must see that write.
    pub(super) fn raise_process(&self) {
        self.process_floor.raise(Floor::written(self.stamp()));
    }

    /// A read of a session, or of a read connection, has ended.
    pub(super) fn has_read(&self, affinity: &Affinity, read: ReadRecord) {
        if let Some(wanted) = affinity.record(read) {
            self.monitor.writer().demand.want(wanted, self.now());
        }
    }
}

/// A read that goes on: rows that come one by one, a READ ONLY transaction. At its end its session has seen the
/// node's state.
#[derive(Debug)]
pub(super) struct SeenMark {
    shared: Arc<Shared>,
    affinity: Arc<Affinity>,
    read: ReadRecord,
}

impl SeenMark {
    pub(super) fn begin(shared: &Arc<Shared>, affinity: &Arc<Affinity>, read: ReadRecord) -> Self {
        Self { shared: Arc::clone(shared), affinity: Arc::clone(affinity), read }
    }

    /// Records that the session has seen a part of the rows.
    pub(super) fn now(&self) {
        self.shared.has_read(&self.affinity, self.read);
    }
}

impl Drop for SeenMark {
    fn drop(&mut self) {
        self.now();
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::DbBackend;

    use super::*;
    use crate::routing::StatementRouter;

    #[test]
    fn locks_settings_and_subscriptions_change_no_row() {
        for (backend, sql, changes) in [
            (DbBackend::Postgres, "SELECT * FROM item WHERE id = 1 FOR UPDATE", false),
            (DbBackend::Postgres, "SELECT * FROM item FOR NO KEY UPDATE OF item SKIP LOCKED;", false),
            (DbBackend::Postgres, "SELECT * FROM item FOR UPDATE LIMIT (SELECT nextval('s'))", true),
            (DbBackend::Postgres, "SELECT * FROM item FOR UPDATE; DELETE FROM item", true),
            (DbBackend::Postgres, "SELECT nextval('s') FROM item FOR UPDATE", true),
            (DbBackend::Postgres, "SET search_path = shop", false),
            (DbBackend::Postgres, "SET LOCAL statement_timeout = 5; DELETE FROM item", true),
            (DbBackend::Postgres, "LISTEN news", false),
            (DbBackend::Postgres, "RESET ALL;", false),
            (DbBackend::Postgres, "NOTIFY news", true),
            (DbBackend::Postgres, "UPDATE item SET id = 2", true),
            (DbBackend::MySql, "SELECT * FROM item LOCK IN SHARE MODE", false),
            (DbBackend::MySql, "SET @a = (SELECT stored_function())", true),
            (DbBackend::MySql, "SET time_zone = '+00:00'", false),
        ] {
            let router = StatementRouter::new(backend, &[], []).expect("there is no rule");
            let class = router.class(sql, crate::topology::Tick::default);
            assert!(!class.intent.is_read(), "{sql}");
            assert_eq!(changes_rows(&class, sql), changes, "{sql}: {}", class.reason);
        }
    }
}
