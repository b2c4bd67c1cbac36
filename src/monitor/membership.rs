//! Changes of the membership while the service runs. New nodes are connected and answer first;
//! then one publication makes the change; then the nodes that left are drained.

use std::{num::NonZeroU32, sync::Arc};

use super::{
    Monitor,
    connect::{self, ConnectLimits, FirstAnswer, Opened, check_role, connect_all, take_seat},
    drain,
    probe::{self, Scope},
    prober::{self, QuestionPath},
    succession,
};
use crate::{
    Error,
    config::{NodeConfig, NodePlan, check_together, plan_nodes, share},
    driver::Credentials,
    error::Kind,
    telemetry,
    topology::{
        Answerer, Health, Lane, Member, MemberSettings, Node, NodeId, Observed, Position, PositionOrder, Positions,
        Reported, Role, Rotation, Sample, Samples, Topology,
    },
};

/// The nodes that a change of the membership added, kept and removed, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SwapReport {
    /// Nodes that were connected and joined.
    pub added: Vec<String>,
    /// Nodes whose configuration is equal, and that kept their pools and operations, in whatever seat.
    pub kept: Vec<String>,
    /// The nodes of `added` that did not answer: they joined as members that are down
    /// ([`MembershipChange::lenient`]).
    pub down: Vec<String>,
    /// Nodes that left and are drained in the background.
    pub removed: Vec<String>,
}

/// A change of the members that is made in one publication. Seats that the change does not name stay as they are.
///
/// A node is present already when its name and its configuration are equal to those of a member, whatever seat the
/// member has: the node keeps its pools, its operations and its counters, so a promotion is a flip.
///
/// # Example
/// After `db-2` was promoted, the former primary goes on as a replica:
///
/// ```no_run
/// # use sea_orm_resolver::{DatabaseConnection, MembershipChange};
/// # async fn promoted(db: &DatabaseConnection) -> Result<(), sea_orm_resolver::Error> {
/// let change = MembershipChange::default()
///     .primary("postgres://shop:secret@db-2/shop")
///     .replicas(["postgres://shop:secret@db-1/shop", "postgres://shop:secret@db-3/shop"])
///     .lenient();
/// let report = db.swap_members(change).await?;
/// println!("not there yet: {:?}", report.down);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing changes until `swap_members`"]
pub struct MembershipChange {
    primary: Option<NodeConfig>,
    replicas: ReplicaChange,
    newcomers: Newcomers,
    accepted: SwapOptions,
}

#[derive(Clone, Debug, Default)]
enum ReplicaChange {
    #[default]
    None,
    /// These are the replicas.
    All(Vec<NodeConfig>),
    /// This replica joins the others.
    Add(Box<NodeConfig>),
}

/// The requirement on replicas that join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Newcomers {
    #[default]
    MustAnswer,
    MayBeDown,
}

impl MembershipChange {
    /// The node that takes the primary's seat. The former primary leaves unless it is among the replicas.
    pub fn primary(mut self, node: impl Into<NodeConfig>) -> Self {
        self.primary = Some(node.into());
        self
    }

