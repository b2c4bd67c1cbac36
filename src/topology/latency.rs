//! The latency of a node: a peak-EWMA of the durations of its reads.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::Tick;

/// An exponentially weighted moving average that rises to a peak at once, and decays with a time constant.
///
/// The estimate is the "peak EWMA" of Finagle (`com.twitter.finagle.loadbalancer.PeakEwma`) and of linkerd: a duration
/// above the average replaces the average; after a pause of `t` a duration below the average counts with the weight
/// `1 - exp(-t / decay)`, because reads do not end at regular intervals.
///
/// Writers add their durations without a lock. A reader may see the new instant with the old average for the
/// nanoseconds between the two atomics, and then takes the average for that much fresher.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// The average in seconds, as the bits of an `f64`; zero while no read was measured.
    average: AtomicU64,
    /// The instant of the last measurement.
    measured_at: AtomicU64,
    /// The time constant of the last measurement, in nanoseconds.
    decay: AtomicU64,
    /// Reads that are measured and have not ended.
    running: AtomicU64,
}

/// How a measured read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    /// The node answered the read.
    Answered,
    /// The read failed or was cancelled: an answer would have taken at least so long. A quick failure does not make
    /// its node look fast.
    GivenUp,
}

impl Latency {
    /// A measured read begins.
    pub(crate) fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// A measured read ends at `now`, after `duration`. The average decays with the time constant `decay`.
    pub(crate) fn end(&self, duration: Duration, how: Measured, now: Tick, decay: Duration) {
        self.decay.store(u64::try_from(decay.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        // Zero stands for "not measured".
        let duration = duration.max(Duration::from_nanos(1)).as_secs_f64();
        let before = Tick(self.measured_at.fetch_max(now.0, Ordering::Relaxed));
        let kept = share_kept(now.since(before), decay);
        let change = |average: f64| match how {
            Measured::Answered if duration > average => duration,
            Measured::Answered => average * kept + duration * (1.0 - kept),
            // A node that was never measured stays so: failures eject the node, and its speed is not known.
            Measured::GivenUp if average <= 0.0 => average,
            Measured::GivenUp => duration.max(average * kept),
        };
        let change = |bits| Some(change(f64::from_bits(bits)).to_bits());
        // The closure always gives a value, so the update cannot fail.
        let _ = self.average.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// The average, decayed until `now`; `None` while no read was measured.
    pub(crate) fn at(&self, now: Tick) -> Option<Duration> {
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        let measured_at = Tick(self.measured_at.load(Ordering::Relaxed));
        let decay = Duration::from_nanos(self.decay.load(Ordering::Relaxed));
        let decayed = average * share_kept(now.since(measured_at), decay);
        (average > 0.0).then(|| Duration::try_from_secs_f64(decayed).unwrap_or(Duration::MAX))
    }

    /// Whether the first read that will tell the latency is on its way.
    pub(crate) fn is_awaited(&self) -> bool {
        self.average.load(Ordering::Relaxed) == 0 && self.running.load(Ordering::Relaxed) > 0
    }
}

/// The weight of an average after a pause.
fn share_kept(pause: Duration, decay: Duration) -> f64 {
    // A time constant of zero keeps nothing, and must not divide zero by zero.
    (-pause.as_secs_f64() / decay.max(Duration::from_nanos(1)).as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    fn second(number: u64) -> Tick {
        Tick(1).after(Duration::from_secs(number))
    }

    fn milliseconds(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn measure(latency: &Latency, duration: Duration, how: Measured, now: Tick) {
        latency.begin();
        latency.end(duration, how, now, DECAY);
    }

    /// Compares to a thousandth: the average is a floating-point number.
    fn assert_is(latency: &Latency, now: Tick, expected: Duration) {
        let average = latency.at(now).expect("it was measured");
        assert!(average.abs_diff(expected) <= expected / 1_000, "{average:?}, not {expected:?}");
    }

    #[test]
    fn a_peak_counts_at_once_and_decays_with_the_time_constant() {
        let latency = Latency::default();
        assert_eq!(latency.at(second(1)), None);
        measure(&latency, milliseconds(1), Measured::Answered, second(1));
        measure(&latency, milliseconds(100), Measured::Answered, second(1));
        assert_is(&latency, second(1), milliseconds(100));
        measure(&latency, milliseconds(1), Measured::Answered, second(1));
        assert_is(&latency, second(1), milliseconds(100));
        // After one time constant 1/e of the peak is left: 36.79 ms.
        assert_is(&latency, second(11), Duration::from_micros(36_788));
        measure(&latency, milliseconds(1), Measured::Answered, second(11));
        assert_is(&latency, second(11), Duration::from_micros(37_420));
    }

    #[test]
    fn a_read_that_was_given_up_raises_the_average_and_never_lowers_it() {
        let latency = Latency::default();
        measure(&latency, milliseconds(5), Measured::GivenUp, second(1));
        assert_eq!(latency.at(second(1)), None, "a failure does not measure a node");
        measure(&latency, milliseconds(10), Measured::Answered, second(1));
        measure(&latency, milliseconds(1), Measured::GivenUp, second(2));
        assert_is(&latency, second(2), Duration::from_micros(9_048));
        measure(&latency, milliseconds(500), Measured::GivenUp, second(2));
        assert_is(&latency, second(2), milliseconds(500));
    }

    #[test]
    fn the_first_measurement_is_awaited_while_a_read_runs() {
        let latency = Latency::default();
        assert!(!latency.is_awaited());
        latency.begin();
        assert!(latency.is_awaited());
        latency.end(milliseconds(1), Measured::GivenUp, second(1), DECAY);
        assert!(!latency.is_awaited());
        measure(&latency, milliseconds(1), Measured::Answered, second(1));
        latency.begin();
        assert!(!latency.is_awaited(), "it is known by now");
    }

    #[test]
    fn odd_numbers_are_numbers() {
        let latency = Latency::default();
        latency.begin();
        latency.end(Duration::ZERO, Measured::Answered, second(1), Duration::ZERO);
        assert_eq!(latency.at(second(1)), Some(Duration::from_nanos(1)));
        latency.begin();
        latency.end(Duration::MAX, Measured::Answered, Tick(0), Duration::MAX);
        assert!(latency.at(Tick::NEVER).is_some());
        assert!(latency.at(Tick(0)).is_some());
    }

    #[test]
    fn threads_lose_no_peak() {
        // Eight threads measure 1 000 reads each, all at one instant: the average is the longest of all.
        let latency = Latency::default();
        measure(&latency, milliseconds(1), Measured::Answered, second(1));
        thread::scope(|scope| {
            for thread in 0..8 {
                let latency = &latency;
                scope.spawn(move || {
                    for read in 0..1_000 {
                        measure(
                            latency,
                            Duration::from_micros(1 + (read * 8 + thread) % 8_000),
                            Measured::Answered,
                            second(1),
                        );
                    }
                });
            }
        });
        assert_is(&latency, second(1), Duration::from_micros(8_000));
        assert_eq!(latency.running.load(Ordering::Relaxed), 0);
    }
}
