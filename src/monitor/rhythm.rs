//! When each node is asked where it is. Pure: the instant, the demand and the snapshot go in, the nodes whose turn it
//! is come out. The prober sleeps and asks.

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use smallvec::SmallVec;

use super::{
    prober::KEEP_LINK_FOR,
    question_budget::{QuestionBudget, TIMER},
};
use crate::topology::{Fresh, Member, NodeId, Role, Seq, Tick, Topology};

/// The longest time between two questions to a node that reads want to be asked.
const LONGEST_GAP: Duration = Duration::from_millis(40);

/// The gap after the first question that a replica answered in vain, if the delay expected of it is short.
const SHORTEST_GAP: Duration = Duration::from_micros(250);

/// For how long a replica that has joined, or was restarted, is asked often whether it has caught up.
const JOINING: Duration = Duration::from_secs(2);

/// The longest time that a replica is given to have a write before it is asked. The delay that is expected of the
/// replica may come from a bad moment long ago, and only an answer corrects the expectation.
const LONGEST_HEAD_START: Duration = Duration::from_millis(200);

/// With probes further apart the connection is closed in between, and would be opened for each question of a measurement.
const LONGEST_MEASURED_INTERVAL: Duration = KEEP_LINK_FOR;

/// The primary is asked so often within the delay that is expected of the fastest replica: more samples would let no
/// read through earlier.
const SAMPLES_PER_DELAY: u32 = 4;

/// What reads want of the probers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// A replica that has everything acknowledged up to here; `None` while no read wants more than is known.
    pub(super) seq: Option<Seq>,
    /// A position that the primary gave after this; `None` while no token waits.
    pub(super) position: Option<Seq>,
    /// The longest time between two questions to a node that the staleness bounds in use allow.
    pub(super) interval: Option<Duration>,
}

/// What happens next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The nodes whose turn it is.
    pub(super) ask: SmallVec<[NodeId; 8]>,
    /// When to plan again, if nothing happens before.
    pub(super) again: Option<Tick>,
    /// Whether a read that wants more changes the plan. While it does not, reads need not wake the monitor.
    pub(super) is_open: bool,
}

/// The questions of all probers of a connection.
#[derive(Debug)]
pub(super) struct Rhythm {
    budget: QuestionBudget,
    turns: HashMap<NodeId, Turn>,
    /// Whether replicas are asked when they are expected to have the sample that the last probe of the primary took.
    measures_lag: bool,
}

/// The result of the questions to one node.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// Its turn was announced, and no question has ended since.
    is_called: bool,
    ended_at: Tick,
    /// What the replica was known to have when its last question ended.
    through: Seq,
    /// Answers in a row that let no read through.
    vain: u32,
}

/// A question that reads want to be asked.
#[derive(Clone, Copy, Debug)]
struct DueQuestion {
    node: NodeId,
    rank: Rank,
    due: Tick,
    /// The node that was asked longest ago comes first.
    ended_at: Tick,
}

/// How much depends on a question, the most first. It decides while there are more questions than may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The answer of a replica may let reads through.
    Replica,
    /// The primary's answer tells what a replica must have to do so.
    Primary,
    /// One replica is known to have the newest sample, or no read wants anything; another one shall be known to have it too.
    Spread,
}

impl Rhythm {
    pub(super) fn new(most_per_second: NonZeroU32, probe_interval: Duration) -> Self {
        let measures_lag = probe_interval <= LONGEST_MEASURED_INTERVAL;
        Self { budget: QuestionBudget::new(most_per_second), turns: HashMap::new(), measures_lag }
    }

    /// A question to a node was answered, or failed. Every question counts, also a probe that this plan did not ask for.
    pub(super) fn ended(&mut self, node: NodeId, now: Tick, topology: &Topology) {
        let turn = self.turns.entry(node).or_default();
        if !std::mem::take(&mut turn.is_called) {
            self.budget.take(now);
        }
        turn.ended_at = now;
        let Some(member) = topology.member_of(node) else {
            self.turns.remove(&node);
            return;
        };
        let Some(fresh) = member.freshness.fresh() else { return };
        turn.vain = if fresh.through.seq > turn.through { 0 } else { turn.vain.saturating_add(1) };
        turn.through = fresh.through.seq;
    }

