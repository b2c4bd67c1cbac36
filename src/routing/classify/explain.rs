//! `EXPLAIN` and `DESCRIBE`: the options before the query.

use super::dialect::Dialect;
use super::keyword::Keyword;
use super::phase::Phase;
use super::scan::{Clause, RuleResult, Scan};
use super::token::{Token, TokenKind};

impl Scan<'_, '_> {
    pub(super) fn explain(&mut self, token: Token) -> RuleResult {
        let is_mysql = self.dialect == Dialect::MySql;
        match (token.kind, token.keyword) {
            (TokenKind::Open, _) => {
                if self.dialect == Dialect::Postgres && self.previous.keyword == Keyword::Explain {
                    self.push(Clause::Arguments);
                    self.phase = Phase::ExplainOpen;
                } else {
                    self.push(Clause::QueryStart);
                    self.phase = Phase::Query;
                }
            }
            (TokenKind::Word, Keyword::Analyze) if self.dialect != Dialect::Sqlite => {}
            (TokenKind::Word, Keyword::Verbose) if self.dialect == Dialect::Postgres => {}
            (TokenKind::Word, Keyword::Extended | Keyword::Partitions) if is_mysql => {}
            (TokenKind::Word, Keyword::Format) if is_mysql => self.phase = Phase::ExplainFormat,
            (TokenKind::Word, Keyword::Query | Keyword::Plan) if self.dialect == Dialect::Sqlite => {}
            (TokenKind::Word, Keyword::Select | Keyword::Values | Keyword::Table | Keyword::With) => {
                self.phase = Phase::Query;
                self.begin_query(token)?;
            }
            (TokenKind::Word, Keyword::For | Keyword::Into) => return self.other_form(token),
            (TokenKind::Word, keyword) if is_mysql && !keyword.is_dml() => self.phase = Phase::Describe,
            (TokenKind::Quoted, _) if is_mysql => self.phase = Phase::Describe,
            (TokenKind::Word, _) => {
                return self.verb_refused(token);
            }
            _ => return self.other_form(token),
        }
        Ok(())
    }

    pub(super) fn explain_options(&mut self, token: Token) -> RuleResult {
        let is_query = matches!(token.keyword, Keyword::Select | Keyword::Values | Keyword::Table | Keyword::With);
        match (self.phase, token.kind) {
            (Phase::ExplainOpen, TokenKind::Open) => {
                self.push(Clause::QueryStart);
                self.phase = Phase::Query;
            }
            (Phase::ExplainOpen, TokenKind::Word) if is_query => {
                self.phase = Phase::Query;
                self.begin_query(token)?;
            }
            (Phase::ExplainOpen, TokenKind::Word) => self.phase = Phase::ExplainOptions,
            (Phase::ExplainOptions, TokenKind::Close) => {
                self.depth -= 1;
                self.phase = Phase::Explain;
            }
            (
                Phase::ExplainOptions,
                TokenKind::Word | TokenKind::Comma | TokenKind::Number | TokenKind::Text | TokenKind::Quoted,
            ) => {}
            _ => return self.other_form(token),
        }
        Ok(())
    }
}