    /// The replicas. Present replicas that are not in the list leave.
    pub fn replicas<I>(mut self, nodes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<NodeConfig>,
    {
        self.replicas = ReplicaChange::All(nodes.into_iter().map(Into::into).collect());
        self
    }

    /// The data that a new primary may lack. Default: none.
    pub fn accepting(mut self, accepted: SwapOptions) -> Self {
        self.accepted = accepted;
        self
    }

    /// A replica that does not answer joins as a member that is down, is tried again, and is listed in
    /// [`SwapReport::down`]. Default: such a replica fails the change.
    pub fn lenient(mut self) -> Self {
        self.newcomers = Newcomers::MayBeDown;
        self
    }
}

/// The conditions that the caller of [`swap_primary_with`](crate::DatabaseConnection::swap_primary_with) accepts.
/// By default none is accepted.
///
/// ```
/// use sea_orm_resolver::SwapOptions;
///
/// let options = SwapOptions { accept_lost_writes: true, ..SwapOptions::default() };
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwapOptions {
    /// The new primary may lack data that this process has written or read. Without this, a server whose position
    /// is known to be behind the present primary's is refused, and the error says how far behind: after a failover
    /// with asynchronous replication the last writes of the lost primary are often missing. Where the positions
    /// cannot be compared (nodes without positions; a PostgreSQL server that was restarted after its promotion), no
    /// server is refused, and a warning says so.
    pub accept_lost_writes: bool,
    /// The new primary may belong to another cluster, with other data. The replicas of the cluster before then take no
    /// reads until they are swapped too.
    pub accept_other_cluster: bool,
}

impl Monitor {
    /// Makes a change of the members in one publication.
    pub(crate) async fn swap_members(&self, change: MembershipChange) -> Result<SwapReport, Error> {
        let _turn = self.membership.lock().await;
        self.check_open()?;
        let before = self.writer.cell().load_full();
        let MembershipChange { primary, replicas, newcomers, accepted } = change;
        let mut fields: Vec<_> = primary.iter().map(|node| ("primary".to_owned(), node, Role::Primary)).collect();
        match &replicas {
            ReplicaChange::None => {}
            ReplicaChange::All(nodes) => fields.extend(
                nodes.iter().enumerate().map(|(index, node)| (format!("replicas[{index}]"), node, Role::Replica)),
            ),
            ReplicaChange::Add(node) => fields.push(("replica".to_owned(), node, Role::Replica)),
        }
        let taken = match (&primary, &replicas) {
            (_, ReplicaChange::Add(_)) => before.names(),
            (None, _) => vec![before.primary.name().to_owned()],
            // A replica with the name of a new primary leaves, so its name is free.
            (Some(_), _) => Vec::new(),
        };
        let plans = plan_nodes(&self.writer.settings, &fields, &taken)?;
        self.check_backends(&before, &plans)?;

        let takes_seat =
            plans.first().is_some_and(|plan| plan.role == Role::Primary && !is_unchanged(&before.primary, plan));
        // The present primary is asked first, so that the new one is not behind only because it was asked earlier.
        let must_have = if takes_seat { self.positions_to_keep(&before).await } else { Vec::new() };
        let mut report = SwapReport::default();
        let (mut seats, mut fresh) = (Vec::with_capacity(plans.len()), Vec::new());
        for plan in plans {
            if let Some(known) = before.members().find(|known| is_unchanged(known, &plan)) {
                report.kept.push(known.name().to_owned());
                let flips = before.configured_role(known.node.id()) != plan.role;
                // The roles are asked for now: an answer of a node from before its promotion says that the node is
                // a replica.
                let observed = if flips && plan.role == Role::Primary {
                    let settings = &self.writer.settings;
                    connect::ask_present(&known.node, plan.role, settings.connect_timeout, self.writer.clock).await?
                } else {
                    None
                };
                check_role(&plan.name, plan.role, plan.member.role_check, observed.as_ref())?;
                if flips && plan.role == Role::Primary {
                    let promoted = Member { observed: observed.clone(), ..known.clone() };
                    let timeout = self.writer.settings.probe_timeout;
                    succession::check(&promoted, &must_have, accepted, timeout).await?;
                }
                seats.push(Seat {
                    role: plan.role,
                    taken_by: TakenBy::Present { id: known.node.id(), observed, plan: Box::new(plan) },
                });
            } else {
                report.added.push(plan.name.to_string());
                seats.push(Seat { role: plan.role, taken_by: TakenBy::Newcomer });
                fresh.push(plan);
            }
        }
        let opened = self.connect(fresh, newcomers).await?;
        if let Err(refusal) = self.may_join(&opened, &seats, &must_have, accepted).await {
            opened.iter().for_each(|opened| close(&opened.member.node));
            return Err(refusal);
        }
        for Opened { member, failure } in &opened {
            if let Some(failure) = failure {
                telemetry::down_at_start(member.name(), failure);
                member.node.losses().set_down(true);
                report.down.push(member.name().to_owned());
            }
        }

        let (mut opened, now) = (opened.into_iter(), self.writer.clock.now());
        let after = self.writer.update(|topology| {
            let mut next = topology.clone();
            let mut joining = Vec::new();
            if let ReplicaChange::All(_) = replicas {
                next.replicas.clear();
            }
            for Seat { role, taken_by } in seats {
                let member = match taken_by {
                    // From the current snapshot, not from `before`: the member's health may have changed since.
                    TakenBy::Present { id, observed, plan } => {
                        let known = topology.member_of(id).expect("members leave only under the membership lock");
                        seated(known, topology.configured_role(id), role, observed, &plan)
                    }
                    TakenBy::Newcomer => {
                        let member = opened.next().expect("one was opened for each").member;
                        joining.push(member.node.id());
                        member
                    }
                };
                match role {
                    Role::Primary => next.primary = member,
                    Role::Replica => next.replicas.push(member),
                }
            }
            if let ReplicaChange::None = replicas {
                next.replicas.retain(|replica| replica.name() != next.primary.name());
            }
            next.start_slowly(joining, now);
            let is_same = next.primary.node.id() == topology.primary.node.id();
            next.sample(if is_same { Answerer::Present } else { Answerer::Other });
            Ok::<_, Error>(next)
        })?;
        for member in before.members().filter(|member| after.member_of(member.node.id()).is_none()) {
            report.removed.push(member.name().to_owned());
            self.retire(&member.node);
        }
        self.watch(&after);
        Ok(report)
    }

