//! `WITH`: its members and the statement they belong to.

use super::keyword::Keyword;
use super::scan::{Clause, RuleResult, Scan};
use super::token::{Token, TokenKind};

impl Scan<'_, '_> {
    /// A word or a quoted name in a `WITH` list.
    pub(super) fn with_name(&mut self, token: Token) -> RuleResult {
        match (self.clause, token.keyword) {
            (Clause::WithName, Keyword::Recursive) if self.previous.keyword == Keyword::With => {}
            (Clause::WithName, _) => self.clause = Clause::WithBody,
            (Clause::WithBody, Keyword::As | Keyword::Not | Keyword::Materialized) => {}
            (Clause::WithNext | Clause::WithSearch, Keyword::Select | Keyword::Values | Keyword::Table) => {
                self.clause = Clause::Expressions;
            }
            (Clause::WithNext | Clause::WithSearch, keyword) if keyword.is_dml() => {
                return self.modifies(token);
            }
            (Clause::WithNext, Keyword::Search | Keyword::Cycle) => self.clause = Clause::WithSearch,
            // The next member after a SEARCH or CYCLE clause, perhaps with a list of columns.
            (Clause::WithNext | Clause::WithSearch, Keyword::As) => self.clause = Clause::WithBody,
            (Clause::WithSearch, _) => {}
            (Clause::WithNext, _) => return self.verb_refused(token),
            _ => return self.incomplete(token),
        }
        Ok(())
    }

    /// A parenthesis in a `WITH` list: columns, the body of a member, or the main statement.
    pub(super) fn open_with(&mut self, token: Token) -> RuleResult {
        match self.clause {
            Clause::WithBody if matches!(self.previous.keyword, Keyword::As | Keyword::Materialized) => {
                self.clause = Clause::WithNext;
                self.push(Clause::QueryStart);
            }
            Clause::WithNext => {
                self.clause = Clause::Expressions;
                self.push(Clause::QueryStart);
            }
            Clause::WithBody
                if matches!(self.previous.kind, TokenKind::Word | TokenKind::Quoted | TokenKind::Escaped) =>
            {
                self.push(Clause::Arguments);
            }
            Clause::WithSearch => {
                // The columns of the next member; anything else that looks like a call is one.
                if self.chain.before.kind != TokenKind::Comma {
                    self.call()?;
                }
                self.push(Clause::Arguments);
            }
            _ => return self.incomplete(token),
        }
        Ok(())
    }
}
