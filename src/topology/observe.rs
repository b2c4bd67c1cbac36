//! How one observation changes the beliefs. The rules of health and of freshness are applied in this file and
//! nowhere else.

use std::sync::Arc;

use super::{
    Answerer, Fresh, Freshness, Generation, Health, Lag, LagMeasure, LagView, Member, NodeId, Observed, Position,
    Positions, ReplicaAnswer, ReplicationDelay, Reported, Role, RoleCheck, Sample, Samples, SlowStart, Tick, Topology,
};

/// The news about one node.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) node: NodeId,
    /// The generation of the member when the question went out.
    pub(crate) generation: Generation,
    pub(crate) reply: Reply,
}

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The prober received an answer.
    Answered(Observed),
    /// The prober received no answer, and operations did.
    Served,
    /// The prober received no answer.
    Failed {
        /// No process listens at the address, or the node is not the expected one: one failure is enough.
        conclusive: bool,
        why: Arc<str>,
        /// When the question went out.
        asked: Tick,
        /// Whether operations had an answer since the question before.
        has_served: bool,
    },
    /// A new connection of a pool led to a server that is not the one believed to answer, or that has less data
    /// than before.
    Unexpected(Observed),
}

/// Probes in a row that must fail before a node is down.
pub(crate) const FAILURES_TO_EJECT: u32 = 3;

impl Topology {
    /// The topology after an observation; `None` if the observation changes nothing, or concerns a node that has
    /// left.
    pub(crate) fn observe(&self, observation: &Observation) -> Option<Self> {
        let known = self.member_of(observation.node)?;
        let is_current = observation.generation == known.belief.generation;
        match &observation.reply {
            Reply::Answered(observed) => self.after_answer(known, observed, is_current),
            Reply::Served if known.health == Health::Up && known.failed_probes == 0 => None,
            Reply::Served => self.with(known.node.id(), Member::lives_on),
            Reply::Failed { conclusive, why, asked, has_served } => self.with(known.node.id(), |member| {
                if *has_served || member.failing_since.is_none() {
                    member.failing_since = Some(*asked);
                }
                member.failed_probes = member.failed_probes.saturating_add(1);
                member.last_failure = Some(Arc::clone(why));
                if *conclusive || member.failed_probes >= FAILURES_TO_EJECT {
                    member.health = Health::Down;
                }
            }),
            Reply::Unexpected(observed) => self.after_unexpected(known, observed, is_current),
        }
    }

    /// The topology after a connection to a node broke; `None` if the belief was broken already.
    pub(crate) fn invalidated(&self, node: NodeId, at: Tick) -> Option<Self> {
        let belief = self.member_of(node)?.belief.broken(at)?;
        self.with(node, |member| member.belief = belief)
    }

    /// The topology when a question to a node goes out; `None` if the question changes nothing.
    pub(crate) fn asked(&self, node: NodeId) -> Option<Self> {
        let belief = self.member_of(node)?.belief.asked()?;
        self.with(node, |member| member.belief = belief)
    }

    /// The topology in which the positions of a node are not believed any more; `None` if they were not before.
    pub(crate) fn without_positions(&self, node: NodeId) -> Option<Self> {
        if self.member_of(node)?.settings.positions == Positions::Off {
            return None;
        }
        self.with(node, |member| {
            member.settings.positions = Positions::Off;
            (member.freshness, member.lag) = (Freshness::Timed, Lag::default());
        })
    }

    fn with(&self, node: NodeId, change: impl FnOnce(&mut Member)) -> Option<Self> {
        let mut next = self.clone();
        change(next.member_of_mut(node)?);
        Some(next)
    }

