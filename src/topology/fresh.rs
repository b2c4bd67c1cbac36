//! How fresh a replica is: `fresh_through`, the latest instant such that the replica shows every write that the
//! primary had acknowledged by then; and how far that instant is behind.
//!
//! Instants are those of this process, taken before the primary was asked. No server's clock is used, and no guess:
//! a replica that stands still stops being fresh, and on an idle primary no replica falls behind.

use std::{sync::Arc, time::Duration};

use super::{Floor, LagMeasure, Position, PositionOrder, RESOLUTION, Samples, Stamp, Tick};

/// The position in a node's answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reported {
    /// The node has no position: replication without GTIDs, an engine that is not known.
    Nothing,
    /// The node could not tell its position this time. (A PostgreSQL replica does not always know its timeline.)
    Unknown,
    At(Arc<Position>),
}

/// How fresh a member's data are known to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Freshness {
    /// Not known yet, or not comparable: the member serves reads without a floor.
    Unknown,
    /// The node has no position, so only the time since a write decides.
    Timed,
    /// The node opens the same file as the primary.
    Always,
    /// The server belongs to another cluster than the primary, and was last at this position. The member
    /// serves no reads.
    Foreign(Arc<Position>),
    Known(Fresh),
}

/// The freshness of one life of one server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fresh {
    /// Never goes back. Zero until the position has reached a sample.
    pub(crate) through: Stamp,
    pub(crate) position: Arc<Position>,
    /// The instant at which the first position of this life was asked for.
    pub(crate) since: Tick,
    /// The instant at which the answer was asked for that first had this position.
    pub(crate) moved: Tick,
    /// The instant at which the last answer was asked for.
    asked: Tick,
}

impl Fresh {
    /// The freshness after the first answer of a life.
    pub(crate) fn first(asked: Tick, position: Arc<Position>, samples: &Samples) -> Self {
        Self { through: Stamp::default(), position, since: asked, moved: asked, asked }.compared(samples)
    }

    /// The freshness after a later answer of the same life; `None` when the server has less than before. A server
    /// that is back at an earlier position has begun another life, whatever name it gives: a standby recovers from
    /// its last restart point when one of its processes has crashed.
    pub(crate) fn then(&self, asked: Tick, position: Arc<Position>, samples: &Samples) -> Option<Self> {
        if position.compared_to(&self.position) == PositionOrder::Behind {
            return None;
        }
        let moved = if self.position == position { self.moved } else { asked };
        Some(Self { position, moved, asked, ..*self }.compared(samples))
    }

    /// The freshness when the position is compared with these samples.
    pub(crate) fn compared(mut self, samples: &Samples) -> Self {
        if let Some(reached) = samples.reached_by(&self.position)
            && reached.seq > self.through.seq
        {
            self.through = reached;
        }
        self
    }

    /// How far the replica is behind the newest sample.
    fn lag(&self, samples: &Samples) -> Behind {
        // An empty position of the primary names no transaction, so no replica is behind it.
        let Some(newest) = samples.newest().filter(|newest| !newest.position.is_empty()) else {
            return Behind::Unknown;
        };
        match samples.order(&self.position, newest) {
            PositionOrder::Covers => Behind::By { time: Duration::ZERO, bytes: Some(0) },
            PositionOrder::Behind => {
                // A replica that has not caught up since it is watched is behind for at least as long.
                let since = if self.has_caught_up() { self.through.at } else { self.since };
                Behind::By { time: newest.stamp.at.since(since), bytes: self.position.bytes_behind(&newest.position) }
            }
            // The replica may follow all the same: a PostgreSQL replica can be late in learning its timeline, and
            // then its position moves. A replica that stands still receives no write of this primary.
            PositionOrder::Unrelated => Behind::StandsStill { time: newest.stamp.at.since(self.moved) },
        }
    }

    /// The lag to be shown, at most the time since the replica is known to have had everything. It was measured when the
    /// replica was last asked, so without an answer within `believed_for` that time is shown.
    fn shown(&self, measure: LagMeasure, samples: &Samples, at_most: Duration, believed_for: Duration) -> Duration {
        let Some(newest) = samples.newest() else { return at_most };
        let Some(measured) = measure.time() else { return at_most };
        if newest.stamp.at.since(self.asked) > believed_for {
            return at_most;
        }
        let has_newest = self.through.seq == newest.stamp.seq;
        let is_idle = || samples.first_past(&newest.position).is_some_and(|first| first.seq < newest.stamp.seq);
        if measured <= RESOLUTION || has_newest && is_idle() {
            return Duration::ZERO;
        }
        if has_newest { measured } else { measured.min(at_most) }
    }

