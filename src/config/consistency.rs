//! Which writes a read must see.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::duration;

/// Which writes a read must see.
///
/// | | sees the session's own writes | sees other writes of this process | may read from replicas |
/// |---|---|---|---|
/// | `Eventual` | no | no | always |
/// | `Session` | yes | no | when they have the session's writes |
/// | `Process` | yes | yes | when they have the process's writes |
/// | `BoundedStaleness(d)` | yes | those older than `d`, and other processes' too | when they have both |
/// | `Strong` | yes, and everybody's | yes | never |
///
/// In files and variables: `eventual`, `session`, `process`, `bounded_staleness(500ms)`, `strong`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Consistency {
    /// Any replica, however old. SeaORM's own read-back after a write without `RETURNING` still
    /// sees its row.
    Eventual,
    /// A session reads its own writes. The default: a program that changes one import must not
    /// start to miss rows it wrote.
    #[default]
    Session,
    /// A read sees every write this process has made: for loaders and job runners that spawn
    /// tasks after writing.
    Process,
    /// A read sees everything that anybody had been told is written this long ago, and its session's own
    /// writes. While it is used, nodes are probed at a third of the duration, if that is less than
    /// the probe interval. A replica without positions never serves such a read.
    BoundedStaleness(Duration),
    /// The primary's read-write connections only.
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
                None => Err(format!(
                    "`{other}` is not a consistency; use eventual, session, process, {BOUNDED}(500ms) or strong"
                )),
            },
        }
    }
}
