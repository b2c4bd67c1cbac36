//! `EXPLAIN` and `DESCRIBE`: what stands before the query.

use super::dialect::Dialect;
use super::keyword::Keyword;
use super::phase::Phase;
use super::scan::{Clause, Scan, Step};
use super::token::{Kind, Token};

impl Scan<'_, '_> {
    pub(super) fn explain(&mut self, token: Token) -> Step {
        let is_mysql = self.dialect == Dialect::MySql;
        match (token.kind(), token.keyword()) {
            (Kind::Open, _) => {
                if self.dialect == Dialect::Postgres && self.previous.keyword() == Keyword::Explain {
                    self.push(Clause::Arguments);
                    self.phase = Phase::ExplainOpen;
                } else {
                    self.push(Clause::QueryStart);
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
            (Kind::Word, Keyword::For | Keyword::Into) => return self.other_form(token),
            (Kind::Word, keyword) if is_mysql && !keyword.is_dml() => self.phase = Phase::Describe,
            (Kind::Quoted, _) if is_mysql => self.phase = Phase::Describe,
            (Kind::Word, _) => {
                return self.verb_refused(token);
            }
            _ => return self.other_form(token),
        }
        Ok(())
    }

    pub(super) fn explain_options(&mut self, token: Token) -> Step {
        let is_query = matches!(token.keyword(), Keyword::Select | Keyword::Values | Keyword::Table | Keyword::With);
        match (self.phase, token.kind()) {
            (Phase::ExplainOpen, Kind::Open) => {
                self.push(Clause::QueryStart);
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
            _ => return self.other_form(token),
        }
        Ok(())
    }
}
