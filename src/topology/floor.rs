//! What a session must see: the rule for nodes whose positions are not known.

use std::time::Duration;

use super::Tick;

/// The freshness a session asks of the node it reads from.
///
/// Without positions the only proof is time: a replica is taken to have caught up
/// `stick_after_write` after the session's last write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    /// When the last write of the session ended; zero for a session that has not written.
    last_write: Tick,
    /// A write whose outcome is unknown may still happen until then.
    open_until: Tick,
}

impl Floor {
    /// The floor of a session that wrote: its last write ended at `at`.
    pub(crate) fn written(at: Tick) -> Self {
        Self { last_write: at, open_until: Tick::default() }
    }

    /// The floor of a session with a write of unknown outcome, which may happen until `until`.
    pub(crate) fn open(at: Tick, until: Tick) -> Self {
        Self { last_write: at, open_until: until }
    }

    pub(crate) fn from_parts(last_write: Tick, open_until: Tick) -> Self {
        Self { last_write, open_until }
    }

    /// When the last write ended, and until when an open one may happen.
    pub(crate) fn parts(self) -> (Tick, Tick) {
        (self.last_write, self.open_until)
    }

    /// From then on every node is past this floor.
    pub(crate) fn matters_until(self, stick_after_write: Duration) -> Tick {
        self.last_write.after(stick_after_write).max(self.open_until)
    }

    /// The smallest floor that is at least both.
    pub(crate) fn join(self, other: Self) -> Self {
        Self { last_write: self.last_write.max(other.last_write), open_until: self.open_until.max(other.open_until) }
    }

    /// Whether a node without known position may serve the session.
    pub(crate) fn is_past(self, now: Tick, stick_after_write: Duration) -> bool {
        now >= self.open_until
            && (self.last_write == Tick::default() || now.since(self.last_write) >= stick_after_write)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STICK: Duration = Duration::from_secs(1);
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_session_that_never_wrote_may_read_anywhere() {
        assert!(Floor::default().is_past(Tick(0), STICK));
        assert!(Floor::default().is_past(Tick(1), STICK));
    }

    #[test]
    fn a_session_sticks_for_the_configured_time_after_its_write() {
        let floor = Floor::written(Tick(5 * SECOND));
        assert!(!floor.is_past(Tick(5 * SECOND), STICK));
        assert!(!floor.is_past(Tick(6 * SECOND - 1), STICK));
        assert!(floor.is_past(Tick(6 * SECOND), STICK));
    }

    #[test]
    fn an_open_floor_holds_longer_than_the_stick() {
        let floor = Floor::open(Tick(SECOND), Tick(31 * SECOND));
        assert!(!floor.is_past(Tick(30 * SECOND), STICK));
        assert!(floor.is_past(Tick(31 * SECOND), STICK));
    }

    proptest! {
        #[test]
        fn a_join_is_past_exactly_when_both_are(a: (u32, u32), b: (u32, u32), now: u32) {
            let floor = |(at, until): (u32, u32)| Floor::open(Tick(at.into()), Tick(until.into()));
            let (a, b, now) = (floor(a), floor(b), Tick(now.into()));
            let stick = Duration::from_nanos(1_000_000);
            prop_assert_eq!(a.join(b).is_past(now, stick), a.is_past(now, stick) && b.is_past(now, stick));
            prop_assert_eq!(a.join(b), b.join(a));
        }
    }
}
