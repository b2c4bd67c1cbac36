//! The record of one routing decision, as data.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    DecidedBy, Intent, Policy, Reason,
    router::StatementClass,
    select::{ReadPlan, Rejected, Requirement, Selected},
};
use crate::topology::{Lane, Member, Tick, Topology};

/// The node that runs a statement, and the reasons.
///
/// [`DatabaseConnection::explain`](crate::DatabaseConnection::explain) makes one without running anything; a
/// [`RouteLog`](crate::RouteLog) collects the records of operations that ran, and the tracing span of each
/// operation carries the same fields. `Display` prints sentences, serde writes data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteDecision {
    statement: Option<String>,
    node: Option<String>,
    lag: Option<Duration>,
    sessions: Sessions,
    intent: Intent,
    /// `None` for a BEGIN, which is no statement with a text.
    reason: Option<String>,
    #[serde(skip)]
    reason_data: Option<Reason>,
    decided_by: Option<DecidedBy>,
    floor: Option<SessionFloor>,
    generation: u64,
    primary_probability: f64,
    candidates: Vec<String>,
    rejected: Vec<Rejection>,
}

/// The sessions of a node that run a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Sessions {
    /// The sessions that are read-only in the database.
    ReadOnly,
    /// The primary's read-write sessions.
    ReadWrite,
}

/// The floor of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionFloor {
    /// How long ago the last write ended that the read has to see.
    pub written_ago: Option<Duration>,
    /// How long a write of unknown outcome may still happen.
    pub open_for: Option<Duration>,
    /// How old the state of the database may be.
    pub within: Option<Duration>,
    /// Whether only the primary is sure to have the floor: the session begins after a causal token whose position
    /// is not known yet in the primary's history, or whose position belongs to another cluster or to a history that
    /// a failover has cut off.
    pub only_primary: bool,
}

/// A member that could not serve a read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rejection {
    /// The name of the member.
    pub node: String,
    /// The reason of the rejection.
    pub why: String,
}

impl RouteDecision {
    /// The statement, without the values that stand in its text. `None` for a BEGIN.
    pub fn statement(&self) -> Option<&str> {
        self.statement.as_deref()
    }

    /// The node that runs the statement; for an explanation, the likeliest. `None` while no member may.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// How far that node is behind the primary, if the node is a replica whose lag is known.
    pub fn lag(&self) -> Option<Duration> {
        self.lag
    }

    /// The sessions of the node that run the statement.
    pub fn sessions(&self) -> Sessions {
        self.sessions
    }

    /// Whether the statement is taken for a read.
    pub fn intent(&self) -> Intent {
        self.intent
    }

    /// The reason that the text gives. `None` for a BEGIN.
    pub fn reason(&self) -> Option<Reason> {
        self.reason_data
    }

    /// What decided the intent: the text, a rule, the catalogue or a server. `None` for a BEGIN.
    pub fn decided_by(&self) -> Option<DecidedBy> {
        self.decided_by
    }

    /// The floor of a read; `None` when any state of the database will do.
    pub fn floor(&self) -> Option<SessionFloor> {
        self.floor
    }

    /// The [generation](Topology::generation) of the topology on which the decision was made.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The probability that the statement goes to the primary (0 to 1).
    pub fn primary_probability(&self) -> f64 {
        self.primary_probability
    }

    /// The probability that the statement goes to a replica (0 to 1).
    pub fn replica_probability(&self) -> f64 {
        if self.node.is_some() { 1.0 - self.primary_probability } else { 0.0 }
    }

    /// The members of the likelier tier that may run the statement. In an explanation the member that the policy
    /// prefers comes first; members that the policy would draw by lot stand in the order of the configuration.
    pub fn candidates(&self) -> &[String] {
        &self.candidates
    }

    /// The members that may not run the statement now, with the reasons.
    pub fn rejected(&self) -> &[Rejection] {
        &self.rejected
    }

    /// The decision about a read that follows a plan; the node that a draw decides is left open.
    pub(crate) fn of_plan(
        topology: &Topology,
        plan: &mut ReadPlan<'_>,
        policy: &dyn Policy,
        class: Option<StatementClass>,
        now: Tick,
    ) -> Self {
        plan.preview(policy);
        let candidates = plan.candidates();
        let rejection = |(id, why): &Rejected| {
            let member = topology.member_of(*id)?;
            Some(Rejection { node: member.name().to_owned(), why: member.says(*why) })
        };
        Self {
            node: candidates.first().map(|member| member.name().to_owned()),
            lag: candidates.first().and_then(|member| member.lag()),
            sessions: plan.lane().into(),
            primary_probability: plan.primary_probability(),
            candidates: candidates.iter().map(|member| member.name().to_owned()).collect(),
            rejected: plan.rejected().iter().filter_map(rejection).collect(),
            floor: SessionFloor::of(plan.request().requirement, now),
            ..Self::new(topology, Intent::Read, class)
        }
    }

