//! `PRAGMA`, as a statement and as a table.

use super::functions::{Case, Known};
use super::phase::{Phase, PragmaForms};
use super::reason::Reason;
use super::scan::{Scan, Step};
use super::token::{Kind, Token};

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

impl Scan<'_, '_> {
    pub(super) fn pragma(&mut self, token: Token) -> Step {
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
            (Phase::PragmaName(_), _) => return self.other_form(self.previous),
            (
                Phase::PragmaValue,
                Kind::Word | Kind::Quoted | Kind::Text | Kind::Number | Kind::Parameter | Kind::Close | Kind::Operator,
            ) => {}
            _ => return self.other_form(token),
        }
        Ok(())
    }

    /// `SELECT * FROM pragma_optimize` runs the pragma, and needs no parentheses.
    #[inline]
    pub(super) fn pragma_table(&mut self, token: Token) -> Step {
        let quotes = usize::from(token.is(Kind::Quoted));
        match self.sql.as_bytes().get(token.start() + quotes) {
            Some(b'p' | b'P') => self.named_like_pragma(token, quotes),
            _ => Ok(()),
        }
    }

    /// `SELECT * FROM 'pragma_optimize'`, `1 IN 'pragma_optimize'`: the name of a table may be written as a string.
    ///
    /// Behind an operator it is a value.
    #[cold]
    pub(super) fn pragma_text(&mut self, token: Token) -> Step {
        match self.previous.is(Kind::Operator) {
            true => Ok(()),
            false => self.named_like_pragma(token, 1),
        }
    }

    fn named_like_pragma(&mut self, token: Token, quotes: usize) -> Step {
        let text = self.text(token);
        let name = text.get(quotes..text.len() - quotes).unwrap_or_default();
        let is_pragma = name.len() > 7 && name[..7].eq_ignore_ascii_case(b"pragma_");
        let case = match quotes {
            0 => Case::Word,
            _ => Case::Folds,
        };
        if is_pragma && self.built_in(token, case) != Known::Harmless {
            let at = token.start();
            return self.refuse(Reason::Form { verb: "PRAGMA", at });
        }
        Ok(())
    }
}
