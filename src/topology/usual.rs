//! The usual durations of the reads of a node, by text: what tells a read that runs far too long.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The texts that one node tells apart. Texts that share a place have one estimate, which is near that of the slower
/// one, so that fewer reads are hedged.
const PLACES: usize = 256;

/// So many reads are measured before an estimate counts. One in twenty is beyond a 95th percentile.
const ENOUGH: u64 = 20;

/// The part of the estimate by which one duration beyond it raises it. The steps of the two sides are as 19 to 1, so they
/// balance where one duration in twenty is beyond: the 95th percentile. (A "frugal" estimate of a quantile: Ma,
/// Muthukrishnan and Sandler, "Frugal Streaming for Estimating Quantiles", 2013; the steps are parts, because durations of
/// microseconds and of minutes need different ones.)
const STEP_UP: f64 = 0.095;
const STEP_DOWN: f64 = STEP_UP / 19.0;

/// A read has run far longer than its like after so many times the 95th percentile: beyond the percentile itself is one
/// read in twenty on a node that is well, and these alone would use the budget up.
const FAR: u32 = 2;

/// No read counts as far too long before this: ending a statement and opening a connection take some milliseconds.
const LEAST: Duration = Duration::from_millis(10);

/// Names the texts that are alike: the hash of a text, which has no values where SeaORM built it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape(u64);

impl Shape {
    pub(crate) fn of(sql: &str) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(sql))
    }
}

/// Estimates of the 95th percentile of the durations, by shape. Writers need no lock; the places are made when the first
/// duration is measured.
#[derive(Debug, Default)]
pub(crate) struct UsualDurations {
    /// In each place the estimate in nanoseconds (up to three days), and in the low byte the number of durations, up to
    /// [`ENOUGH`].
    places: OnceLock<Box<[AtomicU64]>>,
}

const LONGEST: u64 = (1 << 56) - 1;

impl UsualDurations {
    /// A read of this shape has taken so long, or longer.
    pub(crate) fn add(&self, shape: Shape, duration: Duration) {
        let places = self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(LONGEST).clamp(1, LONGEST);
        let next = |place: u64| {
            let (estimate, count) = (place >> 8, place & 0xff);
            let estimate = if count < ENOUGH { estimate.max(nanos) } else { moved(estimate, nanos) };
            Some(estimate.clamp(1, LONGEST) << 8 | (count + 1).min(ENOUGH))
        };
        // The closure always gives a value, so the update cannot fail.
        let _ = places[place(shape)].fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// After how long a read of this shape has run far longer than its like; `None` while too few were measured.
    pub(crate) fn far_beyond(&self, shape: Shape) -> Option<Duration> {
        let place = self.places.get()?[place(shape)].load(Ordering::Relaxed);
        let estimate = Duration::from_nanos(place >> 8);
        (place & 0xff >= ENOUGH).then(|| estimate.saturating_mul(FAR).max(LEAST))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits of a hash are a hash")]
fn place(shape: Shape) -> usize {
    shape.0 as usize % PLACES
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate needs no exact nanoseconds, and is positive"
)]
fn moved(estimate: u64, duration: u64) -> u64 {
    let part = if duration > estimate { 1.0 + STEP_UP } else { 1.0 - STEP_DOWN };
    (estimate as f64 * part) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Durations from 1 ms to 100 ms, each as often as the others, in a mixed order.
    fn add_percents(usual: &UsualDurations, shape: Shape, times: u64, unit: u32) {
        for step in 0..times {
            usual.add(shape, Duration::from_millis(1 + step * 37 % 100) * unit);
        }
    }

    #[test]
    fn far_beyond_is_twice_the_95th_percentile() {
        let (usual, shape) = (UsualDurations::default(), Shape::of("SELECT 1"));
        add_percents(&usual, shape, 2_000, 1);
        let far = usual.far_beyond(shape).expect("enough were measured");
        assert!((millis(170)..millis(220)).contains(&far), "{far:?}, expected 190 ms");
        // The node has become slower, and faster again.
        add_percents(&usual, shape, 1_000, 20);
        let far = usual.far_beyond(shape).expect("enough were measured");
        assert!((millis(3_400)..millis(4_400)).contains(&far), "{far:?}, expected 3.8 s");
        add_percents(&usual, shape, 2_000, 1);
        let far = usual.far_beyond(shape).expect("enough were measured");
        assert!((millis(170)..millis(220)).contains(&far), "{far:?}, expected 190 ms");
    }

    #[test]
    fn a_few_reads_tell_nothing_and_one_that_stalled_hardly_anything() {
        let (usual, shape) = (UsualDurations::default(), Shape::of("SELECT 1"));
        for _ in 0..ENOUGH {
            assert_eq!(usual.far_beyond(shape), None);
            usual.add(shape, millis(20));
        }
        assert_eq!(usual.far_beyond(shape), Some(millis(40)));
        usual.add(shape, Duration::from_secs(3_600));
        assert!(usual.far_beyond(shape) < Some(millis(44)));
        usual.add(shape, Duration::MAX);
        assert!(usual.far_beyond(shape) < Some(millis(48)));
    }

    #[test]
    fn each_text_has_its_own_estimate_and_none_is_below_ten_milliseconds() {
        let usual = UsualDurations::default();
        let (quick, slow) = (Shape::of("SELECT 1"), Shape::of("SELECT pg_sleep(1)"));
        assert_ne!(place(quick), place(slow));
        for _ in 0..ENOUGH {
            usual.add(quick, Duration::ZERO);
            usual.add(slow, Duration::from_secs(1));
        }
        assert_eq!(usual.far_beyond(quick), Some(LEAST));
        assert_eq!(usual.far_beyond(slow), Some(Duration::from_secs(2)));
        assert_eq!(usual.far_beyond(Shape::of("SELECT 2")), None);
    }
}