    /// The same decision, once a node was drawn.
    pub(crate) fn drawn(self, topology: &Topology, selected: &Selected) -> Self {
        Self {
            node: Some(selected.node.name().to_owned()),
            lag: topology.member_of(selected.node.id()).and_then(Member::lag),
            sessions: selected.lane.into(),
            ..self
        }
    }

    /// The decision about a statement that is no read.
    pub(crate) fn of_write(topology: &Topology, class: Option<StatementClass>) -> Self {
        let primary = topology.primary.name().to_owned();
        Self { node: Some(primary.clone()), candidates: vec![primary], ..Self::new(topology, Intent::Write, class) }
    }

    /// The decision about a statement inside a transaction.
    pub(crate) fn inside(topology: &Topology, node: &str, lane: Lane, class: StatementClass) -> Self {
        Self {
            node: Some(node.to_owned()),
            sessions: lane.into(),
            candidates: vec![node.to_owned()],
            primary_probability: if topology.primary.name() == node { 1.0 } else { 0.0 },
            ..Self::new(topology, class.intent, Some(class))
        }
    }

    /// Adds the text of the statement. Where the reason is a word of the text, that word is added, too.
    pub(crate) fn about(mut self, sql: &str, shown: String) -> Self {
        if let (Some(reason), Some(data)) = (&mut self.reason, self.reason_data)
            && let Some(word) = data.text(sql)
        {
            *reason = format!("{reason}: {word}");
        }
        self.statement = Some(shown);
        self
    }

    fn new(topology: &Topology, intent: Intent, class: Option<StatementClass>) -> Self {
        Self {
            statement: None,
            node: None,
            lag: None,
            sessions: Sessions::ReadWrite,
            intent: class.map_or(intent, |class| class.intent),
            reason: class.map(|class| class.reason.to_string()),
            reason_data: class.map(|class| class.reason),
            decided_by: class.map(|class| class.decided_by),
            floor: None,
            generation: topology.generation,
            primary_probability: 1.0,
            candidates: Vec::new(),
            rejected: Vec::new(),
        }
    }
}

impl From<Lane> for Sessions {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Read => Self::ReadOnly,
            Lane::Write => Self::ReadWrite,
        }
    }
}

impl SessionFloor {
    pub(crate) fn of(requirement: Requirement, now: Tick) -> Option<Self> {
        let Requirement::Past { floor, within, .. } = requirement else { return None };
        let (_, written, open_until) = floor.parts();
        let written_ago = (written != Tick::default()).then(|| now.since(written));
        let only_primary = open_until == Tick::NEVER;
        let open_for = (open_until > now && !only_primary).then(|| open_until.since(now));
        let this = Self { written_ago, open_for, within: within.within(), only_primary };
        (this != Self::default()).then_some(this)
    }
}

impl fmt::Display for SessionFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.written_ago, self.open_for) {
            _ if self.only_primary => {
                return f.write_str("what a causal token stands for, which no replica is known to have");
            }
            (_, Some(_)) => f.write_str("a write whose outcome is unknown")?,
            (Some(ago), None) => write!(f, "a write of {ago:?} ago")?,
            (None, None) => f.write_str("nothing of its own")?,
        }
        match self.within {
            Some(within) => write!(f, ", and all that is older than {within:?}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        })
    }
}

impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Text => "its text",
            Self::Catalogue => "the database's catalogue of functions",
            Self::Configuration => "the configuration",
            Self::Server => "a server, which refused its like as a write",
            Self::Standby => "a standby, which cannot run its like",
        })
    }
}

