//! How one observation changes what is believed. The rules of health and of freshness are applied here and
//! nowhere else.

use std::{sync::Arc, time::Duration};

use super::{
    Fresh, Freshness, Health, Member, NodeId, Observed, Positions, ReplicaAnswer, ReplicationDelay, Reported, Role,
    Sample, Samples, Topology,
};

/// What a prober learned about one node.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) node: NodeId,
    pub(crate) reply: Reply,
}

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answered(Observed),
    Failed {
        /// Nothing listens there, or the node is not what it has to be: one is enough.
        conclusive: bool,
        why: Arc<str>,
    },
}

/// Probes in a row that must fail before a node is down.
pub(crate) const FAILURES_TO_EJECT: u32 = 3;

/// How long an address at which two servers answered is taken to have two.
const SHARED_FOR: Duration = Duration::from_secs(600);
/// How many former lives of a node are remembered.
const FORMER_LIVES: usize = 8;

impl Topology {
    /// What is believed after an observation, or `None` if it is about a node that has left.
    pub(crate) fn observe(&self, observation: &Observation) -> Option<Self> {
        let mut next = self.clone();
        let is_primary = next.primary.node.id() == observation.node;
        let member = std::iter::once(&mut next.primary)
            .chain(&mut next.replicas)
            .find(|member| member.node.id() == observation.node)?;
        match &observation.reply {
            Reply::Answered(observed) => {
                // An answer that was asked for earlier says nothing about now.
                if member.observed.as_ref().is_some_and(|known| known.asked.seq > observed.asked.seq) {
                    return None;
                }
                member.health = Health::Up;
                member.failed_probes = 0;
                member.last_failure = None;
                let is_same_life = member.remember_life(observed);
                let previous = member.observed.replace(observed.clone()).map(|previous| previous.asked);
                if is_primary {
                    next.sample(is_same_life);
                } else {
                    let member = next.replicas.iter_mut().find(|member| member.node.id() == observation.node)?;
                    if !is_same_life {
                        member.freshness = Freshness::Unknown;
                        member.delay = ReplicationDelay::default();
                    }
                    let known = member.freshness.fresh().cloned();
                    member.weigh(&next.primary, &next.samples);
                    if let Some(fresh) = member.freshness.fresh() {
                        let (asked, answered) = (observed.asked, observed.asked.at.after(observed.round_trip));
                        let answer = ReplicaAnswer { previous, known: known.as_ref(), fresh, asked, answered };
                        member.delay = member.delay.after(answer, &next.samples);
                    }
                    member.lag = member.lag.after(&member.freshness, &next.samples, next.lag_limit, true);
                }
            }
            Reply::Failed { conclusive, why } => {
                member.failed_probes = member.failed_probes.saturating_add(1);
                member.last_failure = Some(Arc::clone(why));
                if *conclusive || member.failed_probes >= FAILURES_TO_EJECT {
                    member.health = Health::Down;
                }
            }
        }
        Some(next)
    }

    /// What follows from where its members say they are: for a topology that was put together otherwise than
    /// by observing. `is_same_life`: the primary is the one the samples are of.
    pub(crate) fn sample(&mut self, is_same_life: bool) {
        let before = if is_same_life { self.samples.clone() } else { Samples::default() };
        self.samples = match &self.primary.observed {
            // Only who takes the writes can say what there is to catch up with.
            Some(Observed { role: Role::Primary, position: Reported::At(position), asked, .. })
                if self.primary.has_positions() =>
            {
                before.with(Sample { stamp: *asked, position: Arc::clone(position) })
            }
            _ => before,
        };
        for replica in &mut self.replicas {
            replica.weigh(&self.primary, &self.samples);
            replica.lag = replica.lag.after(&replica.freshness, &self.samples, self.lag_limit, false);
        }
    }
}

