//! The policy that prefers the member whose reads take the shortest time.

use std::{cmp::Ordering, time::Duration};

use super::{Candidate, Policy, least_in_flight::compare_load, weighted_random::draw_by_weight};
use crate::routing::Draw;

/// Prefers the member whose reads take the shortest time, of two that are drawn by weight.
///
/// The algorithm is the peak-EWMA of Finagle (`com.twitter.finagle.loadbalancer.PeakEwma`), which linkerd uses too, over
/// "the power of two choices" (Mitzenmacher 2001). The cost of a member is its
/// [latency](Candidate::latency) × (operations in flight + 1) / weight, and the member of the lower cost serves the read.
/// A latency in this sense rises at once to the duration of a slow read, and decays with a time constant, 10 s by default:
/// a member that took 20 ms where the others take 1 ms is tried again after about 30 s (10 s × ln 20).
///
/// * A member that was never measured is tried by one read, before all others; until that read has ended, the measured
///   members serve.
/// * A read that fails, or that is cancelled, can raise the latency of its node and never lowers it: quick errors do
///   not attract reads, and reads that the application gives up on a silent node drive others away.
/// * A read is measured from its decision to its answer, with the wait for a connection. Streams, transactions, pings and
///   writes are not measured; they count as operations in flight.
///
/// Choose this policy where replicas differ in speed (hardware, distance, a noisy neighbour) and most reads are alike. Where
/// some statements take a thousand times longer than others, each of them makes its node look slow for a minute; there
/// [`LeastInFlight`](crate::LeastInFlight), which needs no measurement, shares better. On an idle cluster nearly all reads go
/// to the fastest member, whatever the weights.
///
/// # Cost
/// Two readings of the clock and five atomic operations for each read, about 0.1 µs; no lock and no allocation.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use sea_orm_resolver::{DatabaseConnection, LeastLatency};
///
/// let builder = DatabaseConnection::builder().policy(LeastLatency::default());
/// // A shorter memory, for replicas whose speed changes often:
/// let builder = DatabaseConnection::builder().policy(LeastLatency::with_decay(Duration::from_secs(2)));
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LeastLatency {
    decay: Duration,
}

impl LeastLatency {
    /// The default time constant: Finagle's and linkerd's.
    const DEFAULT_DECAY: Duration = Duration::from_secs(10);

    /// With this time constant of the decay, instead of 10 s. After this time without a slow read, 37 % (1/e) of a peak are left.
    /// Zero remembers no peak at all: the last read counts.
    pub fn with_decay(decay: Duration) -> Self {
        Self { decay }
    }
}

impl Default for LeastLatency {
    fn default() -> Self {
        Self::with_decay(Self::DEFAULT_DECAY)
    }
}

