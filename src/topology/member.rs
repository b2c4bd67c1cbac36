//! The believed half of a node: the part that a topology holds.

use std::{collections::BTreeSet, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    Belief, Ejection, Floor, Freshness, Lag, LagMeasure, Lane, Lives, Node, Observed, PositionOrder, ReplicationDelay,
    Reported, Role, SlowStart, Tick,
};

/// A node as one topology believes it.
#[derive(Clone)]
pub struct Member {
    pub(crate) node: Arc<Node>,
    pub(crate) settings: MemberSettings,
    pub(crate) rotation: Rotation,
    pub(crate) health: Health,
    /// The present belief in the server, and whether the server confirmed it.
    pub(crate) belief: Belief,
    /// The server lives that answered at the address.
    pub(crate) lives: Lives,
    /// The node's last answer about itself; `None` for nodes that cannot be asked.
    pub(crate) observed: Option<Observed>,
    /// The number of failed probes since the last successful one.
    pub(crate) failed_probes: u32,
    /// Since when no probe and no operation had an answer.
    pub(crate) failing_since: Option<Tick>,
    /// The reason of the last failed probe.
    pub(crate) last_failure: Option<Arc<str>>,
    /// Whether the member takes reads, by what its operations met.
    pub(crate) ejection: Ejection,
    /// Since when the member's share of the reads grows.
    pub(crate) slow_start: SlowStart,
    /// How fresh the server's data are known to be. Counts only while the belief is confirmed.
    pub(crate) freshness: Freshness,
    pub(crate) lag: Lag,
    /// How long the replica takes to have a write of the primary.
    pub(crate) delay: ReplicationDelay,
    /// How far the replica was measured to be behind.
    pub(crate) measure: LagMeasure,
}

/// The settings of a member that can change without new pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberSettings {
    pub(crate) weight: NonZeroU32,
    pub(crate) zone: Option<Arc<str>>,
    pub(crate) tags: Arc<BTreeSet<String>>,
    pub(crate) role_check: RoleCheck,
    pub(crate) positions: Positions,
}

/// Whether a node that reports another role than its configured one is kept out of the reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleCheck {
    On,
    Off,
}

/// Whether the position that a node reports is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positions {
    On,
    Off,
}

/// Whether a member answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The node answered its last probe, or cannot be probed and counts as up.
    Up,
    /// The node failed enough probes, or one probe in a way that leaves no doubt.
    Down,
}

/// Whether the operator lets a member take new operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// The member takes its share.
    In,
    /// The member was drained, and stays out until it is resumed.
    Drained,
}

/// The reason why a member may not serve a read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Down,
    Drained,
    /// The node reports the other role.
    RoleContradicts(Role),
    /// The node is not known to have the writes that the session must see.
    BehindSession,
    /// The node has the session's writes, and is not known to have all rows that the session has read.
    BehindReads,
    /// The node's position is not known, and the session wrote too recently.
    WroteTooRecently,
    /// The node is not known to be as fresh as the read asks.
    TooStale,
    /// The node is further behind than the limit.
    Lagging,
    /// The server belongs to another cluster than the primary.
    OtherCluster,
    /// The node failed operations by itself, and takes no reads for a while.
    Ejected,
    /// The operation has failed on the node already.
    Tried,
    /// The read's consistency asks for the primary.
    NotPrimary,
}

impl Member {
    pub(crate) fn new(node: Arc<Node>, settings: MemberSettings) -> Self {
        let driver = node.driver(Lane::Read);
        let can_tell = settings.positions == Positions::On && driver.open_probe().is_some();
        let freshness = if can_tell { Freshness::Unknown } else { Freshness::Timed };
        Self {
            node,
            settings,
            freshness,
            lag: Lag::default(),
            belief: Belief::default(),
            lives: Lives::default(),
            delay: ReplicationDelay::default(),
            measure: LagMeasure::default(),
            rotation: Rotation::In,
            health: Health::Up,
            observed: None,
            failed_probes: 0,
            failing_since: None,
            last_failure: None,
            ejection: Ejection::default(),
            slow_start: SlowStart::default(),
        }
    }