    /// The nodes to ask now. `is_asking` says which nodes are being asked: each node is asked one question at a time.
    pub(super) fn plan(
        &mut self,
        now: Tick,
        wanted: Wanted,
        topology: &Topology,
        is_asking: impl Fn(NodeId) -> bool,
    ) -> Plan {
        let useful: SmallVec<[_; 8]> = topology
            .replicas
            .iter()
            .filter_map(|replica| Some((replica, known_freshness(replica, topology, now)?)))
            .collect();
        // A sample that is still to be taken has what is wanted until then.
        let is_open = !useful.is_empty() && !needs_sample(topology, wanted.seq);
        let mut plan = Plan { is_open, ..Plan::default() };
        let mut candidates = self.candidates(now, wanted, topology, &useful);
        candidates.sort_unstable_by_key(|candidate| (candidate.rank, candidate.due, candidate.ended_at));

        let slack = if self.budget.is_half_full(now) { TIMER } else { Duration::ZERO };
        let is_busy = |rhythm: &Self, node| is_asking(node) || rhythm.turn(node).is_called;
        let mut replicas_asked = topology.replicas.iter().filter(|replica| is_busy(self, replica.node.id())).count();
        for candidate in candidates {
            if is_busy(self, candidate.node) {
                continue; // Its answer makes another plan.
            }
            if candidate.due > now.after(slack) {
                plan.look_again_at(candidate.due);
                continue;
            }
            let reserve = match candidate.rank {
                // One replica that has it lets all reads through: while questions are scarce, one is asked.
                Rank::Replica if replicas_asked == 0 => 0.0,
                // What the primary says is of no use until a replica is asked.
                Rank::Primary => 1.0,
                Rank::Replica | Rank::Spread => self.budget.half(),
            };
            if self.budget.take_if_left(now, reserve) {
                self.turns.entry(candidate.node).or_default().is_called = true;
                replicas_asked += usize::from(candidate.rank == Rank::Replica);
                plan.ask.push(candidate.node);
            } else {
                plan.look_again_at(self.budget.has(reserve + 1.0, now));
            }
        }
        plan
    }

    /// The questions that reads want to be asked, now or soon. `useful` are the replicas that reads could be sent to.
    fn candidates(
        &self,
        now: Tick,
        wanted: Wanted,
        topology: &Topology,
        useful: &[(&Member, &Fresh)],
    ) -> SmallVec<[DueQuestion; 8]> {
        let mut candidates = SmallVec::new();
        let newest = topology.samples.newest().map(|newest| newest.stamp.seq);
        let fastest = useful.iter().map(|(replica, _)| replica.expected_delay().unwrap_or_default()).min();
        // Whether a replica has all that any could have: then it takes another sample to let more reads through.
        let has_newest = |(_, fresh): &(&Member, &Fresh)| newest.is_some_and(|newest| fresh.through.seq >= newest);
        let is_met = wanted.seq.is_none() || useful.iter().any(has_newest);
        // A token needs the next answer. A sample for reads can wait for as long as no replica would have it.
        let gap = if needs_sample(topology, wanted.position) {
            Some(Duration::ZERO)
        } else {
            let fastest = fastest.filter(|_| needs_sample(topology, wanted.seq));
            fastest.map(|fastest| (fastest / SAMPLES_PER_DELAY).min(LONGEST_GAP))
        };
        if let Some(gap) = gap
            && topology.primary.failed_probes == 0
        {
            let turn = self.turn(topology.primary.node.id());
            candidates.push(turn.question(&topology.primary, Rank::Primary, turn.ended_at.after(gap)));
        }
        for (replica, fresh) in useful {
            let is_wanted = wanted.seq.is_some_and(|seq| fresh.through.seq <= seq);
            let joins = !fresh.has_caught_up() && now.since(fresh.since) < JOINING;
            // While reads wait, their questions measure the lag, too.
            let is_measured = self.measures_lag && wanted.seq.is_none() && fresh.has_caught_up();
            if replica.failed_probes > 0 || !is_wanted && !joins && !is_measured {
                continue;
            }
            let Some(missing) = topology.samples.first_after(fresh.through.seq, Tick::default()) else { continue };
            let turn = self.turn(replica.node.id());
            if !is_wanted && !joins {
                let asked = replica.observed.as_ref().map(|observed| observed.asked).unwrap_or_default();
                let due = replica.measure.due(missing, asked);
                candidates.push(turn.question(replica, Rank::Spread, due));
                continue;
            }
            let delay = replica.expected_delay().unwrap_or_default();
            // The delay counts until the answer is there.
            let delay = delay.saturating_sub(replica.round_trip().unwrap_or_default()).min(LONGEST_HEAD_START);
            let due = missing.stamp.at.after(delay).max(turn.ended_at.after(turn.gap(replica)));
            candidates.push(turn.question(replica, if is_met { Rank::Spread } else { Rank::Replica }, due));
        }
        if let Some(interval) = wanted.interval {
            for member in topology.members() {
                let (node, role) = (member.node.id(), topology.configured_role(member.node.id()));
                if member.failed_probes == 0 && member.fitness(role, now, topology.believed_for).is_ok() {
                    let turn = self.turn(node);
                    candidates.push(turn.question(member, Rank::Primary, turn.ended_at.after(interval)));
                }
            }
        }
        candidates
    }

