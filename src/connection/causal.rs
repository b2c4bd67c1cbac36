//! Tokens of sessions: another process continues a session after the writes and reads that the token names.

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;
use tokio::time;

use super::{
    facade::DatabaseConnection,
    session::{HandleSession, Session, SessionRef},
    shared::{Context, Shared},
};
use crate::{
    Error,
    error::Kind,
    topology::{CausalToken, Floor, Place, Position, Seq, Stamp, Tick},
};

impl DatabaseConnection {
    /// The floor of a session, as a short text for a header, a cookie or a message: a session that
    /// begins [after the token](Self::session_after), in whatever process, sees what this session has written and read. An explicit
    /// session that did neither has a token that asks for nothing; the token of a plain handle stands for every write of this
    /// process.
    ///
    /// Costs nothing where the primary was asked for its position since the session's last write. Otherwise the call waits for
    /// the next question to the primary, which all waiting calls share.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// # use sea_orm::ConnectionTrait;
    /// let session = db.session();
    /// session.execute_unprepared("UPDATE cake SET price = 5").await?;
    /// let token = session.causal_token().await?.to_string();
    /// // …in another process:
    /// let session = db.session_after(&token.parse()?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The primary does not give its position within the selection time-out of reads (1 s).
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn causal_token(&self) -> Result<CausalToken, DbErr> {
        let context = self.own_context();
        self.shared().token(&context).await
    }

    /// An explicit session that sees what the session of the token had written and read when the token was made.
    ///
    /// Its reads go to the primary until a replica is known to have the token's position. A token of another
    /// cluster, or of a history that a failover has cut off, cannot be compared here: the session then reads from
    /// the primary for its whole life, and a warning and [`explain`](Self::explain) say so. A token beyond everything
    /// that the primary has (made up, or of writes that a failover lost) stands for what the primary had when it was
    /// asked. Warnings about tokens are said once in ten minutes.
    ///
    /// # Example
    /// ```no_run
    /// # async fn f(db: &sea_orm_resolver::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// # let text = String::new();
    /// let session = db.session_after(&text.parse()?);
    /// # let _ = session;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn session_after(&self, token: &CausalToken) -> Self {
        self.with_session(HandleSession::Explicit(Arc::new(self.shared().session_after(token))))
    }
}

/// How long the end of a request waits for the position of the primary.
const POSITION_WITHIN: Duration = Duration::from_secs(1);

impl Shared {
    async fn token(&self, context: &Context) -> Result<CausalToken, DbErr> {
        let (floor, begun_after) = match &context.session {
            SessionRef::Explicit(session) => (session.written_and_read(), session.awaited()),
            SessionRef::Process => (self.process_floor.get(), None),
        };
        // The session may have seen nothing newer than the position it began after, or it read newer rows from the
        // primary.
        let begun_after = begun_after.map(|position| (*position).clone());
        let begun_after = CausalToken::new(begun_after, Duration::ZERO, Duration::ZERO);
        if floor.is_none() {
            return Ok(begun_after);
        }
        // A write of unknown outcome whose hold is over may have happened before the hold ended.
        let (seen, _, open_until) = floor.parts();
        let open_until = if open_until <= self.now() { open_until } else { Tick::default() };
        let position = self.position_after(seen, open_until).await?;
        let (now, (_, written_at, open_until)) = (self.now(), floor.parts());
        // A session that only the primary can serve has seen the primary's state, and goes on from that state.
        let open_for = if open_until == Tick::NEVER { Duration::ZERO } else { open_until.since(now) };
        let sticks_for = match written_at {
            Tick(0) => Duration::ZERO,
            written_at => written_at.after(self.settings().stick_after_write).since(now),
        };
        Ok(CausalToken::new(position, open_for, sticks_for).merge(&begun_after))
    }