    fn after_answer(&self, known: &Member, observed: &Observed, is_current: bool) -> Option<Self> {
        // An answer that was asked for earlier says nothing about now.
        if known.observed.as_ref().is_some_and(|known| known.asked.seq > observed.asked.seq) {
            return None;
        }
        let (node, is_primary) = (known.node.id(), self.primary.node.id() == known.node.id());
        // Another server answered since the question went out: the answer of the earlier server proves no more than
        // that a server answers at the address.
        let is_outdated = !is_current && !known.lives.is_present(&observed.incarnation);
        let answered = observed.asked.at.after(observed.round_trip);
        // A former life is no restart: two servers answer at the address in turn.
        let is_restarted = !is_outdated && known.lives.is_successor(&observed.incarnation);
        let slow_start = match known.health {
            Health::Up if !is_restarted => known.slow_start,
            Health::Up | Health::Down => SlowStart::from(answered),
        };
        let mut answerer = Answerer::Present;
        let mut next = self.with(node, |member| {
            member.lives_on();
            member.slow_start = slow_start.until(answered, self.slow_start);
            if is_outdated {
                return;
            }
            answerer = member.lives.answer(&observed.incarnation, observed.asked.at);
            member.observed = Some(observed.clone());
            match answerer {
                Answerer::Other => {
                    member.belief = member.belief.of_another_life(observed.asked.at);
                    member.forget_freshness();
                }
                // A server that cannot tell its position confirms no belief in one.
                Answerer::Present if is_current && observed.position != Reported::Unknown => {
                    member.belief = member.belief.confirmed(observed.asked.at);
                }
                Answerer::Present => {}
            }
        })?;
        if is_outdated {
            return Some(next);
        }
        if is_primary {
            next.sample(answerer);
        } else {
            let (samples, limit, believed_for) = (next.samples.clone(), next.lag_limit, next.believed_for);
            let member = next.replicas.iter_mut().find(|member| member.node.id() == node)?;
            if is_current && answerer == Answerer::Present {
                member.learn(observed, &samples);
            }
            member.weigh(&next.primary, &samples);
            if let Some(fresh) = member.freshness.fresh() {
                let answer = ReplicaAnswer {
                    previous: known.observed.as_ref().map(|previous| previous.asked),
                    known: known.freshness.fresh(),
                    fresh,
                    asked: observed.asked,
                    answered: observed.asked.at.after(observed.round_trip),
                };
                member.delay = member.delay.after(answer, &samples);
                member.measure = member.measure.after(answer, &samples);
            }
            let view = LagView { samples: &samples, limit, believed_for };
            member.lag = member.lag.after(&member.freshness, member.measure, view, true);
        }
        Some(next)
    }

    fn after_unexpected(&self, known: &Member, observed: &Observed, is_current: bool) -> Option<Self> {
        let Observed { incarnation, position, .. } = observed;
        let at = observed.asked.at.after(observed.round_trip);
        let (node, is_replica) = (known.node.id(), known.node.id() != self.primary.node.id());
        if known.lives.is_shared() {
            let lives = known.lives.still_shared(at)?;
            return self.with(node, |member| member.lives = lives);
        }
        let mut lives = known.lives.clone();
        let answerer = lives.answer(incarnation, at);
        if answerer == Answerer::Present && !is_current {
            return None; // Another connection met the same server before.
        }
        // The answer on this connection is no answer to the prober, which has yet to ask this server.
        let belief = known.belief.met(at, answerer)?;
        let is_successor = known.lives.is_successor(incarnation);
        let mut next = self.with(node, |member| {
            member.belief = belief;
            member.lives = lives;
            if is_successor {
                member.start_slowly(at, self.slow_start);
            }
            if answerer == Answerer::Other {
                member.forget_freshness();
                // A former primary may have come back as a replica: no statement may use this connection before that
                // is known. The server's position is left to the prober, because the connection is not the prober's.
                member.observed = Some(Observed { position: Reported::Unknown, ..observed.clone() });
                if let Reported::At(position) = position
                    && is_replica
                    && member.is_foreign(position, &self.samples)
                {
                    member.freshness = Freshness::Foreign(Arc::clone(position));
                }
            }
        })?;
        if answerer == Answerer::Other {
            if !is_replica {
                next.samples = next.samples.of_another_life();
            }
            next.weigh();
        }
        Some(next)
    }

    /// Applies the positions of the members, for a topology that was not made by observing. `answerer`: whether the
    /// present primary is the server that the samples are of.
    pub(crate) fn sample(&mut self, answerer: Answerer) {
        let before = match answerer {
            Answerer::Present => self.samples.clone(),
            Answerer::Other => self.samples.of_another_life(),
        };
        self.samples = match &self.primary.observed {
            // Only a server that takes the writes can tell the position to catch up with.
            Some(Observed { role: Role::Primary, position: Reported::At(position), asked, .. })
                if self.primary.has_positions() =>
            {
                before.with(Sample { stamp: *asked, position: Arc::clone(position) })
            }
            _ => before,
        };
        self.weigh();
    }

    /// Compares every replica with the samples.
    fn weigh(&mut self) {
        for replica in &mut self.replicas {
            replica.weigh(&self.primary, &self.samples);
            let view = LagView { samples: &self.samples, limit: self.lag_limit, believed_for: self.believed_for };
            replica.lag = replica.lag.after(&replica.freshness, replica.measure, view, false);
        }
    }
}

