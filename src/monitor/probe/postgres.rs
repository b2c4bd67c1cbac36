//! PostgreSQL 14 and later.

use std::sync::Arc;

use sea_orm::{DbErr, QueryResult};

use super::{Answer, nonsense, text};
use crate::topology::{Lsn, Position, Reported, Role, WalPosition};

/// The system identifier names the cluster, the start time one life of one of its servers; an ordinary role may
/// read both.
///
/// A primary reports where the next record will be inserted, because with `synchronous_commit = off` the written
/// and flushed positions trail a commit. A replica reports the position that it has replayed. The primary's
/// timeline is that of the file it writes. A replica's timeline is that of its receiver, which the server tells
/// only to members of `pg_read_all_stats`; for other roles it is that of the last restart point, which can lag
/// after a failover.
pub(super) const QUESTION: &str = "SELECT s.in_recovery::text AS in_recovery, \
     c.system_identifier::text AS system, \
     c.system_identifier::text || '@' || extract(epoch FROM pg_postmaster_start_time())::text AS incarnation, \
     CASE WHEN s.in_recovery THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text AS lsn, \
     CASE WHEN s.in_recovery THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), \
     (SELECT timeline_id FROM pg_control_checkpoint()))::text \
     ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int::text END AS timeline, \
     current_setting('wal_block_size') AS block_size, \
     pg_size_bytes(current_setting('wal_segment_size'))::text AS segment_size \
     FROM (SELECT pg_is_in_recovery() AS in_recovery OFFSET 0) AS s, pg_control_system() AS c";

/// The question without the parts that servers do not know which only speak PostgreSQL's protocol.
pub(super) const IDENTITY: &str = "SELECT pg_is_in_recovery()::text AS in_recovery, \
     (SELECT system_identifier FROM pg_control_system())::text || '@' || \
     extract(epoch FROM pg_postmaster_start_time())::text AS incarnation";

/// Until its next restart, a promoted server tells where the log of the earlier primary ended for it.
pub(super) const RECOVERY: &str = "SELECT pg_last_wal_replay_lsn()::text AS recovered_to";

