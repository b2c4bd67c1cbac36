//! Every span, event and field name of the crate, in one place.
//!
//! Levels name the reader: `WARN` is for an operator who should act, `INFO` tells of an operator's change or a
//! node's state, `DEBUG` of reads that run again, `TRACE` of each statement. No event carries a URL, a value of a
//! statement or a password.

use std::{fmt, time::Duration};

use tracing::{Level, Span, debug, info, trace, trace_span, warn};

use crate::{
    driver::CredentialsEvent,
    routing::RouteDecision,
    topology::{Health, Member, MemberIndex, Role, RoleCheck, Topology, Unfit},
};

/// Whether a subscriber takes the spans of operations. Callers ask first: making a span without a subscriber costs
/// more than routing the statement.
pub(crate) fn wants_routes() -> bool {
    tracing::enabled!(target: "sea_orm_resolver::route", Level::TRACE)
}

/// The span of one operation on the node that was chosen for it. Fields: those of a
/// [`RouteDecision`](crate::RouteDecision).
pub(crate) fn route_span(decision: Option<&RouteDecision>) -> Span {
    let Some(decision) = decision else { return Span::none() };
    trace_span!(
        target: "sea_orm_resolver::route",
        "sea_orm_resolver.route",
        node = decision.node(),
        lag = decision.lag().map(tracing::field::debug),
        statement = decision.statement(),
        sessions = %decision.sessions(),
        intent = ?decision.intent(),
        reason = decision.reason().map(tracing::field::display),
        decided_by = decision.decided_by().map(tracing::field::debug),
        floor = decision.floor().map(tracing::field::display),
        generation = decision.generation(),
        primary_probability = decision.primary_probability(),
        candidates = ?decision.candidates(),
        rejected = ?decision.rejected(),
    )
}

/// A read runs again on another node. Fields: `node` (the node that failed), `fault`.
pub(crate) fn read_retried(node: &str, fault: impl fmt::Debug) {
    debug!(target: "sea_orm_resolver::route", node, ?fault, "read runs again on another node");
}

/// A read runs far longer than its like, and is started once more. Fields: `node` (the slow one), `other`, `after`.
pub(crate) fn read_hedged(node: &str, other: &str, after: Duration) {
    debug!(target: "sea_orm_resolver::route", node, other, ?after, "read runs far too long and is started once more");
}

/// A server refused a statement that looked like a read, for the first time in ten minutes. Fields: `node`,
/// `refusal`, `statement` (without its values).
pub(crate) fn refused(node: &str, refusal: impl fmt::Debug, statement: &str) {
    warn!(
        target: "sea_orm_resolver::route", node, ?refusal, statement,
        "a server refused to run this as a read; statements of its shape go to the primary for ten minutes"
    );
}

/// A read that a server refused runs on the primary. Fields: `node` (the node that refused).
pub(crate) fn read_overruled(node: &str) {
    debug!(target: "sea_orm_resolver::route", node, "refused as a read, runs on the primary");
}

/// A replica lacks a table, a column, a function or a grant that the primary has; the primary serves the read. Fields:
/// `node`, `statement` (without its values).
pub(crate) fn behind_in_schema(node: &str, statement: &str) {
    debug!(target: "sea_orm_resolver::route", node, statement, "the replica is behind in schema, the primary serves the read");
}

/// The database listed its user functions, and the list has changed. Fields: `functions`.
pub(crate) fn functions_listed(functions: usize) {
    debug!(target: "sea_orm_resolver::route", functions, "user functions are known");
}

/// The database did not list its user functions: calls of them go to the primary. Fields: `why`.
pub(crate) fn functions_not_listed(why: impl fmt::Display) {
    warn!(target: "sea_orm_resolver::route", %why, "the user functions could not be listed; calls of them go to the primary");
}

/// A read found no eligible node and waits for a change. Fields: `generation`.
pub(crate) fn read_waits(generation: u64) {
    trace!(target: "sea_orm_resolver::route", generation, "no eligible node, waiting for a change");
}

/// An operation met a connectivity error. Fields: `node`, `fault`.
pub(crate) fn suspected(node: &str, fault: impl fmt::Debug) {
    warn!(target: "sea_orm_resolver::health", node, ?fault, "node suspected");
}