    fn turn(&self, node: NodeId) -> Turn {
        self.turns.get(&node).copied().unwrap_or_default()
    }
}

/// Whether what is wanted is newer than the newest sample of the primary.
fn needs_sample(topology: &Topology, wanted: Option<Seq>) -> bool {
    wanted.is_some_and(|seq| topology.samples.newest().is_none_or(|newest| newest.stamp.seq <= seq))
}

/// The known freshness of a replica that reads could be sent to; `None` where a question to the replica helps no read:
/// it is drained, down, no replica, lagging too far, or has no position.
fn known_freshness<'a>(replica: &'a Member, topology: &Topology, now: Tick) -> Option<&'a Fresh> {
    replica.fitness(Role::Replica, now, topology.believed_for).ok()?;
    replica.freshness.fresh()
}

impl Turn {
    fn question(self, member: &Member, rank: Rank, due: Tick) -> DueQuestion {
        DueQuestion { node: member.node.id(), rank, due, ended_at: self.ended_at }
    }

    /// The least time from the end of one question to the next: none after an answer that let reads through, else in
    /// proportion to the delay, and twice as long for each further answer that let none through.
    fn gap(self, replica: &Member) -> Duration {
        if self.vain == 0 {
            return Duration::ZERO;
        }
        let round_trip = replica.round_trip().unwrap_or_default();
        let gap = round_trip.max(replica.expected_delay().unwrap_or_default() / 8).max(SHORTEST_GAP);
        gap.saturating_mul(1 << (self.vain - 1).min(16)).min(LONGEST_GAP)
    }
}

