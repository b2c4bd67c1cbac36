//! A candidate: what a policy knows of a member, or of one that a unit test made up.

use std::{collections::BTreeSet, marker::PhantomData, num::NonZeroU32, time::Duration};

use crate::topology::{Member, NodeId, Tick};

/// A member that may serve the statement, as a policy sees it.
///
/// Members that are down, drained, too far behind, or not fresh enough for the read are no candidates; those in their
/// [slow start](crate::Config::slow_start) are candidates of a part of the reads. For the unit test
/// of a policy, [`builder`](Self::builder) makes candidates without a connection.
#[derive(Debug)]
pub struct Candidate<'a> {
    subject: Subject<'a>,
    /// The instant of the decision.
    now: Tick,
    /// Counted once, so that a policy compares numbers that do not change during the decision.
    in_flight: u64,
    is_busy: bool,
    /// Makes the lifetime invariant: a made candidate, which lives for ever, does not fit among those of a decision.
    only_this_decision: PhantomData<fn(&'a ()) -> &'a ()>,
}

#[derive(Debug)]
enum Subject<'a> {
    Member(&'a Member),
    Made(Box<CandidateBuilder>),
}

/// How well a candidate can take a read now. The states are ordered from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CandidateState {
    /// A read-only connection of the member is free.
    Free,
    /// All read-only connections of the member are busy: another read waits. Such members are candidates only while
    /// every member that may serve the read is busy.
    Busy,
    /// The member was ejected for failures of its own. Ejected members are candidates only while most members are
    /// ejected, or while no other member may serve the read.
    Ejected,
}

impl<'a> Candidate<'a> {
    pub(crate) fn new(member: &'a Member, now: Tick) -> Self {
        Self {
            subject: Subject::Member(member),
            now,
            in_flight: member.node.in_flight(),
            is_busy: member.node.is_read_exhausted(),
            only_this_decision: PhantomData,
        }
    }

    /// The member; `None` for a candidate that a unit test made.
    pub(crate) fn member(&self) -> Option<&'a Member> {
        match self.subject {
            Subject::Member(member) => Some(member),
            Subject::Made(_) => None,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        match &self.subject {
            Subject::Member(member) => member.node.id(),
            Subject::Made(made) => made.id,
        }
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        match &self.subject {
            Subject::Member(member) => member.name(),
            Subject::Made(made) => &made.name,
        }
    }

    /// The member's share of the tier's reads, relative to the other members.
    pub fn weight(&self) -> NonZeroU32 {
        match &self.subject {
            Subject::Member(member) => member.weight(),
            Subject::Made(made) => made.weight,
        }
    }

    /// The operations that ran on the member when this decision began: reads, writes, streams and transactions.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The member's zone.
    pub fn zone(&self) -> Option<&str> {
        match &self.subject {
            Subject::Member(member) => member.zone(),
            Subject::Made(made) => made.zone.as_deref(),
        }
    }

    /// Whether the configuration gave the member this tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tag_set().contains(tag)
    }

    /// The labels that the configuration gave the member, in alphabetical order.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tag_set().iter().map(String::as_str)
    }

    fn tag_set(&self) -> &BTreeSet<String> {
        match &self.subject {
            Subject::Member(member) => &member.settings.tags,
            Subject::Made(made) => &made.tags,
        }
    }

    /// The duration of the member's last answered probe.
    pub fn round_trip(&self) -> Option<Duration> {
        match &self.subject {
            Subject::Member(member) => member.round_trip(),
            Subject::Made(made) => made.round_trip,
        }
    }

    /// How far the member is known to be behind the primary; `None` where the lag is not known. See [`Member::lag`].
    pub fn lag(&self) -> Option<Duration> {
        match &self.subject {
            Subject::Member(member) => member.lag(),
            Subject::Made(made) => made.lag,
        }
    }

    /// How long reads take on the member: the peak-EWMA of their durations, decayed until now, as
    /// [`LeastLatency`](crate::LeastLatency) describes. A duration includes the wait for a connection. `None` while no
    /// read was measured: reads are measured only while the policy in use has a
    /// [`latency_decay`](crate::Policy::latency_decay).
    pub fn latency(&self) -> Option<Duration> {
        match &self.subject {
            Subject::Member(member) => member.node.latency().at(self.now),
            Subject::Made(made) => made.latency,
        }
    }

    /// Whether the first read that will tell the latency is on its way.
    pub(super) fn is_latency_awaited(&self) -> bool {
        match &self.subject {
            Subject::Member(member) => member.node.latency().is_awaited(),
            Subject::Made(made) => made.latency.is_none() && self.in_flight > 0,
        }
    }

    /// How well the member can take a read now.
    pub fn state(&self) -> CandidateState {
        match &self.subject {
            Subject::Made(made) => made.state,
            Subject::Member(member) if member.ejection.is_out(self.now) => CandidateState::Ejected,
            Subject::Member(_) if self.is_busy => CandidateState::Busy,
            Subject::Member(_) => CandidateState::Free,
        }
    }

    /// Whether all read-only connections of the member are busy, whatever else its state is.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy
    }
}

