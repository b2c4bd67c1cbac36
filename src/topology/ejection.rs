//! Ejection: a member that fails operations by itself takes no reads for a while, although it answers its probes. The
//! states are those of a circuit breaker (Nygard, "Release It!"): in, out, on trial.

use std::{fmt, time::Duration};

use super::{NodeId, Tick, Topology};

/// Failures in a row that only this node gave, before it is ejected. With one, a single damaged page would take a node
/// out; the reads that fail meanwhile move to other nodes.
pub(crate) const FAILURES_IN_A_ROW: u32 = 3;
/// The pause after the first ejection; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After so long without an ejection the pauses begin with the shortest again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Whether a member takes reads, by what its operations met.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ejection {
    state: State,
    /// The ejections since the member was last forgiven.
    times: u32,
    /// When the member was last taken out or in.
    changed_at: Tick,
    cause: Option<EjectionCause>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    In,
    /// No read until then; the first read afterwards is the trial.
    Out { until: Tick },
    /// One read is under way. If nothing is heard of the read until then, another one tries.
    OnTrial { until: Tick },
}

/// The failures that operations met on an ejected member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EjectionCause {
    /// The server refused new connections.
    RefusesConnections,
    /// New connections did not come about.
    CannotConnect,
    /// The server gave errors that another node did not give.
    FailsAlone,
}

impl Ejection {
    /// Whether the member takes no reads now.
    pub(crate) fn is_out(&self, now: Tick) -> bool {
        match self.state {
            State::In => false,
            State::Out { until } | State::OnTrial { until } => now < until,
        }
    }

    /// Whether the next read is the member's trial.
    pub(crate) fn awaits_trial(&self, now: Tick) -> bool {
        self.state != State::In && !self.is_out(now)
    }

    /// Why the member takes no reads.
    pub(crate) fn cause(&self) -> Option<EjectionCause> {
        self.cause.filter(|_| self.state != State::In)
    }

    /// The state after a failure that only this member gave, the last of several in a row. `jitter` is drawn from 0 to
    /// 1, and varies the pause by a fifth, so that a fleet does not come back in step. `None` if nothing changes.
    fn after_failure(self, now: Tick, jitter: f64, cause: EjectionCause) -> Option<Self> {
        let times = match self.state {
            State::Out { until } if now < until => return None, // A read from before.
            State::In if now.since(self.changed_at) > FORGIVEN_AFTER => 1,
            _ => self.times.saturating_add(1),
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << (times - 1).min(10)).min(LONGEST_PAUSE);
        let until = now.after(pause.mul_f64(0.8 + 0.4 * jitter));
        Some(Self { state: State::Out { until }, times, changed_at: now, cause: Some(cause) })
    }

    /// The state when a read begins that is the trial; `None` if another read is.
    fn after_trial_began(self, now: Tick) -> Option<Self> {
        self.awaits_trial(now).then(|| Self { state: State::OnTrial { until: now.after(FIRST_PAUSE) }, ..self })
    }

    /// The state after an operation that the member served; `None` if the member was in.
    fn after_success(self, now: Tick) -> Option<Self> {
        (self.state != State::In).then_some(Self { state: State::In, changed_at: now, ..self })
    }
}

impl fmt::Display for EjectionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RefusesConnections => "it refuses new connections",
            Self::CannotConnect => "new connections do not come about",
            Self::FailsAlone => "it gives errors that another node does not give",
        })
    }
}

impl Topology {
    /// The topology after several failures in a row that only this node gave; `None` if nothing changes.
    pub(crate) fn ejected(&self, node: NodeId, now: Tick, jitter: f64, cause: EjectionCause) -> Option<Self> {
        self.with_ejection(node, |ejection| ejection.after_failure(now, jitter, cause))
    }

    /// The topology when the trial of an ejected member begins; `None` if the member awaits none.
    pub(crate) fn trial_began(&self, node: NodeId, now: Tick) -> Option<Self> {
        self.with_ejection(node, |ejection| ejection.after_trial_began(now))
    }

    /// The topology after an ejected member served an operation; `None` if the member was in.
    pub(crate) fn readmitted(&self, node: NodeId, now: Tick) -> Option<Self> {
        let mut next = self.with_ejection(node, |ejection| ejection.after_success(now))?;
        next.start_slowly([node], now);
        Some(next)
    }

    fn with_ejection(&self, node: NodeId, change: impl FnOnce(Ejection) -> Option<Ejection>) -> Option<Self> {
        let ejection = change(self.member_of(node)?.ejection)?;
        let mut next = self.clone();
        next.member_of_mut(node)?.ejection = ejection;
        Some(next)
    }

    /// Whether so many members are ejected that the others would drown: then all take reads (the *panic* rule of Envoy,
    /// with its threshold of one half).
    pub(crate) fn ignores_ejections(&self, now: Tick) -> bool {
        let out = self.members().filter(|member| member.ejection.is_out(now)).count();
        2 * out > self.members().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSE: EjectionCause = EjectionCause::FailsAlone;

    fn second(number: u64) -> Tick {
        Tick(0).after(Duration::from_secs(number))
    }

    fn out_for(ejection: Ejection, now: Tick) -> Duration {
        match ejection.state {
            State::Out { until } => until.since(now),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_pauses_grow_to_the_longest_and_shrink_after_a_good_minute() {
        let mut ejection = Ejection::default();
        let mut now = second(100);
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            ejection = ejection.after_failure(now, 0.5, CAUSE).expect("it was in, or on trial");
            assert_eq!(out_for(ejection, now), Duration::from_secs(expected));
            now = now.after(Duration::from_secs(expected));
            ejection = ejection.after_trial_began(now).expect("it awaits one");
        }
        ejection = ejection.after_success(now).expect("it was out");
        let soon = now.after(Duration::from_secs(59));
        assert_eq!(
            out_for(ejection.after_failure(soon, 0.5, CAUSE).expect("it was in"), soon),
            Duration::from_secs(30)
        );
        let later = now.after(Duration::from_secs(61));
        assert_eq!(out_for(ejection.after_failure(later, 0.5, CAUSE).expect("it was in"), later), FIRST_PAUSE);
    }

    #[test]
    fn a_pause_varies_by_a_fifth() {
        for (jitter, milliseconds) in [(0.0, 800), (1.0, 1_200)] {
            let ejection = Ejection::default().after_failure(second(1), jitter, CAUSE).expect("it was in");
            assert_eq!(out_for(ejection, second(1)), Duration::from_millis(milliseconds));
        }
    }

    #[test]
    fn one_read_is_the_trial_and_another_one_when_nothing_is_heard_of_it() {
        let out = Ejection::default().after_failure(second(1), 0.5, CAUSE).expect("it was in");
        assert!(out.is_out(second(1)) && out.after_trial_began(second(1)).is_none());
        assert_eq!(out.after_failure(second(1), 0.5, CAUSE), None, "a read from before");
        let tried = out.after_trial_began(second(2)).expect("the pause is over");
        assert!(tried.is_out(second(2)) && tried.after_trial_began(second(2)).is_none(), "one trial at a time");
        assert!(tried.after_trial_began(second(3)).is_some());
        assert!(!tried.after_success(second(2)).expect("it was out").is_out(second(2)));
    }
}
