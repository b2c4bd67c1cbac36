//! The position that a node reports to the prober's question.

use super::Row;

/// Columns of the answer to the prober's question, beside role and incarnation.
#[derive(Clone, Debug, Default)]
pub(super) struct Position(Vec<(&'static str, String)>);

impl Position {
    pub(super) fn wal(system: u64, timeline: u32, lsn: &str) -> Self {
        Self(vec![
            ("system", system.to_string()),
            ("timeline", timeline.to_string()),
            ("lsn", lsn.to_owned()),
            ("block_size", "8192".to_owned()),
            ("segment_size", "16777216".to_owned()),
        ])
    }

    pub(super) fn gtid_set(set: &str) -> Self {
        Self(vec![("gtid_executed", set.to_owned())])
    }

    pub(super) fn gtid_domains(binlog_pos: &str, binlog_state: &str, replayed: &str) -> Self {
        let columns =
            [("gtid_binlog_pos", binlog_pos), ("gtid_binlog_state", binlog_state), ("gtid_slave_pos", replayed)];
        Self(columns.map(|(column, text)| (column, text.to_owned())).to_vec())
    }

    /// Puts the columns into an answer.
    pub(super) fn say(&self, row: &mut Row) {
        row.extend(self.0.iter().map(|(column, text)| ((*column).to_owned(), text.clone().into())));
    }
}
