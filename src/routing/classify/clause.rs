//! The keywords with a rule: the clause that follows each, and the keywords that make the statement a write.

use super::dialect::Dialect;
use super::keyword::Keyword;
use super::reason::Reason;
use super::scan::{Clause, FOLLOWED, RuleResult, Scan};
use super::token::{Token, TokenKind};

impl Scan<'_, '_> {
    /// The first word of a query.
    pub(super) fn begin_query(&mut self, token: Token) -> RuleResult {
        match token.keyword {
            Keyword::Select | Keyword::Values => self.clause = Clause::Expressions,
            Keyword::Table if self.dialect != Dialect::Sqlite => self.clause = Clause::Expressions,
            Keyword::With => self.begin_with(token)?,
            keyword if keyword.is_dml() && self.depth > 0 => {
                return self.modifies(token);
            }
            _ => return self.verb_refused(token),
        }
        Ok(())
    }

    fn begin_with(&mut self, token: Token) -> RuleResult {
        if self.depth >= FOLLOWED {
            return Err(Reason::TooDeep { at: token.start() });
        }
        self.clause = Clause::WithName;
        Ok(())
    }

    /// Applies the rule of a keyword that is not a name at this place.
    pub(super) fn keyword(&mut self, token: Token) -> RuleResult {
        let at = token.start();
        let (previous, before) = (self.previous.keyword, self.before_previous.keyword);
        match token.keyword {
            Keyword::Select => self.clause = Clause::Expressions,
            Keyword::Values | Keyword::Table if self.previous.kind == TokenKind::Open => {
                self.clause = Clause::Expressions;
            }
            Keyword::With if self.previous.kind == TokenKind::Open => self.begin_with(token)?,
            // IS DISTINCT FROM
            Keyword::From if self.clause.is_query() && previous != Keyword::Distinct => self.clause = Clause::Tables,
            Keyword::Join | Keyword::StraightJoin if self.clause == Clause::JoinCondition => {
                self.clause = Clause::Tables;
            }
            Keyword::On if self.clause == Clause::Tables => self.clause = Clause::JoinCondition,
            Keyword::Where
            | Keyword::Having
            | Keyword::Order
            | Keyword::Limit
            | Keyword::Offset
            | Keyword::Fetch
            | Keyword::Window
            | Keyword::Union
            | Keyword::Intersect
            | Keyword::Except
                if self.clause.is_query() =>
            {
                self.clause = Clause::Expressions;
            }
            Keyword::By if previous == Keyword::Group && self.clause.is_query() => self.clause = Clause::GroupBy,
            Keyword::For => {
                if previous == Keyword::Value && matches!(before, Keyword::Next | Keyword::Previous) {
                    let at = self.before_previous.start();
                    return Err(Reason::SequenceValue { at });
                }
                // FOR SYSTEM_TIME, USE INDEX FOR JOIN: no list of columns can follow.
                if self.clause == Clause::Tables {
                    self.clause = Clause::JoinCondition;
                }
            }
            Keyword::Update | Keyword::Share => {
                if let Some(clause) = locking_clause(before, previous, token.keyword) {
                    return Err(Reason::LockingClause { clause, at });
                }
            }
            Keyword::Into => return Err(Reason::SelectInto { at }),
            Keyword::Procedure if self.dialect == Dialect::MySql && !self.phase.is_show() => {
                let clause = "PROCEDURE";
                return Err(Reason::SideEffect { clause, at });
            }
            Keyword::CalcFoundRows if self.dialect == Dialect::MySql => {
                let clause = "SQL_CALC_FOUND_ROWS";
                return Err(Reason::SideEffect { clause, at });
            }
            _ => {}
        }
        Ok(())
    }
}

/// The locking clause that ends with `last`, given the two words before it.
fn locking_clause(before: Keyword, previous: Keyword, last: Keyword) -> Option<&'static str> {
    match (before, previous, last) {
        (_, Keyword::For, Keyword::Update) => Some("FOR UPDATE"),
        (_, Keyword::For, Keyword::Share) => Some("FOR SHARE"),
        (Keyword::No, Keyword::Key, Keyword::Update) => Some("FOR NO KEY UPDATE"),
        (Keyword::For, Keyword::Key, Keyword::Share) => Some("FOR KEY SHARE"),
        (Keyword::Lock, Keyword::In, Keyword::Share) => Some("LOCK IN SHARE MODE"),
        _ => None,
    }
}
