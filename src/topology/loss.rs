//! The signs that end operations which still run on a node.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use super::{Health, Lane, Member, Node, Tick, Topology};
use crate::{
    Error,
    driver::Signal,
    error::{Kind, Outcome},
};

/// A sign that ends an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The node is believed to be down: for operations on read-only sessions, which can be repeated.
    Down,
    /// No connection to the node has answered for `silent_after`: for all other operations, whose outcome stays unknown.
    Silent,
    /// A probe had no answer, and the next one, over a new connection, had one: other connections of that time may be dead, too.
    SilentConnections,
}

impl Loss {
    /// The error of an operation that was lost on a node.
    pub(crate) fn error(self, node: &Node, outcome: Outcome) -> Error {
        let node = node.name().to_owned();
        Error::new(match self {
            Self::Down | Self::SilentConnections => Kind::WentDown { node },
            Self::Silent => Kind::WentSilent { node, outcome },
        })
    }
}

/// How often the connections of a node were found silent, when an operation began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silences(u32);

/// The present signs of one node, and the tasks that wait for one.
#[derive(Default)]
pub(crate) struct Losses {
    is_down: AtomicBool,
    is_silent: AtomicBool,
    silences: AtomicU32,
    signal: Signal,
}

impl Losses {
    /// Sets whether the node is believed to be down.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.set(&self.is_down, is_down);
    }

    /// Sets whether the node has been silent for `silent_after`.
    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.set(&self.is_silent, is_silent);
    }

    fn set(&self, sign: &AtomicBool, value: bool) {
        if sign.swap(value, Ordering::SeqCst) != value && value {
            self.signal.raise();
        }
    }

    /// The connections that were open until now may be dead.
    pub(crate) fn connections_are_silent(&self) {
        self.silences.fetch_add(1, Ordering::SeqCst);
        self.signal.raise();
    }

    pub(crate) fn silences(&self) -> Silences {
        Silences(self.silences.load(Ordering::SeqCst))
    }

    /// Returns when an operation on a lane of the node is lost. `began` is for operations that can move: then silent
    /// connections are a sign as well.
    pub(crate) fn wait(&self, lane: Lane, began: Option<Silences>) -> impl Future<Output = Loss> + Send + '_ {
        self.signal.until(move || self.seen(lane, began))
    }

    /// A wait for the next sign, armed when it is created: look at the signs after that.
    pub(crate) fn raised(&self) -> impl Future<Output = ()> + Send + '_ {
        self.signal.wait()
    }

    /// The sign that ends an operation on a lane now.
    pub(crate) fn seen(&self, lane: Lane, began: Option<Silences>) -> Option<Loss> {
        match lane {
            Lane::Read if self.is_down.load(Ordering::SeqCst) => Some(Loss::Down),
            Lane::Read if began.is_some_and(|began| began != self.silences()) => Some(Loss::SilentConnections),
            Lane::Write if self.is_silent.load(Ordering::SeqCst) => Some(Loss::Silent),
            Lane::Read | Lane::Write => None,
        }
    }
}

