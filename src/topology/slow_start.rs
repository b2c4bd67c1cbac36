//! The slow start: a member that comes back takes a growing part of its share of the reads. Its server's cache is cold
//! and its pools have no connection, so that the full share would come as a queue of slow reads. The rule is Envoy's
//! (`slow_start_config`) and HAProxy's (`slowstart`).

use std::time::Duration;

use super::{Member, NodeId, Tick, Topology};

/// The part of its share that a member takes in the first moment: Envoy's `min_weight_percent`. With less, a small
/// service would send the member nothing for seconds, and nothing would fill its cache.
const LEAST_SHARE: f64 = 0.1;

/// When a member's slow start began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlowStart(Option<Tick>);

impl SlowStart {
    /// A slow start that begins now.
    pub(crate) fn from(now: Tick) -> Self {
        Self(Some(now))
    }

    /// The part of its usual share of the reads that the member takes now, from [`LEAST_SHARE`] to 1. It grows by the
    /// same amount in each moment of `duration`.
    pub(crate) fn share(self, now: Tick, duration: Duration) -> f64 {
        let Some(began) = self.0 else { return 1.0 };
        let passed = now.since(began);
        if passed >= duration {
            return 1.0;
        }
        passed.as_secs_f64() / duration.as_secs_f64() * (1.0 - LEAST_SHARE) + LEAST_SHARE
    }

    /// Whether the member is shown as one that starts slowly. The end is published with the member's next answer.
    pub(crate) fn is_on(self) -> bool {
        self.0.is_some()
    }

    /// The same slow start, or none when it is over.
    pub(super) fn until(self, now: Tick, duration: Duration) -> Self {
        Self(self.0.filter(|began| now.since(*began) < duration))
    }
}

impl Member {
    /// Begins a slow start. A node that cannot be asked (a file, a mock) has none: no server with a cache of its own is
    /// behind it.
    pub(crate) fn start_slowly(&mut self, now: Tick, duration: Duration) {
        if self.observed.is_some() {
            self.slow_start = SlowStart::from(now).until(now, duration);
        }
    }
}

impl Topology {
    /// The part of its usual share of the reads that a member takes now.
    pub(crate) fn share_of(&self, member: &Member, now: Tick) -> f64 {
        member.slow_start.share(now, self.slow_start)
    }

    /// Has these members start slowly: they joined, or came back into rotation.
    pub(crate) fn start_slowly(&mut self, nodes: impl IntoIterator<Item = NodeId>, now: Tick) {
        let duration = self.slow_start;
        for node in nodes {
            if let Some(member) = self.member_of_mut(node) {
                member.start_slowly(now, duration);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn at(milliseconds: u64) -> Tick {
        Tick(7).after(Duration::from_millis(milliseconds))
    }

    #[test]
    fn the_share_grows_linearly_from_a_tenth_to_all() {
        for (milliseconds, percent) in
            [(0, 10), (1_000, 19), (2_500, 32), (5_000, 55), (9_000, 91), (10_000, 100), (11_000, 100)]
        {
            let share = SlowStart::from(at(0)).share(at(milliseconds), TEN);
            assert!((share * 100.0 - f64::from(percent)).abs() < 0.51, "{share} after {milliseconds} ms");
        }
        assert!((SlowStart::default().share(at(0), TEN) - 1.0).abs() < f64::EPSILON, "it has been there all along");
    }

    #[test]
    fn odd_instants_give_a_share() {
        let begins_later = SlowStart::from(at(5)).share(at(0), TEN);
        assert!((begins_later - LEAST_SHARE).abs() < f64::EPSILON, "a decision that began before the publication");
        assert!((SlowStart::from(at(0)).share(at(0), Duration::ZERO) - 1.0).abs() < f64::EPSILON);
        let share = SlowStart::from(Tick(0)).share(Tick::NEVER, Duration::MAX);
        assert!((LEAST_SHARE..=1.0).contains(&share), "{share}");
    }

    #[test]
    fn a_slow_start_is_shown_until_it_is_over() {
        let begun = SlowStart::from(at(0));
        assert!(begun.until(at(9_999), TEN).is_on());
        assert!(!begun.until(at(10_000), TEN).is_on());
        assert!(!begun.until(at(0), Duration::ZERO).is_on(), "switched off");
        assert!(!SlowStart::default().until(at(0), TEN).is_on());
    }
}
