//! MySQL and MariaDB.

use std::sync::Arc;

use sea_orm::{DbErr, QueryResult};

use super::{Answer, nonsense, text};
use crate::topology::{DomainPositions, GtidSet, Position, Reported, Role};

/// `read_only` is the only sign of a replica that an ordinary user may read on both.
///
/// One text for both: MySQL runs what stands in `/*!50708 */` and passes over `/*M! */`, MariaDB the other
/// way round. Server id, host and port name the server (MariaDB has no `server_uuid`), the second it was
/// started names one life of it: the statement's time less the uptime, which both servers compute from that
/// same time, so that the difference does not waver. The binary log's position is the primary's, the
/// replicated one the replica's; MySQL has one set for both.
pub(super) const QUESTION: &str = "SELECT CAST(@@global.read_only AS CHAR) AS read_only, \
     CONCAT(@@global.server_id, '@', @@global.hostname, ':', @@global.port, '@', UNIX_TIMESTAMP() - (\
     /*!50708 SELECT VARIABLE_VALUE FROM performance_schema.global_status */\
     /*M!100000 SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS */ \
     WHERE VARIABLE_NAME = 'Uptime')) AS incarnation, \
     CAST(/*!50708 @@global.gtid_executed */ /*M!100000 NULL */ AS CHAR) AS gtid_executed, \
     CAST(/*!50708 NULL */ /*M!100000 @@global.gtid_binlog_pos */ AS CHAR) AS gtid_binlog_pos, \
     CAST(/*!50708 NULL */ /*M!100000 @@global.gtid_binlog_state */ AS CHAR) AS gtid_binlog_state, \
     CAST(/*!50708 NULL */ /*M!100000 @@global.gtid_slave_pos */ AS CHAR) AS gtid_slave_pos";

/// Without what proxies and look-alikes do not know. A restart shows as a broken probe connection.
pub(super) const IDENTITY: &str = "SELECT CAST(@@global.read_only AS CHAR) AS read_only, \
     CONCAT(@@global.server_id, '@', @@global.hostname, ':', @@global.port) AS incarnation";

pub(super) fn read_answer(configured: Role, row: &QueryResult) -> Result<Answer, DbErr> {
    // MySQL says 0 or 1, MariaDB OFF, ON, or (from 12 on) which kind of ON.
    let read_only: String = row.try_get("", "read_only")?;
    Ok(Answer {
        role: if matches!(read_only.as_str(), "0" | "OFF") { Role::Primary } else { Role::Replica },
        incarnation: row.try_get("", "incarnation")?,
        position: position(configured, row)?.map_or(Reported::Nothing, |position| Reported::At(Arc::new(position))),
    })
}

/// An empty position is none: the binary log, or the GTIDs, are off.
fn position(configured: Role, row: &QueryResult) -> Result<Option<Position>, DbErr> {
    let named = |column| text(row, column).filter(|text| !text.trim().is_empty());
    if let Some(executed) = named("gtid_executed") {
        let set: GtidSet = executed.parse().map_err(|problem| nonsense("gtid_executed", problem))?;
        return Ok(Some(Position::GtidSet(set)));
    }
    let column = match configured {
        Role::Primary => "gtid_binlog_pos",
        Role::Replica => "gtid_slave_pos",
    };
    let Some(last) = named(column) else { return Ok(None) };
    let domains: DomainPositions = last.parse().map_err(|problem| nonsense(column, problem))?;
    // A replica writes its binary log before it commits, so its log says nothing of what can be read there.
    match named("gtid_binlog_state").filter(|_| configured == Role::Primary) {
        Some(state) => domains.with_history(&state).map_err(|problem| nonsense("gtid_binlog_state", problem)),
        None => Ok(domains),
    }
    .map(|domains| Some(Position::Domains(domains)))
}
