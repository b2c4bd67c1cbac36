//! A topology as a table for people, and as data for programs.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::{Health, Member, Role, Rotation, Topology, Unfit};

/// One line of the table; also what serde writes.
#[derive(Serialize)]
struct TableRow<'a> {
    name: &'a str,
    role: Role,
    state: MemberState,
    in_flight: u64,
    served_reads: u64,
    served_writes: u64,
    probes: u64,
    weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_us: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_bytes: Option<u64>,
    /// The mode of the pooling proxy in front of the node, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pooler: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<&'a str>,
    /// The reason that keeps the member out, where the state alone does not say enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The reason that keeps a member from taking reads, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum MemberState {
    Up,
    Down,
    Drained,
    WrongRole,
    Lagging,
    OtherCluster,
}

impl MemberState {
    fn of(member: &Member, configured: Role) -> Self {
        if member.rotation == Rotation::Drained {
            Self::Drained
        } else if member.health == Health::Down {
            Self::Down
        } else if member.settings.role_check == super::member::RoleCheck::On
            && member.observed_role().is_some_and(|role| role != configured)
        {
            Self::WrongRole
        } else if member.is_of_other_cluster() {
            Self::OtherCluster
        } else if member.lag.is_over {
            Self::Lagging
        } else {
            Self::Up
        }
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Drained => "drained",
            Self::WrongRole => "wrong role",
            Self::Lagging => "lagging",
            Self::OtherCluster => "other cluster",
        })
    }
}

impl<'a> TableRow<'a> {
    fn of(member: &'a Member, role: Role) -> Self {
        Self {
            name: member.name(),
            role,
            state: MemberState::of(member, role),
            in_flight: member.node.in_flight(),
            served_reads: member.node.served_reads(),
            served_writes: member.node.served_writes(),
            probes: member.node.probes(),
            weight: member.weight().get(),
            zone: member.zone(),
            tags: member.tags().collect(),
            observed_role: member.observed_role(),
            round_trip_us: member.round_trip().map(|round_trip| round_trip.as_micros()),
            lag_ms: member.if_up().and_then(Member::lag).map(|lag| lag.as_millis()),
            lag_bytes: member.if_up().and_then(Member::lag_bytes),
            pooler: member.pooler(),
            last_failure: member.last_failure(),
            reason: member.is_of_other_cluster().then(|| member.says(Unfit::OtherCluster)),
        }
    }
}

impl Topology {
    fn rows(&self) -> impl Iterator<Item = TableRow<'_>> {
        std::iter::once(TableRow::of(&self.primary, Role::Primary))
            .chain(self.replicas.iter().map(|replica| TableRow::of(replica, Role::Replica)))
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.members().map(|member| member.name().chars().count()).max().unwrap_or(0).max("name".len());
        writeln!(f, "{:width$}  role     state          in-flight  served reads  weight  lag", "name")?;
        for row in self.rows() {
            writeln!(
                f,
                "{:width$}  {:7}  {:13}  {:>9}  {:>12}  {:>6}  {}",
                row.name,
                row.role,
                row.state,
                row.in_flight,
                row.served_reads,
                row.weight,
                row.lag_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"))
            )?;
        }
        for row in self.rows() {
            if let Some(pooler) = row.pooler {
                writeln!(f, "{}: behind a pooler ({pooler})", row.name)?;
            }
            if let Some(reason) = row.reason {
                writeln!(f, "{}: {reason}", row.name)?;
            }
        }
        let share = self.primary_read_share * 100.0;
        write!(f, "{share:.0} % of the reads on the primary")
    }
}

impl Serialize for Topology {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Topology", 3)?;
        map.serialize_field("generation", &self.generation)?;
        map.serialize_field("primary_read_share", &self.primary_read_share)?;
        map.serialize_field("members", &self.rows().collect::<Vec<_>>())?;
        map.end()
    }
}