impl Member {
    /// The server has answered.
    pub(crate) fn lives_on(&mut self) {
        self.health = Health::Up;
        self.failed_probes = 0;
        self.failing_since = None;
        self.last_failure = None;
    }

    /// Takes the first answer of a node that is no member yet.
    pub(crate) fn introduce(&mut self, observed: Observed) {
        self.lives.answer(&observed.incarnation, observed.asked.at);
        self.observed = Some(observed);
    }

    /// Whether the member's positions are worth comparing.
    pub(crate) fn has_positions(&self) -> bool {
        (self.observed.is_some() || !matches!(self.freshness, Freshness::Timed))
            && self.settings.positions == Positions::On
            && !self.lives.is_shared()
            && !self.observed.as_ref().is_some_and(|observed| observed.position == Reported::Nothing)
    }

    /// The freshness of the life before says nothing about the present life. A server of another cluster stays
    /// foreign until its position shows otherwise.
    fn forget_freshness(&mut self) {
        if !self.is_of_other_cluster() {
            self.freshness = Freshness::Unknown;
        }
        self.delay = ReplicationDelay::default();
        self.measure = LagMeasure::default();
    }

    /// Whether a position of this member belongs to another cluster than the primary's samples.
    pub(crate) fn is_foreign(&self, position: &Position, samples: &Samples) -> bool {
        self.settings.role_check == RoleCheck::On
            && self.settings.positions == Positions::On
            && samples.newest().is_some_and(|newest| position.is_foreign_to(&newest.position))
    }

    /// Takes the position from an answer of the life that is believed to answer.
    fn learn(&mut self, observed: &Observed, samples: &Samples) {
        let (Freshness::Known(fresh), Reported::At(position)) = (&self.freshness, &observed.position) else { return };
        self.freshness = match fresh.then(observed.asked.at, Arc::clone(position), samples) {
            Some(fresh) => Freshness::Known(fresh),
            None => {
                self.belief = self.belief.of_another_life(observed.asked.at);
                Freshness::Unknown
            }
        };
    }

