//! How long a replica takes to have a write of the primary: measured at each answer, so that a read knows whether
//! waiting is worth its while, and a prober when to ask.

use std::time::Duration;

use super::{Fresh, Sample, Samples, Stamp, Tick};

/// The delay expected of one replica: from the moment in which the primary is asked for its position to the moment
/// in which the replica is known to have reached it.
///
/// An answer says only between which two bounds the delay was, and the bounds are as far apart as the questions. So
/// the expectation moves to the nearest value that agrees with the answer. A probe once a second, which proves only
/// "less than a second", changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplicationDelay(Option<Duration>);

/// One answer of a replica, beside the freshness known before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplicaAnswer<'a> {
    /// When the answer before this one was asked for.
    pub(crate) previous: Option<Stamp>,
    pub(crate) known: Option<&'a Fresh>,
    pub(crate) fresh: &'a Fresh,
    pub(crate) asked: Stamp,
    pub(crate) answered: Tick,
}

impl ReplicaAnswer<'_> {
    /// The earliest sample that the replica lacked when it was asked.
    pub(super) fn missing<'s>(&self, samples: &'s Samples) -> Option<&'s Sample> {
        let missing = samples.first_after(self.fresh.through.seq, Tick::default());
        missing.filter(|missing| missing.stamp.seq < self.asked.seq)
    }
}

impl Samples {
    /// The sample that the replica had in this answer, and in no answer before.
    pub(super) fn newly_reached(&self, answer: ReplicaAnswer<'_>) -> Option<Stamp> {
        let ReplicaAnswer { known, fresh, asked, .. } = answer;
        let has_moved = known.is_none_or(|known| known.position != fresh.position);
        // A primary that is idle is sampled at one position again and again: the first of these samples counts.
        let reached = self.at(fresh.through.seq).and_then(|sample| self.first_past(&sample.position));
        let is_news = |reached: &Stamp| known.is_none_or(|known| known.through.seq < reached.seq);
        reached.filter(|reached| has_moved && reached.seq < asked.seq && is_news(reached))
    }
}

/// Bounds that are further apart come from routine probes, and measure nothing: while reads want a replica to be asked,
/// questions follow each other faster.
const WIDE: Duration = Duration::from_millis(50);

/// An expectation that the first question met falls by this part of itself, so that the prober notices a replica
/// that has become faster.
const FALLS_BY: u32 = 16;

impl ReplicationDelay {
    /// The expected delay; `None` until the replica was seen to reach a position.
    pub(crate) fn expected(self) -> Option<Duration> {
        self.0
    }

    /// The expectation after one more answer.
    pub(crate) fn after(self, answer: ReplicaAnswer<'_>, samples: &Samples) -> Self {
        let reached = self.after_reaching(answer, samples);
        let at_least = answer.missing(samples).map(|missed| answer.asked.at.since(missed.stamp.at));
        Self(reached.0.map(|expected| expected.max(at_least.unwrap_or_default())))
    }

