//! Changes of the membership while the service runs. New nodes are connected and answer first;
//! then one publication makes the change; then the nodes that left are drained.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc};

use super::{
    Monitor,
    connect::{FirstAnswer, Opened, connect_all},
    drain,
    probe::{self, Scope},
    prober, succession,
};
use crate::{
    Error,
    config::{NodeConfig, NodePlan, check_together, plan_nodes, share},
    error::Kind,
    topology::{
        Answerer, Health, Lane, Member, Node, NodeId, Position, PositionOrder, Positions, Reported, Role, Rotation,
        Sample, Samples, Topology,
    },
};

/// The nodes that a change of the membership added, kept and removed, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SwapReport {
    /// Nodes that were connected and joined.
    pub added: Vec<String>,
    /// Nodes whose configuration is equal, and that kept their pools and operations.
    pub kept: Vec<String>,
    /// Nodes that left and are drained in the background.
    pub removed: Vec<String>,
}

/// What the caller of [`swap_primary_with`](crate::DatabaseConnection::swap_primary_with) accepts. By default nothing
/// is accepted.
///
/// ```
/// use sea_orm_resolver::SwapOptions;
///
/// let options = SwapOptions { accept_lost_writes: true, ..SwapOptions::default() };
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwapOptions {
    /// The new primary may lack data that this process has written or read. Without this, a server whose position is
    /// known to be behind the present primary's is refused, and the error says how far behind: after a failover with
    /// asynchronous replication the last writes of the lost primary are often missing. Where the positions cannot be
    /// compared (nodes without positions; a PostgreSQL server that was restarted after its promotion), nothing is
    /// refused, and a warning says so.
    pub accept_lost_writes: bool,
    /// The new primary may belong to another cluster, with other data. The replicas of the cluster before then take no
    /// reads until they are swapped too.
    pub accept_other_cluster: bool,
}

impl Monitor {
    /// Makes `nodes` the replicas.
    pub(crate) async fn swap_replicas(&self, nodes: Vec<NodeConfig>) -> Result<SwapReport, Error> {
        let _turn = self.membership.lock().await;
        let before = self.writer.cell().load_full();
        let fields: Vec<_> =
            nodes.iter().enumerate().map(|(index, node)| (format!("replicas[{index}]"), node, Role::Replica)).collect();
        let plans = plan_nodes(&self.writer.settings, &fields, &[before.primary.name().to_owned()])?;
        self.check_backends(&before, &plans)?;

        let mut report = SwapReport::default();
        let mut places = Vec::with_capacity(plans.len());
        let mut fresh = Vec::new();
        for plan in plans {
            let known = before.replicas.iter().find(|known| is_unchanged(known, &plan));
            if let Some(known) = known {
                report.kept.push(known.name().to_owned());
                places.push(Place::Kept(known.node.id(), plan.member));
            } else {
                report.added.push(plan.name.to_string());
                places.push(Place::Fresh);
                fresh.push(plan);
            }
        }
        let opened = self.connect(fresh).await?;
        self.refuse_other_clusters(&opened).await?;
        let mut opened = opened.into_iter();

        let kept: HashSet<NodeId> = places.iter().filter_map(Place::kept).collect();
        let after = self.writer.update(|topology| {
            let mut next = topology.clone();
            next.replicas = places
                .into_iter()
                .map(|place| match place {
                    // From the current snapshot, not from `before`: its health may have moved on.
                    Place::Kept(id, settings) => {
                        let known = topology.member_of(id).expect("members leave only under the membership lock");
                        // Found out when the node was opened: a changed configuration opens new pools.
                        let positions = known.settings.positions;
                        let settings = crate::topology::MemberSettings { positions, ..settings };
                        Member { settings, ..known.clone() }
                    }
                    Place::Fresh => opened.next().expect("one was opened for each").member,
                })
                .collect();
            next.sample(Answerer::Present);
            Ok::<_, Error>(next)
        })?;
        for member in before.replicas.iter().filter(|member| !kept.contains(&member.node.id())) {
            report.removed.push(member.name().to_owned());
            self.retire(&member.node);
        }
        self.watch(&after);
        Ok(report)
    }

    /// Adds one replica.
    pub(crate) async fn add_replica(&self, node: NodeConfig) -> Result<SwapReport, Error> {
        let _turn = self.membership.lock().await;
        let before = self.writer.cell().load_full();
        let fields = [("replica".to_owned(), &node, Role::Replica)];
        let plans = plan_nodes(&self.writer.settings, &fields, &before.names())?;
        self.check_backends(&before, &plans)?;
        let opened = self.connect(plans).await?;
        self.refuse_other_clusters(&opened).await?;
        let added = opened.iter().map(|opened| opened.member.name().to_owned()).collect();
        let after = self.writer.update(|topology| {
            let mut next = topology.clone();
            next.replicas.extend(opened.into_iter().map(|opened| opened.member));
            next.sample(Answerer::Present);
            Ok::<_, Error>(next)
        })?;
        self.watch(&after);
        Ok(SwapReport { added, ..SwapReport::default() })
    }