/// On a new connection another server answered than the one believed to be at the address, or the same server with
/// less data than before. Fields: `node`.
pub(crate) fn unexpected_server(node: &str) {
    debug!(target: "sea_orm_resolver::health", node, "another server life answers on a new connection");
}

/// A server does not tell its position: sessions keep to the primary for a time instead. Fields: `node`, `why`.
pub(crate) fn positions_not_told(node: &str, why: impl fmt::Display) {
    warn!(target: "sea_orm_resolver::health", node, %why, "the node does not tell its position; sessions go by time there");
}

/// A replica fell too far behind, or caught up again. Fields: `node`, `lag`, `bytes`.
pub(crate) fn lag_changed(node: &str, is_over: bool, lag: Option<Duration>, bytes: Option<u64>) {
    if is_over {
        warn!(target: "sea_orm_resolver::health", node, ?lag, bytes, "replica is too far behind and takes no reads");
    } else {
        info!(target: "sea_orm_resolver::health", node, ?lag, bytes, "replica has caught up");
    }
}

/// Plain reads wait for replicas, or go to the primary, because other tasks of this process write; said once in ten minutes.
pub(crate) fn writes_delay_reads() {
    info!(
        target: "sea_orm_resolver::route",
        "plain reads wait for replicas or go to the primary, because other tasks of this process write more than the \
         replicas can be known to have; a session for each request or job, `CausalLayer`, or `Consistency::Eventual` for \
         reads that may be stale makes them independent"
    );
}

/// A replica belongs to another cluster than the primary. Fields: `node`, `why`, `primary`.
pub(crate) fn other_cluster(node: &str, why: impl fmt::Display, topology: &Topology) {
    let primary = topology.samples.newest().map(|newest| newest.position.history());
    warn!(target: "sea_orm_resolver::health", node, %why, primary, "replica of another cluster takes no reads");
}

/// The primary was swapped for a server that lacks data, as the caller allowed. Fields: `node`, `missing`.
pub(crate) fn writes_given_up(node: &str, missing: impl fmt::Display) {
    warn!(target: "sea_orm_resolver::topology", node, %missing, "the new primary lacks writes, which are lost");
}

/// The primary was swapped for a server whose position could not be compared. Fields: `node`.
pub(crate) fn primary_not_compared(node: &str) {
    warn!(target: "sea_orm_resolver::topology", node, "it is not known whether the new primary has all writes of the one before");
}

/// A causal token cannot be compared here: its session reads from the primary. Said once in ten minutes, as all events
/// that a client can cause. Fields: `why`, `suppressed` (the events that were not said since the last one).
pub(crate) fn token_unrelated(why: &str, suppressed: u64) {
    warn!(
        target: "sea_orm_resolver::route", why, suppressed,
        "a causal token cannot be compared; its session reads from the primary"
    );
}

/// A causal token is ahead of everything that the primary has. Once in ten minutes. Fields: `suppressed`.
pub(crate) fn token_beyond(suppressed: u64) {
    warn!(
        target: "sea_orm_resolver::route", suppressed,
        "a causal token is beyond everything that the primary has: it was made up, or a failover lost its writes; \
         its session sees what the primary has"
    );
}

/// A request brought a text that is no causal token: the request is served as if it had brought none. The text is a
/// client's own and is not shown. Once in ten minutes. Fields: `carrier` (`header` or `cookie`), `bytes`, `suppressed`.
#[cfg(feature = "tower")]
pub(crate) fn token_ignored(carrier: &str, bytes: usize, suppressed: u64) {
    debug!(target: "sea_orm_resolver::route", carrier, bytes, suppressed, "a request brought no readable causal token");
}

/// A request brought more tokens, or longer ones, than are read. Once in ten minutes. Fields: `suppressed`.
#[cfg(feature = "tower")]
pub(crate) fn tokens_over_limit(suppressed: u64) {
    debug!(target: "sea_orm_resolver::route", suppressed, "a request brought more causal tokens than are read");
}

/// A request wrote, and the primary's position could not be learned. Once in ten minutes. Fields: `why`, `suppressed`.
#[cfg(feature = "tower")]
pub(crate) fn token_not_made(why: impl fmt::Display, suppressed: u64) {
    warn!(
        target: "sea_orm_resolver::route", %why, suppressed,
        "no position for the causal token of a request; its client reads from the primary until it has another"
    );
}