impl Plan {
    fn look_again_at(&mut self, tick: Tick) {
        self.again = Some(self.again.map_or(tick, |again| again.min(tick)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::topology::{
        Observation, Observed, Reply, Reported, Stamp,
        fixture::{topology, wal},
    };

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;

    /// A cluster that answers after a round trip, a process that asks it, and the time.
    struct Cluster {
        now: u64,
        rhythm: Rhythm,
        topology: Topology,
        round_trip: u64,
        /// How much later than the primary each replica has a write; `None` when its replay is paused.
        delays: Vec<Option<u64>>,
        /// The time between two writes; `None` for one write at the beginning.
        write_every: Option<u64>,
        in_flight: Vec<(u64, NodeId, Stamp)>,
        /// Questions to each node, the primary first.
        asked: Vec<u64>,
        seq: u64,
    }

    impl Cluster {
        fn new(most_per_second: u32, delays: &[Option<u64>]) -> Self {
            Self {
                now: SECOND,
                rhythm: Rhythm::new(NonZeroU32::new(most_per_second).expect("above zero"), Duration::from_secs(1)),
                topology: topology(delays.len()),
                round_trip: MS / 5,
                delays: delays.to_vec(),
                write_every: Some(MS),
                in_flight: Vec::new(),
                asked: vec![0; delays.len() + 1],
                seq: 1,
            }
        }

        fn index(&self, node: NodeId) -> usize {
            self.topology.nodes().position(|known| known.id() == node).expect("a member")
        }

        /// The log position of the primary at an instant.
        fn written(&self, at: u64) -> u64 {
            100 + self.write_every.map_or(0, |every| at / every)
        }

        fn stamp(&mut self) -> Stamp {
            self.seq += 1;
            Stamp { seq: Seq(self.seq), at: Tick(self.now) }
        }

        fn ask(&mut self, node: NodeId) {
            let asked = self.stamp();
            let index = self.index(node);
            self.asked[index] += 1;
            self.in_flight.push((self.now + self.round_trip, node, asked));
        }

        fn answer(&mut self, node: NodeId, asked: Stamp) {
            let index = self.index(node);
            let at = asked.at.0 + self.round_trip / 2;
            let (role, position) = match index.checked_sub(1).map(|replica| self.delays[replica]) {
                None => (Role::Primary, self.written(at)),
                Some(Some(delay)) => (Role::Replica, self.written(at - delay)),
                Some(None) => (Role::Replica, 99),
            };
            let observed = Observed {
                role,
                incarnation: index.to_string().into(),
                position: Reported::At(Arc::new(wal(1, position))),
                round_trip: Duration::from_nanos(self.now - asked.at.0),
                asked,
            };
            let generation = self.topology.member_of(node).expect("a member is asked").belief.generation;
            let observation = Observation { node, generation, reply: Reply::Answered(observed) };
            if let Some(next) = self.topology.observe(&observation) {
                self.topology = next;
            }
            self.rhythm.ended(node, Tick(self.now), &self.topology);
        }

        /// All are asked once, as when they join.
        fn joined(mut self) -> Self {
            let nodes: Vec<_> = self.topology.nodes().map(|node| node.id()).collect();
            nodes.into_iter().for_each(|node| self.ask(node));
            while let Some((at, node, asked)) = self.in_flight.pop() {
                self.now = self.now.max(at);
                self.answer(node, asked);
            }
            self.asked.fill(0);
            self
        }

        /// For so long reads want what was written last, if `reads`; gives the places that were wanted and when.
        fn run(&mut self, nanos: u64, reads: bool) -> Vec<u64> {
            let end = self.now + nanos;
            let mut waits = Vec::new();
            let mut waiting = None::<(Seq, u64)>;
            while self.now < end {
                self.answer_what_is_due();
                let through = self.topology.replicas.iter().filter_map(|replica| replica.freshness.fresh());
                let through = through.map(|fresh| fresh.through.seq).max().unwrap_or_default();
                if let Some((_, since)) = waiting.filter(|(seq, _)| through > *seq) {
                    waits.push(self.now - since);
                    waiting = None;
                }
                if reads && waiting.is_none() {
                    // The next read comes at once, and there was a write.
                    waiting = Some((self.stamp().seq, self.now));
                }
                let wanted = Wanted { seq: waiting.map(|(seq, _)| seq), ..Wanted::default() };
                let plan = self.ask_as_planned(wanted);
                let answers = self.in_flight.iter().map(|(at, ..)| *at).min();
                let next = answers.into_iter().chain(plan.again.map(|again| again.0)).min().unwrap_or(end);
                self.now = next.max(self.now + 1).min(end);
            }
            waits.sort_unstable();
            waits
        }

        fn ask_as_planned(&mut self, wanted: Wanted) -> Plan {
            let in_flight = &self.in_flight;
            let is_asking = |node| in_flight.iter().any(|(_, asking, _)| *asking == node);
            let plan = self.rhythm.plan(Tick(self.now), wanted, &self.topology, is_asking);
            plan.ask.iter().for_each(|node| self.ask(*node));
            plan
        }

        /// A plan while no node is asked.
        fn plan(&mut self, wanted: Wanted) -> Plan {
            self.rhythm.plan(Tick(self.now), wanted, &self.topology, |_| false)
        }

        /// The demand of a read that comes now.
        fn wanted_now(&mut self) -> Wanted {
            Wanted { seq: Some(self.stamp().seq), ..Wanted::default() }
        }

        fn answer_what_is_due(&mut self) {
            while let Some(index) = self.in_flight.iter().position(|(at, ..)| *at <= self.now) {
                let (_, node, asked) = self.in_flight.swap_remove(index);
                self.answer(node, asked);
            }
        }

        fn asked_in_all(&self) -> u64 {
            self.asked.iter().sum()
        }
    }

    fn median(sorted: &[u64]) -> u64 {
        sorted[sorted.len() / 2]
    }

    #[test]
    fn a_read_that_wants_the_last_write_knows_of_it_two_round_trips_after_the_replica_has_it() {
        let mut cluster = Cluster::new(1_000_000, &[Some(MS / 2)]).joined();
        let waits = cluster.run(SECOND, true);
        assert!(median(&waits) <= MS / 2 + 3 * cluster.round_trip, "{} µs", median(&waits) / 1_000);
    }

    #[test]
    fn the_questions_of_a_process_are_bounded_whatever_its_reads_want() {
        for most in [10, 500, 2_000] {
            for replicas in [1, 2, 8, 64] {
                let mut cluster = Cluster::new(most, &vec![Some(MS / 2); replicas]).joined();
                cluster.run(10 * SECOND, true);
                let kept = u64::from(most / 10).max(3);
                let allowed = u64::from(most) * 10 + kept;
                assert!(cluster.asked_in_all() <= allowed, "{} of {allowed}", cluster.asked_in_all());
                assert!(cluster.asked_in_all() >= u64::from(most) * 8, "{} of {allowed}", cluster.asked_in_all());
            }
        }
    }

    /// The table of `costs.md`, computed by its formula, and the formula held against the rhythm.
    #[test]
    fn the_table_of_the_costs_is_what_its_formula_says() {
        let thousands = |number: u64| match (number / 1_000, number % 1_000) {
            (0, rest) => rest.to_string(),
            (thousands, rest) => format!("{thousands} {rest:03}"),
        };
        let costs = include_str!("costs.md");
        for (processes, most, replicas) in [(1, 500, 2), (100, 500, 2), (1_000, 500, 2), (1_000, 10, 2)] {
            let primary = thousands(processes * (1 + most / 2));
            let replica = thousands(processes * (2 * replicas + most) / (2 * replicas));
            let (number, wait) = (thousands(processes), 2_000 / most);
            let line = format!("| {number} | {most} | {replicas} | {primary}/s | {replica}/s | {wait} ms |");
            assert!(costs.contains(&line), "costs.md lacks {line}");
        }
    }

    #[test]
    fn the_primary_hears_half_of_the_bound_and_the_replicas_share_the_rest() {
        for (most, replicas) in [(500, 1), (500, 2), (500, 8), (10, 2)] {
            let mut cluster = Cluster::new(most, &vec![Some(MS / 2); replicas]).joined();
            cluster.run(20 * SECOND, true);
            let half = u64::from(most) * 20 / 2;
            assert!(cluster.asked[0].abs_diff(half) <= half / 20 + 5, "the primary {} of {half}", cluster.asked[0]);
            for replica in &cluster.asked[1..] {
                let share = half / replicas as u64;
                assert!(replica.abs_diff(share) <= share / 10 + 10, "a replica {replica} of {share}");
            }
        }
    }

    #[test]
    fn while_questions_are_scarce_a_read_waits_for_two_of_them_and_a_round_trip() {
        let mut cluster = Cluster::new(500, &[Some(MS / 2); 2]).joined();
        cluster.run(SECOND, true);
        let waits = cluster.run(4 * SECOND, true);
        assert!(median(&waits) <= 2 * SECOND / 500 + 2 * MS, "{} µs", median(&waits) / 1_000);
    }

    #[test]
    fn a_replica_that_stands_still_is_asked_less_and_less_often() {
        let mut cluster = Cluster::new(500, &[Some(0)]).joined();
        cluster.run(SECOND, true);
        cluster.delays = vec![None];
        cluster.run(100 * MS, true);
        cluster.asked.fill(0);
        cluster.run(10 * SECOND, true);
        assert!(cluster.asked[1] <= 270, "every 40 ms: {}", cluster.asked[1]);
        assert!(cluster.asked[0] <= 270, "no sample lets a read through: {}", cluster.asked[0]);
    }

    #[test]
    fn a_paused_replica_that_joins_an_idle_process_is_left_alone_after_a_while() {
        let mut cluster = Cluster { write_every: None, ..Cluster::new(500, &[None]) }.joined();
        cluster.run(2 * SECOND, false);
        assert!((10..=70).contains(&cluster.asked[1]), "it may be about to catch up: {}", cluster.asked[1]);
        cluster.asked.fill(0);
        cluster.run(60 * SECOND, false);
        assert_eq!(cluster.asked_in_all(), 0, "only its probes go on");
    }

    #[test]
    fn no_node_is_asked_for_reads_that_could_not_use_it() {
        let unfit: [fn(&mut Member); 3] = [
            |replica| replica.rotation = crate::topology::Rotation::Drained,
            |replica| replica.health = crate::topology::Health::Down,
            |replica| replica.lag.is_over = true,
        ];
        for make_unfit in unfit {
            let mut cluster = Cluster::new(500, &[Some(0), Some(0)]).joined();
            let primary = cluster.topology.primary.node.id();
            cluster.now += 10 * MS;
            make_unfit(&mut cluster.topology.replicas[0]);
            let wanted = cluster.wanted_now();
            assert_eq!(&cluster.plan(wanted).ask[..], [primary]);
            cluster.ask(primary);
            cluster.now += cluster.round_trip;
            cluster.answer_what_is_due();
            cluster.now += MS;
            assert_eq!(&cluster.plan(wanted).ask[..], [cluster.topology.replicas[1].node.id()]);

            make_unfit(&mut cluster.topology.replicas[1]);
            let wanted = cluster.wanted_now();
            assert_eq!(cluster.plan(wanted), Plan::default(), "nor the primary, and no read wakes the monitor");
            let token = Wanted { position: wanted.seq, ..wanted };
            assert_eq!(&cluster.plan(token).ask[..], [primary], "a token needs the primary alone");
        }
    }

    #[test]
    fn reads_wake_the_monitor_only_when_the_answer_under_way_is_not_for_them() {
        let mut cluster = Cluster { write_every: None, ..Cluster::new(500, &[Some(0)]) }.joined();
        let idle = cluster.plan(Wanted::default());
        assert!(idle.is_open && idle.ask.is_empty());
        let wanted = cluster.wanted_now();
        let busy = cluster.plan(wanted);
        assert!(!busy.is_open && busy.ask.len() == 1, "the primary is asked, for all reads until then");
    }

    #[test]
    fn a_bound_on_the_staleness_sets_the_interval_of_every_node_within_the_bound_of_the_questions() {
        for (most, expected) in [(500, 100), (10, 34)] {
            let mut cluster = Cluster::new(most, &[Some(0), Some(0)]).joined();
            let end = cluster.now + 10 * SECOND;
            while cluster.now < end {
                cluster.answer_what_is_due();
                cluster.ask_as_planned(Wanted { interval: Some(Duration::from_millis(100)), ..Wanted::default() });
                cluster.now += MS;
            }
            for asked in &cluster.asked {
                assert!(asked.abs_diff(expected) <= expected / 8 + 1, "{asked} of {expected}");
            }
        }
    }
}