    /// Takes one replica out, waits until its operations are done, and closes it.
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
        // In a task of its own: a caller that stops waiting does not stop the draining.
        let drained = self.retire(&node);
        match drained {
            Some(drained) => drained.await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }

    /// Makes another node the primary. A replica of the same name leaves the replicas.
    pub(crate) async fn swap_primary(&self, node: NodeConfig, options: SwapOptions) -> Result<SwapReport, Error> {
        let _turn = self.membership.lock().await;
        let before = self.writer.cell().load_full();
        let fields = [("primary".to_owned(), &node, Role::Primary)];
        let mut plans = plan_nodes(&self.writer.settings, &fields, &[])?;
        let plan = plans.pop().expect("one plan for one node");
        if is_unchanged(&before.primary, &plan) {
            return Ok(SwapReport { kept: vec![plan.name.to_string()], ..SwapReport::default() });
        }
        let name = plan.name.to_string();
        self.check_backends(&before, std::slice::from_ref(&plan))?;
        // The present primary is asked first, so that the new one is not behind only because it was asked earlier.
        let must_have = self.positions_to_keep(&before).await;
        let opened = self.connect(vec![plan]).await?.pop().expect("one was opened");
        if opened.member.observed_role() == Some(Role::Replica)
            && opened.member.settings.role_check == crate::topology::RoleCheck::On
        {
            close(&opened.member.node);
            return Err(Error::unreachable(name, "it says it is a replica; promote it first"));
        }
        if let Err(refusal) =
            succession::check(&opened.member, &must_have, options, self.writer.settings.probe_timeout).await
        {
            close(&opened.member.node);
            return Err(refusal);
        }
        let after = self.writer.update(|topology| {
            let mut next = topology.clone();
            next.primary = opened.member;
            next.replicas.retain(|replica| replica.name() != name);
            next.sample(Answerer::Other);
            Ok::<_, Error>(next)
        })?;
        let mut report = SwapReport { added: vec![name], ..SwapReport::default() };
        for member in before.members().filter(|member| after.member_of(member.node.id()).is_none()) {
            report.removed.push(member.name().to_owned());
            self.retire(&member.node);
        }
        self.watch(&after);
        Ok(report)
    }

    /// Keeps a member out of rotation until [`resume`](Self::resume), and waits until its
    /// operations are done.
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
            let member = next.member_mut(name).ok_or_else(|| unknown(topology, name))?;
            member.rotation = rotation;
            // Under the writer's lock, so that of a concurrent drain and resume the same one wins in both places.
            member.node.set_retired(rotation == Rotation::Drained);
            Ok(next)
        })
    }

    pub(crate) fn set_weight(&self, name: &str, weight: NonZeroU32) -> Result<(), Error> {
        self.change_member(name, |member| member.settings.weight = weight).map(drop)
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

    /// Connects nodes that have to answer before they are published. On an error nothing stays open.
    async fn connect(&self, plans: Vec<NodePlan>) -> Result<Vec<Opened>, Error> {
        let settings = &self.writer.settings;
        let mut opened = connect_all(plans, FirstAnswer::Full, settings.connect_timeout, self.writer.clock).await?;
        if let Some(failure) = opened.iter_mut().find_map(|opened| opened.failure.take()) {
            for opened in &opened {
                close(&opened.member.node);
            }
            return Err(failure);
        }
        Ok(opened)
    }

    /// Refuses nodes that are no replicas of the present primary's cluster, and closes them all.
    async fn refuse_other_clusters(&self, opened: &[Opened]) -> Result<(), Error> {
        let topology = self.writer.cell().load_full();
        let samples = match topology.samples.newest() {
            Some(_) => topology.samples.clone(),
            // Without replicas nothing asks the primary.
            None => match self.ask_primary(&topology).await {
                Some(sample) => Samples::default().with(sample),
                None => return Ok(()),
            },
        };
        let foreign = opened.iter().find_map(|opened| match opened.member.observed.as_ref()?.position {
            Reported::At(ref position) if opened.member.is_foreign(position, &samples) => Some((opened, position)),
            _ => None,
        });
        let (Some((node, theirs)), Some(ours)) = (foreign, samples.newest()) else { return Ok(()) };
        let refusal = Error::new(Kind::OtherCluster {
            node: node.member.name().to_owned(),
            theirs: theirs.history(),
            ours: ours.position.history(),
        });
        for opened in opened {
            close(&opened.member.node);
        }
        Err(refusal)
    }

    /// The positions that the sessions of this connection may have written or read, of the members whose positions are
    /// believed: the present primary's, asked now if it answers, and those of replicas that are ahead of what was last
    /// known of the primary.
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

    /// Where the primary is now; `None` if it does not answer in time, has no position, or takes no writes any more.
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
        let asking = prober::ask_server(&*driver, &mut link, Role::Primary, Scope::Position);
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

/// An entry of a new list of replicas.
enum Place {
    Kept(NodeId, crate::topology::MemberSettings),
    Fresh,
}

impl Place {
    fn kept(&self) -> Option<NodeId> {
        match self {
            Self::Kept(id, _) => Some(*id),
            Self::Fresh => None,
        }
    }
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