/// With `eventual` a read ran on a replica that is not known to have the writes of the read's own session (only
/// with `report_stale_reads`). Fields: `node`, `statement` (without its values), `floor`.
pub(crate) fn read_behind_session(node: &str, statement: Option<&str>, floor: impl fmt::Display) {
    warn!(
        target: "sea_orm_resolver::route", node, statement, %floor,
        "this read may miss what its session wrote: it ran under `eventual`"
    );
}

/// The differences between one snapshot and the next: states, roles, incarnations and weights of members, and the
/// primary's share of the reads. Fields: `node` and the new values of that node; for the share, `share`.
pub(crate) fn published(before: &Topology, after: &Topology) {
    let share = after.primary_read_share;
    if before.primary_read_share.to_bits() != share.to_bits() {
        info!(target: "sea_orm_resolver::topology", share, generation = after.generation(), "primary's share of the reads changed");
    }
    let known = MemberIndex::new(before);
    for (place, member) in after.members().enumerate() {
        let name = member.name();
        let Some(known) = known.find(place, member.node.id()) else {
            info!(target: "sea_orm_resolver::topology", node = name, generation = after.generation(), "member joined");
            if let Some(role) = contradicted(after, member) {
                role_contradicts(name, role);
            }
            continue;
        };
        match (known.health(), member.health()) {
            (Health::Up, Health::Down) => {
                let why = member.last_failure().unwrap_or("unknown");
                warn!(target: "sea_orm_resolver::health", node = name, why, "node is down");
            }
            (Health::Down, Health::Up) => info!(target: "sea_orm_resolver::health", node = name, "node is up"),
            _ => {}
        }
        if known.observed_role() != member.observed_role()
            && let Some(role) = member.observed_role()
        {
            info!(target: "sea_orm_resolver::health", node = name, %role, "node says what it is");
        }
        if let Some(role) = contradicted(after, member).filter(|_| contradicted(before, known).is_none()) {
            role_contradicts(name, role);
        }
        if let (Some(old), Some(new)) = (known.incarnation(), member.incarnation())
            && old != new
        {
            warn!(target: "sea_orm_resolver::health", node = name, "another server life answers here (restart?)");
        }
        match (known.ejection.cause(), member.ejection.cause()) {
            (None, Some(why)) => {
                warn!(target: "sea_orm_resolver::health", node = name, %why, "node is ejected for a while");
            }
            (Some(_), None) => info!(target: "sea_orm_resolver::health", node = name, "node takes reads again"),
            _ => {}
        }
        if known.lag.is_over != member.lag.is_over {
            lag_changed(name, member.lag.is_over, member.lag(), member.lag_bytes());
        }
        if !known.is_of_other_cluster() && member.is_of_other_cluster() {
            other_cluster(member.name(), member.says(Unfit::OtherCluster), after);
        }
        if !known.lives.is_shared() && member.lives.is_shared() {
            warn!(target: "sea_orm_resolver::health", node = name, "two servers answer at this address; sessions go by time there");
        }
        if known.rotation() != member.rotation() {
            info!(target: "sea_orm_resolver::topology", node = name, rotation = ?member.rotation(), "rotation changed");
        }
        if known.weight() != member.weight() {
            info!(target: "sea_orm_resolver::topology", node = name, weight = member.weight().get(), "weight changed");
        }
    }
    let present = MemberIndex::new(after);
    for (place, member) in before.members().enumerate() {
        if present.find(place, member.node.id()).is_none() {
            info!(target: "sea_orm_resolver::topology", node = member.name(), generation = after.generation(), "member left");
        }
    }
}

/// The numbers of each member after a publication, which follows every probe: for the metrics layer of
/// `tracing-opentelemetry`, which makes instruments of fields that begin with `gauge.`. Fields: `node`,
/// `gauge.sea_orm_resolver_up` (1 or 0), `gauge.sea_orm_resolver_in_flight`, and of a member that is up, where they are known,
/// `gauge.sea_orm_resolver_lag_ms` and `gauge.sea_orm_resolver_lag_bytes`.
pub(crate) fn numbers(topology: &Topology) {
    if !tracing::enabled!(target: "sea_orm_resolver::metrics", Level::TRACE) {
        return;
    }
    for member in topology.members() {
        trace!(
            target: "sea_orm_resolver::metrics",
            node = member.name(),
            gauge.sea_orm_resolver_up = u64::from(member.health() == Health::Up),
            gauge.sea_orm_resolver_in_flight = member.node().in_flight(),
            gauge.sea_orm_resolver_lag_ms =
                member.lag().map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            gauge.sea_orm_resolver_lag_bytes = member.lag_bytes(),
            "numbers of a member"
        );
    }
}

