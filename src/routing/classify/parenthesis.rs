//! Parentheses in a query: the clause inside them, and the clause behind them.

use super::dialect::Dialect;
use super::keyword::Keyword;
use super::phase::Phase;
use super::reason::Reason;
use super::scan::{Clause, FOLLOWED, RuleResult, Scan};
use super::token::{Token, TokenKind};

impl Scan<'_, '_> {
    pub(super) fn open(&mut self, token: Token) -> RuleResult {
        if !self.clause.is_ordinary() {
            return self.open_first(token);
        }
        if self.previous.is_name() {
            self.call()?;
            if self.dialect == Dialect::Postgres && self.begins_no_operand() {
                return self.open_no_operand(token);
            }
        } else if self.previous.is(TokenKind::Text) {
            self.call_of_text()?;
        }
        let inside = match self.clause {
            Clause::Tables | Clause::GroupBy => self.inside_list(),
            _ => Clause::Arguments,
        };
        self.push(inside);
        self.advance(token);
        Ok(())
    }

    /// Whether an operand, and no operator, follows the closing parenthesis: `DISTINCT ON (`, `OPERATOR(`.
    fn begins_no_operand(&self) -> bool {
        match self.previous.keyword {
            Keyword::On => self.before_previous.is_keyword(Keyword::Distinct),
            Keyword::Operator => true,
            _ => false,
        }
    }

    fn open_no_operand(&mut self, token: Token) -> RuleResult {
        // At that depth the clauses are not kept, so the scan could not come back to this one.
        if self.depth + 1 >= FOLLOWED {
            return Err(Reason::TooDeep { at: token.start() });
        }
        self.push(Clause::NoOperand);
        self.advance(token);
        Ok(())
    }

    /// A parenthesis where a query begins or in a `WITH` list.
    fn open_first(&mut self, token: Token) -> RuleResult {
        match self.clause {
            Clause::QueryStart => {
                self.clause = Clause::Arguments;
                self.push(Clause::QueryStart);
            }
            _ => self.open_with(token)?,
        }
        self.advance(token);
        Ok(())
    }

    /// The clause inside a parenthesis in `FROM` or `GROUP BY`: more of the list, or an expression.
    fn inside_list(&self) -> Clause {
        let leads_on = match self.clause {
            Clause::Tables => {
                matches!(self.previous.kind, TokenKind::Comma | TokenKind::Open)
                    || matches!(
                        self.previous.keyword,
                        Keyword::From | Keyword::Join | Keyword::StraightJoin | Keyword::Lateral | Keyword::Only
                    )
            }
            // `GROUP BY (cube(a))` is a call.
            _ => self.previous.is_keyword(Keyword::Sets),
        };
        match leads_on {
            true => self.clause,
            false => Clause::Arguments,
        }
    }

    pub(super) fn close(&mut self, token: Token) -> RuleResult {
        if self.depth == 0 || !self.clause.is_ordinary() {
            return self.incomplete(token);
        }
        let mut behind = token;
        if self.clause == Clause::NoOperand {
            behind.kind = TokenKind::Operator;
        }
        self.pop();
        if self.depth == 0 && self.phase == Phase::CopyQuery {
            self.phase = Phase::CopyTo;
        }
        self.advance(behind);
        Ok(())
    }
}