    /// The member's name, unique in its topology.
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// The long-lived half: pools and traffic.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The member's share of its tier's reads, relative to the other members.
    pub fn weight(&self) -> NonZeroU32 {
        self.settings.weight
    }

    /// The member's zone.
    pub fn zone(&self) -> Option<&str> {
        self.settings.zone.as_deref()
    }

    /// The labels that the configuration gave the member.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.settings.tags.iter().map(String::as_str)
    }

    /// Whether the member answers.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether the operator lets the member take new operations.
    pub fn rotation(&self) -> Rotation {
        self.rotation
    }

    /// Whether the member came back a moment ago, and takes a growing part of its share of the reads; see
    /// [`Config::slow_start`](crate::Config::slow_start). The end is published with the member's next probe.
    pub fn is_starting_slowly(&self) -> bool {
        self.slow_start.is_on()
    }

    /// The role the node itself reported at its last probe.
    pub fn observed_role(&self) -> Option<Role> {
        self.observed.as_ref().map(|observed| observed.role)
    }

    /// Names one life of the server that answered the last probe. The name changes with a restart and with another
    /// server behind the same address.
    pub fn incarnation(&self) -> Option<&str> {
        self.observed.as_ref().map(|observed| &*observed.incarnation)
    }

    /// The duration of the last answered probe.
    pub fn round_trip(&self) -> Option<Duration> {
        self.observed.as_ref().map(|observed| observed.round_trip)
    }

    /// How far the replica is behind the primary; `None` while the replica is down, and for nodes without positions.
    ///
    /// The lag is the time that the primary's last sample took to reach the replica, measured to 10 ms or an eighth of the
    /// lag, whichever is more, and shown as zero below 10 ms: the replica is asked when it is expected to have the sample, in
    /// place of its probe ([`costs`](crate::costs) has the price). A lag that changes is measured again within some five
    /// [`probe_interval`](crate::Config::probe_interval)s. On an idle primary no replica is behind.
    ///
    /// Before the first measurement, without an answer for three intervals, with intervals above 10 s, and while the lag
    /// keeps the replica out ([`max_lag`](crate::Config::max_lag)), the lag is the time since the replica is known to have
    /// had everything: an upper bound, which is longer by up to two intervals.
    pub fn lag(&self) -> Option<Duration> {
        self.lag.time.filter(|_| self.health == Health::Up)
    }

    /// As [`lag`](Self::lag), in bytes of write-ahead log (PostgreSQL).
    pub fn lag_bytes(&self) -> Option<u64> {
        self.lag.bytes.filter(|_| self.health == Health::Up)
    }

    /// The pooling proxy in front of the node: `session` or `transaction` as
    /// [`NodeConfig::pooler`](crate::NodeConfig::pooler) says, `detected` when a setting of a session was refused or
    /// ignored; `None` without a proxy.
    pub fn pooler(&self) -> Option<&'static str> {
        self.node.driver(Lane::Read).sessions()?.pooling().word()
    }

    /// Whether the server belongs to another cluster than the primary, and so serves no reads: PostgreSQL gives the
    /// server another system identifier; on MySQL and MariaDB its GTIDs share nothing with the primary's history.
    /// Members with `role_check` or `positions` switched off are not compared.
    pub fn is_of_other_cluster(&self) -> bool {
        matches!(self.freshness, Freshness::Foreign(_))
    }

    /// How long this replica is expected to take, from now, to have the primary's present state; `None` while no
    /// delay was measured, as for nodes without positions.
    pub(crate) fn expected_delay(&self) -> Option<Duration> {
        self.delay.expected()
    }

    /// The reason of the last probe's failure, if the last probe failed. For operators: the words are the driver's, and
    /// may name hosts, users and databases.
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// Whether the member may serve a read in the role that the topology gives the member.
    pub(crate) fn fitness(&self, configured: Role, now: Tick, believed_for: Duration) -> Result<(), Unfit> {
        if self.rotation == Rotation::Drained {
            return Err(Unfit::Drained);
        }
        if self.health == Health::Down {
            return Err(Unfit::Down);
        }
        match self.believed_role(now, believed_for) {
            Some(role) if self.contradicts(configured, now, believed_for) => Err(Unfit::RoleContradicts(role)),
            _ if self.is_of_other_cluster() && configured == Role::Replica => Err(Unfit::OtherCluster),
            _ if self.lag.is_over && configured == Role::Replica => Err(Unfit::Lagging),
            _ => Ok(()),
        }
    }

    /// Whether the server reports another role than the topology gives the member.
    pub(crate) fn contradicts(&self, configured: Role, now: Tick, believed_for: Duration) -> bool {
        self.settings.role_check == RoleCheck::On
            && self.observed_role().is_some_and(|role| role != configured)
            && self.believed_role(now, believed_for).is_some()
    }

    /// The reason in words, with the member's lag or its cluster where that is the reason.
    pub(crate) fn says(&self, why: Unfit) -> String {
        match (why, self.lag()) {
            (Unfit::Lagging | Unfit::BehindSession | Unfit::BehindReads | Unfit::TooStale, Some(lag))
                if !lag.is_zero() =>
            {
                format!("{why} ({lag:?} behind)")
            }
            (Unfit::Ejected, _) => match self.ejection.cause() {
                Some(cause) => format!("{why}: {cause}"),
                None => why.to_string(),
            },
            (Unfit::OtherCluster, _) => match &self.freshness {
                Freshness::Foreign(position) => format!("{why} ({})", position.history()),
                _ => why.to_string(),
            },
            _ => why.to_string(),
        }
    }

    /// Whether the member has the writes that a session must see.
    pub(crate) fn is_past(&self, floor: Floor, now: Tick, stick_after_write: Duration) -> bool {
        floor.is_none() || self.freshness.is_past(floor, now, stick_after_write) && !self.is_in_doubt()
    }

    /// Whether the server is known to have every write that was acknowledged until `within` ago.
    pub(crate) fn is_within(&self, within: Duration, now: Tick) -> bool {
        self.freshness.is_within(within, now) && !self.is_in_doubt()
    }

    /// Whether the freshness was learned in a generation that is over, or that no answer has confirmed yet.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.freshness.fresh().is_some() && !self.belief.is_confirmed()
    }

    /// Whether a server's answer on a new connection agrees with the belief in the server.
    pub(crate) fn recognises(&self, incarnation: &str, position: &Reported) -> bool {
        if self.freshness == Freshness::Timed && !self.lives.is_shared() {
            return true; // No position of the node is believed, so nothing depends on the server that answers.
        }
        self.lives.is_present(incarnation)
            && match (self.freshness.fresh(), position) {
                // The same server has less data than before, so the server is recovering.
                (Some(fresh), Reported::At(position)) => position.compared_to(&fresh.position) != PositionOrder::Behind,
                _ => true,
            }
    }

    /// The observed role while the observation is believed. An expired role contradicts nothing.
    pub(crate) fn believed_role(&self, now: Tick, believed_for: Duration) -> Option<Role> {
        let observed = self.observed.as_ref()?;
        (now.since(observed.asked.at) <= believed_for).then_some(observed.role)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("node", &self.node)
            .field("weight", &self.settings.weight)
            .field("rotation", &self.rotation)
            .field("health", &self.health)
            .field("belief", &self.belief)
            .field("observed", &self.observed)
            .field("freshness", &self.freshness)
            .field("lag", &self.lag)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("down"),
            Self::Drained => f.write_str("drained"),
            Self::RoleContradicts(role) => write!(f, "it says it is a {role}"),
            Self::BehindSession => f.write_str("it is not known to have what this session must see"),
            Self::BehindReads => f.write_str("it is not known to have all that this session has read"),
            Self::WroteTooRecently => f.write_str("this session wrote too recently"),
            Self::TooStale => f.write_str("it is not known to be as fresh as asked"),
            Self::Lagging => f.write_str("it is further behind than `max_lag`"),
            Self::OtherCluster => f.write_str("it belongs to another cluster than the primary"),
            Self::Ejected => f.write_str("ejected for a while"),
            Self::Tried => f.write_str("the operation failed on it already"),
            Self::NotPrimary => f.write_str("not the primary"),
        }
    }
}