    /// Adds one replica.
    pub(crate) async fn add_replica(&self, node: NodeConfig) -> Result<SwapReport, Error> {
        self.swap_members(MembershipChange {
            replicas: ReplicaChange::Add(Box::new(node)),
            ..MembershipChange::default()
        })
        .await
    }

    /// Removes one replica, waits until its operations have ended, and closes its pools.
    pub(crate) async fn remove_replica(&self, name: &str) -> Result<(), Error> {
        let node = {
            let _turn = self.membership.lock().await;
            let mut left = None;
            self.writer.update(|topology| {
                if topology.primary.name() == name {
                    return Err(Error::config("name", format!("`{name}` is the primary; use `swap_primary`")));
                }
                let mut next = topology.clone();
                let place = next.replicas.iter().position(|member| member.name() == name);
                left = Some(next.replicas.remove(place.ok_or_else(|| unknown(topology, name))?).node);
                Ok(next)
            })?;
            left.expect("set when the update succeeded")
        };
        // In a task of its own: draining goes on when the caller stops waiting.
        let drained = self.retire(&node);
        match drained {
            Some(drained) => drained.await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }

    /// Keeps a member out of rotation until [`resume`](Self::resume), and waits until its operations have ended.
    pub(crate) async fn drain(&self, name: &str) -> Result<(), Error> {
        let after = self.set_rotation(name, Rotation::Drained)?;
        let node = &after.member(name).expect("it was just changed").node;
        drain::wait_until_idle(node, self.writer.settings.drain_timeout).await
    }

    /// Puts a drained member back into rotation.
    pub(crate) fn resume(&self, name: &str) -> Result<(), Error> {
        self.set_rotation(name, Rotation::In).map(drop)
    }

    fn set_rotation(&self, name: &str, rotation: Rotation) -> Result<Arc<Topology>, Error> {
        self.writer.update(|topology| {
            if rotation == Rotation::Drained && topology.primary.name() == name {
                let problem = format!(
                    "`{name}` is the primary and takes the writes; `set_primary_read_share(0.0)` keeps reads off it"
                );
                return Err(Error::config("name", problem));
            }
            let mut next = topology.clone();
            let slow_start = next.slow_start;
            let member = next.member_mut(name).ok_or_else(|| unknown(topology, name))?;
            if member.rotation == Rotation::Drained && rotation == Rotation::In {
                // Its server may have been restarted meanwhile, and its idle connections are closed.
                member.start_slowly(self.writer.clock.now(), slow_start);
            }
            member.rotation = rotation;
            // Under the writer's lock, so that of a drain and a resume at the same time one wins in both places.
            member.node.set_retired(rotation == Rotation::Drained);
            Ok(next)
        })
    }

    pub(crate) fn set_weight(&self, name: &str, weight: NonZeroU32) -> Result<(), Error> {
        self.change_member(name, |member| member.settings.weight = weight).map(drop)
    }

    /// Has the next connections of a member opened with these credentials.
    pub(crate) fn set_credentials(&self, name: &str, credentials: Credentials) -> Result<(), Error> {
        self.check_open()?;
        let topology = self.writer.cell().load_full();
        let member = topology.member(name).ok_or_else(|| unknown(&topology, name))?;
        if member.node.driver(Lane::Write).set_credentials(credentials) {
            return Ok(());
        }
        let problem = format!(
            "`{name}` has no login of the resolver's: it is a SQLite file, a mock, or a connection that was given open \
             (call sqlx's `set_connect_options` on its pool)"
        );
        Err(Error::config("name", problem))
    }

    pub(crate) fn set_primary_read_share(&self, value: f64) -> Result<(), Error> {
        let value = share("primary_read_share", value)?;
        self.writer.update(|topology| Ok(Topology { primary_read_share: value, ..topology.clone() })).map(drop)
    }

    fn change_member(&self, name: &str, change: impl FnOnce(&mut Member)) -> Result<Arc<Topology>, Error> {
        self.writer.update(|topology| {
            let mut next = topology.clone();
            change(next.member_mut(name).ok_or_else(|| unknown(topology, name))?);
            Ok(next)
        })
    }

    /// Connects nodes before they are published. A node that has to answer and does not is an error; no pool stays
    /// open then.
    async fn connect(&self, plans: Vec<NodePlan>, newcomers: Newcomers) -> Result<Vec<Opened>, Error> {
        let settings = &self.writer.settings;
        let roles: Vec<_> = plans.iter().map(|plan| plan.role).collect();
        let limits = ConnectLimits { each: settings.connect_timeout, primary: None };
        let mut opened = connect_all(plans, FirstAnswer::Full, limits, self.writer.clock).await?;
        let fails = |role, failure: &Error| {
            role == Role::Primary || newcomers == Newcomers::MustAnswer || failure.is_not_read_only()
        };
        let failure = opened
            .iter_mut()
            .zip(roles)
            .find_map(|(opened, role)| opened.failure.take_if(|failure| fails(role, failure)));
        if let Some(failure) = failure {
            opened.iter().for_each(|opened| close(&opened.member.node));
            return Err(failure);
        }
        self.check_open().inspect_err(|_| opened.iter().for_each(|opened| close(&opened.member.node)))?;
        Ok(opened)
    }

    /// Refuses a change of a connection that was closed: the pools of its members are gone.
    fn check_open(&self) -> Result<(), Error> {
        if self.writer.is_stopped() { Err(Error::new(Kind::Closed)) } else { Ok(()) }
    }

    /// Whether the newcomers may take their seats: the new primary must be one and must have the data that the
    /// sessions may have seen, and replicas must be of its cluster.
    async fn may_join(
        &self,
        opened: &[Opened],
        seats: &[Seat],
        must_have: &[Arc<Position>],
        accepted: SwapOptions,
    ) -> Result<(), Error> {
        let primary = seats.first().filter(|seat| seat.role == Role::Primary);
        let (observed, replicas) = match (primary.map(|seat| &seat.taken_by), opened.split_first()) {
            (Some(TakenBy::Newcomer), Some((primary, replicas))) => {
                let member = &primary.member;
                check_role(member.name(), Role::Primary, member.settings.role_check, member.observed.as_ref())?;
                succession::check(member, must_have, accepted, self.writer.settings.probe_timeout).await?;
                (member.observed.as_ref(), replicas)
            }
            (Some(TakenBy::Present { observed, .. }), _) => (observed.as_ref(), opened),
            _ => (None, opened),
        };
        let new_primary = match observed.map(|observed| (observed.asked, &observed.position)) {
            Some((stamp, Reported::At(position))) => Some(Sample { stamp, position: Arc::clone(position) }),
            _ => None,
        };
        self.refuse_other_clusters(replicas, new_primary).await
    }

    /// Refuses nodes that are not replicas of the cluster of the new primary, or of the present one.
    async fn refuse_other_clusters(&self, opened: &[Opened], new_primary: Option<Sample>) -> Result<(), Error> {
        if opened.is_empty() {
            return Ok(());
        }
        let topology = self.writer.cell().load_full();
        let samples = match (new_primary, topology.samples.newest()) {
            (Some(sample), _) => Samples::default().with(sample),
            (None, Some(_)) => topology.samples.clone(),
            // Without replicas the monitor does not ask the primary.
            (None, None) => match self.ask_primary(&topology).await {
                Some(sample) => Samples::default().with(sample),
                None => return Ok(()),
            },
        };
        let foreign = opened.iter().find_map(|opened| match opened.member.observed.as_ref()?.position {
            Reported::At(ref position) if opened.member.is_foreign(position, &samples) => Some((opened, position)),
            _ => None,
        });
        let (Some((node, theirs)), Some(ours)) = (foreign, samples.newest()) else { return Ok(()) };
        Err(Error::new(Kind::OtherCluster {
            node: node.member.name().to_owned(),
            theirs: theirs.history(),
            ours: ours.position.history(),
        }))
    }

    /// The positions that the sessions of this connection may have written or read, of the members whose positions
    /// are believed: the present primary's, asked for now if the primary answers, and those of replicas that are
    /// ahead of the primary's last known position.
    async fn positions_to_keep(&self, topology: &Topology) -> Vec<Arc<Position>> {
        if let Some(sample) = self.ask_primary(topology).await {
            return vec![sample.position];
        }
        let Some(newest) = topology.samples.newest() else { return Vec::new() };
        let replicas = topology.replicas.iter().filter_map(|replica| replica.freshness.fresh());
        let is_ahead = |position: &&Arc<Position>| position.compared_to(&newest.position) == PositionOrder::Covers;
        let ahead = replicas.map(|fresh| &fresh.position).filter(is_ahead);
        std::iter::once(&newest.position).chain(ahead).cloned().collect()
    }

    /// The primary's present position; `None` if the primary does not answer in time, has no position, or takes no
    /// writes any more.
    async fn ask_primary(&self, topology: &Topology) -> Option<Sample> {
        let primary = &topology.primary;
        let driver = primary.node.driver(Lane::Read);
        if primary.settings.positions == Positions::Off
            || primary.health() == Health::Down
            || !probe::can_be_asked(&*driver)
        {
            return None;
        }
        let stamp = self.writer.clock.stamp();
        let mut link = None;
        let asking = prober::ask_server(&*driver, QuestionPath::Link, &mut link, Role::Primary, Scope::Position);
        let (answer, _) = tokio::time::timeout(self.writer.settings.probe_timeout, asking).await.ok()?.ok()?;
        match (answer.role, answer.position) {
            (Role::Primary, Reported::At(position)) => Some(Sample { stamp, position }),
            _ => None,
        }
    }

    fn check_backends(&self, topology: &Topology, plans: &[NodePlan]) -> Result<(), Error> {
        let primary = &topology.primary.node;
        let mut members =
            vec![("primary".to_owned(), primary.driver(Lane::Write).backend(), primary.lives_in_memory())];
        members.extend(plans.iter().map(|plan| (plan.name.to_string(), plan.opener.backend(), plan.in_memory)));
        check_together(&members)
    }

    /// Has a node that left drained in the background, by a task that outlives the caller.
    fn retire(&self, node: &Arc<Node>) -> Option<tokio::task::JoinHandle<Result<(), Error>>> {
        node.set_retired(true);
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        Some(runtime.spawn(drain::retire(Arc::clone(node), self.writer.settings.drain_timeout)))
    }

    fn watch(&self, topology: &Topology) {
        if !topology.is_single() {
            self.ensure_running();
        }
    }
}

/// One seat of the next topology.
struct Seat {
    role: Role,
    taken_by: TakenBy,
}

enum TakenBy {
    /// A member that keeps its pools. A member that is to take the writes was asked once more.
    Present {
        id: NodeId,
        observed: Option<Observed>,
        plan: Box<NodePlan>,
    },
    Newcomer,
}

/// A member in the seat that a change gives it.
fn seated(known: &Member, from: Role, to: Role, observed: Option<Observed>, plan: &NodePlan) -> Member {
    // Opening the node found out whether its positions are believed; a change of the configuration opens new pools.
    let settings = MemberSettings { positions: known.settings.positions, ..plan.member.clone() };
    if from == to {
        return Member { settings, ..known.clone() };
    }
    take_seat(&known.node, to, plan);
    let mut member = Member::new(Arc::clone(&known.node), settings);
    (member.belief, member.lives) = (known.belief, known.lives.clone());
    member.slow_start = known.slow_start;
    member.node.set_retired(false);
    match to {
        // The member has just answered.
        Role::Primary => member.observed = observed,
        // The member reported its position as the primary.
        Role::Replica => {
            (member.health, member.failed_probes) = (known.health, known.failed_probes);
            member.last_failure = known.last_failure.clone();
            member.observed = known.observed.clone().map(|said| Observed { position: Reported::Unknown, ..said });
        }
    }
    member
}

fn is_unchanged(known: &Member, plan: &NodePlan) -> bool {
    known.name() == &*plan.name && *known.node.identity() == plan.identity
}

fn close(node: &Arc<Node>) {
    let node = Arc::clone(node);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(drain::retire(node, std::time::Duration::ZERO));
    }
}

fn unknown(topology: &Topology, name: &str) -> Error {
    Error::new(Kind::UnknownNode { name: name.to_owned(), known: topology.names() })
}
