//! The lag of a replica as it is shown: how long the primary's last sample took to reach the replica, between the last
//! question that the replica answered without it and the first that it answered with it.

use std::time::Duration;

use super::{ReplicaAnswer, Sample, Samples, Stamp, Tick};

/// A lag is not measured more exactly than this, and a shorter one is shown as none.
pub(crate) const RESOLUTION: Duration = Duration::from_millis(10);

/// The next question is asked when a replica that missed the sample for some time has missed it for this part longer.
const LATER_BY: u32 = 8;

/// The first question is asked this part of the lag too early, because only an answer without the sample shows that the
/// lag is not shorter.
const EARLIER_BY: u32 = 16;

/// The measured lag of one life of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LagMeasure {
    time: Option<Duration>,
    /// The samples in a row that the first question found: the lag is shorter than the measured one.
    found_at_once: u32,
}

impl LagMeasure {
    /// The measured lag; `None` until the replica was seen to reach a sample.
    pub(crate) fn time(self) -> Option<Duration> {
        self.time
    }

    /// The measure after one more answer.
    pub(crate) fn after(self, answer: ReplicaAnswer<'_>, samples: &Samples) -> Self {
        let reached = samples.newly_reached(answer).map(|reached| {
            let at_most = answer.answered.since(reached.at);
            let missed = answer.previous.filter(|previous| previous.seq > reached.seq);
            (missed.map(|missed| missed.at.since(reached.at)), at_most)
        });
        let after = match (reached, self.time) {
            // Questions that are so far apart agree with many lags.
            (Some((Some(at_least), at_most)), Some(known)) if at_most > at_least * 2 + RESOLUTION * 2 => {
                Self { time: Some(known.clamp(at_least, at_most)), found_at_once: 0 }
            }
            (Some((Some(at_least), at_most)), _) => Self { time: Some((at_least + at_most) / 2), found_at_once: 0 },
            (Some((None, at_most)), known) => Self {
                time: Some(known.map_or(at_most, |known| known.min(at_most))),
                found_at_once: self.found_at_once.saturating_add(1),
            },
            (None, _) => self,
        };
        let missed_for =
            answer.asked.at.since(answer.missing(samples).map_or(answer.asked.at, |missed| missed.stamp.at));
        if after.time.is_some_and(|time| time < missed_for) {
            return Self { time: Some(missed_for), found_at_once: 0 };
        }
        after
    }

    /// When a replica is to be asked whether it has a sample. `asked` is its last question.
    pub(crate) fn due(self, sample: &Sample, asked: Stamp) -> Tick {
        // A lag that has become much shorter is found in some five questions.
        let time = self.time.unwrap_or_default();
        let earlier = (time / EARLIER_BY).saturating_mul(1 << self.found_at_once.min(4));
        let first = sample.stamp.at.after(time.saturating_sub(earlier));
        if asked.seq < sample.stamp.seq {
            return first;
        }
        let missed_for = asked.at.since(sample.stamp.at);
        first.max(asked.at.after((missed_for / LATER_BY).max(RESOLUTION)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::topology::{Fresh, Seq, fixture::wal};

    const SECOND: u64 = 1_000;

    fn at(ms: u64) -> Stamp {
        Stamp { seq: Seq(2 * ms + 2), at: Tick(ms * 1_000_000) }
    }

    /// A primary that writes without a pause and is asked once a second, and a replica that has each write some
    /// milliseconds later, by the instant. Returns what is measured at the end, and the questions to the replica in the last
    /// ten seconds.
    fn measured(delay: impl Fn(u64) -> u64, until: u64) -> (u64, u32) {
        let (mut samples, mut measure) = (Samples::default(), LagMeasure::default());
        let (mut known, mut previous, mut questions) = (None::<Fresh>, None::<Stamp>, 0);
        for ms in 0..until {
            let sampled = at(ms);
            let asked = Stamp { seq: Seq(sampled.seq.0 + 1), ..sampled };
            if ms % SECOND == 0 {
                samples = samples.with(Sample { stamp: sampled, position: Arc::new(wal(1, 1_000 + ms)) });
            }
            let through = known.as_ref().map(|known| known.through.seq).unwrap_or_default();
            let missing = samples.first_after(through, Tick::default());
            let is_due = |sample: &Sample| measure.due(sample, previous.unwrap_or_default()) <= asked.at;
            if missing.is_some_and(is_due) {
                questions += u32::from(ms >= until - 10 * SECOND);
                let position = Arc::new(wal(1, 1_000 + ms.saturating_sub(delay(ms))));
                let fresh = match &known {
                    Some(known) => known.then(asked.at, position, &samples).expect("the replica does not go back"),
                    None => Fresh::first(asked.at, position, &samples),
                };
                let answer =
                    ReplicaAnswer { previous, known: known.as_ref(), fresh: &fresh, asked, answered: asked.at };
                measure = measure.after(answer, &samples);
                (known, previous) = (Some(fresh), Some(asked));
            }
        }
        let time = measure.time().expect("the replica follows");
        (u64::try_from(time.as_millis()).expect("short"), questions)
    }

    #[test]
    fn the_lag_is_measured_to_a_tenth_with_two_questions_a_second() {
        for delay in [0, 1, 5, 20, 50, 100, 200, 500, 900, 2_500] {
            let (time, questions) = measured(|_| delay, 60 * SECOND);
            assert!(time.abs_diff(delay) <= 10.max(delay / 8), "{time} ms instead of {delay} ms");
            assert!(questions <= 30, "{questions} questions in ten seconds at {delay} ms");
        }
    }

    #[test]
    fn a_lag_that_changes_is_measured_again_within_ten_seconds() {
        for (before, after) in [(0_u64, 100), (100, 0), (1_000, 100), (100, 1_000), (5_000, 100), (3, 300)] {
            // The replica catches up as fast as it can, and does not go back.
            let delay =
                |ms: u64| if ms < 60 * SECOND { before } else { after.max(before.saturating_sub(ms - 60 * SECOND)) };
            let (time, _) = measured(delay, 70 * SECOND + before);
            assert!(time.abs_diff(after) <= 10.max(after / 8), "{time} ms instead of {after} ms, from {before} ms");
        }
    }

    #[test]
    fn the_lag_of_a_replica_that_stands_still_grows() {
        let stands_still = |ms: u64| if ms < 20 * SECOND { 100 } else { 100 + ms - 20 * SECOND };
        let (time, questions) = measured(stands_still, 40 * SECOND);
        // The oldest sample that it lacks is up to a second younger than the first write that it lacks.
        assert!((17_000..=20_100).contains(&time), "{time} ms");
        assert!(questions <= 10, "{questions} in ten seconds");
    }
}
