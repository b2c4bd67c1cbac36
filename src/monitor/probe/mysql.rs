//! MySQL and MariaDB.

use sea_orm::{DbErr, QueryResult};

use super::Answer;
use crate::topology::Role;

/// `read_only` is the only sign of a replica that an ordinary user may read on both. Server id,
/// host and port name the server (MariaDB has no `server_uuid`); a restart of it shows as a
/// broken probe connection.
pub(super) const QUESTION: &str = "SELECT CAST(@@global.read_only AS CHAR) AS read_only, \
     CONCAT(@@global.server_id, '@', @@global.hostname, ':', @@global.port) AS incarnation";

pub(super) fn read_answer(row: &QueryResult) -> Result<Answer, DbErr> {
    // MySQL says 0 or 1, MariaDB OFF, ON, or (from 12 on) which kind of ON.
    let read_only: String = row.try_get("", "read_only")?;
    Ok(Answer {
        role: if matches!(read_only.as_str(), "0" | "OFF") { Role::Primary } else { Role::Replica },
        incarnation: row.try_get("", "incarnation")?,
    })
}
