//! The primary's positions and the instants at which they were asked for: they turn a replica's position into an
//! instant.

use std::{collections::VecDeque, sync::Arc};

use super::{Position, PositionOrder, Seq, Stamp, Tick};

/// A position of the primary, and the instant at which the primary was asked for it. The primary was at this
/// position, or further, when it answered, so every write that it had acknowledged by that instant lies at or
/// before the position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) stamp: Stamp,
    pub(crate) position: Arc<Position>,
}

/// The recent positions of one life of one primary, oldest first.
///
/// Bounded: a full ring loses the sample whose neighbours are closest together, compared with the sample's age. So
/// the ring reaches far back and gets coarser with age. The price is that a replica far behind looks a little
/// further behind than it is, by the same small part at every rate of samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    ring: Arc<VecDeque<Sample>>,
    /// The last position of the life before, while no sample of this life is there.
    before: Option<Arc<Position>>,
    /// The furthest position that the primary has fallen back from. A replica may have the transactions that the primary
    /// lost, and the primary gives their numbers to other transactions.
    lost: Option<Arc<Position>>,
}

const CAPACITY: usize = 64;

impl Samples {
    pub(crate) fn newest(&self) -> Option<&Sample> {
        self.ring.back()
    }

    /// The samples when another life of the primary begins: none. A server that has lost transactions shows that by its
    /// first position.
    pub(crate) fn of_another_life(&self) -> Self {
        let before = self.newest().map(|newest| Arc::clone(&newest.position)).or_else(|| self.before.clone());
        Self { ring: Arc::default(), before, lost: self.lost.clone() }
    }

    /// The samples with one more. A position that does not follow on the last one belongs to another history (a
    /// restarted primary that lost its tail, a promoted one): the samples of the history before are forgotten.
    pub(crate) fn with(&self, sample: Sample) -> Self {
        if self.newest().is_some_and(|newest| newest.stamp == sample.stamp) {
            return self.clone();
        }
        let last = self.newest().map(|newest| &newest.position).or(self.before.as_ref());
        let order = last.map(|last| sample.position.compared_to(last));
        let is_later = self.newest().is_some_and(|newest| newest.stamp.seq < sample.stamp.seq);
        if !is_later || order != Some(PositionOrder::Covers) {
            let lost = last.filter(|last| order == Some(PositionOrder::Behind) && last.may_be_counted_again());
            let lost = match (&self.lost, lost) {
                (Some(known), Some(lost)) if known.compared_to(lost) != PositionOrder::Covers => Some(lost),
                (None, lost) => lost,
                (known, _) => known.as_ref(),
            };
            return Self { lost: lost.cloned(), ring: Arc::new(VecDeque::from([sample])), before: None };
        }
        let mut ring = VecDeque::clone(&self.ring);
        if ring.len() == CAPACITY {
            ring.remove(least_missed(&ring, sample.stamp.at));
        }
        ring.push_back(sample);
        Self { ring: Arc::new(ring), before: None, lost: self.lost.clone() }
    }

    /// How far a server at this position has come towards a sample. A number that the primary gave twice says nothing of
    /// the transactions that a server has.
    pub(crate) fn order(&self, position: &Position, sample: &Sample) -> PositionOrder {
        let is_counted_again =
            || self.lost.as_ref().is_some_and(|lost| lost.compared_to(&sample.position) == PositionOrder::Covers);
        match position.compared_to(&sample.position) {
            PositionOrder::Covers if is_counted_again() => PositionOrder::Unrelated,
            order => order,
        }
    }

    /// The latest sample that a server at this position has reached.
    pub(crate) fn reached_by(&self, position: &Position) -> Option<Stamp> {
        // A server that covers a sample has the earlier ones too, though its answer may not show that: a MariaDB
        // replica tells only the transaction that it replayed last, which after a failover is another server's and
        // cannot be compared.
        let reached = self.ring.iter().rfind(|sample| self.order(position, sample) == PositionOrder::Covers)?;
        Some(reached.stamp)
    }

    /// The earliest sample at or past this position.
    pub(crate) fn first_past(&self, position: &Position) -> Option<Stamp> {
        let before = self.ring.partition_point(|sample| sample.position.compared_to(position) != PositionOrder::Covers);
        Some(self.ring.get(before)?.stamp)
    }

    /// The sample with this place in the order.
    pub(crate) fn at(&self, seq: Seq) -> Option<&Sample> {
        let index = self.ring.binary_search_by_key(&seq, |sample| sample.stamp.seq).ok()?;
        self.ring.get(index)
    }

    /// The earliest sample for which the primary was asked after `seq`, and later than `at`.
    pub(crate) fn first_after(&self, seq: Seq, at: Tick) -> Option<&Sample> {
        self.ring.get(self.ring.partition_point(|sample| sample.stamp.seq <= seq || sample.stamp.at <= at))
    }
}