/// Every name of a function in every schema but the system's, with `r` if all functions of that name in that schema
/// only read, else `w`.
///
/// An immutable or stable function cannot write by itself. Such a function can call one that writes; the server
/// refuses that in a read-only session. It can also take an advisory lock, change a setting, run a text, or end
/// another session, which no server refuses. So a function whose body names a built-in that needs the primary
/// counts as `w`, and so does a function whose body names a function that counts as `w`. An aggregate counts as its
/// support functions do (its own mark says nothing). Names that a line cannot hold are left out, and unknown.
///
/// Compiling the question to machine code takes a hundred times as long as answering it, and is switched off.
pub(super) const FUNCTIONS: &str = r"
SET jit = off;
WITH RECURSIVE functions AS MATERIALIZED (
  SELECT p.oid, n.nspname, p.proname, p.prokind, p.provolatile,
         CASE WHEN l.lanname IN ('c', 'internal') THEN ''
              ELSE lower(p.prosrc || coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), '')) END AS body
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ E'[\t\n]' AND p.proname !~ E'[\t\n]'
), writing AS (
  SELECT oid, proname FROM functions
  WHERE prokind <> 'a' AND (provolatile = 'v' OR body ~ '(?x) advisory | set_config | dblink | _xml | \mexecute\M
    | \m( amvalidate | binary_upgrade_ | brin_ | curr(tid|val) | fmgr_ | gin_clean | lastval | lo(_|read|write) | nextval
    | plpgsql_ | set(seed|val) | ts_(rewrite|stat) | txid_(current|status) )
    | \mpg_( backend_pid | backup | cancel_ | clear_ | copy_ | create_ | current_ | cursor | drop_ | event_trigger_
    | export_ | extension_ | get_(backend_memory|sequence_data) | import_ | is_in_backup | isolation_ | listening_ | log_
    | logical_ | ls_ | my_temp_ | nextoid | noti | prepared_statement | promote | read_ | reload_ | replication_(origin|slot_)
    | restore_ | rotate_ | sequence_last_value | set_ | start_backup | stat_(clear_|file|force_|get_xact_|reset) | stop_
    | switch_ | sync_ | terminate_ | wal_replay_ | walfile_ | xact_status )')
  UNION
  SELECT f.oid, f.proname FROM writing w JOIN functions f ON CASE
    WHEN pg_catalog.strpos(f.body, lower(w.proname)) = 0 THEN false
    WHEN w.proname ~ '^\w+$' THEN f.body ~ ('\m' || lower(w.proname) || '\M')
    ELSE true END
), classified AS (
  SELECT nspname, proname, CASE
    WHEN prokind = 'a' THEN EXISTS (
      SELECT FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc s
        ON s.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                     a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
      WHERE a.aggfnoid = f.oid AND (s.provolatile = 'v' OR s.oid IN (SELECT oid FROM writing)))
    ELSE oid IN (SELECT oid FROM writing) END AS writes
  FROM functions f
)
SELECT coalesce(string_agg(line, E'\n' ORDER BY line), '') AS functions
FROM (
  SELECT CASE WHEN bool_or(writes) THEN 'w' ELSE 'r' END || E'\t' || nspname || E'\t' || proname AS line
  FROM classified GROUP BY nspname, proname
) AS names";

pub(super) fn read_answer(configured: Role, row: &QueryResult) -> Result<Answer, DbErr> {
    // By name: the question went out as text, and a scripted node answers by name too.
    let in_recovery: String = row.try_get("", "in_recovery")?;
    let role = match &*in_recovery {
        "true" => Role::Replica,
        "false" => Role::Primary,
        _ => return Err(nonsense("in_recovery", "it is neither true nor false")),
    };
    let position = match (text(row, "system"), configured, role) {
        // The position was not asked for; or the server takes writes of its own, in a log of its own.
        (None, ..) | (_, Role::Replica, Role::Primary) => Reported::Nothing,
        (Some(system), ..) => position(&system, row)?.map_or(Reported::Unknown, |at| Reported::At(Arc::new(at))),
    };
    Ok(Answer { role, incarnation: row.try_get("", "incarnation")?, position })
}

fn position(system: &str, row: &QueryResult) -> Result<Option<Position>, DbErr> {
    let (Some(lsn), Some(timeline)) = (text(row, "lsn"), text(row, "timeline")) else { return Ok(None) };
    let number =
        |column| text(row, column).map_or(Ok(0), |text| text.parse().map_err(|problem| nonsense(column, problem)));
    let lsn: Lsn = lsn.parse().map_err(|problem| nonsense("lsn", problem))?;
    Ok(Some(Position::Wal(WalPosition {
        system: system.parse().map_err(|problem| nonsense("system", problem))?,
        timeline: timeline.parse().map_err(|problem| nonsense("timeline", problem))?,
        lsn: lsn.normalised(number("block_size")?, number("segment_size")?),
    })))
}

/// Answers of PostgreSQL 15 to the question.
#[cfg(test)]
mod tests {
    use sea_orm::DbBackend;

    use super::{
        super::fixture::{Columns, understood, with},
        *,
    };

    const PRIMARY: Columns<'_> = &[
        ("in_recovery", Some("false")),
        ("system", Some("7710847098105289192")),
        ("incarnation", Some("7710847098105289192@1795321492.987798")),
        ("lsn", Some("0/A36EC8")),
        ("timeline", Some("1")),
        ("block_size", Some("8192")),
        ("segment_size", Some("1048576")),
    ];

    /// With and without `pg_read_all_stats`: without it, the timeline is the last restart point's.
    const REPLICA: Columns<'_> = &[
        ("in_recovery", Some("true")),
        ("system", Some("7710847098105289192")),
        ("incarnation", Some("7710847098105289192@1795321492.975820")),
        ("lsn", Some("0/A36EC8")),
        ("timeline", Some("1")),
        ("block_size", Some("8192")),
        ("segment_size", Some("1048576")),
    ];

    async fn answer(configured: Role, columns: Columns<'_>) -> Answer {
        understood(DbBackend::Postgres, configured, columns).await.expect("a server said so")
    }

    fn at(timeline: u32, lsn: &str) -> Reported {
        let lsn = lsn.parse().expect("a log position");
        Reported::At(Arc::new(Position::Wal(WalPosition { system: 7_710_847_098_105_289_192, timeline, lsn })))
    }

    /// Whether `pattern`, made of literals, groups, `|`, `\m` and `\M`, matches some beginning of `text`.
    ///
    /// Returns the remaining pattern behind the alternatives, and the ends of the matches.
    fn matches<'pattern>(mut pattern: &'pattern str, text: &str) -> (&'pattern str, Vec<usize>) {
        let (mut ends, mut now) = (Vec::new(), vec![0]);
        while let Some(first) = pattern.chars().next() {
            pattern = &pattern[first.len_utf8()..];
            match first {
                ')' => break,
                '|' => ends.append(&mut std::mem::replace(&mut now, vec![0])),
                '\\' => pattern = &pattern[1..],
                '(' => {
                    let mut behind = Vec::new();
                    let mut rest = pattern;
                    for at in now {
                        let (after, found) = matches(pattern, &text[at..]);
                        rest = after;
                        behind.extend(found.into_iter().map(|end| at + end));
                    }
                    if behind.is_empty() {
                        rest = matches(pattern, "").0;
                    }
                    (pattern, now) = (rest, behind);
                }
                _ if first.is_whitespace() => {}
                _ => now = now.into_iter().filter(|at| text[*at..].starts_with(first)).map(|at| at + 1).collect(),
            }
        }
        ends.append(&mut now);
        (pattern, ends)
    }

    #[test]
    fn a_body_that_speaks_of_a_denied_built_in_counts_as_writing() {
        let pattern = FUNCTIONS.split_once("(?x)").and_then(|(_, rest)| rest.split_once('\'')).expect("a pattern").0;
        let speaks = |name: &str| {
            // Only these parts need not begin a word.
            let anywhere = ["advisory", "dblink", "_xml"].iter().any(|part| name.contains(part));
            anywhere || !matches(pattern, name).1.is_empty()
        };
        let table = include_str!("../../routing/classify/functions/postgres.rs");
        let (_, denied) = table.split_once("static DENIED").expect("the table");
        let names: Vec<_> =
            denied.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next()).collect();
        let missed: Vec<_> = names.iter().filter(|name| !speaks(name)).collect();
        assert!(names.len() > 190 && missed.is_empty(), "{} names, not matched: {missed:?}", names.len());
        for harmless in
            ["lower", "pg_stat_get_live_tuples", "pg_get_functiondef", "pg_is_in_recovery", "currency", "now"]
        {
            assert!(!speaks(harmless), "{harmless}");
        }
    }

    #[tokio::test]
    async fn a_primary_and_a_replica_tell_role_life_and_position() {
        let primary = answer(Role::Primary, PRIMARY).await;
        let incarnation = "7710847098105289192@1795321492.987798".to_owned();
        assert_eq!(primary, Answer { role: Role::Primary, incarnation, position: at(1, "0/A36EC8") });
        let replica = answer(Role::Replica, REPLICA).await;
        let incarnation = "7710847098105289192@1795321492.975820".to_owned();
        assert_eq!(replica, Answer { role: Role::Replica, incarnation, position: at(1, "0/A36EC8") });
        let followed = answer(Role::Replica, &with(REPLICA, "timeline", Some("2"))).await;
        assert_eq!(followed.position, at(2, "0/A36EC8"));
    }

    #[tokio::test]
    async fn the_header_of_a_page_that_was_only_begun_does_not_count() {
        for (said, meant) in [("0/A36018", "0/A36000"), ("0/A00028", "0/A00000"), ("0/A36028", "0/A36028")] {
            assert_eq!(answer(Role::Primary, &with(PRIMARY, "lsn", Some(said))).await.position, at(1, meant));
        }
    }

    #[tokio::test]
    async fn a_replica_that_takes_writes_of_its_own_has_no_position_of_its_primary() {
        assert_eq!(answer(Role::Replica, PRIMARY).await.position, Reported::Nothing);
        // A primary that was demoted still has a position; its wrong role is another matter.
        assert_eq!(answer(Role::Primary, REPLICA).await.position, at(1, "0/A36EC8"));
    }

    #[tokio::test]
    async fn what_is_not_said_is_unknown_and_what_was_not_asked_is_nothing() {
        for column in ["lsn", "timeline"] {
            let position = answer(Role::Replica, &with(REPLICA, column, None)).await.position;
            assert_eq!(position, Reported::Unknown, "{column}");
        }
        assert_eq!(answer(Role::Replica, &with(REPLICA, "system", None)).await.position, Reported::Nothing);
        let identity: Vec<_> =
            REPLICA.iter().copied().filter(|(name, _)| matches!(*name, "in_recovery" | "incarnation")).collect();
        assert_eq!(answer(Role::Replica, &identity).await.position, Reported::Nothing);
        // Without the sizes no page header is recognised.
        let position = answer(Role::Replica, &with(REPLICA, "block_size", None)).await.position;
        assert_eq!(position, at(1, "0/A36EC8"));
    }

    #[tokio::test]
    async fn nonsense_is_an_error_that_names_its_column() {
        for column in ["in_recovery", "system", "lsn", "timeline", "block_size", "segment_size"] {
            for nonsense in ["", "?", "-1", "0/", "/0", "99999999999999999999", "\u{0}"] {
                let columns = with(REPLICA, column, Some(nonsense));
                let refused = understood(DbBackend::Postgres, Role::Replica, &columns).await.expect_err(column);
                assert!(matches!(&refused, DbErr::Type(why) if why.contains(column)), "{refused:?}");
            }
        }
        for column in ["in_recovery", "incarnation"] {
            let columns = with(REPLICA, column, None);
            let refused = understood(DbBackend::Postgres, Role::Replica, &columns).await.expect_err(column);
            assert!(refused.to_string().contains(column), "{refused}");
        }
        // Sizes that no server has.
        for size in ["0", "1", "18446744073709551615"] {
            for column in ["block_size", "segment_size"] {
                let position = answer(Role::Replica, &with(REPLICA, column, Some(size))).await.position;
                assert!(matches!(position, Reported::At(_)), "{column} {size}");
            }
        }
    }
}
