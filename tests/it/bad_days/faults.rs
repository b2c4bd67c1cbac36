//! The faults of the matrix, as data.

use std::time::Duration;

use super::{
    deeds::Deed,
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
    /// Settings of the servers.
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

const MARIADB: &[Database] = &[Database::MariaDb];
/// MySQL where the codes or the refusals are of its own.
const ALL: &[Database] = &[Database::Postgres, Database::MariaDb, Database::MySql];

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

/// All servers are concerned: nobody can do better than SeaORM alone.
const EVERYWHERE: Fault = Fault { seat: Seat::Everywhere, promise: Promise::AsAlone, ..USUAL };

/// Another process has migrated the primary. A write of this process would send its reads to the primary.
const MIGRATED: Fault = Fault { writers: Writers::None, promise: Promise::NoReadOutsideTransactionsFails, ..USUAL };

/// The network is the fault.
const WIRE: Fault = Fault { wire: Wire::Proxied, ..USUAL };

const SMALL_PACKETS: Deed =
    Deed::Set { to: &["SET GLOBAL max_allowed_packet = 16384"], back: &["SET GLOBAL max_allowed_packet = 16777216"] };
const SHORT_TIME: Deed = Deed::Set {
    to: &["ALTER SYSTEM SET statement_timeout = '15ms'", "SELECT pg_reload_conf()"],
    back: &["ALTER SYSTEM RESET statement_timeout", "SELECT pg_reload_conf()"],
};
const MADE_READ_ONLY: Deed = Deed::Set { to: &["SET GLOBAL read_only = 1"], back: &["SET GLOBAL read_only = 0"] };

const REFUSED: &[&str] = &["ConnectionRefused"];
const FULL: &[&str] = &["53300", "1040"];
const LOCKED: &[&str] = &["28000", "4151"];

#[rustfmt::skip]
pub(super) const FAULTS: &[Fault] = &[
    Fault { name: "killed", deed: Deed::Kill, meets: REFUSED, ..USUAL },
    Fault { name: "killed", deed: Deed::Kill, meets: REFUSED, ..PRIMARY },
    Fault { name: "killed", deed: Deed::Kill, meets: REFUSED, ..UNWRITTEN },
    Fault { name: "frozen", deed: Deed::Freeze, meets: &["silence"], ..USUAL },
    Fault { name: "frozen", deed: Deed::Freeze, meets: &["silence"], ..PRIMARY },
    Fault { name: "frozen", deed: Deed::Freeze, meets: &["silence"], ..UNWRITTEN },
    Fault { name: "restarted", deed: Deed::Restart, ..USUAL },
    Fault { name: "restarted", deed: Deed::Restart, ..PRIMARY },
    // B1
    Fault { name: "full", deed: Deed::Fill, databases: ALL, settings: SMALL, meets: FULL, ..USUAL },
    Fault { name: "full", deed: Deed::Fill, settings: SMALL, meets: FULL, ..PRIMARY },
    Fault { name: "full", deed: Deed::Fill, settings: SMALL, meets: FULL, ..UNWRITTEN },
    // An account: pg_hba.conf on one server, ALTER USER on MariaDB.
    Fault { name: "account refused", deed: Deed::RefuseAccount, meets: LOCKED, ..USUAL },
    Fault { name: "account refused", deed: Deed::RefuseAccount, meets: LOCKED, ..PRIMARY },
    Fault { name: "account refused", deed: Deed::RefuseAccount, meets: LOCKED, ..UNWRITTEN },
    Fault { name: "password changed", deed: Deed::ChangePassword, databases: POSTGRES, meets: &["28P01"], ..EVERYWHERE },
    Fault { name: "password changed", deed: Deed::ChangePassword, databases: MARIADB, meets: &["1045"], ..USUAL },
    // A standby of PostgreSQL has the databases of its primary.
    Fault { name: "database gone", deed: Deed::RemoveDatabase, databases: POSTGRES, meets: &["3D000"], ..EVERYWHERE },
    Fault { name: "database gone", deed: Deed::RemoveDatabase, databases: MARIADB, meets: &["1049"], writers: Writers::None, ..USUAL },
    // B3
    Fault { name: "without a new table", deed: Deed::NewTable, databases: ALL, meets: &["42P01", "1146"], ..MIGRATED },
    Fault { name: "without a new column", deed: Deed::NewColumn, meets: &["42703", "1054"], ..MIGRATED },
    Fault { name: "conflict with replay", deed: Deed::Conflict, databases: POSTGRES, settings: &[("max_standby_streaming_delay", "0")], promise: Promise::NoReadOutsideTransactionsFails, ..USUAL },
    Fault { name: "no room for sorts", deed: Deed::NoRoom, databases: POSTGRES, settings: &[("work_mem", "64kB")], meets: &["53100"], promise: Promise::NoReadOutsideTransactionsFails, ..USUAL },
    // B12: a standby refuses serializable transactions.
    Fault { name: "serializable by default", deed: Deed::Serializable, databases: POSTGRES, meets: &["0A000"], ..USUAL },
    // B13: the statement did not run; MariaDB's driver prepares it again by itself.
    Fault { name: "another result of a prepared read", deed: Deed::NewResult, databases: POSTGRES, promise: Promise::NoReadOutsideTransactionsFails, ..EVERYWHERE },
    // The primary's lock is gone, and the replica's is not.
    Fault { name: "a lock left behind", deed: Deed::Lock, databases: POSTGRES, meets: &["55P03"], promise: Promise::NoReadOutsideTransactionsFails, ..USUAL },
    Fault { name: "a lock left behind", deed: Deed::Lock, databases: MARIADB, settings: &[("lock_wait_timeout", "1")], meets: &["1205", "silence"], promise: Promise::NoReadOutsideTransactionsFails, ..USUAL },
    Fault { name: "smaller packets", deed: SMALL_PACKETS, databases: &[Database::MariaDb, Database::MySql], meets: &["1153"], promise: Promise::NoReadOutsideTransactionsFails, ..USUAL },
    Fault { name: "a short statement time-out", deed: SHORT_TIME, databases: POSTGRES, meets: &["57014"], promise: Promise::NoReadOutsideTransactionsFails, ..USUAL },
    Fault { name: "made read-only", deed: MADE_READ_ONLY, databases: MARIADB, ..PRIMARY },
    Fault { name: "one process crashed", deed: Deed::CrashOneProcess, databases: POSTGRES, ..USUAL },
    Fault { name: "one process crashed", deed: Deed::CrashOneProcess, databases: POSTGRES, ..PRIMARY },
    // The network.
    Fault { name: "black hole", deed: Deed::Swallow, meets: &["silence"], ..WIRE },
    Fault { name: "half-open connections", deed: Deed::Abandon, lasts: Duration::from_millis(3_000), ..WIRE },
    Fault { name: "cut in an answer", deed: Deed::Tear, ..WIRE },
    Fault { name: "20 ms slower", deed: Deed::Slow(Duration::from_millis(20)), meets: &["a late answer"], ..WIRE },
    Fault { name: "2 s slower", deed: Deed::Slow(Duration::from_secs(2)), meets: &["silence"], ..WIRE },
    // A pooler before the replica.
    Fault { name: "pooler full", deed: Deed::Fill, databases: POSTGRES, wire: Wire::Pooled, meets: &["08P01"], ..USUAL },
    Fault { name: "pooler restarted", deed: Deed::RestartPooler, databases: POSTGRES, wire: Wire::Pooled, ..USUAL },
];
