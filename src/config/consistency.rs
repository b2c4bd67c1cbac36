//! Which writes a read must see.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Which writes a read must see.
///
/// | | sees the session's own writes | sees other writes of this process | may read from replicas |
/// |---|---|---|---|
/// | `Eventual` | no | no | always |
/// | `Session` | yes | no | when they have the session's writes |
/// | `Process` | yes | yes | when they have the process's writes |
/// | `Strong` | yes, and everybody's | yes | never |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// The primary's read-write connections only.
    Strong,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Eventual => "eventual",
            Self::Session => "session",
            Self::Process => "process",
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
            other => Err(format!("`{other}` is not a consistency; use eventual, session, process or strong")),
        }
    }
}