    /// Whether the replica has reached a sample of the primary since it is watched.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.through != Stamp::default()
    }
}

enum Behind {
    /// No sample can be compared.
    Unknown,
    By {
        time: Duration,
        bytes: Option<u64>,
    },
    /// The primary has another history, and the replica has not moved for so long.
    StandsStill {
        time: Duration,
    },
}

/// How far a replica may be behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LagLimit {
    pub(crate) time: Option<Duration>,
    pub(crate) bytes: Option<u64>,
}

/// The parts of a topology by which the lag of a replica is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LagView<'a> {
    pub(crate) samples: &'a Samples,
    pub(crate) limit: LagLimit,
    /// How long an answer of a replica is believed.
    pub(crate) believed_for: Duration,
}

/// How far a replica is behind, and whether that keeps it out of the rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// The lag to be shown: as it was measured, or as it is known at most while the lag keeps the replica out.
    pub(crate) time: Option<Duration>,
    pub(crate) bytes: Option<u64>,
    pub(crate) is_over: bool,
    /// Answers in a row that were well below the limit.
    calm: u8,
    /// The lag is over only because the replica stood still while the primary had another history.
    stood_still: bool,
}

/// A lagging replica is back after so many answers well below the limit.
const CALM: u8 = 3;

impl LagLimit {
    /// Whether a lag is more than the limit divided by `part`.
    fn is_passed(self, part: u32, time: Duration, bytes: Option<u64>) -> bool {
        self.time.is_some_and(|most| time > most / part)
            || matches!((self.bytes, bytes), (Some(most), Some(bytes)) if bytes > most / u64::from(part))
    }
}

impl Lag {
    /// The lag after an answer. `answered`: the replica itself was asked, not only the primary.
    pub(crate) fn after(self, freshness: &Freshness, measure: LagMeasure, view: LagView<'_>, answered: bool) -> Self {
        let LagView { samples, limit, believed_for } = view;
        let behind = match freshness {
            Freshness::Known(fresh) => fresh.lag(samples),
            Freshness::Unknown | Freshness::Foreign(_) => Behind::Unknown,
            // A node without a position has no lag.
            Freshness::Timed | Freshness::Always => return Self::default(),
        };
        let (time, bytes, counts_as_calm) = match behind {
            // An unknown lag is no reason to trust a replica that was not trusted: the verdict stays.
            Behind::Unknown => return Self { time: None, bytes: None, ..self },
            Behind::By { time, bytes } => (time, bytes, freshness.fresh().is_some_and(Fresh::has_caught_up)),
            // A moving position does not tell how far the replica was behind in the other history.
            Behind::StandsStill { time } => (time, None, self.stood_still),
        };
        let calm = match (limit.is_passed(2, time, bytes), answered) {
            (true, _) => 0,
            (false, true) if counts_as_calm => self.calm.saturating_add(1),
            (false, _) => self.calm,
        };
        let is_passed = limit.is_passed(1, time, bytes);
        let is_over = is_passed || self.is_over && calm < CALM;
        let stood_still =
            is_over && matches!(behind, Behind::StandsStill { .. }) && (self.stood_still || !self.is_over);
        let shown = match (behind, freshness.fresh()) {
            (Behind::By { .. }, Some(fresh)) if !is_over => fresh.shown(measure, samples, time, believed_for),
            _ => time,
        };
        Self { time: Some(shown), bytes, is_over, calm, stood_still }
    }
}

impl Freshness {
    /// Whether a session with this floor may read from the node.
    pub(crate) fn is_past(&self, floor: Floor, now: Tick, stick_after_write: Duration) -> bool {
        floor.is_none()
            || match self {
                Self::Unknown | Self::Foreign(_) => false,
                Self::Timed => floor.is_past(now, stick_after_write),
                Self::Always => true,
                Self::Known(fresh) => floor.is_reached(fresh.through, now),
            }
    }

    /// Whether the node shows every write that was acknowledged until `within` ago.
    pub(crate) fn is_within(&self, within: Duration, now: Tick) -> bool {
        match self {
            Self::Unknown | Self::Timed | Self::Foreign(_) => false,
            Self::Always => true,
            Self::Known(fresh) => fresh.has_caught_up() && now.since(fresh.through.at) <= within,
        }
    }

    pub(crate) fn fresh(&self) -> Option<&Fresh> {
        match self {
            Self::Known(fresh) => Some(fresh),
            Self::Unknown | Self::Timed | Self::Always | Self::Foreign(_) => None,
        }
    }
}