/// The sample whose loss costs least. Never the oldest or the newest.
fn least_missed(ring: &VecDeque<Sample>, now: Tick) -> usize {
    let gap = |index: usize| ring[index + 1].stamp.at.since(ring[index - 1].stamp.at).as_nanos();
    let age = |index: usize| now.since(ring[index].stamp.at).as_nanos() + 1;
    // Compared as fractions, without division.
    (1..ring.len() - 1).min_by(|&a, &b| (gap(a) * age(b)).cmp(&(gap(b) * age(a)))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::fixture::wal;

    fn sample(seq: u64, lsn: u64) -> Sample {
        Sample { stamp: Stamp { seq: Seq(seq), at: Tick(seq * 10) }, position: Arc::new(wal(1, lsn)) }
    }

    fn samples(count: u64) -> Samples {
        (1..=count).fold(Samples::default(), |samples, n| samples.with(sample(n, n * 100)))
    }

    #[test]
    fn a_position_is_as_fresh_as_the_latest_sample_it_covers() {
        let samples = samples(5);
        let reached = |lsn| samples.reached_by(&wal(1, lsn)).map(|stamp| stamp.seq.0);
        assert_eq!(
            [reached(99), reached(100), reached(101), reached(499), reached(500), reached(9_999)]
                .map(Option::unwrap_or_default),
            [0, 1, 1, 4, 5, 5]
        );
        assert_eq!(samples.reached_by(&wal(2, 9_999)), None, "another timeline proves nothing");
    }

    #[test]
    fn an_idle_primary_makes_whoever_has_it_all_fresh_again() {
        let samples = samples(2).with(sample(3, 200)).with(sample(4, 200));
        assert_eq!(samples.reached_by(&wal(1, 200)).map(|stamp| stamp.seq), Some(Seq(4)));
        assert_eq!(samples.first_past(&wal(1, 200)).map(|stamp| stamp.seq), Some(Seq(2)));
    }

    #[test]
    fn another_history_starts_again() {
        let lost_its_tail = samples(5).with(sample(6, 450));
        assert_eq!(lost_its_tail.reached_by(&wal(1, 449)), None);
        let promoted = samples(5).with(Sample { position: Arc::new(wal(2, 600)), ..sample(6, 0) });
        assert_eq!(promoted.reached_by(&wal(1, 9_999)), None);
        assert_eq!(promoted.reached_by(&wal(2, 600)).map(|stamp| stamp.seq), Some(Seq(6)));
    }

    #[test]
    fn a_number_that_the_primary_gave_twice_proves_nothing() {
        let position = |text: &str| Position::Domains(text.parse().expect("a list"));
        let told = |samples: &Samples, seq: u64, text: &str| {
            samples.with(Sample { stamp: Stamp { seq: Seq(seq), at: Tick(seq) }, position: Arc::new(position(text)) })
        };
        let reached = |samples: &Samples, text: &str| samples.reached_by(&position(text)).map(|stamp| stamp.seq.0);
        let full = told(&Samples::default(), 1, "0-1-50");
        assert_eq!(reached(&full, "0-1-50"), Some(1));
        let restarted = told(&full.of_another_life(), 2, "0-1-50");
        assert_eq!(reached(&restarted, "0-1-50"), Some(2), "a restart that lost nothing");
        // Reset in one life, with and without a sample of the empty log; restarted without the end of the log.
        for fallen in
            [told(&full, 2, "0-1-4"), told(&told(&full, 2, ""), 3, "0-1-4"), told(&full.of_another_life(), 2, "0-1-4")]
        {
            assert_eq!(reached(&fallen, "0-1-50"), None, "these may be the transactions that are lost");
            let again = told(&told(&fallen, 4, "0-1-50"), 5, "0-1-51");
            assert_eq!(reached(&again, "0-1-50"), None);
            assert_eq!(reached(&again, "0-1-51"), Some(5), "only the present primary has written it");
            let fallen_again = told(&fallen, 4, "0-1-2");
            assert_eq!(reached(&told(&fallen_again, 5, "0-1-40"), "0-1-50"), None);
        }
        let other = told(&full, 2, "0-2-49");
        assert_eq!(reached(&other, "0-2-49"), Some(2), "the numbers of another server are not those that are lost");
    }

    #[test]
    fn it_is_bounded_and_forgets_evenly() {
        let samples = samples(100_000);
        assert!(samples.ring.len() <= CAPACITY);
        let kept: Vec<_> = samples.ring.iter().map(|sample| sample.stamp.seq.0).collect();
        assert!(kept.is_sorted());
        assert_eq!(kept.last(), Some(&100_000));
        for pair in kept.windows(2).skip(1) {
            let (gap, age) = (pair[1] - pair[0], 100_000 - pair[0]);
            assert!(gap <= 1 + age / 2, "a gap of {gap} at an age of {age}: {kept:?}");
        }
        assert!(kept[2] < 50_000, "and reaching far back: {kept:?}");
        for (index, seq) in kept.iter().enumerate() {
            assert_eq!(samples.reached_by(&wal(1, seq * 100)).map(|stamp| stamp.seq.0), Some(kept[index]));
        }
    }

    #[test]
    fn what_was_asked_after_a_write_is_found() {
        let samples = samples(5);
        assert_eq!(samples.first_after(Seq(3), Tick(0)).map(|sample| sample.stamp.seq), Some(Seq(4)));
        assert_eq!(samples.first_after(Seq(5), Tick(0)), None);
        assert_eq!(samples.first_after(Seq(0), Tick(0)).map(|sample| sample.stamp.seq), Some(Seq(1)));
        assert_eq!(samples.first_after(Seq(0), Tick(30)).map(|sample| sample.stamp.seq), Some(Seq(4)));
    }
}