    /// The primary's position at some time after `seq` and later than `at`; `None` where the position cannot be
    /// told.
    async fn position_after(&self, seq: Seq, at: Tick) -> Result<Option<Position>, DbErr> {
        let timeout = self.settings().read_selection_timeout.min(POSITION_WITHIN);
        let started = self.now();
        // Mark seen, look, then wait.
        let mut changes = self.cell().changes();
        loop {
            let topology = self.topology();
            if !topology.primary.has_positions() {
                return Ok(None);
            }
            if topology.is_single() {
                // No task watches the primary's position.
                return time::timeout(timeout, self.monitor.ask_position())
                    .await
                    .unwrap_or_else(|_| Err(self.nowhere(timeout).into()));
            }
            if let Some(sample) = topology.samples.first_after(seq, at) {
                return Ok(Some((*sample.position).clone()));
            }
            let waited = self.now().since(started);
            if waited >= timeout {
                return Err(self.nowhere(timeout).into());
            }
            self.monitor.ensure_running();
            let known = topology.samples.newest().map_or(seq, |newest| newest.stamp.seq.max(seq));
            self.monitor.writer().demand.want_position(known, self.now());
            let _ = time::timeout(timeout.saturating_sub(waited), changes.changed()).await;
        }
    }

    fn nowhere(&self, timeout: Duration) -> Error {
        let node = self.cell().load().primary.name().to_owned();
        Error::new(Kind::Unreachable { node, problem: format!("it did not say where it is within {timeout:?}") })
    }

    fn session_after(&self, token: &CausalToken) -> Session {
        let now = self.stamp();
        let mut floor = Floor::default();
        if !token.open_for().is_zero() {
            floor = floor.join(Floor::open(now, now.at.after(token.open_for())));
        }
        if !token.sticks_for().is_zero() {
            floor = floor.join(Floor::sticking(now.at, token.sticks_for(), self.settings().stick_after_write));
            if token.position().is_none() {
                // The token has no position that a replica with positions could be compared with: for such replicas
                // the token is a write that may still arrive.
                floor = floor.join(Floor::open(now, now.at.after(token.sticks_for())));
            }
        }
        if token.is_primary_only() {
            self.token_costs.unrelated("it stands for more than one history", now.at);
            return Session::beginning_at(primary_from(now));
        }
        let session = Session::beginning_at(floor);
        if let Some(position) = token.position() {
            session.begin_after(Arc::new(position.clone()));
            self.look_for_awaited(&session);
        }
        session
    }

    /// Looks whether the primary's history has reached the position after which the session begins, and if so,
    /// which floor a replica must have reached for the session.
    pub(super) fn look_for_awaited(&self, session: &Session) {
        let Some(position) = session.awaited() else { return };
        let (topology, since, now) = (self.cell().load(), session.awaits_since(), self.now());
        match topology.place_of(&position, since, now) {
            Place::At(stamp) => session.arrived(Floor::reached(stamp)),
            Place::NotCompared => session.arrived(Floor::default()),
            Place::Ahead if topology.is_single() => {}
            Place::Ahead => {
                if let Some(seq) = self.token_costs.question(&position, since, &topology, now) {
                    self.monitor.writer().demand.want(seq, now);
                }
            }
            Place::Beyond(asked) => {
                self.token_costs.beyond(now);
                // Whatever of the token's writes was not lost, the primary had when it was asked.
                let asked = asked.map(Floor::reached).unwrap_or_default();
                session.arrived(self.process_floor.get().join(asked));
            }
            Place::Unrelated => {
                let why = "it belongs to another cluster, or to a history that a failover cut off";
                self.token_costs.unrelated(why, now);
                session.arrived(primary_from(self.stamp()));
            }
        }
    }
}

/// The floor of a session that only the primary can serve. All that the session was promised was written by `now`,
/// so the token may begin at a position for which the primary is asked after `now`.
fn primary_from(now: Stamp) -> Floor {
    Floor::open(now, Tick::NEVER)
}
