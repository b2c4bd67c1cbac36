//! How one observation changes what is believed. The rules of health and of freshness are applied here and
//! nowhere else.

use std::{sync::Arc, time::Duration};

use super::{Fresh, Health, Member, NodeId, Observed, Positions, Reported, Role, Sample, Samples, Standing, Topology};

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
                member.observed = Some(observed.clone());
                if is_primary {
                    next.sample(is_same_life);
                } else {
                    let member = next.replicas.iter_mut().find(|member| member.node.id() == observation.node)?;
                    if !is_same_life {
                        member.standing = Standing::Unknown;
                    }
                    member.weigh(&next.primary, &next.samples);
                    member.lag = member.lag.after(&member.standing, &next.samples, next.lag_limit, true);
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
            replica.lag = replica.lag.after(&replica.standing, &self.samples, self.lag_limit, false);
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

    /// Whether its positions are worth comparing.
    pub(crate) fn has_positions(&self) -> bool {
        (self.observed.is_some() || !matches!(self.standing, Standing::Timed))
            && self.settings.positions == Positions::On
            && self.shared_at.is_none()
            && !self.observed.as_ref().is_some_and(|observed| observed.position == Reported::Nothing)
    }

    /// Compares what a replica said last with where the primary was.
    fn weigh(&mut self, primary: &Self, samples: &Samples) {
        if self.node.is_file() && self.settings.positions == Positions::On {
            self.standing = if self.node.is_same_file(&primary.node) { Standing::Always } else { Standing::Timed };
        }
        let Some(observed) = &self.observed else { return };
        self.standing = match &observed.position {
            _ if !self.has_positions() || !primary.has_positions() => Standing::Timed,
            Reported::At(position) => {
                let known = self.standing.fresh();
                Standing::Known(match known {
                    Some(known) if known.asked == observed.asked.seq => {
                        let mut fresh = known.clone();
                        fresh.compare(samples);
                        fresh
                    }
                    known => Fresh::learn(known, observed.asked, Arc::clone(position), samples),
                })
            }
            Reported::Nothing => Standing::Timed,
            Reported::Unknown => match &self.standing {
                // It was known, and nothing said now makes it less so; but nothing confirms it either.
                Standing::Known(fresh) => Standing::Known(fresh.clone()),
                _ => Standing::Unknown,
            },
        };
    }
}