    /// Compares a replica's last position with the primary's samples.
    fn weigh(&mut self, primary: &Self, samples: &Samples) {
        if self.node.is_file() && self.settings.positions == Positions::On {
            self.freshness = if self.node.is_same_file(&primary.node) { Freshness::Always } else { Freshness::Timed };
        }
        let Some(observed) = &self.observed else { return };
        self.freshness = match (&self.freshness, &observed.position) {
            _ if !self.has_positions() || !primary.has_positions() => Freshness::Timed,
            (_, Reported::At(position)) if self.is_foreign(position, samples) => {
                Freshness::Foreign(Arc::clone(position))
            }
            // A missing sample is no reason to trust a server that was not trusted.
            (Freshness::Foreign(known), said)
                if samples.newest().is_none() || *said == Reported::Unknown || !self.belief.is_confirmed() =>
            {
                Freshness::Foreign(Arc::clone(known))
            }
            (Freshness::Known(fresh), _) => Freshness::Known(fresh.clone().compared(samples)),
            (_, Reported::At(position)) if self.belief.is_confirmed() => {
                Freshness::Known(Fresh::first(observed.asked.at, Arc::clone(position), samples))
            }
            _ => Freshness::Unknown,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::topology::{Floor, LagLimit, Seq, Stamp, Tick, Unfit, fixture};

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

    fn unexpected(life: &str, at: u64) -> Reply {
        Reply::Unexpected(said(Role::Replica, life, at, Reported::Unknown))
    }

    /// One primary, one replica, and their answers.
    struct Told(Topology);

    impl Told {
        fn new() -> Self {
            Self(fixture::topology(1))
        }

        fn primary(self, life: &str, asked: u64, position: Reported) -> Self {
            let generation = self.0.primary.belief.generation;
            self.primary_of(generation, Reply::Answered(said(Role::Primary, life, asked, position)))
        }

        fn replica(self, life: &str, asked: u64, position: Reported) -> Self {
            let generation = self.generation();
            self.replica_of(generation, Reply::Answered(said(Role::Replica, life, asked, position)))
        }

        /// The primary's reply to a question of this generation.
        fn primary_of(self, generation: Generation, reply: Reply) -> Self {
            let node = self.0.primary.node.id();
            Self(self.0.observe(&Observation { node, generation, reply }).unwrap_or(self.0))
        }

        /// The replica's reply to a question of this generation.
        fn replica_of(self, generation: Generation, reply: Reply) -> Self {
            let node = self.node();
            Self(self.0.observe(&Observation { node, generation, reply }).unwrap_or(self.0))
        }

        /// The replica.
        fn node(&self) -> NodeId {
            self.0.replicas[0].node.id()
        }

        fn generation(&self) -> Generation {
            self.0.replicas[0].belief.generation
        }

        /// A connection to the replica broke.
        fn broken(self, at: u64) -> Self {
            Self(self.0.invalidated(self.node(), stamp(at).at).unwrap_or(self.0))
        }

        /// A new connection to the replica led to this server.
        fn met(self, life: &str, at: u64) -> Self {
            let generation = self.generation();
            self.replica_of(generation, unexpected(life, at))
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
        assert_eq!(restarted.through(), None, "connections to the life before may still be open");
        let restarted = restarted.replica("r again", 4, at(50));
        assert_eq!(restarted.through(), Some(0));
        assert!(!restarted.serves(Floor::seen(Seq(0)).join(Floor::written(Stamp { seq: Seq(0), at: Tick(1) }))));
        let recovering = restarted.replica("r again", 5, at(100)).replica("r again", 6, at(40));
        assert_eq!(recovering.through(), None, "the same name, and less than it had: it has begun again");
        let caught_up = recovering.replica("r again", 7, at(100));
        assert_eq!(caught_up.through(), Some(1));
    }

    fn elsewhere(lsn: u64) -> Reported {
        Reported::At(Arc::new(fixture::wal_of(8, 1, lsn)))
    }

    fn is_foreign(told: &Told) -> bool {
        told.0.replicas[0].fitness(Role::Replica, stamp(3).at, Duration::MAX) == Err(Unfit::OtherCluster)
    }

    #[test]
    fn a_server_of_another_cluster_serves_no_reads_until_it_is_one_of_this() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        assert!(!is_foreign(&told));
        let told = told.replica("other", 3, elsewhere(300));
        assert!(is_foreign(&told));
        let told = told.primary("p", 4, at(110)).replica("other", 5, Reported::Unknown);
        let told = told.replica("again", 6, Reported::Unknown);
        assert!(is_foreign(&told), "nothing has said otherwise");
        let told = told.primary("p again", 7, Reported::Unknown).replica("again", 8, elsewhere(310));
        assert!(is_foreign(&told), "there is no sample to compare it with");
        let back =
            told.primary("p again", 9, at(120)).replica("r, moved", 10, at(120)).replica("r, moved", 11, at(120));
        assert!(!is_foreign(&back));
        assert_eq!(back.through(), Some(9));
    }

    #[test]
    fn a_former_primary_is_known_as_a_replica_as_soon_as_a_connection_meets_it() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        let (now, believed_for) = (stamp(3).at, Duration::from_secs(10));
        assert!(!told.0.primary.contradicts(Role::Primary, now, believed_for));
        let reply = Reply::Unexpected(said(Role::Replica, "p, come back", 3, at(90)));
        let met = told.primary_of(Generation::default(), reply);
        assert!(met.0.primary.contradicts(Role::Primary, now, believed_for));
    }

    #[test]
    fn a_server_of_another_cluster_is_out_as_soon_as_a_connection_meets_it() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        let reply = Reply::Unexpected(said(Role::Replica, "other", 3, elsewhere(1)));
        assert!(is_foreign(&told.replica_of(Generation::default(), reply)));
    }

    #[test]
    fn a_member_whose_role_or_position_is_not_believed_is_not_compared() {
        let told = || Told::new().primary("p", 1, at(100));
        let mut logical = told();
        logical.0.replicas[0].settings.role_check = RoleCheck::Off;
        assert!(!is_foreign(&logical.replica("r", 2, elsewhere(300))));
        let mut by_time = told();
        by_time.0.replicas[0].settings.positions = Positions::Off;
        assert!(!is_foreign(&by_time.replica("r", 2, elsewhere(300))));
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

    /// A floor that every replica with a known position is past.
    fn lowest_floor() -> Floor {
        Floor::written(Stamp { seq: Seq(0), at: Tick(1) })
    }

    #[test]
    fn what_was_invalidated_counts_again_when_it_was_asked_for_later() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        let before = told.generation();
        let broken = told.broken(3);
        assert!(!broken.serves(lowest_floor()));
        assert!(broken.serves(Floor::default()));
        let during = broken.generation();
        assert_ne!(during, before);
        assert!(broken.0.invalidated(broken.node(), stamp(3).at).is_none(), "a storm of errors changes it once");
        let told = broken.replica("r", 4, at(100));
        assert!(told.serves(lowest_floor()));
        assert_ne!(told.generation(), during, "a read that ran meanwhile proves nothing of the confirmed one");
        assert_eq!(told.through(), Some(1), "the same server with no less than it had");
    }

