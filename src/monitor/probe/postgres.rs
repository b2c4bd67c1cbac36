//! PostgreSQL 14 and later.

use sea_orm::{DbErr, QueryResult};

use super::Answer;
use crate::topology::Role;

/// The system identifier names the cluster, the start time one life of one of its servers. Both
/// may be read by an ordinary role.
pub(super) const QUESTION: &str = "SELECT pg_is_in_recovery() AS in_recovery, \
     (SELECT system_identifier FROM pg_control_system())::text || '@' || \
     extract(epoch FROM pg_postmaster_start_time())::text AS incarnation";

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
