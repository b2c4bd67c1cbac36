//! The statements that are not queries, and what stands before a query: `EXPLAIN`, `SHOW`, `PRAGMA`, `COPY`.

use super::dialect::Dialect;
use super::functions::{self, Case, Known};
use super::keyword::Keyword;
use super::reason::Reason;
use super::scan::{Clause, Scan};
use super::token::{Kind, Token};

/// Where in a statement the scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Start,
    /// In a query: every rule applies.
    Query,
    Explain,
    /// `EXPLAIN (` on PostgreSQL: options, or a query.
    ExplainOpen,
    ExplainOptions,
    /// `EXPLAIN FORMAT` on MySQL: `=` comes.
    ExplainFormat,
    ExplainFormatValue,
    /// `DESCRIBE t`: a dot or one column may come.
    Describe,
    DescribeName,
    DescribeEnd,
    /// `SHOW` on PostgreSQL: words.
    ShowSetting,
    ShowSettingEnd,
    /// `SHOW` on MySQL: what is shown comes.
    Show,
    /// `SHOW TABLE`, `SHOW PROCEDURE`: only with `STATUS`.
    ShowStatus,
    /// `SHOW TABLES …`: scanned like a query, for its `WHERE`.
    ShowRest,
    ShowVariables,
    Pragma,
    /// The name was read; the flags say what may come.
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

#[rustfmt::skip]
const PRAGMAS_WITH_VALUE: &[&str] = &[
    "foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "integrity_check",
    "quick_check", "table_info", "table_list", "table_xinfo",
];

/// Left out: `wal_checkpoint`, `optimize`, `incremental_vacuum`, `shrink_memory` act; `data_version` is one connection's.
#[rustfmt::skip]
const PRAGMAS_WITHOUT_VALUE: &[&str] = &[
    "analysis_limit", "application_id", "auto_vacuum", "automatic_index", "busy_timeout", "cache_size", "cache_spill",
    "cell_size_check", "checkpoint_fullfsync", "collation_list", "compile_options", "database_list",
    "defer_foreign_keys", "encoding", "foreign_keys", "freelist_count", "fullfsync", "function_list",
    "hard_heap_limit", "ignore_check_constraints", "journal_mode", "journal_size_limit", "legacy_alter_table",
    "locking_mode", "max_page_count", "mmap_size", "module_list", "page_count", "page_size", "pragma_list",
    "query_only", "read_uncommitted", "recursive_triggers", "reverse_unordered_selects", "schema_version",
    "secure_delete", "soft_heap_limit", "synchronous", "temp_store", "threads", "trusted_schema", "user_version",
    "wal_autocheckpoint", "writable_schema",
];

/// What `SHOW` may show on MySQL: data, definitions and settings, nothing of one node or one session.
#[rustfmt::skip]
const SHOWN: &[&str] = &[
    "authors", "character", "charset", "collation", "columns", "contributors", "create", "databases", "engines",
    "events", "fields", "grants", "index", "indexes", "keys", "plugins", "privileges", "schemas", "storage",
    "tables", "triggers",
];

/// System variables that tell the same to every session of a pool.
#[rustfmt::skip]
const SETTINGS: &[&str] = &[
    "auto_increment_increment", "auto_increment_offset", "autocommit", "basedir", "character_set_client",
    "character_set_connection", "character_set_database", "character_set_results", "character_set_server",
    "collation_connection", "collation_database", "collation_server", "datadir", "default_storage_engine",
    "event_scheduler", "explicit_defaults_for_timestamp", "group_concat_max_len", "hostname", "init_connect",
    "innodb_file_per_table", "innodb_page_size", "innodb_version", "interactive_timeout", "license",
    "lower_case_file_system", "lower_case_table_names", "max_allowed_packet", "max_connections",
    "max_execution_time", "net_buffer_length", "net_read_timeout", "net_write_timeout", "performance_schema",
    "port", "protocol_version", "sql_mode", "system_time_zone", "time_zone", "transaction_isolation",
    "tx_isolation", "version", "version_comment", "version_compile_machine", "version_compile_os",
    "version_ssl_library", "wait_timeout",
];