    #[test]
    fn an_answer_that_was_asked_for_before_the_connection_broke_confirms_nothing() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        let reply = |asked| Reply::Answered(said(Role::Replica, "r", asked, at(100)));
        let (node, before) = (told.node(), told.generation());
        let late = told.broken(4).replica_of(before, reply(3));
        assert!(!late.serves(lowest_floor()));
        // A question went out, a second connection broke, and then the answer arrived.
        let asked = Told(late.0.asked(node).expect("a broken belief is asked for"));
        let during = asked.generation();
        let late = asked.broken(6).replica_of(during, reply(5));
        assert!(!late.serves(lowest_floor()));
        assert_eq!(late.0.replicas[0].health(), Health::Up, "the answer proves life");
        assert!(late.replica("r", 7, at(100)).serves(lowest_floor()));
    }

    #[test]
    fn a_server_that_cannot_say_its_position_confirms_none() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100)).broken(3);
        let told = told.replica("r", 4, Reported::Unknown);
        assert!(!told.serves(lowest_floor()));
        assert!(told.replica("r", 5, at(100)).serves(lowest_floor()));
    }

    #[test]
    fn another_server_that_was_met_has_nothing_of_what_was_known() {
        let told = Told::new().primary("p", 1, at(100)).replica("a", 2, at(100));
        let before = told.generation();
        let met = told.met("b", 3);
        assert_eq!(met.0.replicas[0].freshness, Freshness::Unknown);
        let once = met.generation();
        assert_ne!(once, before);
        let met = met.replica_of(before, unexpected("b", 3));
        assert_eq!(met.generation(), once, "five connections that meet it at once are one event");
        let reply = Reply::Answered(said(Role::Replica, "a", 3, at(100)));
        let late = met.replica_of(before, reply);
        assert_eq!(late.0.replicas[0].freshness, Freshness::Unknown, "an answer of the server before says nothing");
        assert_eq!(late.replica("b", 4, at(50)).through(), Some(0));
    }

    #[test]
    fn another_server_in_the_place_of_the_primary_begins_another_history() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        let met = told.primary_of(Generation::default(), unexpected("q", 3));
        assert_eq!(met.through(), Some(1), "what the replica had it still has");
        assert!(met.0.samples.newest().is_none());
        assert_eq!(met.primary("q", 4, at(100)).through(), Some(4));
    }

    #[test]
    fn a_server_with_less_than_it_had_is_noticed_on_a_new_connection() {
        let told = Told::new().primary("p", 1, at(100)).replica("r", 2, at(100));
        assert!(told.0.replicas[0].recognises("r", &at(100)));
        assert!(!told.0.replicas[0].recognises("r", &at(99)));
        assert!(!told.0.replicas[0].recognises("s", &at(100)));
        let met = told.met("r", 3);
        assert!(!met.serves(lowest_floor()));
        assert!(met.replica("r", 4, at(100)).serves(lowest_floor()));
    }

    #[test]
    fn two_servers_at_one_address_are_noticed() {
        let told = || Told::new().primary("p", 1, at(100)).replica("a", 2, at(100));
        let returned = told().replica("b", 3, at(100)).replica("a", 4, at(100));
        assert_eq!(returned.0.replicas[0].freshness, Freshness::Timed, "a life that ended does not come back");

        let both = told().met("b", 3).replica("a", 4, at(100));
        assert_eq!(both.0.replicas[0].freshness, Freshness::Timed);
        let still = both.replica("a", 600, at(100)).0.replicas[0].freshness.clone();
        assert_eq!(still, Freshness::Timed);

        let restarted = told().met("b", 3).replica("b", 4, at(100)).replica("c", 5, at(100)).replica("c", 6, at(100));
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

    const TEN_SECONDS: LagLimit = LagLimit { time: Some(Duration::from_secs(10)), bytes: None };

    fn limited(limit: LagLimit) -> Told {
        let mut told = Told::new();
        told.0.lag_limit = limit;
        told.primary("p", 1, at(100)).replica("r", 2, at(100))
    }

    #[test]
    fn a_replica_leaves_above_the_limit_and_comes_back_when_it_was_well_below_it_for_a_while() {
        let told = limited(TEN_SECONDS);
        let is_out = |told: &Told| told.0.replicas[0].fitness(Role::Replica, stamp(0).at, Duration::MAX).is_err();
        let behind = told.primary("p", 11, at(200));
        assert_eq!(behind.0.replicas[0].lag(), Some(Duration::from_secs(10)));
        assert!(!is_out(&behind));
        // The replica need not answer: its primary moves on without it.
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

    /// A position on the timeline of the promoted primary.
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
        let told = told.primary("promoted", 13, promoted(60));
        assert!(told.0.replicas[0].lag.is_over, "since it moved, not since it answered");
        // The replica did follow: only its timeline is not known.
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

    impl Told {
        fn starting_slowly_for(seconds: u64) -> Self {
            let mut told = Self::new();
            told.0.slow_start = Duration::from_secs(seconds);
            told.replica("r", 1, at(100))
        }

        /// Probes of the replica that failed, at these seconds.
        fn failed(self, conclusive: bool, seconds: &[u64]) -> Self {
            seconds.iter().fold(self, |told, &second| {
                let (generation, why) = (told.generation(), "".into());
                told.replica_of(
                    generation,
                    Reply::Failed { conclusive, why, asked: stamp(second).at, has_served: false },
                )
            })
        }

        fn starts_slowly(&self) -> bool {
            self.0.replicas[0].is_starting_slowly()
        }
    }

    #[test]
    fn a_server_that_was_away_starts_slowly_and_one_that_was_suspected_does_not() {
        let told = || Told::starting_slowly_for(10);
        assert!(!told().starts_slowly(), "the first answer");
        assert!(!told().broken(2).replica("r", 3, at(100)).starts_slowly(), "a connection broke");
        assert!(!told().failed(false, &[2, 3]).replica("r", 4, at(100)).starts_slowly(), "two late probes");
        let back = told().failed(true, &[2]).replica("r", 4, at(100));
        assert!(back.starts_slowly(), "a refused connection is enough to be down");
        let back = back.replica("r", 13, at(100));
        assert!(back.starts_slowly());
        assert!(!back.replica("r", 14, at(100)).starts_slowly(), "it is over");
        assert!(told().failed(false, &[2, 3, 4]).replica("r", 5, at(100)).starts_slowly());
        assert!(told().replica("r again", 2, at(100)).starts_slowly(), "a restart between two probes");
        assert!(told().met("r again", 2).starts_slowly(), "a restart that a new connection noticed");
        let again = told().failed(true, &[2]).replica("r", 4, at(100)).failed(true, &[10]).replica("r", 12, at(100));
        assert!(again.replica("r", 21, at(100)).starts_slowly(), "the second return begins anew");
        assert!(!Told::starting_slowly_for(0).failed(true, &[2]).replica("r", 4, at(100)).starts_slowly(), "off");
    }

    #[test]
    fn a_server_that_operations_proved_to_live_does_not_start_slowly() {
        let told = Told::starting_slowly_for(10).failed(false, &[2, 3, 4]);
        let generation = told.generation();
        let told = told.replica_of(generation, Reply::Served);
        assert_eq!(told.0.replicas[0].health, Health::Up);
        assert!(!told.starts_slowly() && !told.replica("r", 5, at(100)).starts_slowly());
    }

    #[test]
    fn of_two_servers_at_one_address_none_starts_slowly_again_and_again() {
        let told = Told::starting_slowly_for(10).replica("other", 2, at(100));
        assert!(told.starts_slowly(), "it looks like a restart");
        let told = told.replica("other", 13, at(100)).replica("r", 14, at(100)).replica("other", 15, at(100));
        assert!(!told.starts_slowly() && !told.met("r", 16).starts_slowly());
    }

    #[test]
    fn a_member_whose_ejection_ended_starts_slowly() {
        let mut told = Told::starting_slowly_for(10);
        let (node, now) = (told.node(), stamp(20).at);
        told.0 = told.0.ejected(node, stamp(2).at, 0.5, crate::topology::EjectionCause::FailsAlone).expect("it was in");
        assert!(!told.starts_slowly());
        told.0 = told.0.trial_began(node, now).and_then(|topology| topology.readmitted(node, now)).expect("it was out");
        assert!(told.starts_slowly());
    }
}
