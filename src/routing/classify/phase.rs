//! Where in a statement the scan is.

/// Where in a statement the scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Start,
    /// In a query: every rule applies.
    Query,
    Explain,
    /// `EXPLAIN (` on PostgreSQL: options or a query follow.
    ExplainOpen,
    ExplainOptions,
    /// `EXPLAIN FORMAT` on MySQL: `=` follows.
    ExplainFormat,
    ExplainFormatValue,
    /// `DESCRIBE t`: a dot or one column may follow.
    Describe,
    DescribeName,
    DescribeEnd,
    /// `SHOW` on PostgreSQL: words follow.
    ShowSetting,
    ShowSettingEnd,
    /// `SHOW` on MySQL: the word for the shown objects follows.
    Show,
    /// `SHOW TABLE`, `SHOW PROCEDURE`: only with `STATUS`.
    ShowStatus,
    /// `SHOW TABLES …`: scanned like a query, for its `WHERE`.
    ShowRest,
    ShowVariables,
    Pragma,
    /// The name was read; the forms say which tokens may follow.
    PragmaName(PragmaForms),
    PragmaValue,
    Copy,
    CopyTable,
    CopyQuery,
    CopyTo,
    CopyStdout,
    CopyOptions,
}

impl Phase {
    pub(super) const fn is_query(self) -> bool {
        matches!(self, Self::Query | Self::CopyQuery | Self::ShowRest | Self::ShowVariables)
    }

    pub(super) const fn is_show(self) -> bool {
        matches!(self, Self::ShowRest | Self::ShowVariables)
    }
}

/// Which forms of a pragma only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PragmaForms {
    None,
    WithoutValue,
    Both,
}
