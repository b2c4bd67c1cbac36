//! PostgreSQL 14 and later.

use std::sync::Arc;

use sea_orm::{DbErr, QueryResult};

use super::{Answer, nonsense, text};
use crate::topology::{Lsn, Position, Reported, Role, WalPosition};

/// The system identifier names the cluster, the start time one life of one of its servers; an ordinary role
/// may read both.
///
/// A primary says where the next record will be inserted, because with `synchronous_commit = off` what is
/// written and flushed trails a commit. A replica says what it has replayed. The primary's timeline is that
/// of the file it writes; a replica's is that of its receiver, which it tells only to members of
/// `pg_read_all_stats`, else that of its last restart point, which can lag after a failover.
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

/// Without what servers do not know that only speak PostgreSQL's protocol.
pub(super) const IDENTITY: &str = "SELECT pg_is_in_recovery()::text AS in_recovery, \
     (SELECT system_identifier FROM pg_control_system())::text || '@' || \
     extract(epoch FROM pg_postmaster_start_time())::text AS incarnation";

/// Every name of a function in every schema but the system's, with `r` if all functions of that name
/// there only read, else `w`.
///
/// An immutable or stable function cannot write by itself; it can call one that does, and the server
/// refuses that in a read-only session. It can also take an advisory lock, change a setting or run a text,
/// which no server refuses: one whose body speaks of that counts as `w`, and so does one whose body names
/// a function that counts as `w`. An aggregate is what its support functions are (its own mark says
/// nothing). Names that a line cannot hold are left out, and unknown.
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
  WHERE prokind <> 'a' AND (provolatile = 'v' OR body ~ 'advisory|set_config|dblink|\mexecute\M|\mlo_|_xml')
  UNION
  SELECT f.oid, f.proname FROM writing w JOIN functions f ON CASE
    WHEN pg_catalog.strpos(f.body, lower(w.proname)) = 0 THEN false
    WHEN w.proname ~ '^\w+$' THEN f.body ~ ('\m' || lower(w.proname) || '\M')
    ELSE true END
), judged AS (
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
  FROM judged GROUP BY nspname, proname
) AS names";

pub(super) fn read_answer(configured: Role, row: &QueryResult) -> Result<Answer, DbErr> {
    // By name: the question went out as text, and a scripted node answers by name too.
    let in_recovery: String = row.try_get("", "in_recovery")?;
    let role = if in_recovery == "true" { Role::Replica } else { Role::Primary };
    let position = match (text(row, "system"), configured, role) {
        // It was not asked; or it takes writes of its own, in a log of its own.
        (None, ..) | (_, Role::Replica, Role::Primary) => Reported::Nothing,
        (Some(system), ..) => position(&system, row)?.map_or(Reported::Unknown, |at| Reported::At(Arc::new(at))),
    };
    Ok(Answer { role, incarnation: row.try_get("", "incarnation")?, position })
}

fn position(system: &str, row: &QueryResult) -> Result<Option<Position>, DbErr> {
    let (Some(lsn), Some(timeline)) = (text(row, "lsn"), text(row, "timeline")) else { return Ok(None) };
    let number = |column| text(row, column).and_then(|text| text.parse().ok()).unwrap_or(0);
    let lsn: Lsn = lsn.parse().map_err(|problem| nonsense("lsn", problem))?;
    Ok(Some(Position::Wal(WalPosition {
        system: system.parse().map_err(|problem| nonsense("system", problem))?,
        timeline: timeline.parse().map_err(|problem| nonsense("timeline", problem))?,
        lsn: lsn.normalised(number("block_size"), number("segment_size")),
    })))
}
