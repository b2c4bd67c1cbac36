//! SQLite's result codes that prove more than "the statement is wrong". Source: the list of SQLite's result codes; the
//! low byte of an extended code is the primary code.

use super::Fault;

pub(super) const CODES: &[(u32, Fault, &str)] = &[
    (7, Fault::Unsettled, "SQLITE_NOMEM"),
    (10, Fault::Unsettled, "SQLITE_IOERR: the file cannot be read"),
    (11, Fault::Unsettled, "SQLITE_CORRUPT: a damaged file"),
    (13, Fault::Unsettled, "SQLITE_FULL: the disk is full"),
    (14, Fault::Unsettled, "SQLITE_CANTOPEN: the file cannot be opened"),
    (26, Fault::Unsettled, "SQLITE_NOTADB: a damaged file"),
];

/// `SQLITE_READONLY` as under `query_only`. Its extended codes mean a file that cannot be written.
pub(super) const READ_ONLY: u32 = 8;
