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
    /// The reason that keeps the member out, where the state alone does not say enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The reason that keeps a member from taking reads, or from taking its full share, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum MemberState {
    Up,
    Down,
    Drained,
    WrongRole,
    Lagging,
    OtherCluster,
    Ejected,
    SlowStart,
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
        } else if member.ejection.cause().is_some() {
            Self::Ejected
        } else if member.slow_start.is_on() {
            Self::SlowStart
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
            Self::Ejected => "ejected",
            Self::SlowStart => "slow start",
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
            lag_ms: member.lag().map(|lag| lag.as_millis()),
            lag_bytes: member.lag_bytes(),
            pooler: member.pooler(),
            reason: if member.is_of_other_cluster() {
                Some(member.says(Unfit::OtherCluster))
            } else {
                member.ejection.cause().map(|cause| cause.to_string())
            },
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
        serialize(self, self.rows().collect::<Vec<_>>(), serializer)
    }
}

fn serialize<S: Serializer>(topology: &Topology, members: impl Serialize, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_struct("Topology", 3)?;
    map.serialize_field("generation", &topology.generation)?;
    map.serialize_field("primary_read_share", &topology.primary_read_share)?;
    map.serialize_field("members", &members)?;
    map.end()
}

/// A topology with what only operators should see; made by [`Topology::for_operators`].
#[derive(Clone, Copy, Debug)]
pub struct OperatorView<'a>(&'a Topology);

impl Topology {
    /// The same document for operators: serde also writes the reason of each member's last failure, in the words of the
    /// driver, which name hosts, users and databases. Serve it on no listener that clients reach.
    ///
    /// # Example
    /// ```
    /// # fn main() -> Result<(), serde_json::Error> {
    /// # let db = sea_orm_resolver::DatabaseConnection::default();
    /// let report = serde_json::to_string(&db.topology().for_operators())?;
    /// # let _ = report;
    /// # Ok(()) }
    /// ```
    pub fn for_operators(&self) -> OperatorView<'_> {
        OperatorView(self)
    }
}

impl Serialize for OperatorView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row<'a> {
            #[serde(flatten)]
            row: TableRow<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            last_failure: Option<&'a str>,
        }
        let failures = self.0.members().map(Member::last_failure);
        let rows = self.0.rows().zip(failures).map(|(row, last_failure)| Row { row, last_failure });
        serialize(self.0, rows.collect::<Vec<_>>(), serializer)
    }
}
