//! PostgreSQL 14 and later.

use sea_orm::{DbErr, QueryResult};

use super::Answer;
use crate::topology::Role;

/// The system identifier names the cluster, the start time one life of one of its servers. Both
/// may be read by an ordinary role.
pub(super) const QUESTION: &str = "SELECT pg_is_in_recovery() AS in_recovery, \
     (SELECT system_identifier FROM pg_control_system())::text || '@' || \
     extract(epoch FROM pg_postmaster_start_time())::text AS incarnation";

/// Every name of a function in every schema but the system's, with `r` if all functions of that name
/// there only read, else `w`.
///
/// An immutable or stable function cannot write by itself; it can call one that does, and the server
/// refuses that in a read-only session. It can also take an advisory lock, which no server refuses: one
/// whose text speaks of that counts as `w`. An aggregate is what its support functions are (its own mark
/// says nothing). Names that a line cannot hold are left out, and unknown.
pub(super) const FUNCTIONS: &str = r"
SELECT coalesce(string_agg(CASE WHEN reads THEN 'r' ELSE 'w' END || E'\t' || nspname || E'\t' || proname, E'\n'), '')
       AS functions
FROM (
  SELECT n.nspname, p.proname, bool_and(
    CASE WHEN p.prokind = 'a' THEN NOT EXISTS (
      SELECT FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc s
        ON s.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                     a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
      WHERE a.aggfnoid = p.oid AND (s.provolatile = 'v' OR s.prosrc ~* 'advisory'))
    ELSE p.provolatile <> 'v'
      AND p.prosrc || coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), '') !~* 'advisory' END) AS reads
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ E'[\t\n]' AND p.proname !~ E'[\t\n]'
  GROUP BY n.nspname, p.proname
  ORDER BY n.nspname, p.proname
) AS names";

pub(super) fn read_answer(row: &QueryResult) -> Result<Answer, DbErr> {
    // By name: the question went out as text, and a scripted node answers by name too.
    let in_recovery: String = read_text(row, "in_recovery")?;
    Ok(Answer {
        role: if in_recovery == "true" { Role::Replica } else { Role::Primary },
        incarnation: read_text(row, "incarnation")?,
    })
}

fn read_text(row: &QueryResult, column: &str) -> Result<String, DbErr> {
    row.try_get::<String>("", column).or_else(|_| row.try_get::<bool>("", column).map(|value| value.to_string()))
}