impl fmt::Display for RouteDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(statement) = &self.statement {
            writeln!(f, "{statement}")?;
        }
        let intent = if self.intent.is_read() { "a read" } else { "for the primary" };
        match &self.node {
            Some(node) => match self.lag {
                Some(lag) => writeln!(f, "node        {node} ({} sessions, {lag:?} behind)", self.sessions)?,
                None => writeln!(f, "node        {node} ({} sessions)", self.sessions)?,
            },
            None => writeln!(f, "node        none")?,
        }
        match (&self.reason, self.decided_by) {
            (Some(reason), Some(by)) => writeln!(f, "statement   {intent}, by {by}: {reason}")?,
            _ => writeln!(f, "statement   {intent}")?,
        }
        if let Some(floor) = self.floor {
            writeln!(f, "must see    {floor}")?;
        }
        writeln!(
            f,
            "tiers       primary {:.0} %, replicas {:.0} % (generation {})",
            self.primary_probability * 100.0,
            self.replica_probability() * 100.0,
            self.generation
        )?;
        write!(f, "candidates  {}", self.candidates.join(", "))?;
        for Rejection { node, why } in &self.rejected {
            write!(f, "\nrejected    {node}: {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::routing::TriedNodes;
    use crate::{
        routing::{Draw, Kept, ReadRequest, WeightedRandom},
        topology::{Floor, Health, Rotation, Seq, Stamp, fixture},
    };

    const NOW: Tick = Tick(10_000_000_000);
    const STICK: Duration = Duration::from_secs(1);

    /// The requirement of a session that wrote at this instant.
    fn past(at: Tick) -> Requirement {
        Requirement::past(Floor::written(Stamp { seq: Seq(1), at }))
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        prop_oneof![Just(Requirement::Any), Just(past(NOW)), Just(past(Tick(1))), Just(Requirement::Primary),]
    }

    proptest! {
        /// An explanation tells exactly what happens: some seed draws every node that the explanation calls
        /// possible, and no seed draws another.
        #[test]
        fn an_explanation_says_exactly_what_can_happen(
            states in prop::collection::vec((any::<bool>(), any::<bool>()), 0..4),
            primary_is_up: bool,
            share in prop_oneof![Just(0.0), Just(0.3), Just(0.7), Just(1.0)],
            requirement in requirement(),
            kept in prop::option::of(0..5_usize),
            tried in prop::option::of(0..5_usize),
        ) {
            let mut topology = fixture::topology(states.len());
            topology.primary_read_share = share;
            if !primary_is_up {
                topology.primary.health = Health::Down;
            }
            for (replica, (up, drained)) in topology.replicas.iter_mut().zip(states) {
                replica.health = if up { Health::Up } else { Health::Down };
                replica.rotation = if drained { Rotation::Drained } else { Rotation::In };
            }
            let id = |index: Option<usize>| topology.members().nth(index?).map(|member| member.node.id());
            let keep = |node| Kept { node, generation: crate::topology::Generation::default(), seen_elsewhere: Seq(0) };
            let (kept, seen) = (id(kept).map(keep), Seq(0));
            let (tried, alone) = (id(tried).map(TriedNodes::one).unwrap_or_default(), Lane::Write);
            let request = ReadRequest { requirement, tried, kept, seen, stick_after_write: STICK, alone };

            let mut plan = ReadPlan::of(&topology, &request, NOW);
            let said = RouteDecision::of_plan(&topology, &mut plan, &WeightedRandom, None, NOW);
            let mut expected = BTreeSet::new();
            if said.primary_probability() > 0.0 {
                expected.insert(Some("primary".to_owned()));
            }
            if said.replica_probability() > 0.0 {
                let rejected: BTreeSet<_> = said.rejected().iter().map(|rejection| &rejection.node).collect();
                let kept = kept.and_then(|kept| topology.member_of(kept.node)).map(Member::name);
                expected.extend(topology.replicas.iter().map(Member::name).filter(|name| {
                    let alone = said.candidates().len() == 1 && Some(said.candidates()[0].as_str()) == kept;
                    if alone { Some(*name) == kept } else { !rejected.contains(&(*name).to_owned()) }
                }).map(|name| Some(name.to_owned())));
            }
            if said.node().is_none() {
                expected.insert(None);
            }
            let mut happened = BTreeSet::new();
            let mut lanes = BTreeSet::new();
            for seed in 0..200 {
                let mut plan = ReadPlan::of(&topology, &request, NOW);
                let selected = plan.draw(&WeightedRandom, &mut Draw::seeded(seed));
                lanes.extend(selected.as_ref().map(|selected| selected.lane == Lane::Read));
                happened.insert(selected.map(|selected| selected.node.name().to_owned()));
            }
            prop_assert_eq!(&happened, &expected, "{}", said);
            if said.node().is_some() {
                prop_assert_eq!(lanes, BTreeSet::from([said.sessions() == Sessions::ReadOnly]));
            }
        }
    }

    #[test]
    fn it_reads_well() {
        let mut topology = fixture::topology(2);
        topology.replicas[1].health = Health::Down;
        let request = ReadRequest {
            requirement: past(Tick(1)),
            tried: TriedNodes::default(),
            kept: None,
            seen: Seq(0),
            stick_after_write: STICK,
            alone: Lane::Write,
        };
        let class = StatementClass { intent: Intent::Read, reason: Reason::PlainRead, decided_by: DecidedBy::Text };
        let mut plan = ReadPlan::of(&topology, &request, NOW);
        let said = RouteDecision::of_plan(&topology, &mut plan, &WeightedRandom, Some(class), NOW);
        assert_eq!(
            said.to_string(),
            "node        replica-0 (read-only sessions)\n\
             statement   a read, by its text: a plain read\n\
             must see    a write of 9.999999999s ago\n\
             tiers       primary 10 %, replicas 90 % (generation 1)\n\
             candidates  replica-0\n\
             rejected    replica-1: down"
        );
    }
}