impl Topology {
    /// Whether a member has been silent for as long as `silent_after`: no probe and no operation had an answer, and
    /// another member has answered meanwhile. When nobody answers, the network of this process may be at fault.
    pub(crate) fn is_silent(&self, member: &Member, now: Tick, silent_after: Option<Duration>) -> bool {
        let (Some(since), Some(silent_after)) = (member.failing_since, silent_after) else { return false };
        let answers_meanwhile = |other: &Member| {
            other.health == Health::Up && other.observed.as_ref().is_some_and(|observed| observed.asked.at > since)
        };
        member.health == Health::Down
            && now.since(since) >= silent_after
            && self.members().any(|other| other.node.id() != member.node.id() && answers_meanwhile(other))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;
    use crate::topology::{Generation, Observation, Observed, Reply, Reported, Role, Seq, Stamp, fixture};

    fn seconds(at: u64) -> Tick {
        Tick::default().after(Duration::from_secs(at))
    }

    /// A probe of the primary or of the replica that went out after so many seconds, and its end.
    #[derive(Clone, Copy)]
    enum Probe {
        Answered,
        Missed,
        /// The probe had no answer, and an operation had one since the probe before.
        MissedAmongAnswers,
        Served,
    }

    fn after(events: &[(Role, u64, Probe)]) -> Topology {
        let mut topology = fixture::topology(1);
        for &(role, at, probe) in events {
            let member = if role == Role::Primary { &topology.primary } else { &topology.replicas[0] };
            let failed =
                |has_served| Reply::Failed { conclusive: false, why: "".into(), asked: seconds(at), has_served };
            let reply = match probe {
                Probe::Answered => Reply::Answered(Observed {
                    role,
                    incarnation: "1".into(),
                    position: Reported::Unknown,
                    round_trip: Duration::ZERO,
                    asked: Stamp { seq: Seq(at), at: seconds(at) },
                }),
                Probe::Missed => failed(false),
                Probe::MissedAmongAnswers => failed(true),
                Probe::Served => Reply::Served,
            };
            let observation = Observation { node: member.node.id(), generation: Generation::default(), reply };
            topology = topology.observe(&observation).unwrap_or(topology);
        }
        topology
    }

    #[test]
    fn a_primary_is_silent_when_nothing_answers_there_and_another_member_does() {
        use Probe::{Answered, Missed, MissedAmongAnswers, Served};
        use Role::{Primary, Replica};
        let missed = [(Primary, 1, Missed), (Primary, 2, Missed), (Primary, 3, Missed)];
        let then = |more: &[(Role, u64, Probe)]| [&missed[..], more].concat();
        for (events, now, is_silent) in [
            (then(&[(Replica, 4, Answered)]), 11, true),
            (then(&[(Replica, 4, Answered)]), 10, false), // not for as long as that
            (then(&[]), 11, false),                       // nobody else answers
            (then(&[(Replica, 1, Answered)]), 11, false), // nobody else has answered since
            (
                then(&[(Replica, 4, Answered), (Replica, 5, Missed), (Replica, 6, Missed), (Replica, 7, Missed)]),
                11,
                false,
            ),
            (then(&[(Replica, 4, Answered), (Primary, 5, Answered)]), 20, false),
            (then(&[(Replica, 4, Answered), (Primary, 5, Served)]), 20, false),
            // Statements have answers while the probes have none.
            (then(&[(Replica, 8, Answered), (Primary, 5, MissedAmongAnswers)]), 14, false),
            (then(&[(Replica, 8, Answered), (Primary, 5, MissedAmongAnswers)]), 15, true),
            (vec![(Primary, 1, Missed), (Primary, 2, Missed), (Replica, 4, Answered)], 20, false), // not down yet
        ] {
            let topology = after(&events);
            let said = |silent_after| topology.is_silent(&topology.primary, seconds(now), silent_after);
            assert_eq!(said(Some(Duration::from_secs(10))), is_silent, "{now}: {topology}");
            assert!(!said(None) && !topology.is_silent(&topology.replicas[0], seconds(now), None));
        }
    }

    #[test]
    fn each_lane_waits_for_its_own_signs() {
        let losses = Losses::default();
        let began = losses.silences();
        let seen = |lane, began| losses.wait(lane, began).now_or_never();
        assert_eq!((seen(Lane::Read, Some(began)), seen(Lane::Write, None)), (None, None));
        losses.connections_are_silent();
        assert_eq!(seen(Lane::Read, Some(began)), Some(Loss::SilentConnections));
        assert_eq!(seen(Lane::Read, Some(losses.silences())), None, "the read began later");
        assert_eq!((seen(Lane::Read, None), seen(Lane::Write, None)), (None, None), "cannot move");
        losses.set_down(true);
        assert_eq!((seen(Lane::Read, Some(began)), seen(Lane::Write, None)), (Some(Loss::Down), None));
        losses.set_silent(true);
        assert_eq!(seen(Lane::Write, None), Some(Loss::Silent));
        losses.set_down(false);
        losses.set_silent(false);
        assert_eq!((seen(Lane::Read, None), seen(Lane::Write, None)), (None, None));
    }

    #[tokio::test]
    async fn a_waiting_operation_wakes_when_its_node_is_lost() {
        let losses = Arc::new(Losses::default());
        let waiting = Arc::clone(&losses);
        let waits = tokio::spawn(async move { waiting.wait(Lane::Write, None).await });
        tokio::task::yield_now().await;
        losses.set_down(true);
        losses.set_silent(true);
        assert_eq!(waits.await.expect("no panic"), Loss::Silent);
    }
}
