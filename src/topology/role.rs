//! The role of a node, by its configuration and by its own answer.

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;

use super::{Reported, Stamp};

/// The part of a node in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes the writes.
    Primary,
    /// Replays the primary's writes.
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

/// A node's last answer about itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    pub(crate) role: Role,
    /// Names one life of one server. The name changes with a restart, and with another server behind the same
    /// address.
    pub(crate) incarnation: Arc<str>,
    pub(crate) position: Reported,
    pub(crate) round_trip: Duration,
    /// Taken before the question went out.
    pub(crate) asked: Stamp,
}
