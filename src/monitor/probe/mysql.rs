//! MySQL and MariaDB.

use std::sync::Arc;

use sea_orm::{DbErr, QueryResult};

use super::{Answer, nonsense, text};
use crate::topology::{DomainPositions, GtidSet, Position, Reported, Role};

/// `read_only` is the only sign of a replica that an ordinary user may read on both.
///
/// One text for both: MySQL runs the text in `/*!50708 */` and skips `/*M! */`, MariaDB the other way round. Server
/// id, host and port name the server (MariaDB has no `server_uuid`). The second in which the server was started
/// names one life of it: the statement's time less the uptime, which both servers compute from that same time, so
/// that the difference does not waver. The binary log's position is the primary's, the replicated one the
/// replica's; MySQL has one set for both.
///
/// A MySQL server that gives its transactions no GTIDs still has the set of the transactions that came with one.
/// That set stands still, so replicas would seem to have everything for ever. So the question reports no set
/// without GTIDs, and none for a server that takes writes without a binary log, because such writes have no GTIDs.
/// (A replica needs no log.) Without a binary log MariaDB has no position either.
pub(super) const QUESTION: &str = "SELECT CAST(@@global.read_only AS CHAR) AS read_only, \
     CONCAT(@@global.server_id, '@', @@global.hostname, ':', @@global.port, '@', UNIX_TIMESTAMP() - (\
     /*!50708 SELECT VARIABLE_VALUE FROM performance_schema.global_status */\
     /*M!100000 SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS */ \
     WHERE VARIABLE_NAME = 'Uptime')) AS incarnation, \
     CAST(/*!50708 IF(@@global.gtid_mode LIKE 'ON%' AND (@@global.log_bin OR @@global.read_only), \
     @@global.gtid_executed, NULL) */ /*M!100000 NULL */ AS CHAR) AS gtid_executed, \
     CAST(/*!50708 NULL */ /*M!100000 IF(@@global.log_bin, @@global.gtid_binlog_pos, NULL) */ AS CHAR) \
     AS gtid_binlog_pos, \
     CAST(/*!50708 NULL */ /*M!100000 @@global.gtid_binlog_state */ AS CHAR) AS gtid_binlog_state, \
     CAST(/*!50708 NULL */ /*M!100000 @@global.gtid_slave_pos */ AS CHAR) AS gtid_slave_pos";

/// The question without the parts that proxies and look-alikes do not know. A restart shows as a broken probe
/// connection.
pub(super) const IDENTITY: &str = "SELECT CAST(@@global.read_only AS CHAR) AS read_only, \
     CONCAT(@@global.server_id, '@', @@global.hostname, ':', @@global.port) AS incarnation";

pub(super) fn read_answer(configured: Role, row: &QueryResult) -> Result<Answer, DbErr> {
    // MySQL says 0 or 1, MariaDB OFF, ON, or (from 12 on) which kind of ON.
    let read_only: String = row.try_get("", "read_only")?;
    let role = if matches!(read_only.as_str(), "0" | "OFF") { Role::Primary } else { Role::Replica };
    let position = position(configured, role, row)?;
    Ok(Answer {
        role,
        incarnation: row.try_get("", "incarnation")?,
        position: position.map_or(Reported::Nothing, |position| Reported::At(Arc::new(position))),
    })
}

/// An empty position is a position, too: the server has no transaction yet. The first transaction changes that
/// before the next question, and a replica is behind until it has replayed that transaction. Only a server that
/// takes writes and is not replicated to by GTID, such as a node of a Galera cluster, has no position.
fn position(configured: Role, role: Role, row: &QueryResult) -> Result<Option<Position>, DbErr> {
    if let Some(executed) = text(row, "gtid_executed") {
        let set: GtidSet = executed.parse().map_err(|problem| nonsense("gtid_executed", problem))?;
        return Ok(Some(Position::GtidSet(set)));
    }
    let column = match configured {
        Role::Primary => "gtid_binlog_pos",
        Role::Replica => "gtid_slave_pos",
    };
    let Some(last) = text(row, column) else { return Ok(None) };
    let domains: DomainPositions = last.parse().map_err(|problem| nonsense(column, problem))?;
    if domains.is_empty() && configured == Role::Replica && role == Role::Primary {
        return Ok(None);
    }
    // A replica writes its binary log before it commits, so its log does not tell which rows can be read.
    match text(row, "gtid_binlog_state").filter(|_| configured == Role::Primary) {
        Some(state) => {
            let logged = domains.with_history(&state).map_err(|problem| nonsense("gtid_binlog_state", problem))?;
            let replicated = text(row, "gtid_slave_pos").unwrap_or_default();
            logged.with_replicated(&replicated).map_err(|problem| nonsense("gtid_slave_pos", problem))
        }
        None => Ok(domains),
    }
    .map(|domains| Some(Position::Domains(domains)))
}