/// A member could not be connected and stays a member that is down. Fields: `node`, `why`.
pub(crate) fn down_at_start(node: &str, why: impl fmt::Display) {
    warn!(target: "sea_orm_resolver::health", node, %why, "node is down at the start; it is tried again");
}

/// A connection was made. Fields: `primary` and `replicas` (names), `down` (the names of members that did not answer),
/// `share` (the primary's share of the reads).
pub(crate) fn connected(topology: &Topology) {
    let names = |members: &mut dyn Iterator<Item = &Member>| members.map(Member::name).collect::<Vec<_>>().join(", ");
    info!(
        target: "sea_orm_resolver::topology",
        primary = topology.primary.name(),
        replicas = names(&mut topology.replicas.iter()),
        down = names(&mut topology.members().filter(|member| member.health() == Health::Down)),
        share = topology.primary_read_share,
        "connected"
    );
    for member in topology.members() {
        if let Some(role) = contradicted(topology, member) {
            role_contradicts(member.name(), role);
        }
    }
}

/// The role that a member reports, where that is another than the topology gives the member.
fn contradicted(topology: &Topology, member: &Member) -> Option<Role> {
    let role = member.observed_role().filter(|_| member.settings.role_check == RoleCheck::On)?;
    (role != topology.configured_role(member.node.id())).then_some(role)
}

/// A node reports another role than the configuration gives the node, and takes no reads; said once until the roles
/// agree again. Fields: `node`, `role` (the one that the node reports).
fn role_contradicts(node: &str, role: Role) {
    warn!(target: "sea_orm_resolver::health", node, %role, "wrong role: the node says that it is another than its configuration says, and takes no reads");
}

/// A setting of a node's sessions was refused or ignored, so no setting is sent there any more; said once for a node.
/// Fields: `node`, `how`.
pub(crate) fn settings_lost(node: &str, how: impl fmt::Debug) {
    warn!(
        target: "sea_orm_resolver::topology", node, ?how,
        "the settings of read sessions were refused or ignored (a pooling proxy, or a hook?): no setting is sent to this \
         node any more, neither `statement_timeout`. A standby refuses writes by itself; elsewhere each read runs in a \
         READ ONLY transaction. `NodeConfig::pooler` says it beforehand"
    );
}

/// News of the credentials of a node: the next connections have others (DEBUG); the hook or the file gave none, said once
/// until it gives some again. Fields: `node`, `why` (never the text of the hook's error).
pub(crate) fn credentials(node: &str, event: CredentialsEvent<'_>) {
    match event {
        CredentialsEvent::Changed => {
            debug!(target: "sea_orm_resolver::topology", node, "the next connections have new credentials");
        }
        CredentialsEvent::Failed(why) => warn!(
            target: "sea_orm_resolver::topology", node, %why,
            "the source of the credentials gave none; valid ones of before stay in use"
        ),
        CredentialsEvent::Recovered => {
            info!(target: "sea_orm_resolver::topology", node, "the source of the credentials gives some again");
        }
    }
}

/// Operations still ran on a node when its drain time-out passed. Fields: `node`, `in_flight`.
pub(crate) fn drain_timed_out(node: &str, in_flight: u64, after: Duration) {
    warn!(target: "sea_orm_resolver::topology", node, in_flight, ?after, "operations still run on a drained node");
}

/// The monitor task panicked and is started again.
pub(crate) fn monitor_panicked() {
    tracing::error!(target: "sea_orm_resolver::monitor", "the monitor panicked; it is started again");
}

/// The driver of a node panicked while it was probed. Fields: `node`.
pub(crate) fn probe_panicked(node: &str) {
    tracing::error!(target: "sea_orm_resolver::monitor", node, "the driver panicked in a probe; the probe failed");
}
