//! Which writes a read must see.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::duration;

/// Which writes a read must see.
///
/// | | on plain `db`, a read sees | in an explicit session, a read sees |
/// |---|---|---|
/// | `Eventual` | the state of the replica that serves it | the same |
/// | `Session` | every acknowledged write of the process | what the session wrote and read |
/// | `Process` | as `Session` | what the session wrote and read, and every acknowledged write of the process |
/// | `BoundedStaleness(d)` | all writes older than `d`, of every process; no process floor | the same, and what the session wrote and read |
/// | `Strong` | all writes: the primary serves it | all writes: the primary serves it |
///
/// Under all but `Strong` a replica serves the read when the replica is known to have what the read must see.
///
/// # Example
/// ```
/// # use std::time::Duration;
/// use sea_orm_resolver::{Consistency, DatabaseConnection};
///
/// # let db = DatabaseConnection::default();
/// let dashboard = db.with_consistency(Consistency::BoundedStaleness(Duration::from_secs(2)));
/// assert_eq!(dashboard.consistency().to_string(), "bounded_staleness(2s)");
/// assert_eq!("bounded_staleness(2s)".parse(), Ok(dashboard.consistency()));
/// ```
///
/// In files and variables: `eventual`, `session`, `process`, `bounded_staleness(500ms)`, `strong`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Consistency {
    /// Any replica, however old. SeaORM's own read-back after a write without `RETURNING` still
    /// sees its row.
    Eventual,
    /// Plain `db` sees every acknowledged write of its process; an explicit session sees what the session wrote and read. The
    /// default: a program that changes its imports must not start to miss rows it wrote.
    #[default]
    Session,
    /// As `Session`, and an explicit session also sees every acknowledged write of its process.
    Process,
    /// A read sees every write that was acknowledged this long ago, by whichever process, and in an explicit session what the
    /// session wrote and read. Plain `db` takes no process floor: its read may miss newer writes of its own process. While the
    /// bound is used, nodes are probed at a third of the duration, if that is less than the probe interval. A replica without
    /// positions never serves such a read.
    BoundedStaleness(Duration),
    /// The primary only, on its read-write connections (`db.read()`: on its read-only ones).
    Strong,
}

const BOUNDED: &str = "bounded_staleness";

impl TryFrom<String> for Consistency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Consistency> for String {
    fn from(consistency: Consistency) -> Self {
        consistency.to_string()
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Eventual => "eventual",
            Self::Session => "session",
            Self::Process => "process",
            Self::BoundedStaleness(within) => {
                return f.pad(&format!("{BOUNDED}({})", humantime::format_duration(*within)));
            }
            Self::Strong => "strong",
        })
    }
}

impl FromStr for Consistency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "eventual" => Ok(Self::Eventual),
            "session" => Ok(Self::Session),
            "process" => Ok(Self::Process),
            "strong" => Ok(Self::Strong),
            other => match other.strip_prefix(BOUNDED).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')')) {
                Some(within) => duration::parse(within).map(Self::BoundedStaleness),
                None => Err(format!("not a consistency; use eventual, session, process, {BOUNDED}(500ms) or strong")),
            },
        }
    }
}
