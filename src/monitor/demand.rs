//! The demand of reads for knowledge, so that probing can be slow while no read wants anything.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use super::rhythm::Wanted;
use crate::{
    driver::Signal,
    topology::{Seq, Tick},
};

/// How long a bound on the staleness keeps the probes fast after it was last asked for.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// How long the servers are asked often for a read that found no fresh replica, if no other such read follows.
const WANTED_FOR: Duration = Duration::from_secs(2);

/// Written by reads, read by the probers.
#[derive(Debug, Default)]
pub(crate) struct ProbeDemand {
    /// A read must see every write acknowledged up to this sequence number; zero for no read.
    wanted: AtomicU64,
    wanted_at: AtomicU64,
    /// A token must have a position that the primary gave after this sequence number; zero for no token.
    position_wanted: AtomicU64,
    position_wanted_at: AtomicU64,
    /// Whether the monitor would ask another question if a read wanted more. One wake-up is enough for all reads
    /// that come until it has planned again.
    is_open: AtomicBool,
    raised: Signal,
    /// The tightest bound on the staleness in use, in nanoseconds; zero for none.
    tightest: AtomicU64,
    tightest_until: AtomicU64,
}

impl ProbeDemand {
    /// Records that a read found no replica that is known to have everything up to `seq`.
    pub(crate) fn want(&self, seq: Seq, now: Tick) {
        let before = self.wanted_at.fetch_max(now.0, Ordering::AcqRel);
        let is_forgotten = now.since(Tick(before)) > WANTED_FOR;
        let is_news = self.wanted.fetch_max(seq.0, Ordering::SeqCst) < seq.0 || is_forgotten;
        if is_news && self.is_open.load(Ordering::SeqCst) && self.is_open.swap(false, Ordering::SeqCst) {
            self.raised.raise();
        }
    }

    /// Records that a token waits for a position that the primary gave after `seq`, whatever the replicas have.
    pub(crate) fn want_position(&self, seq: Seq, now: Tick) {
        self.position_wanted_at.fetch_max(now.0, Ordering::AcqRel);
        self.position_wanted.fetch_max(seq.0.max(1), Ordering::SeqCst);
        self.raised.raise();
    }

    /// The demand of the reads and tokens of the last moments.
    pub(super) fn wanted(&self, now: Tick) -> Wanted {
        let recent = |seq: &AtomicU64, at: &AtomicU64| {
            let is_forgotten = now.since(Tick(at.load(Ordering::Acquire))) > WANTED_FOR;
            Some(Seq(seq.load(Ordering::SeqCst))).filter(|seq| !is_forgotten && *seq > Seq(0))
        };
        Wanted {
            seq: recent(&self.wanted, &self.wanted_at),
            position: recent(&self.position_wanted, &self.position_wanted_at),
            interval: self.longest_interval(now),
        }
    }

    /// A wait, armed when it is made, for reads that want more. Reads wake the monitor until
    /// [`set_open`](Self::set_open) says otherwise.
    pub(super) fn listen(&self) -> impl Future<Output = ()> + Send + '_ {
        let raised = self.raised.wait();
        self.set_open(true);
        raised
    }

    /// Whether reads that want more wake the monitor.
    pub(super) fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::SeqCst);
    }

    /// Records that a read accepts no replica whose freshness is known less exactly than `staleness`.
    pub(crate) fn within(&self, staleness: Duration, now: Tick) {
        let wanted = u64::try_from(staleness.as_nanos()).unwrap_or(u64::MAX).max(1);
        let tightest = self.tightest.load(Ordering::Relaxed);
        let is_forgotten = now.0 >= self.tightest_until.load(Ordering::Relaxed);
        if tightest != wanted && (is_forgotten || wanted < tightest) {
            self.tightest.store(wanted, Ordering::Relaxed);
            self.tightest_until.store(now.after(REMEMBERED_FOR).0, Ordering::Relaxed);
            self.raised.raise();
        } else if tightest == wanted {
            let until = now.after(REMEMBERED_FOR).0;
            // Written now and then only, because every read calls this function.
            if until.saturating_sub(self.tightest_until.load(Ordering::Relaxed)) > 1_000_000_000 {
                self.tightest_until.store(until, Ordering::Relaxed);
                if is_forgotten {
                    self.raised.raise();
                }
            }
        }
    }

    /// The longest interval between probes that the bounds in use allow.
    fn longest_interval(&self, now: Tick) -> Option<Duration> {
        let is_used = now.0 < self.tightest_until.load(Ordering::Relaxed);
        let tightest = Duration::from_nanos(self.tightest.load(Ordering::Relaxed));
        (is_used && !tightest.is_zero()).then(|| (tightest / 3).max(SHORTEST_INTERVAL))
    }
}

/// A bound that is tighter than three of these hurries the probes no more: each probe of each node is a question.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_only_grows() {
        let demand = ProbeDemand::default();
        let at = |seconds| Tick::default().after(Duration::from_secs(seconds));
        demand.want(Seq(5), at(1));
        demand.want(Seq(3), at(2));
        assert_eq!(demand.wanted(at(0)).seq, Some(Seq(5)));
        assert_eq!(demand.wanted(at(4)).seq, Some(Seq(5)));
        assert_eq!(demand.wanted(at(5)).seq, None, "and is forgotten");
        demand.want(Seq(4), at(6));
        assert_eq!(demand.wanted(at(6)).seq, Some(Seq(5)));
    }

    #[test]
    fn the_tightest_bound_counts_until_nobody_uses_it() {
        let (demand, second) = (ProbeDemand::default(), Duration::from_secs(1));
        let at = |seconds| Tick::default().after(second * seconds);
        assert_eq!(demand.longest_interval(at(1)), None);
        demand.within(second * 3, at(1));
        assert_eq!(demand.longest_interval(at(1)), Some(second));
        demand.within(Duration::from_millis(300), at(2));
        demand.within(second * 3, at(2));
        assert_eq!(demand.longest_interval(at(2)), Some(Duration::from_millis(100)));
        for seconds in 3..20 {
            demand.within(second * 3, at(seconds));
        }
        assert_eq!(demand.longest_interval(at(20)), Some(second), "the other was not used for ten seconds");
        assert_eq!(demand.longest_interval(at(40)), None);
        demand.within(Duration::from_nanos(1), at(41));
        assert_eq!(demand.longest_interval(at(41)), Some(SHORTEST_INTERVAL));
    }
}