impl Candidate<'static> {
    /// Begins a candidate for the unit test of a policy: weight 1, nothing in flight, free, no zone, no tags, and lag,
    /// latency and round trip not known.
    ///
    /// A policy cannot put such a candidate among those of a decision: the compiler refuses it.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    ///
    /// use sea_orm_resolver::{Candidate, CandidateState, Draw, LeastLatency, Policy};
    ///
    /// let slow = Candidate::builder("slow").zone("a").latency(Duration::from_millis(20)).build();
    /// let fast = Candidate::builder("fast").zone("b").latency(Duration::from_millis(1)).in_flight(3).build();
    /// assert_eq!(slow.state(), CandidateState::Free);
    ///
    /// let mut candidates = [slow, fast];
    /// LeastLatency::default().order(&mut candidates, &mut Draw::seeded(1));
    /// assert_eq!(candidates[0].name(), "fast");
    /// ```
    ///
    /// Such a policy does not compile:
    /// ```compile_fail
    /// # use sea_orm_resolver::{Candidate, Draw, Policy};
    /// # #[derive(Debug)]
    /// # struct Forger;
    /// impl Policy for Forger {
    ///     fn order(&self, candidates: &mut [Candidate<'_>], _draw: &mut Draw) {
    ///         candidates[0] = Candidate::builder("forged").build();
    ///     }
    /// }
    /// ```
    pub fn builder(name: impl Into<String>) -> CandidateBuilder {
        CandidateBuilder {
            id: NodeId::unique(),
            name: name.into(),
            weight: NonZeroU32::MIN,
            in_flight: 0,
            state: CandidateState::Free,
            zone: None,
            tags: BTreeSet::new(),
            round_trip: None,
            lag: None,
            latency: None,
        }
    }
}

/// Makes a [`Candidate`] for the unit test of a policy. [`Candidate::builder`] begins one.
#[derive(Clone, Debug)]
#[must_use = "`build` makes the candidate"]
pub struct CandidateBuilder {
    id: NodeId,
    name: String,
    weight: NonZeroU32,
    in_flight: u64,
    state: CandidateState,
    zone: Option<String>,
    tags: BTreeSet<String>,
    round_trip: Option<Duration>,
    lag: Option<Duration>,
    latency: Option<Duration>,
}

impl CandidateBuilder {
    /// The share of the tier's reads, relative to the other candidates. Default: 1. A member's weight is never 0; here 0
    /// counts as 1.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN);
        self
    }

    /// The operations that run on the member. Default: 0.
    pub fn in_flight(mut self, in_flight: u64) -> Self {
        self.in_flight = in_flight;
        self
    }

    /// How well the member can take a read. Default: [`CandidateState::Free`].
    pub fn state(mut self, state: CandidateState) -> Self {
        self.state = state;
        self
    }

    /// The member's zone. Default: none.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Adds a tag. Default: none.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// The duration of the last answered probe. Default: not known.
    pub fn round_trip(mut self, round_trip: Duration) -> Self {
        self.round_trip = Some(round_trip);
        self
    }

    /// How far the member is behind the primary. Default: not known.
    pub fn lag(mut self, lag: Duration) -> Self {
        self.lag = Some(lag);
        self
    }

    /// How long reads take on the member. Default: not measured.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = Some(latency);
        self
    }

    /// Makes the candidate.
    pub fn build(self) -> Candidate<'static> {
        Candidate {
            now: Tick::default(),
            in_flight: self.in_flight,
            is_busy: self.state == CandidateState::Busy,
            subject: Subject::Made(Box::new(self)),
            only_this_decision: PhantomData,
        }
    }
}