impl Policy for LeastLatency {
    fn order(&self, candidates: &mut [Candidate<'_>], draw: &mut Draw) {
        draw_by_weight(candidates, 2, draw);
        if let [first, second, ..] = candidates
            && compare_cost(second, first) == Ordering::Less
        {
            std::mem::swap(first, second);
        }
    }

    fn preview(&self, candidates: &mut [Candidate<'_>]) {
        candidates.sort_by(compare_cost);
    }

    fn latency_decay(&self) -> Option<Duration> {
        Some(self.decay)
    }
}

/// The cost of a read on a member, in the order in which members are preferred.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Cost {
    /// No read was measured, and none is on its way.
    Untried,
    /// In seconds.
    Measured(f64),
    /// The first measured read has not ended.
    Awaited,
}

impl Cost {
    fn of(candidate: &Candidate<'_>) -> Self {
        match candidate.latency() {
            Some(latency) => {
                #[expect(clippy::cast_precision_loss, reason = "a count of running operations is small")]
                let load = candidate.in_flight().saturating_add(1) as f64;
                Self::Measured(latency.as_secs_f64() * load / f64::from(candidate.weight().get()))
            }
            None if candidate.is_latency_awaited() => Self::Awaited,
            None => Self::Untried,
        }
    }
}

/// Compares costs, and the load where the costs do not differ.
fn compare_cost(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let by_cost = Cost::of(a).partial_cmp(&Cost::of(b)).unwrap_or(Ordering::Equal);
    by_cost.then_with(|| compare_load(a, b))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::topology::{Lane, Lease, Measured, Member, Role, Tick, fixture};

    /// Some clients that each read again when their read has ended, by a clock that is played.
    struct Play {
        members: [Member; 2],
        clients: usize,
        draw: Draw,
        now: Tick,
        running: Vec<Running>,
    }

    /// A read that runs.
    struct Running {
        ends: Tick,
        began: Tick,
        lease: Lease,
    }

    impl Play {
        fn new(clients: usize, seed: u64) -> Self {
            let members = [fixture::replica("one", 1), fixture::replica("two", 1)];
            Self { members, clients, draw: Draw::seeded(seed), now: Tick(1), running: Vec::new() }
        }

        /// Plays for a time in which reads take these times on the two members, varied by a fifth. Returns how many
        /// reads each member was given.
        fn run(&mut self, policy: LeastLatency, time: Duration, durations: [Duration; 2]) -> [u32; 2] {
            let end = self.now.after(time);
            let mut given = [0; 2];
            while self.now < end {
                while self.running.len() < self.clients {
                    let mut candidates = self.members.each_ref().map(|member| Candidate::new(member, self.now));
                    policy.order(&mut candidates, &mut self.draw);
                    let chosen = usize::from(candidates[0].name() == "two");
                    given[chosen] += 1;
                    let node = Arc::clone(&self.members[chosen].node);
                    node.latency().begin();
                    let ends = self.now.after(durations[chosen].mul_f64(0.8 + 0.4 * self.draw.unit()));
                    let lease = Lease::take(node, Lane::Read, Role::Replica);
                    self.running.push(Running { ends, began: self.now, lease });
                }
                let next = self.running.iter().enumerate().min_by_key(|(_, read)| read.ends).map(|(index, _)| index);
                let read = self.running.swap_remove(next.expect("clients always read"));
                self.now = read.ends;
                let latency = read.lease.node().latency();
                latency.end(self.now.since(read.began), Measured::Answered, self.now, policy.decay);
            }
            given
        }
    }

    const fn milliseconds(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    proptest! {
        // 64 plays of at least 2 000 reads each.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn at_least_nine_tenths_of_the_reads_go_to_the_faster_of_two(
            clients in 1_usize..8,
            slower in 20_u32..100,
            seed: u64,
        ) {
            let mut play = Play::new(clients, seed);
            let fast = milliseconds(1);
            let [to_fast, to_slow] = play.run(LeastLatency::default(), Duration::from_secs(2), [fast, fast * slower]);
            prop_assert!(to_slow >= 1, "it was tried");
            prop_assert!(to_slow * 9 <= to_fast, "{} of {}", to_slow, to_fast + to_slow);
        }
    }

    #[test]
    fn a_slow_member_is_tried_again_after_the_decay_and_serves_again_when_it_is_fast() {
        for clients in [1, 4] {
            let mut play = Play::new(clients, 11);
            let (slow, fast) = (milliseconds(20), milliseconds(1));
            play.run(LeastLatency::default(), Duration::from_secs(1), [fast, slow]);
            // 20 ms become 1 ms in 10 s × ln 20 ≈ 30 s, and 4 ms, the cost beside three reads in flight, in 16 s: nothing in
            // the first 10 s, something within two minutes.
            let [_, soon] = play.run(LeastLatency::default(), Duration::from_secs(10), [fast, slow]);
            assert_eq!(soon, 0, "{clients} clients");
            let [to_fast, later] = play.run(LeastLatency::default(), Duration::from_secs(100), [fast, slow]);
            assert!((1..=to_fast / 9).contains(&later), "{clients} clients: {later} of {}", later + to_fast);
            // As fast as the other one from now on: a fifth of the reads at least, of some 60 000, after a minute.
            play.run(LeastLatency::default(), Duration::from_secs(60), [fast, fast]);
            let [one, two] = play.run(LeastLatency::default(), Duration::from_secs(60), [fast, fast]);
            assert!(two > (one + two) / 5 && one > (one + two) / 5, "{clients} clients: {one} and {two}");
        }
    }

    fn order(mut candidates: [Candidate<'static>; 2]) -> [String; 2] {
        LeastLatency::default().order(&mut candidates, &mut Draw::seeded(3));
        candidates.map(|candidate| candidate.name().to_owned())
    }

    #[test]
    fn a_member_that_was_never_measured_is_tried_by_one_read() {
        let measured = || Candidate::builder("measured").latency(milliseconds(1)).build();
        let unknown = |in_flight| Candidate::builder("unknown").in_flight(in_flight).build();
        assert_eq!(order([measured(), unknown(0)]), ["unknown", "measured"]);
        assert_eq!(order([measured(), unknown(1)]), ["measured", "unknown"]);
    }

    #[test]
    fn a_stream_on_a_member_that_was_never_measured_does_not_keep_reads_away() {
        let members = [fixture::replica("measured", 1), fixture::replica("unknown", 1)];
        members[0].node.latency().begin();
        members[0].node.latency().end(milliseconds(1), Measured::Answered, Tick(1), Duration::from_secs(10));
        let _stream = Lease::take(Arc::clone(&members[1].node), Lane::Read, Role::Replica);
        let mut candidates = members.each_ref().map(|member| Candidate::new(member, Tick(2)));
        LeastLatency::default().order(&mut candidates, &mut Draw::seeded(3));
        assert_eq!(candidates[0].name(), "unknown");
    }

    #[test]
    fn load_and_weight_count_beside_the_latency() {
        let member = |name: &str, latency, in_flight, weight| {
            Candidate::builder(name).latency(milliseconds(latency)).in_flight(in_flight).weight(weight).build()
        };
        // 2 ms × 3 against 1 ms × 7, and with the double weight 2 ms × 3 against 1 ms × 7 / 2.
        assert_eq!(order([member("slow", 2, 2, 1), member("fast", 1, 6, 1)]), ["slow", "fast"]);
        assert_eq!(order([member("slow", 2, 2, 1), member("fast", 1, 6, 2)]), ["fast", "slow"]);
    }
}
