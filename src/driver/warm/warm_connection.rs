//! A connection that was taken out of its pool.

use std::{sync::Arc, time::Duration};

use sea_orm::sqlx::{self, Connection, Database, pool::PoolConnection};
use tokio::time::{Instant, timeout};

use super::{cutoffs::Cutoffs, race::ServerSession};

/// How long giving a warm connection back may take: sqlx's ping has no time-out, and on a frozen server no ping ends.
pub(super) const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(5);

/// How long the ping of a rested connection may take.
const PINGED_WITHIN: Duration = Duration::from_secs(1);

/// A connection of the pool. Dropping the value gives the connection back by sqlx's own way: with a ping, which also
/// reads the rest of an answer that its statement left unread. A connection that is not sound is closed instead.
pub(super) struct WarmConnection<DB: Database> {
    pub(super) connection: PoolConnection<DB>,
    pub(super) since: Instant,
    /// When the last statement on the connection ended.
    pub(super) rests_since: Instant,
    pub(super) epoch: u64,
    /// Whether the answer to a ping of ours is still to come.
    pub(super) is_pinged: bool,
    /// The session at the server, once a read that may lose a race has asked for it.
    pub(super) session: Option<ServerSession>,
    pub(super) cutoffs: Arc<Cutoffs>,
    /// How many cutoffs there were when the connection came from the pool.
    pub(super) taken_after: u64,
}

impl<DB: Database> WarmConnection<DB> {
    /// Whether no cutoff came since the connection was taken out of the pool. A ping is no proof: a former server answers, and the
    /// answer of a server that is fast enough arrives without the runtime of the connection.
    pub(super) fn is_current(&self) -> bool {
        self.taken_after == self.cutoffs.count()
    }

    /// Pings the server.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection: sqlx would take the answer, when it comes on a connection of MySQL, for
    /// that of the next statement.
    pub(super) async fn ping(&mut self) -> Result<(), sqlx::Error> {
        self.is_pinged = true;
        let answer = self.connection.ping().await;
        self.is_pinged = false;
        answer
    }

    /// Whether the server still answers on the connection.
    pub(super) async fn answers(&mut self) -> bool {
        matches!(timeout(PINGED_WITHIN, self.ping()).await, Ok(Ok(())))
    }

    /// Whether the connection may go back to the pool.
    pub(super) fn is_sound(&self) -> bool {
        !self.is_pinged && self.is_current()
    }

    /// Gives the connection back to the pool, or closes it when that takes too long.
    pub(super) async fn go_back(mut self) {
        if self.is_sound() {
            let _ = timeout(GIVEN_BACK_WITHIN, self.connection.return_to_pool()).await;
        }
    }
}

impl<DB: Database> Drop for WarmConnection<DB> {
    fn drop(&mut self) {
        if !self.is_sound() {
            self.connection.close_on_drop();
        }
    }
}
