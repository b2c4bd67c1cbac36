//! The floor of a session: the writes and reads that its next read must see.

use std::time::Duration;

use super::{Seq, Stamp, Tick};

/// The freshness a session asks of the node it reads from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    /// The end of the last write or read that must be seen; zero for a session without one.
    seen: Seq,
    /// When the last write ended: the only measure for nodes whose positions are not known.
    written_at: Tick,
    /// A write whose outcome is unknown may still happen until then.
    open_until: Tick,
}

impl Floor {
    /// The floor of a session whose last write ended at `end`.
    pub(crate) fn written(end: Stamp) -> Self {
        Self { seen: end.seq, written_at: end.at, open_until: Tick::default() }
    }

    /// The floor of a session with a write of unknown outcome, which may happen until `until`.
    pub(crate) fn open(end: Stamp, until: Tick) -> Self {
        Self { open_until: until, ..Self::written(end) }
    }

    /// The floor of a session whose last read ended at `end`, and which must not see an older state.
    pub(crate) fn seen(end: Seq) -> Self {
        Self { seen: end, ..Self::default() }
    }

    /// The floor of a session that must see the state which the primary had when it was asked for `sample`.
    pub(crate) fn reached(sample: Stamp) -> Self {
        // A replica that is fresh through that very sample has the state.
        Self::seen(Seq(sample.seq.0.saturating_sub(1)))
    }

    /// The floor of a session that keeps away from nodes without positions for `sticks_for`.
    pub(crate) fn sticking(now: Tick, sticks_for: Duration, stick_after_write: Duration) -> Self {
        let until = now.after(sticks_for).0;
        let stick = u64::try_from(stick_after_write.as_nanos()).unwrap_or(u64::MAX);
        Self { written_at: Tick(until.saturating_sub(stick).max(1)), ..Self::default() }
    }

    /// A floor that only the primary reaches.
    pub(crate) fn never() -> Self {
        Self { open_until: Tick::NEVER, ..Self::default() }
    }

    pub(crate) fn from_parts(seen: Seq, written_at: Tick, open_until: Tick) -> Self {
        Self { seen, written_at, open_until }
    }

    /// The sequence number that must be seen, the end of the last write, and the end of the hold of an open write.
    pub(crate) fn parts(self) -> (Seq, Tick, Tick) {
        (self.seen, self.written_at, self.open_until)
    }

    /// Whether any state of the database will do.
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }

    /// The instant from which every node without positions is past this floor.
    pub(crate) fn matters_until(self, stick_after_write: Duration) -> Tick {
        match self.written_at {
            Tick(0) => self.open_until,
            written => written.after(stick_after_write).max(self.open_until),
        }
    }

    /// The smallest floor that includes both.
    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            seen: self.seen.max(other.seen),
            written_at: self.written_at.max(other.written_at),
            open_until: self.open_until.max(other.open_until),
        }
    }

    /// Whether a node that is fresh through `through` may serve the session.
    pub(crate) fn is_reached(self, through: Stamp, now: Tick) -> bool {
        // A write of unknown outcome has no sequence number yet. A sample for which the primary was asked after the
        // hold contains the write, if it happened.
        through.seq > self.seen && now >= self.open_until && through.at > self.open_until
    }

    /// Whether a node without known position may serve the session: a replica is taken to have caught
    /// up `stick_after_write` after the session's last write.
    pub(crate) fn is_past(self, now: Tick, stick_after_write: Duration) -> bool {
        now >= self.matters_until(stick_after_write)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STICK: Duration = Duration::from_secs(1);
    const SECOND: u64 = 1_000_000_000;

    fn stamp(seq: u64, at: u64) -> Stamp {
        Stamp { seq: Seq(seq), at: Tick(at) }
    }

    #[test]
    fn a_session_that_never_wrote_may_read_anywhere() {
        assert!(Floor::default().is_none());
        assert!(Floor::default().is_past(Tick(0), STICK));
        assert!(Floor::default().is_past(Tick(1), STICK));
    }

    #[test]
    fn a_session_sticks_for_the_configured_time_after_its_write() {
        let floor = Floor::written(stamp(1, 5 * SECOND));
        assert!(!floor.is_past(Tick(5 * SECOND), STICK));
        assert!(!floor.is_past(Tick(6 * SECOND - 1), STICK));
        assert!(floor.is_past(Tick(6 * SECOND), STICK));
    }

    #[test]
    fn an_open_floor_holds_longer_than_the_stick() {
        let floor = Floor::open(stamp(1, SECOND), Tick(31 * SECOND));
        assert!(!floor.is_past(Tick(30 * SECOND), STICK));
        assert!(floor.is_past(Tick(31 * SECOND), STICK));
    }

    #[test]
    fn what_was_read_sticks_nobody_to_the_primary() {
        assert!(Floor::seen(Seq(9)).is_past(Tick(1), STICK));
        assert!(!Floor::seen(Seq(9)).is_none());
    }

    #[test]
    fn a_node_is_past_a_write_when_the_primary_was_asked_after_it_however_the_clock_ties() {
        let floor = Floor::written(stamp(7, SECOND));
        assert!(!floor.is_reached(stamp(6, SECOND), Tick(SECOND)));
        assert!(floor.is_reached(stamp(8, SECOND), Tick(SECOND)));
    }

    #[test]
    fn an_open_write_has_no_place_in_the_order() {
        let floor = Floor::open(stamp(7, SECOND), Tick(31 * SECOND));
        assert!(!floor.is_reached(stamp(8, 2 * SECOND), Tick(2 * SECOND)), "it may still happen");
        assert!(!floor.is_reached(stamp(8, 30 * SECOND), Tick(32 * SECOND)), "it may have happened since");
        assert!(!floor.is_reached(stamp(8, 31 * SECOND), Tick(32 * SECOND)), "at that very instant too");
        assert!(floor.is_reached(stamp(9, 31 * SECOND + 1), Tick(32 * SECOND)));
    }

    fn floor() -> impl Strategy<Value = Floor> {
        (0..20_u64, 0..20_u64, 0..20_u64)
            .prop_map(|(seen, at, until)| Floor::from_parts(Seq(seen), Tick(at), Tick(until)))
    }

    proptest! {
        #[test]
        fn a_join_is_past_exactly_when_both_are(a in floor(), b in floor(), now in 0..40_u64, seq in 0..20_u64, at in 0..40_u64) {
            let stick = Duration::from_nanos(5);
            let now = Tick(now);
            prop_assert_eq!(a.join(b).is_past(now, stick), a.is_past(now, stick) && b.is_past(now, stick));
            let through = stamp(seq, at);
            prop_assert_eq!(a.join(b).is_reached(through, now), a.is_reached(through, now) && b.is_reached(through, now));
            prop_assert_eq!(a.join(b), b.join(a));
        }
    }
}