    fn after_reaching(self, answer: ReplicaAnswer<'_>, samples: &Samples) -> Self {
        let ReplicaAnswer { previous, answered, .. } = answer;
        let Some(reached) = samples.newly_reached(answer) else { return self };
        let at_most = answered.since(reached.at);
        let missed_before = previous.filter(|previous| previous.seq > reached.seq);
        let at_least = missed_before.map(|missed| missed.at.since(reached.at));
        let are_wide = at_most.saturating_sub(at_least.unwrap_or_default()) > WIDE;
        Self(match (at_least, self.0) {
            (Some(at_least), expected) if are_wide => Some(expected.unwrap_or_default().max(at_least).min(at_most)),
            (Some(at_least), _) => Some((at_least + at_most) / 2),
            (None, Some(expected)) => Some((expected - expected / FALLS_BY).min(at_most)),
            (None, None) => (!are_wide).then_some(at_most),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::topology::{Position, Seq, fixture::wal};

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Stamp {
        Stamp { seq: Seq(ms + 1), at: Tick(ms * MS) }
    }

    fn learn(known: Option<&Fresh>, asked: Stamp, position: Arc<Position>, samples: &Samples) -> Fresh {
        match known {
            Some(known) => known.then(asked.at, position, samples).expect("the replica does not go back"),
            None => Fresh::first(asked.at, position, samples),
        }
    }

    /// The expected delay after the replica missed a write in its first answer and had the write a second later.
    fn after_a_routine_probe(before: ReplicationDelay, missed_at_first: bool) -> ReplicationDelay {
        let sample = |ms, lsn| Sample { stamp: at(ms), position: Arc::new(wal(1, lsn)) };
        let samples = Samples::default().with(sample(0, 1_000)).with(sample(10, 1_001));
        let known = Fresh::first(at(1).at, Arc::new(wal(1, 1_000)), &samples);
        let fresh = learn(Some(&known), at(1_011), Arc::new(wal(1, 1_001)), &samples);
        let previous = Some(at(if missed_at_first { 12 } else { 5 }));
        let (asked, answered) = (at(1_011), at(1_012).at);
        before.after(ReplicaAnswer { previous, known: Some(&known), fresh: &fresh, asked, answered }, &samples)
    }

    #[test]
    fn a_routine_probe_makes_no_replica_expected_to_be_slow() {
        assert_eq!(after_a_routine_probe(ReplicationDelay::default(), false).expected(), None);
        let missed = after_a_routine_probe(ReplicationDelay::default(), true);
        assert_eq!(missed.expected(), Some(Duration::from_millis(2)), "it missed the write for so long at least");
        let known = ReplicationDelay(Some(Duration::from_millis(8)));
        assert_eq!(after_a_routine_probe(known, true), known, "the expectation agrees with both bounds");
    }

    /// A primary that writes without a pause, a replica that repeats each write so much later, and a prober that
    /// asks both of them at these intervals.
    fn learned(delay: u64, primary_every: usize, replica_every: u64, until: u64) -> Option<Duration> {
        let (mut samples, mut known, mut previous) = (Samples::default(), None::<Fresh>, None);
        let mut learned = ReplicationDelay::default();
        for ms in 0..until {
            let asked = at(ms);
            if ms % primary_every as u64 == 0 {
                samples = samples.with(Sample { stamp: asked, position: Arc::new(wal(1, 1_000 + ms)) });
            }
            if ms % replica_every == replica_every / 2 {
                let position = Arc::new(wal(1, 1_000 + ms.saturating_sub(delay)));
                let fresh = learn(known.as_ref(), asked, position, &samples);
                let answer =
                    ReplicaAnswer { previous, known: known.as_ref(), fresh: &fresh, asked, answered: asked.at };
                learned = learned.after(answer, &samples);
                (known, previous) = (Some(fresh), Some(asked));
            }
        }
        learned.expected()
    }

    #[test]
    fn a_delay_is_learned_to_the_distance_of_the_questions() {
        for (delay, slack) in [(2, 2), (20, 3), (100, 8)] {
            let learned = learned(delay, 1, 2, 2_000).expect("the replica follows").as_millis();
            assert!(learned.abs_diff(u128::from(delay)) <= slack, "{learned} instead of {delay}");
        }
    }

    #[test]
    fn a_probe_a_second_does_not_make_a_fast_replica_slow() {
        let mut samples = Samples::default().with(Sample { stamp: at(0), position: Arc::new(wal(1, 100)) });
        let fast = ReplicationDelay(Some(Duration::from_millis(2)));
        let asked = at(5);
        let known = learn(None, asked, Arc::new(wal(1, 100)), &samples);
        samples = samples.with(Sample { stamp: at(1_000), position: Arc::new(wal(1, 200)) });
        let asked = at(1_900);
        let fresh = learn(Some(&known), asked, Arc::new(wal(1, 200)), &samples);
        let answer =
            ReplicaAnswer { previous: Some(at(5)), known: Some(&known), fresh: &fresh, asked, answered: asked.at };
        let learned = fast.after(answer, &samples).expected().expect("known before");
        assert!(learned <= Duration::from_millis(2), "{learned:?}");
    }

    #[test]
    fn the_delay_of_a_replica_that_stands_still_grows_and_is_forgotten_when_it_has_caught_up() {
        let samples = Samples::default()
            .with(Sample { stamp: at(0), position: Arc::new(wal(1, 100)) })
            .with(Sample { stamp: at(10), position: Arc::new(wal(1, 200)) });
        let fast = ReplicationDelay(Some(Duration::from_millis(2)));
        let known = learn(None, at(5), Arc::new(wal(1, 100)), &samples);
        let asked = at(3_010);
        let still = learn(Some(&known), asked, Arc::new(wal(1, 100)), &samples);
        let answer =
            ReplicaAnswer { previous: Some(at(5)), known: Some(&known), fresh: &still, asked, answered: asked.at };
        let grown = fast.after(answer, &samples);
        assert_eq!(grown.expected(), Some(Duration::from_secs(3)));

        let samples = samples.with(Sample { stamp: at(4_000), position: Arc::new(wal(1, 300)) });
        let back = at(4_003);
        let fresh = learn(Some(&still), back, Arc::new(wal(1, 300)), &samples);
        let answer =
            ReplicaAnswer { previous: Some(asked), known: Some(&still), fresh: &fresh, asked: back, answered: back.at };
        assert_eq!(grown.after(answer, &samples).expected(), Some(Duration::from_millis(3)));
    }

    #[test]
    fn nothing_is_expected_of_a_replica_that_reached_nothing() {
        let samples = Samples::default().with(Sample { stamp: at(0), position: Arc::new(wal(1, 100)) });
        let behind = learn(None, at(5), Arc::new(wal(1, 50)), &samples);
        let answer = ReplicaAnswer { previous: None, known: None, fresh: &behind, asked: at(5), answered: at(5).at };
        assert_eq!(ReplicationDelay::default().after(answer, &samples).expected(), None);
    }
}
