//! A keyword before a parenthesis: grammar at some places, the name of a function at others.
//!
//! A word that is reserved in one dialect can name a function in another, so each keyword counts as grammar only in the
//! dialects and at the places where it cannot be a name.

use super::dialect::Dialect;
use super::keyword::Keyword;
use super::scan::{Clause, Scan};
use super::token::{Token, TokenKind};

impl Scan<'_, '_> {
    /// Whether a parenthesis can follow this keyword without a call.
    pub(super) fn is_grammar(&self, name: Token, before: Token) -> bool {
        let dialect = self.dialect;
        match name.keyword {
            // Reserved: in no dialect the name of a function.
            Keyword::As
            | Keyword::In
            | Keyword::On
            | Keyword::Using
            | Keyword::Values
            | Keyword::Select
            | Keyword::Distinct
            | Keyword::Where
            | Keyword::Having
            | Keyword::From
            | Keyword::Union
            | Keyword::Limit
            | Keyword::Not
            | Keyword::Group
            | Keyword::Table
            | Keyword::To
            | Keyword::Operatorish => true,
            Keyword::For | Keyword::Trimmed => dialect != Dialect::Sqlite,
            // On MariaDB `DEFAULT(column)` evaluates the column's default, which may be the next value of a sequence.
            Keyword::Default => dialect != Dialect::MySql,
            Keyword::Is => dialect != Dialect::Postgres,
            Keyword::Only | Keyword::PostgresWord => dialect == Dialect::Postgres,
            Keyword::Lateral => match dialect {
                Dialect::Postgres => true,
                // MariaDB does not have the word.
                Dialect::MySql => self.clause == Clause::Tables,
                Dialect::Sqlite => false,
            },
            Keyword::Quantifier => match dialect {
                Dialect::Postgres => true,
                Dialect::MySql => before.is(TokenKind::Operator),
                Dialect::Sqlite => false,
            },
            // Reserved on MySQL since 8.0.31 and 8.0.3.
            Keyword::Intersect | Keyword::Except => dialect != Dialect::MySql || before.ends_operand(),
            Keyword::Offset => dialect != Dialect::Sqlite || before.ends_operand(),
            Keyword::Of => dialect == Dialect::MySql && self.text(before).eq_ignore_ascii_case(b"member"),
            Keyword::Join => {
                matches!(self.clause, Clause::Tables | Clause::JoinCondition)
                    && (before.ends_operand()
                        || matches!(
                            before.keyword,
                            Keyword::Left
                                | Keyword::Right
                                | Keyword::Full
                                | Keyword::Inner
                                | Keyword::Outer
                                | Keyword::Cross
                                | Keyword::Natural
                        ))
            }
            Keyword::By => matches!(before.keyword, Keyword::Group | Keyword::Order | Keyword::Partition),
            Keyword::Over | Keyword::Filter => before.kind == TokenKind::Close,
            Keyword::Repeatable => before.kind == TokenKind::Close && self.clause == Clause::Tables,
            Keyword::Sets => self.groups() && self.text(before).eq_ignore_ascii_case(b"grouping"),
            // `GROUP BY a + cube(b)` is a call.
            Keyword::Rollup | Keyword::Cube => {
                self.groups()
                    && (matches!(before.kind, TokenKind::Comma | TokenKind::Open)
                        || matches!(before.keyword, Keyword::By | Keyword::Distinct | Keyword::Operatorish))
            }
            Keyword::First | Keyword::Next => before.keyword == Keyword::Fetch,
            // Between an operand and a parenthesis these words are grammar; elsewhere they can name a function.
            Keyword::Like => {
                dialect == Dialect::MySql || before.is_keyword(Keyword::Not) || self.follows_operand(before)
            }
            Keyword::Ilike => {
                dialect == Dialect::Postgres && (before.is_keyword(Keyword::Not) || self.follows_operand(before))
            }
            // On MySQL these words are in the table of functions, and PostgreSQL has none of them.
            Keyword::Infix => {
                dialect == Dialect::Sqlite && (before.is_keyword(Keyword::Not) || self.follows_operand(before))
            }
            Keyword::Frame => dialect != Dialect::MySql && self.follows_operand(before),
            Keyword::Escape => self.follows_operand(before),
            Keyword::Columns => match dialect {
                Dialect::Postgres => self.follows_operand(before),
                // The path before the word is a literal, or looks like a name under `ANSI_QUOTES`.
                Dialect::MySql => before.is(TokenKind::Text) || before.is(TokenKind::Quoted),
                Dialect::Sqlite => false,
            },
            // In the list of tables the word can name a function.
            Keyword::Operator => {
                dialect == Dialect::Postgres && (self.clause != Clause::Tables || self.follows_operand(before))
            }
            Keyword::Passing | Keyword::Value | Keyword::Zone => {
                dialect == Dialect::Postgres && self.follows_operand(before)
            }
            Keyword::Second => {
                dialect == Dialect::Postgres
                    && (self.follows_operand(before) || self.text(before).eq_ignore_ascii_case(b"interval"))
            }
            Keyword::Varying => {
                let types: [&[u8]; 4] = [b"character", b"char", b"nchar", b"bit"];
                types.iter().any(|name| self.text(before).eq_ignore_ascii_case(name))
            }
            _ => false,
        }
    }

    /// Whether an operand ends with `before`, the token in front of the keyword.
    ///
    /// No list of words that may stand before an operand would be complete on MySQL: `SELECT SQL_NO_CACHE f(1)`,
    /// `{any_word f(1)}`.
    fn follows_operand(&self, before: Token) -> bool {
        match (self.dialect, before.kind) {
            (Dialect::MySql, TokenKind::Word | TokenKind::Quoted) => false,
            // PASSING BY REF x, COLUMNS (a int PATH x), XMLROOT(a, VERSION x)
            (Dialect::Postgres, TokenKind::Word) => {
                let no_operands: [&[u8]; 3] = [b"ref", b"path", b"version"];
                before.ends_operand() && !no_operands.iter().any(|word| self.text(before).eq_ignore_ascii_case(word))
            }
            _ => before.ends_operand(),
        }
    }

    /// Whether `ROLLUP` and its kin are grammar at this place. On MySQL and SQLite these words name user functions.
    fn groups(&self) -> bool {
        self.dialect == Dialect::Postgres && self.clause == Clause::GroupBy
    }

    /// Whether the word, which is no keyword of this module, is grammar at this place. MariaDB takes these words for
    /// functions at other places.
    pub(super) fn is_grammar_of_mysql(&self, name: Token) -> bool {
        if self.dialect != Dialect::MySql || !name.is(TokenKind::Word) {
            return false;
        }
        let (word, before) = (self.text(name), self.chain.before);
        let is_option =
            ["sql_no_cache", "sql_buffer_result"].iter().any(|option| word.eq_ignore_ascii_case(option.as_bytes()));
        (is_option && self.is_before_options(before))
            || (before.is(TokenKind::Close) && word.eq_ignore_ascii_case(b"against"))
            || (self.clause == Clause::Tables && word.eq_ignore_ascii_case(b"json_table"))
    }

    /// Whether the options of a `SELECT` can go on behind this token.
    ///
    /// Left out are `ALL` and `DISTINCT`, which also stand in aggregates, and `SQL_CACHE`, which names a function on
    /// MySQL since 8.0.
    fn is_before_options(&self, before: Token) -> bool {
        before.is_keyword(Keyword::Select)
            || self.is_one_of(
                before,
                &["high_priority", "sql_small_result", "sql_big_result", "sql_buffer_result", "sql_no_cache"],
            )
    }
}
