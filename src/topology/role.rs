//! What a node is, by its configuration and by its own word.

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;

use super::{Reported, Stamp};

/// What a node does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes the writes.
    Primary,
    /// Repeats what the primary did.
    Replica,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

/// What a node said of itself when it was last asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    pub(crate) role: Role,
    /// Names one life of one server: it changes with a restart, and with another server behind
    /// the same address.
    pub(crate) incarnation: Arc<str>,
    pub(crate) position: Reported,
    pub(crate) round_trip: Duration,
    /// Taken before the question went out.
    pub(crate) asked: Stamp,
}