impl Scan<'_, '_> {
    fn is_one_of(&self, token: Token, words: &[&str]) -> bool {
        let text = self.text(token);
        words.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(text))
    }

    /// A token outside queries.
    pub(super) fn in_form(&mut self, token: Token) -> Result<(), Reason> {
        match self.phase {
            Phase::Start => self.verb(token)?,
            Phase::Explain => self.explain(token)?,
            Phase::ExplainOpen | Phase::ExplainOptions => self.explain_options(token)?,
            Phase::ExplainFormat if self.text(token) == b"=" => self.phase = Phase::ExplainFormatValue,
            Phase::ExplainFormatValue if matches!(token.kind(), Kind::Word | Kind::Text) => self.phase = Phase::Explain,
            Phase::Describe if token.kind() == Kind::Dot => self.phase = Phase::DescribeName,
            Phase::Describe if matches!(token.kind(), Kind::Word | Kind::Quoted | Kind::Text) => {
                self.phase = Phase::DescribeEnd;
            }
            Phase::DescribeName if matches!(token.kind(), Kind::Word | Kind::Quoted) => self.phase = Phase::Describe,
            Phase::ShowSetting if matches!(token.kind(), Kind::Word | Kind::Quoted) => {
                self.phase = Phase::ShowSettingEnd;
            }
            Phase::ShowSettingEnd if matches!(token.kind(), Kind::Word | Kind::Quoted | Kind::Dot) => {}
            Phase::Show if token.kind() == Kind::Word => self.shown(token)?,
            Phase::ShowStatus if token.kind() == Kind::Word => self.shown_status(token)?,
            Phase::Pragma | Phase::PragmaName(_) | Phase::PragmaValue => self.pragma(token)?,
            Phase::Copy | Phase::CopyTable | Phase::CopyTo | Phase::CopyStdout => self.copy(token)?,
            Phase::CopyOptions => {}
            _ => return Err(self.other_form(token)),
        }
        self.advance(token);
        Ok(())
    }

    fn other_form(&self, token: Token) -> Reason {
        let verb = match self.phase {
            Phase::Show | Phase::ShowStatus | Phase::ShowSetting | Phase::ShowSettingEnd => "SHOW",
            Phase::Describe | Phase::DescribeName | Phase::DescribeEnd => "DESCRIBE",
            Phase::Pragma | Phase::PragmaName(_) | Phase::PragmaValue => "PRAGMA",
            Phase::Copy | Phase::CopyTable | Phase::CopyTo | Phase::CopyStdout => "COPY",
            _ => "EXPLAIN",
        };
        Reason::Form { verb, at: token.start() }
    }

    /// May the statement end here?
    pub(super) fn may_end(&self) -> Result<bool, Reason> {
        match self.phase {
            Phase::Start | Phase::Query | Phase::ShowRest | Phase::ShowVariables => Ok(true),
            Phase::Describe | Phase::DescribeEnd | Phase::ShowSettingEnd | Phase::PragmaValue => Ok(true),
            Phase::CopyOptions => Ok(true),
            Phase::PragmaName(PragmaForms::None) => Err(self.other_form(self.previous)),
            Phase::PragmaName(_) => Ok(true),
            _ => Ok(false),
        }
    }

    /// The first token of a statement.
    fn verb(&mut self, token: Token) -> Result<(), Reason> {
        let (at, len) = (token.start(), token.end() - token.start());
        match (token.kind(), token.keyword(), self.dialect) {
            (Kind::Open, ..) => {
                self.phase = Phase::Query;
                self.expects_query = true;
                self.push(Clause::Arguments);
            }
            (Kind::Word, Keyword::Explain, _) => self.phase = Phase::Explain,
            (Kind::Word, Keyword::Describe | Keyword::Desc, Dialect::MySql) => self.phase = Phase::Explain,
            (Kind::Word, Keyword::Show, Dialect::Postgres) => self.phase = Phase::ShowSetting,
            (Kind::Word, Keyword::Show, Dialect::MySql) => self.phase = Phase::Show,
            (Kind::Word, Keyword::Pragma, Dialect::Sqlite) => self.phase = Phase::Pragma,
            (Kind::Word, Keyword::Copy, Dialect::Postgres) => self.phase = Phase::Copy,
            (Kind::Word, ..) => {
                self.phase = Phase::Query;
                self.begin_query(token)?;
            }
            _ => return Err(Reason::Verb { at, len }),
        }
        Ok(())
    }

    fn explain(&mut self, token: Token) -> Result<(), Reason> {
        let is_mysql = self.dialect == Dialect::MySql;
        match (token.kind(), token.keyword()) {
            (Kind::Open, _) => {
                self.push(Clause::Arguments);
                if self.dialect == Dialect::Postgres && self.previous.keyword() == Keyword::Explain {
                    self.phase = Phase::ExplainOpen;
                } else {
                    self.expects_query = true;
                    self.phase = Phase::Query;
                }
            }
            (Kind::Word, Keyword::Analyze) if self.dialect != Dialect::Sqlite => {}
            (Kind::Word, Keyword::Verbose) if self.dialect == Dialect::Postgres => {}
            (Kind::Word, Keyword::Extended | Keyword::Partitions) if is_mysql => {}
            (Kind::Word, Keyword::Format) if is_mysql => self.phase = Phase::ExplainFormat,
            (Kind::Word, Keyword::Query | Keyword::Plan) if self.dialect == Dialect::Sqlite => {}
            (Kind::Word, Keyword::Select | Keyword::Values | Keyword::Table | Keyword::With) => {
                self.phase = Phase::Query;
                self.begin_query(token)?;
            }
            (Kind::Word, Keyword::For | Keyword::Into) => return Err(self.other_form(token)),
            (Kind::Word, keyword) if is_mysql && !keyword.is_dml() => self.phase = Phase::Describe,
            (Kind::Quoted, _) if is_mysql => self.phase = Phase::Describe,
            (Kind::Word, _) => {
                return Err(Reason::Verb { at: token.start(), len: token.end() - token.start() });
            }
            _ => return Err(self.other_form(token)),
        }
        Ok(())
    }

    fn explain_options(&mut self, token: Token) -> Result<(), Reason> {
        let is_query = matches!(token.keyword(), Keyword::Select | Keyword::Values | Keyword::Table | Keyword::With);
        match (self.phase, token.kind()) {
            (Phase::ExplainOpen, Kind::Open) => {
                self.push(Clause::Arguments);
                self.expects_query = true;
                self.phase = Phase::Query;
            }
            (Phase::ExplainOpen, Kind::Word) if is_query => {
                self.phase = Phase::Query;
                self.begin_query(token)?;
            }
            (Phase::ExplainOpen, Kind::Word) => self.phase = Phase::ExplainOptions,
            (Phase::ExplainOptions, Kind::Close) => {
                self.depth -= 1;
                self.phase = Phase::Explain;
            }
            (Phase::ExplainOptions, Kind::Word | Kind::Comma | Kind::Number | Kind::Text | Kind::Quoted) => {}
            _ => return Err(self.other_form(token)),
        }
        Ok(())
    }

    fn shown(&mut self, token: Token) -> Result<(), Reason> {
        let is_global = self.text(self.previous).eq_ignore_ascii_case(b"global");
        if self.is_one_of(token, &["variables"]) {
            self.phase = Phase::ShowVariables;
        } else if is_global {
            return Err(self.other_form(token));
        } else if self.is_one_of(token, SHOWN) {
            self.phase = Phase::ShowRest;
        } else if self.is_one_of(token, &["table", "function", "procedure", "package"]) {
            self.phase = Phase::ShowStatus;
        } else if !self.is_one_of(token, &["full", "extended", "global"]) {
            return Err(self.other_form(token));
        }
        Ok(())
    }

    fn shown_status(&mut self, token: Token) -> Result<(), Reason> {
        if self.is_one_of(token, &["status"]) {
            self.phase = Phase::ShowRest;
        } else if !self.is_one_of(token, &["body"]) {
            return Err(self.other_form(token));
        }
        Ok(())
    }

    /// `SHOW VARIABLES LIKE 'last_insert_id'` tells of one session.
    pub(super) fn shown_variable(&self, token: Token) -> Result<(), Reason> {
        let pattern = self.text(token).get(1..).unwrap_or_default();
        let of_session = [&b"last"[..], b"insert", b"ident", b"warning", b"error", b"rand_seed", b"pseudo", b"in_tr"];
        let is = |start: &&[u8]| pattern.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start));
        if of_session.iter().any(is) { Err(Reason::SessionVariable { at: token.start() }) } else { Ok(()) }
    }

    /// `@x`, `@@x` or `:=` in a query; `token` is moved to the last one read.
    pub(super) fn variable(&mut self, token: &mut Token) -> Result<(), Reason> {
        let state = Err(Reason::SessionVariable { at: token.start() });
        match token.kind() {
            // SHOW GRANTS FOR 'u'@'host'
            Kind::At
                if self.phase.is_show() && self.previous.ends_operand() && self.previous.end() == token.start() =>
            {
                Ok(())
            }
            Kind::AtAt => {
                let mut name = self.lexer.next();
                let known = self.is_one_of(name, &["global"]) || self.is_one_of(name, SETTINGS);
                if name.kind() != Kind::Word || !known {
                    return state;
                }
                name.forget_keyword();
                *token = name;
                self.chain.names = 9;
                Ok(())
            }
            _ => state,
        }
    }

    fn pragma(&mut self, token: Token) -> Result<(), Reason> {
        match (self.phase, token.kind()) {
            (Phase::Pragma, Kind::Word) => {
                let forms = if self.is_one_of(token, PRAGMAS_WITH_VALUE) {
                    PragmaForms::Both
                } else if self.is_one_of(token, PRAGMAS_WITHOUT_VALUE) {
                    PragmaForms::WithoutValue
                } else {
                    PragmaForms::None
                };
                self.phase = Phase::PragmaName(forms);
            }
            // The first name was a schema.
            (Phase::PragmaName(_), Kind::Dot) => self.phase = Phase::Pragma,
            (Phase::PragmaName(PragmaForms::Both), Kind::Open | Kind::Operator) => self.phase = Phase::PragmaValue,
            (Phase::PragmaName(_), _) => return Err(self.other_form(self.previous)),
            (
                Phase::PragmaValue,
                Kind::Word | Kind::Quoted | Kind::Text | Kind::Number | Kind::Parameter | Kind::Close | Kind::Operator,
            ) => {}
            _ => return Err(self.other_form(token)),
        }
        Ok(())
    }

    /// `SELECT * FROM pragma_optimize` runs the pragma, and needs no parentheses.
    #[inline]
    pub(super) fn pragma_table(&self, token: Token) -> Result<(), Reason> {
        let text = self.text(token);
        let name = if token.kind() == Kind::Quoted { text.get(1..text.len() - 1).unwrap_or_default() } else { text };
        let is_pragma = name.len() > 7 && name[0] | 0x20 == b'p' && name[..7].eq_ignore_ascii_case(b"pragma_");
        if is_pragma && functions::look_up(name, Case::Folds, self.dialect) != Known::Harmless {
            return Err(Reason::Form { verb: "PRAGMA", at: token.start() });
        }
        Ok(())
    }

    fn copy(&mut self, token: Token) -> Result<(), Reason> {
        match (self.phase, token.kind(), token.keyword()) {
            (Phase::Copy, Kind::Open, _) => {
                self.push(Clause::Arguments);
                self.expects_query = true;
                self.phase = Phase::CopyQuery;
            }
            (Phase::Copy, Kind::Word | Kind::Quoted, _) => self.phase = Phase::CopyTable,
            (Phase::CopyTable | Phase::CopyTo, Kind::Word, Keyword::To) if self.previous.kind() != Kind::Dot => {
                self.phase = Phase::CopyStdout;
            }
            (Phase::CopyTable, Kind::Word, keyword) if keyword != Keyword::From => {}
            (Phase::CopyTable, Kind::Quoted | Kind::Dot | Kind::Comma | Kind::Open | Kind::Close, _) => {}
            (Phase::CopyStdout, Kind::Word, Keyword::Stdout) => self.phase = Phase::CopyOptions,
            _ => return Err(self.other_form(token)),
        }
        Ok(())
    }
}
