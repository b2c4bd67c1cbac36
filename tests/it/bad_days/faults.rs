//! The faults of the matrix, as data.

use std::time::Duration;

use super::{
    table::Promise,
    world::{Database, Wire},
};

/// The place of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Primary,
    /// `replica-0`, which both parties with replicas have.
    Replica,
    Everywhere,
}

impl Seat {
    /// The indices of the servers.
    pub(super) fn servers(self) -> &'static [usize] {
        match self {
            Self::Primary => &[0],
            Self::Replica => &[1],
            Self::Everywhere => &[0, 1, 2],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Everywhere => "all",
        }
    }
}

/// What is done to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// SIGKILL, and a start when the fault ends.
    Kill,
    /// SIGSTOP, and SIGCONT when the fault ends.
    Freeze,
    /// An orderly restart.
    Restart,
    /// Connections of other clients up to `max_connections`, after the sessions of the application were ended.
    Fill,
    /// A table that replicas do not have yet is read.
    NewTable,
    /// A column that replicas do not have yet is read.
    NewColumn,
    /// The result of a prepared statement changes.
    NewResult,
}

/// Whether the application writes in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writers {
    Some,
    /// A process that wrote, and lost the primary then, may not read what could be from before its write.
    None,
}

/// One line of the matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) deed: Deed,
    pub(super) seat: Seat,
    pub(super) databases: &'static [Database],
    pub(super) settings: &'static [(&'static str, &'static str)],
    pub(super) wire: Wire,
    /// At least so long a server is away; longer than any time-out of the library, shorter than the acquire time-out.
    pub(super) lasts: Duration,
    pub(super) writers: Writers,
    /// What the parties with replicas promise; one URL is always held against SeaORM alone.
    pub(super) promise: Promise,
    /// What a client without a pool meets on the server during the fault; empty where the deed shows by itself that
    /// it was done.
    pub(super) meets: &'static [&'static str],
}

impl Fault {
    /// The fault and its place, and whether nobody writes.
    pub(super) fn title(&self) -> String {
        let place = self.seat.name();
        match self.writers {
            Writers::Some => format!("{} ({place})", self.name),
            Writers::None => format!("{} ({place}, no writes)", self.name),
        }
    }
}

const BOTH: &[Database] = &[Database::Postgres, Database::MariaDb];
const POSTGRES: &[Database] = &[Database::Postgres];

/// Small, so that a test fills the server soon; enough for all parties of a cell.
const SMALL: &[(&str, &str)] = &[("max_connections", "70")];

const USUAL: Fault = Fault {
    name: "",
    deed: Deed::Kill,
    seat: Seat::Replica,
    databases: BOTH,
    settings: &[],
    wire: Wire::Direct,
    lasts: Duration::from_millis(1_600),
    writers: Writers::Some,
    promise: Promise::NoReadFails,
    meets: &[],
};

/// The primary is concerned, and a process that writes: its reads have to see what it wrote, which no replica is known
/// to have.
const PRIMARY: Fault = Fault { seat: Seat::Primary, promise: Promise::AsAlone, ..USUAL };

/// The primary is concerned, and no process writes: each replica has what a read wants.
const UNWRITTEN: Fault = Fault { seat: Seat::Primary, writers: Writers::None, ..USUAL };

pub(super) const FAULTS: &[Fault] = &[
    Fault { name: "killed", deed: Deed::Kill, meets: &["ConnectionRefused"], ..USUAL },
    Fault { name: "killed", deed: Deed::Kill, meets: &["ConnectionRefused"], ..PRIMARY },
    Fault { name: "killed", deed: Deed::Kill, meets: &["ConnectionRefused"], ..UNWRITTEN },
    Fault { name: "frozen", deed: Deed::Freeze, meets: &["silence"], ..USUAL },
    Fault { name: "frozen", deed: Deed::Freeze, meets: &["silence"], ..PRIMARY },
    Fault { name: "frozen", deed: Deed::Freeze, meets: &["silence"], ..UNWRITTEN },
    Fault { name: "restarted", deed: Deed::Restart, ..USUAL },
    Fault { name: "restarted", deed: Deed::Restart, ..PRIMARY },
    Fault { name: "restarted", deed: Deed::Restart, ..UNWRITTEN },
    // B1
    Fault { name: "full", deed: Deed::Fill, settings: SMALL, meets: &["53300", "1040"], ..USUAL },
    Fault { name: "full", deed: Deed::Fill, settings: SMALL, meets: &["53300", "1040"], ..PRIMARY },
    Fault { name: "full", deed: Deed::Fill, settings: SMALL, meets: &["53300", "1040"], ..UNWRITTEN },
    // B3: another process has migrated the primary. A write of this process would send its reads to the primary.
    Fault {
        name: "without a new table",
        deed: Deed::NewTable,
        writers: Writers::None,
        meets: &["42P01", "1146"],
        ..USUAL
    },
    Fault {
        name: "without a new column",
        deed: Deed::NewColumn,
        writers: Writers::None,
        meets: &["42703", "1054"],
        ..USUAL
    },
    // B13: the statement did not run; MariaDB's driver prepares it again by itself.
    Fault {
        name: "another result of a prepared read",
        deed: Deed::NewResult,
        seat: Seat::Everywhere,
        databases: POSTGRES,
        promise: Promise::NoReadOutsideTransactionsFails,
        ..USUAL
    },
];
