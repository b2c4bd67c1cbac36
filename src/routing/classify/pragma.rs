//! `PRAGMA`, as a statement and as a table.

use super::call::unquoted;
use super::functions::Known;
use super::phase::{Phase, PragmaForms};
use super::reason::Reason;
use super::scan::{RuleResult, Scan};
use super::token::{Token, TokenKind};

#[rustfmt::skip]
const PRAGMAS_WITH_VALUE: &[&str] = &[
    "foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "integrity_check",
    "quick_check", "table_info", "table_list", "table_xinfo",
];

/// Left out are the pragmas that act (`wal_checkpoint`, `optimize`, `incremental_vacuum`, `shrink_memory`) and
/// `data_version`, which belongs to one connection.
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

impl Scan<'_, '_> {
    pub(super) fn pragma(&mut self, token: Token) -> RuleResult {
        match (self.phase, token.kind) {
            (Phase::Pragma, TokenKind::Word) => {
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
            (Phase::PragmaName(_), TokenKind::Dot) => self.phase = Phase::Pragma,
            (Phase::PragmaName(PragmaForms::Both), TokenKind::Open | TokenKind::Operator) => {
                self.phase = Phase::PragmaValue;
            }
            (Phase::PragmaName(_), _) => return self.other_form(self.previous),
            (
                Phase::PragmaValue,
                TokenKind::Word
                | TokenKind::Quoted
                | TokenKind::Text
                | TokenKind::Number
                | TokenKind::Parameter
                | TokenKind::Close
                | TokenKind::Operator,
            ) => {}
            _ => return self.other_form(token),
        }
        Ok(())
    }

    /// `SELECT * FROM pragma_optimize` runs the pragma, and needs no parentheses.
    pub(super) fn pragma_table(&self, token: Token) -> RuleResult {
        let name = match token.kind {
            TokenKind::Word => self.text(token),
            _ => unquoted(self.text(token)),
        };
        let is_pragma = name.len() > 7 && name[..7].eq_ignore_ascii_case(b"pragma_");
        match is_pragma && self.built_in(token) != Known::Harmless {
            true => Err(Reason::Form { verb: "PRAGMA", at: token.start() }),
            false => Ok(()),
        }
    }

    /// `SELECT * FROM 'pragma_optimize'`, `1 IN 'pragma_optimize'`: the name of a table may be written as a string.
    ///
    /// Behind an operator a string is a value.
    pub(super) fn pragma_text(&self, token: Token) -> RuleResult {
        match self.previous.is(TokenKind::Operator) {
            true => Ok(()),
            false => self.pragma_table(token),
        }
    }
}