/// Answers of servers to the question, on the day this was written.
#[cfg(test)]
mod tests {
    use sea_orm::DbBackend;

    use super::{
        super::fixture::{Columns, understood, with},
        *,
    };

    const fn mysql<'a>(
        read_only: &'a str,
        server: &'a str,
        executed: Option<&'a str>,
    ) -> [(&'a str, Option<&'a str>); 6] {
        [
            ("read_only", Some(read_only)),
            ("incarnation", Some(server)),
            ("gtid_executed", executed),
            ("gtid_binlog_pos", None),
            ("gtid_binlog_state", None),
            ("gtid_slave_pos", None),
        ]
    }

    /// `logged` is the last transaction in the binary log, and all of the log's history.
    const fn mariadb<'a>(
        read_only: &'a str,
        server: &'a str,
        logged: Option<&'a str>,
        replicated: &'a str,
    ) -> [(&'a str, Option<&'a str>); 6] {
        let state = if logged.is_some() { logged } else { Some("") };
        [
            ("read_only", Some(read_only)),
            ("incarnation", Some(server)),
            ("gtid_executed", None),
            ("gtid_binlog_pos", logged),
            ("gtid_binlog_state", state),
            ("gtid_slave_pos", Some(replicated)),
        ]
    }

    const MYSQL_PRIMARY: Columns<'_> = &mysql(
        "0",
        "33500@vm:33500@1795321178",
        // Tags, transactions of two other servers, and a line end.
        Some("0a8ccbf7-e62b-11f1-8cf6-02fc00000001:5:9,\nee8ccbf7-e62b-11f1-8cf6-02fc00000001:1-4:a1:1:blue_tag:1"),
    );
    const MYSQL_REPLICA: Columns<'_> =
        &mysql("1", "33501@vm:33501@1795321178", Some("ee8ccbf7-e62b-11f1-8cf6-02fc00000001:1-4"));
    /// With `gtid_mode=OFF_PERMISSIVE`, with `OFF`, and with `ON` and `disable_log_bin`: all three still had a set.
    const MYSQL_WITHOUT_GTIDS: Columns<'_> = &mysql("0", "33500@vm:33500@1795321178", None);
    const MARIADB_PRIMARY: Columns<'_> = &mariadb("OFF", "14256@vm:14256@1795321492", Some("0-14256-1"), "");
    const MARIADB_REPLICA: Columns<'_> = &mariadb("ON", "24578@vm:24578@1795321492", Some("0-14256-1"), "0-14256-1");
    /// A server with `skip_log_bin`.
    const MARIADB_WITHOUT_A_LOG: Columns<'_> = &mariadb("OFF", "24578@vm:24578@1795321492", None, "");

    async fn answer(configured: Role, columns: Columns<'_>) -> Answer {
        understood(DbBackend::MySql, configured, columns).await.expect("a server said so")
    }

    async fn position(configured: Role, columns: Columns<'_>) -> Option<Position> {
        match answer(configured, columns).await.position {
            Reported::At(position) => Some((*position).clone()),
            Reported::Nothing => None,
            Reported::Unknown => panic!("these servers always know"),
        }
    }

    fn set(text: &str) -> Option<Position> {
        Some(Position::GtidSet(text.parse().expect("a set")))
    }

    fn domains(text: &str) -> Option<Position> {
        Some(Position::Domains(text.parse().expect("a list")))
    }

    #[tokio::test]
    async fn roles_and_lives_are_told_by_both() {
        for (columns, role, incarnation) in [
            (MYSQL_PRIMARY, Role::Primary, "33500@vm:33500@1795321178"),
            (MYSQL_REPLICA, Role::Replica, "33501@vm:33501@1795321178"),
            (MARIADB_PRIMARY, Role::Primary, "14256@vm:14256@1795321492"),
            (MARIADB_REPLICA, Role::Replica, "24578@vm:24578@1795321492"),
        ] {
            // The configured role changes nothing.
            for configured in [Role::Primary, Role::Replica] {
                let answer = answer(configured, columns).await;
                assert_eq!((answer.role, &*answer.incarnation), (role, incarnation));
            }
        }
        let no_lock = answer(Role::Replica, &with(MARIADB_REPLICA, "read_only", Some("NO_LOCK_NO_ADMIN"))).await;
        assert_eq!(no_lock.role, Role::Replica);
    }

    #[tokio::test]
    async fn mysql_tells_one_set_in_both_roles() {
        let executed =
            "0a8ccbf7-e62b-11f1-8cf6-02fc00000001:5:9,ee8ccbf7-e62b-11f1-8cf6-02fc00000001:1-4:a1:1:blue_tag:1";
        for configured in [Role::Primary, Role::Replica] {
            assert_eq!(position(configured, MYSQL_PRIMARY).await, set(executed));
            assert_eq!(position(configured, MYSQL_REPLICA).await, set("ee8ccbf7-e62b-11f1-8cf6-02fc00000001:1-4"));
        }
    }

    #[tokio::test]
    async fn without_gtids_there_is_no_position() {
        for configured in [Role::Primary, Role::Replica] {
            assert_eq!(position(configured, MYSQL_WITHOUT_GTIDS).await, None);
            assert_eq!(position(configured, MARIADB_WITHOUT_A_LOG).await, None);
        }
    }

    #[tokio::test]
    async fn a_server_that_has_executed_nothing_says_so() {
        for configured in [Role::Primary, Role::Replica] {
            assert_eq!(position(configured, &with(MYSQL_REPLICA, "gtid_executed", Some(""))).await, set(""));
        }
        let empty = with(MARIADB_PRIMARY, "gtid_binlog_pos", Some(""));
        let empty = with(&empty, "gtid_binlog_state", Some(""));
        assert_eq!(position(Role::Primary, &empty).await, domains(""));
        assert_eq!(position(Role::Replica, &with(MARIADB_REPLICA, "gtid_slave_pos", Some(""))).await, domains(""));
    }

    #[tokio::test]
    async fn a_node_of_galera_is_not_behind_although_it_never_repeated_a_gtid() {
        let galera = with(MARIADB_REPLICA, "read_only", Some("OFF"));
        assert_eq!(position(Role::Replica, &with(&galera, "gtid_slave_pos", Some(""))).await, None);
    }

    #[tokio::test]
    async fn mariadb_tells_what_is_logged_by_a_primary_and_what_is_repeated_by_a_replica() {
        let Some(Position::Domains(primary)) = position(Role::Primary, MARIADB_PRIMARY).await else {
            panic!("it has a position")
        };
        assert_eq!(Some(Position::Domains(primary.without_history())), domains("0-14256-1"));
        let ahead_in_its_log = with(MARIADB_REPLICA, "gtid_binlog_pos", Some("0-14256-2"));
        assert_eq!(position(Role::Replica, &ahead_in_its_log).await, domains("0-14256-1"));
        // A primary that was a replica once has the transactions that it replicated then, logged or not.
        let promoted = with(MARIADB_PRIMARY, "gtid_slave_pos", Some("0-9-9"));
        let promoted = position(Role::Primary, &promoted).await.expect("it has a position");
        let replicated = domains("0-9-9").expect("a list");
        assert_eq!(promoted.has(&replicated, None), Some(true));
        assert!(!replicated.is_foreign_to(&promoted));
        let primary = position(Role::Primary, MARIADB_PRIMARY).await.expect("it has a position");
        assert!(replicated.is_foreign_to(&primary));
    }

    #[tokio::test]
    async fn nonsense_is_an_error_that_names_its_column() {
        for (columns, configured, column) in [
            (MYSQL_PRIMARY, Role::Primary, "gtid_executed"),
            (MYSQL_REPLICA, Role::Replica, "gtid_executed"),
            (MARIADB_PRIMARY, Role::Primary, "gtid_binlog_pos"),
            (MARIADB_PRIMARY, Role::Primary, "gtid_binlog_state"),
            (MARIADB_REPLICA, Role::Replica, "gtid_slave_pos"),
        ] {
            for nonsense in ["?", "0-1", "\u{0}", "ee8ccbf7-e62b-11f1-8cf6-02fc00000001:4-1", ",", "999999999999-1-1"] {
                let columns = with(columns, column, Some(nonsense));
                let refused = understood(DbBackend::MySql, configured, &columns).await.expect_err(nonsense);
                assert!(matches!(&refused, DbErr::Type(why) if why.contains(column)), "{refused:?}");
            }
        }
        for column in ["read_only", "incarnation"] {
            let columns = with(MYSQL_PRIMARY, column, None);
            let refused = understood(DbBackend::MySql, Role::Primary, &columns).await.expect_err(column);
            assert!(refused.to_string().contains(column), "{refused}");
        }
    }
}
