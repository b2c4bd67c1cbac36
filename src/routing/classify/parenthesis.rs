//! Parentheses in a query: what they hold, and where the scan is behind them.

use super::keyword::Keyword;
use super::phase::Phase;
use super::reason::Reason;
use super::scan::{Clause, Scan, Step};
use super::token::{Kind, Token};

impl Scan<'_, '_> {
    #[inline(always)]
    pub(super) fn open(&mut self, token: Token) -> Step {
        if !self.clause.is_ordinary() {
            return self.open_first(token);
        }
        if self.previous.is_name() {
            self.call()?;
        } else if self.previous.is(Kind::Text) && self.before_previous.is_keyword(Keyword::Uescape) {
            let at = self.chain.start();
            return self.refuse(Reason::UnresolvedEscape { at });
        }
        let inside = match self.clause {
            Clause::Tables | Clause::GroupBy => self.inside_list(),
            _ => Clause::Arguments,
        };
        self.push(inside);
        self.advance(token);
        Ok(())
    }

    /// A parenthesis where a query begins or in a `WITH` list.
    fn open_first(&mut self, token: Token) -> Step {
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

    /// What a parenthesis holds in `FROM` or `GROUP BY`: more of the list, or something else.
    fn inside_list(&self) -> Clause {
        let leads_on = matches!(self.previous.kind(), Kind::Comma | Kind::Open)
            || match self.clause {
                Clause::Tables => matches!(
                    self.previous.keyword(),
                    Keyword::From | Keyword::Join | Keyword::StraightJoin | Keyword::Lateral | Keyword::Only
                ),
                _ => matches!(self.previous.keyword(), Keyword::Sets | Keyword::Rollup | Keyword::Cube | Keyword::By),
            };
        match leads_on {
            true => self.clause,
            false => Clause::Arguments,
        }
    }

    #[inline(always)]
    pub(super) fn close(&mut self, token: Token) -> Step {
        if self.depth == 0 || !self.clause.is_ordinary() {
            return self.incomplete(token);
        }
        self.pop();
        if self.depth == 0 && self.phase == Phase::CopyQuery {
            self.phase = Phase::CopyTo;
        }
        self.advance(token);
        Ok(())
    }
}
