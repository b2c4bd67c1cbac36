//! A name before a parenthesis: a call, or one of the many constructs that look like a call.

use super::called::FunctionName;
use super::dialect::Dialect;
use super::functions::{self, Known, NameCase};
use super::keyword::Keyword;
use super::reason::Reason;
use super::scan::{Clause, RuleResult, Scan};
use super::token::{Token, TokenKind};

/// The built-ins of MySQL or MariaDB that are built-ins only if the parenthesis follows without a space.
#[rustfmt::skip]
const ADJACENT_ONLY: &[&str] = &[
    "adddate", "bit_and", "bit_or", "bit_xor", "cast", "count", "cume_dist", "curdate", "curtime", "date_add", "date_sub",
    "dense_rank", "extract", "first_value", "group_concat", "json_arrayagg", "json_objectagg", "lag", "lead", "max",
    "median", "mid", "min", "now", "nth_value", "ntile", "percent_rank", "percentile_cont", "percentile_disc", "position",
    "rank", "session_user", "st_collect", "std", "stddev", "stddev_pop", "stddev_samp", "subdate", "substr", "substring",
    "sum", "sysdate", "system_user", "trim", "trim_oracle", "var_pop", "var_samp", "variance",
];

impl Scan<'_, '_> {
    /// Decides about the name just read, which a parenthesis follows.
    pub(super) fn call(&mut self) -> RuleResult {
        let name = self.previous;
        if self.is_no_call(name) {
            return Ok(());
        }
        if name.kind == TokenKind::Escaped {
            return Err(Reason::UnresolvedEscape { at: name.start() });
        }
        let at = self.chain.start();
        let len = name.end() - at;
        let is_harmless = match self.look_up(name) {
            Known::Harmless if self.redefined && self.called(name).is_some_and(|call| self.known.redefines(&call)) => {
                false
            }
            Known::Harmless => !self.is_detached(name) || self.is_declared(name),
            Known::NeedsPrimary(effect) => {
                return Err(Reason::PrimaryFunction { effect, at, len });
            }
            Known::Unknown => self.is_declared(name) || self.is_grammar_of_mysql(name),
        };
        if !is_harmless {
            self.unknown.get_or_insert(Reason::UnknownFunction { at, len });
        }
        Ok(())
    }

    /// A string before a parenthesis: SQLite takes the string for the name of a table, which may have arguments.
    pub(super) fn call_of_text(&mut self) -> RuleResult {
        let (name, before) = (self.previous, self.before_previous);
        if before.is_keyword(Keyword::Uescape) {
            let at = self.chain.start();
            return Err(Reason::UnresolvedEscape { at });
        }
        if self.dialect != Dialect::Sqlite {
            return Ok(());
        }
        let (at, len) = (name.start(), name.len());
        match self.built_in(name) {
            Known::Harmless if !before.is(TokenKind::Dot) => {}
            Known::NeedsPrimary(effect) => return Err(Reason::PrimaryFunction { effect, at, len }),
            _ => {
                self.unknown.get_or_insert(Reason::UnknownFunction { at, len });
            }
        }
        Ok(())
    }

    /// MySQL without `IGNORE_SPACE`: `mid (x)` is a stored function, while `lower (x)` is the built-in.
    fn is_detached(&self, name: Token) -> bool {
        self.dialect == Dialect::MySql
            && self.sql.as_bytes().get(name.end()) != Some(&b'(')
            && self.is_one_of(name, ADJACENT_ONLY)
    }

    /// Whether the name is a keyword, a type, or an alias with a list of columns.
    fn is_no_call(&self, name: Token) -> bool {
        let before = self.chain.before;
        // CAST(x AS numeric(10,2)), x::varchar(20), AS t(a, b)
        if before.is_keyword(Keyword::As) || before.is(TokenKind::Cast) {
            return true;
        }
        if self.clause == Clause::Tables && (before.is_keyword(Keyword::Tablesample) || self.is_alias(before)) {
            return true;
        }
        !name.is_keyword(Keyword::None) && self.is_grammar(name, before)
    }

    /// Whether the name is an alias in the list of tables: `FROM t x(a, b)`, `FROM (…) x(a, b)`.
    fn is_alias(&self, before: Token) -> bool {
        let follows = match self.dialect {
            Dialect::Postgres => {
                matches!(before.kind, TokenKind::Word | TokenKind::Quoted | TokenKind::Escaped | TokenKind::Close)
            }
            Dialect::MySql => before.kind == TokenKind::Close,
            Dialect::Sqlite => false,
        };
        follows && self.chain.names == 1 && before.ends_operand()
    }

    fn look_up(&self, name: Token) -> Known {
        let built_in = match (self.chain.names, self.dialect) {
            (1, _) => true,
            (2, Dialect::Postgres) => {
                let qualifier = self.text(self.chain.first);
                qualifier == b"\"pg_catalog\"" || qualifier.eq_ignore_ascii_case(b"pg_catalog")
            }
            _ => false,
        };
        if !built_in {
            return Known::Unknown;
        }
        match (name.kind, self.dialect, self.built_in(name)) {
            // Whether a quoted name may be a built-in depends on the built-in; a denied one stays denied.
            (TokenKind::Quoted, Dialect::MySql, Known::Harmless) => Known::Unknown,
            (_, _, known) => known,
        }
    }

    /// The known effects of the built-in function of this name.
    pub(super) fn built_in(&self, name: Token) -> Known {
        let text = self.text(name);
        let (text, case) = match (name.kind, self.dialect) {
            (TokenKind::Word, _) => (text, NameCase::Folds),
            (TokenKind::Quoted, Dialect::Postgres) => (unquoted(text), NameCase::Exact),
            _ => (unquoted(text), NameCase::Folds),
        };
        functions::look_up(text, case, self.dialect)
    }

    fn is_declared(&self, name: Token) -> bool {
        self.called(name).is_some_and(|call| self.known.is_harmless(&call))
    }

    /// The called name, if a declaration can name it.
    fn called(&self, name: Token) -> Option<FunctionName<'_>> {
        let (start, names) = (self.chain.start(), self.chain.names);
        let qualifier = match names {
            1 => None,
            2 => self.sql.get(self.chain.first.start()..self.chain.first.end()),
            // No declaration names a longer chain or the field of a value.
            _ => self.sql.get(start..name.start()),
        };
        let text = self.sql.get(name.start()..name.end())?;
        if names > 2 || (names == 2 && qualifier.is_none()) {
            return None;
        }
        Some(FunctionName::new(qualifier, text, self.dialect == Dialect::Postgres))
    }
}

/// A name, or a text, without its quotes.
pub(super) fn unquoted(name: &[u8]) -> &[u8] {
    name.get(1..name.len().saturating_sub(1)).unwrap_or_default()
}
