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
/// refuses that in a read-only session. It can also take an advisory lock, change a setting or run a text,
/// which no server refuses: one whose body speaks of that counts as `w`, and so does one whose body names
/// a function that counts as `w`. An aggregate is what its support functions are (its own mark says
/// nothing). Names that a line cannot hold are left out, and unknown.
pub(super) const FUNCTIONS: &str = r"
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