impl Member {
    /// Whether an answer comes from the server life that answered last. Notices when two answer in turn.
    fn remember_life(&mut self, observed: &Observed) -> bool {
        let at = observed.asked.at;
        let is_same = self.incarnation() == Some(&*observed.incarnation);
        // Another one was met here, and the one that is known answers afterwards all the same.
        let met = self.node.stranger().filter(|stranger| observed.asked.seq > stranger.met_at);
        let is_strange = is_same && met.as_ref().is_some_and(|met| met.incarnation != observed.incarnation);
        if met.is_some() {
            self.node.has_met_nobody();
        }
        // A life that ended does not come back.
        let has_returned = !is_same && self.former.contains(&observed.incarnation);
        if is_strange || has_returned {
            self.shared_at = Some(at);
        } else if self.shared_at.is_some_and(|since| at.since(since) > SHARED_FOR) {
            self.shared_at = None;
            self.former = Arc::default();
        }
        let Some(known) = self.observed.as_ref().filter(|_| !is_same) else { return true };
        let kept = self.former.len().saturating_sub(FORMER_LIVES - 1);
        self.former = self.former[kept..].iter().chain([&known.incarnation]).cloned().collect();
        false
    }

    /// Whether more than one server answers at its address.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared_at.is_some()
    }

    /// Whether its positions are worth comparing.
    pub(crate) fn has_positions(&self) -> bool {
        (self.observed.is_some() || !matches!(self.freshness, Freshness::Timed))
            && self.settings.positions == Positions::On
            && !self.is_shared()
            && !self.observed.as_ref().is_some_and(|observed| observed.position == Reported::Nothing)
    }

    /// Compares what a replica said last with where the primary was.
    fn weigh(&mut self, primary: &Self, samples: &Samples) {
        if self.node.is_file() && self.settings.positions == Positions::On {
            self.freshness = if self.node.is_same_file(&primary.node) { Freshness::Always } else { Freshness::Timed };
        }
        let Some(observed) = &self.observed else { return };
        self.freshness = match &observed.position {
            _ if !self.has_positions() || !primary.has_positions() => Freshness::Timed,
            Reported::At(position) => {
                let known = self.freshness.fresh();
                Freshness::Known(match known {
                    Some(known) if known.asked == observed.asked.seq => {
                        let mut fresh = known.clone();
                        fresh.compare(samples);
                        fresh
                    }
                    known => {
                        let withdrawn = self.node.withdrawn_at();
                        Fresh::learn(known, observed.asked, withdrawn, Arc::clone(position), samples)
                    }
                })
            }
            Reported::Nothing => Freshness::Timed,
            Reported::Unknown => match &self.freshness {
                // It was known, and nothing said now makes it less so; but nothing confirms it either.
                Freshness::Known(fresh) => Freshness::Known(fresh.clone()),
                _ => Freshness::Unknown,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Floor, LagLimit, Seq, Stamp, Tick, UnexpectedServer, fixture};

    const STICK: Duration = Duration::from_secs(1);

    fn stamp(seq: u64) -> Stamp {
        Stamp { seq: Seq(seq), at: Tick(0).after(Duration::from_secs(seq)) }
    }

    fn said(role: Role, incarnation: &str, asked: u64, position: Reported) -> Observed {
        Observed { role, incarnation: incarnation.into(), position, round_trip: Duration::ZERO, asked: stamp(asked) }
    }

    fn at(lsn: u64) -> Reported {
        Reported::At(Arc::new(fixture::wal(1, lsn)))
    }

    /// One primary, one replica, and what they say.
    struct Told(Topology);

    impl Told {
        fn new() -> Self {
            Self(fixture::topology(1))
        }

        fn primary(self, life: &str, asked: u64, position: Reported) -> Self {
            let node = self.0.primary.node.id();
            self.told(node, said(Role::Primary, life, asked, position))
        }

        fn replica(self, life: &str, asked: u64, position: Reported) -> Self {
            let node = self.0.replicas[0].node.id();
            self.told(node, said(Role::Replica, life, asked, position))
        }

        fn told(self, node: NodeId, observed: Observed) -> Self {
            let reply = Reply::Answered(observed);
            Self(self.0.observe(&Observation { node, reply }).unwrap_or(self.0))
        }

        fn through(&self) -> Option<u64> {
            self.0.replicas[0].freshness.fresh().map(|fresh| fresh.through.seq.0)
        }

        fn serves(&self, floor: Floor) -> bool {
            self.0.replicas[0].is_past(floor, stamp(1_000).at, STICK)
        }
    }

    #[test]
    fn a_replica_is_fresh_through_the_latest_sample_it_covers_whoever_is_asked_first() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(150));
        assert_eq!(told.through(), Some(1));
        let told = told.primary("p", 3, at(150));
        assert_eq!(told.through(), Some(3), "what it said before is enough");
        let told = told.primary("p", 4, at(200));
        assert_eq!(told.through(), Some(3));
        let told = told.replica("r", 5, at(200));
        assert_eq!(told.through(), Some(4));
        assert!(told.serves(Floor::written(stamp(3))));
        assert!(!told.serves(Floor::written(stamp(5))), "nobody asked the primary since");
        assert!(told.serves(Floor::default()));
    }

    #[test]
    fn freshness_does_not_go_back_within_a_life_and_does_not_survive_it() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        let late = told.replica("r", 1, at(50));
        assert_eq!(late.through(), Some(1), "an answer that was asked for earlier says nothing");
        let restarted = late.replica("r again", 3, at(50));
        assert_eq!(restarted.through(), Some(0));
        assert!(!restarted.serves(Floor::seen(Seq(0)).join(Floor::written(Stamp { seq: Seq(0), at: Tick(1) }))));
        let recovering = restarted.replica("r again", 4, at(100)).replica("r again", 5, at(40));
        assert_eq!(recovering.through(), Some(0), "the same name, and less than it had: it has begun again");
        let caught_up = recovering.replica("r again", 6, at(100));
        assert_eq!(caught_up.through(), Some(1));
    }

    #[test]
    fn a_server_of_another_cluster_has_nothing_of_what_was_known_here() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        assert_eq!(told.through(), Some(1));
        let elsewhere = fixture::wal_of(8, 1, 300);
        let told = told.replica("stranger", 3, Reported::At(Arc::new(elsewhere)));
        assert_eq!(told.through(), Some(0), "its positions are of another history: none is comparable");
    }

    #[test]
    fn a_primary_that_lost_its_tail_begins_another_history() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(90));
        let crashed = told.primary("p again", 3, at(95));
        assert_eq!(crashed.through(), Some(0));
        assert_eq!(crashed.replica("r", 4, at(95)).through(), Some(3));
    }

    #[test]
    fn another_timeline_is_compared_with_nobody() {
        let other = |lsn| Reported::At(Arc::new(fixture::wal(2, lsn)));
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100)).primary("promoted", 3, other(50));
        assert_eq!(told.through(), Some(1), "what it had it still has");
        assert!(!told.serves(Floor::written(stamp(2))));
        let followed = told.replica("r", 4, other(50));
        assert_eq!(followed.through(), Some(3));
    }

    #[test]
    fn without_positions_it_is_time_that_counts() {
        for told in [
            Told::new().primary("p", 1, at(100)).replica("r", 2, Reported::Nothing),
            Told::new().primary("p", 1, Reported::Nothing).replica("r", 2, at(100)),
            Told::new().replica("r", 2, at(100)).primary("p", 3, Reported::Nothing),
        ] {
            assert_eq!(told.0.replicas[0].freshness, Freshness::Timed);
        }
        let mut declared = Told::new();
        declared.0.replicas[0].settings.positions = Positions::Off;
        let told = declared.primary("p", 1, at(100)).replica("r", 2, at(100));
        assert_eq!(told.0.replicas[0].freshness, Freshness::Timed);
    }

    #[test]
    fn a_timeline_that_is_not_known_is_good_for_reads_that_ask_nothing() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, Reported::Unknown);
        assert!(told.serves(Floor::default()));
        assert!(!told.serves(Floor::written(stamp(1))));
        assert_eq!(told.0.replicas[0].fitness(Role::Replica, stamp(3).at, Duration::MAX), Ok(()));
    }

    #[test]
    fn what_was_withdrawn_counts_again_when_it_was_asked_for_later() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        told.0.replicas[0].node.withdraw(Seq(3));
        assert!(!told.serves(Floor::written(Stamp { seq: Seq(0), at: Tick(1) })));
        assert!(told.serves(Floor::default()));
        let told = told.replica("r", 4, at(100));
        assert!(told.serves(Floor::written(Stamp { seq: Seq(0), at: Tick(1) })));
    }

    #[test]
    fn two_servers_at_one_address_are_noticed() {
        let told = Told::new().primary("p", 1, at(100)).replica("a", 2, at(100));
        let returned = told.replica("b", 3, at(100)).replica("a", 4, at(100));
        assert_eq!(returned.0.replicas[0].freshness, Freshness::Timed, "a life that ended does not come back");

        let told = Told::new().primary("p", 1, at(100)).replica("a", 2, at(100));
        told.0.replicas[0].node.met(UnexpectedServer { met_at: Seq(3), incarnation: "b".into() });
        let both = told.replica("a", 4, at(100));
        assert_eq!(both.0.replicas[0].freshness, Freshness::Timed);
        let still = both.replica("a", 600, at(100)).0.replicas[0].freshness.clone();
        assert_eq!(still, Freshness::Timed);

        let told = Told::new().primary("p", 1, at(100)).replica("a", 2, at(100));
        told.0.replicas[0].node.met(UnexpectedServer { met_at: Seq(3), incarnation: "b".into() });
        let restarted = told.replica("b", 4, at(100)).replica("c", 5, at(100));
        assert_eq!(restarted.through(), Some(1), "one restart after the other");
    }

    #[test]
    fn an_address_with_two_servers_is_given_another_chance() {
        let told = Told::new().primary("p", 1, at(100)).replica("a", 2, at(100)).replica("b", 3, at(100));
        let shared = told.replica("a", 4, at(100));
        assert_eq!(shared.through(), None);
        let alone = shared.replica("a", 606, at(100)).primary("p", 607, at(100));
        assert_eq!(alone.through(), Some(607));
    }

    fn limited(limit: LagLimit) -> Told {
        let mut told = Told::new();
        told.0.lag_limit = limit;
        told.primary("p", 1, at(100)).replica("r", 2, at(100))
    }

    #[test]
    fn a_replica_leaves_above_the_limit_and_comes_back_when_it_was_well_below_it_for_a_while() {
        let time = Some(Duration::from_secs(10));
        let told = limited(LagLimit { time, bytes: None });
        let is_out = |told: &Told| told.0.replicas[0].fitness(Role::Replica, stamp(0).at, Duration::MAX).is_err();
        let behind = told.primary("p", 11, at(200));
        assert_eq!(behind.0.replicas[0].lag(), Some(Duration::from_secs(10)));
        assert!(!is_out(&behind));
        // It need not answer: its primary moves on without it.
        let behind = behind.primary("p", 12, at(300));
        assert!(is_out(&behind));
        assert_eq!(behind.0.replicas[0].lag_bytes(), Some(200));
        let back = behind.replica("r", 13, at(300)).replica("r", 14, at(300));
        assert!(is_out(&back), "two answers are not enough");
        assert!(!is_out(&back.replica("r", 15, at(300))));
    }

    #[test]
    fn bytes_are_a_limit_too_and_no_limit_keeps_nobody_out() {
        let told = limited(LagLimit { time: None, bytes: Some(50) }).primary("p", 3, at(151));
        assert!(told.0.replicas[0].lag.is_over);
        let told = limited(LagLimit::default()).primary("p", 3_000, at(u64::MAX / 2));
        assert!(!told.0.replicas[0].lag.is_over);
        assert_eq!(told.0.replicas[0].lag(), Some(Duration::from_secs(2_999)));
    }

    #[test]
    fn nobody_falls_behind_a_primary_that_is_idle_or_gone() {
        let told = limited(LagLimit { time: Some(Duration::from_secs(1)), bytes: None });
        let idle = told.primary("p", 500, at(100));
        assert_eq!(idle.0.replicas[0].lag(), Some(Duration::ZERO));
        let gone = idle.replica("r", 900, at(100));
        assert!(!gone.0.replicas[0].lag.is_over);
    }

    const TEN_SECONDS: LagLimit = LagLimit { time: Some(Duration::from_secs(10)), bytes: None };

    /// On the timeline of the promoted primary.
    fn promoted(lsn: u64) -> Reported {
        Reported::At(Arc::new(fixture::wal(2, lsn)))
    }

    #[test]
    fn a_replica_that_was_out_stays_out_while_nobody_can_say_how_far_behind_it_is() {
        let behind = || limited(TEN_SECONDS).primary("p", 12, at(200));
        let is_out = |told: &Told| told.0.replicas[0].lag.is_over;
        assert!(is_out(&behind()));
        assert!(is_out(&behind().primary("p again", 13, Reported::Unknown)), "no sample to compare it with");
        assert!(is_out(&behind().replica("r again", 13, Reported::Unknown)), "no position to compare");
        let mut told = behind().primary("promoted", 13, promoted(150));
        for asked in 14..20 {
            told = told.replica("r", asked, at(100 + asked));
            assert!(is_out(&told), "it moves, and may be far behind all the same");
        }
        let told = told.replica("r", 20, promoted(150)).replica("r", 21, promoted(150));
        assert!(is_out(&told));
        assert!(!is_out(&told.replica("r", 22, promoted(150))), "it follows, at three probes in a row");
    }

    #[test]
    fn who_stands_still_while_the_primary_has_another_history_is_out_in_the_end_and_keeps_no_session_waiting() {
        let told = limited(TEN_SECONDS).primary("promoted", 3, promoted(50)).replica("r", 11, at(100));
        let told = told.primary("promoted", 12, promoted(60));
        assert_eq!(told.0.replicas[0].lag(), Some(Duration::from_secs(10)));
        assert!(!told.0.replicas[0].lag.is_over);
        assert_eq!(told.0.settled(stamp(12).at).through, stamp(1), "what it has, all have");
        let told = told.primary("promoted", 13, promoted(60));
        assert!(told.0.replicas[0].lag.is_over, "since it moved, not since it answered");
        assert_eq!(told.0.settled(stamp(13).at), crate::topology::Settled::BY_ALL);
        // It did follow: its timeline alone is not known.
        let told = told.replica("r", 14, at(101)).replica("r", 15, at(101));
        assert!(told.0.replicas[0].lag.is_over);
        assert!(!told.replica("r", 16, at(101)).0.replicas[0].lag.is_over);
    }

    #[test]
    fn who_moves_while_the_primary_has_another_history_stays() {
        let mut told = limited(TEN_SECONDS).primary("promoted", 3, promoted(150));
        for asked in (4..200).step_by(4) {
            told = told.replica("r", asked, at(100 + asked)).primary("promoted", asked + 1, promoted(150 + asked));
            assert!(!told.0.replicas[0].lag.is_over);
            assert_eq!(told.0.replicas[0].lag(), Some(Duration::from_secs(1)));
        }
        assert!(!told.serves(Floor::written(stamp(3))), "for reads that ask nothing of it");
    }

    #[test]
    fn the_frozen_one_of_two_is_out_and_the_settled_floor_does_not_wait_for_it() {
        let told = limited(LagLimit { time: Some(Duration::from_secs(10)), bytes: None }).primary("p", 12, at(200));
        assert!(told.0.replicas[0].lag.is_over);
        let settled = told.0.settled(stamp(12).at);
        assert_eq!(settled, crate::topology::Settled::BY_ALL);
    }
}
