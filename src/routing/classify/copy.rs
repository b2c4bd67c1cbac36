//! `COPY`: a read only as `COPY (query) TO STDOUT` or `COPY table TO STDOUT`.

use super::keyword::Keyword;
use super::phase::Phase;
use super::scan::{Clause, RuleResult, Scan};
use super::token::{Token, TokenKind};

impl Scan<'_, '_> {
    pub(super) fn copy(&mut self, token: Token) -> RuleResult {
        match (self.phase, token.kind, token.keyword) {
            (Phase::Copy, TokenKind::Open, _) => {
                self.push(Clause::QueryStart);
                self.phase = Phase::CopyQuery;
            }
            (Phase::Copy, TokenKind::Word | TokenKind::Quoted, _) => self.phase = Phase::CopyTable,
            (Phase::CopyTable | Phase::CopyTo, TokenKind::Word, Keyword::To)
                if self.previous.kind != TokenKind::Dot =>
            {
                self.phase = Phase::CopyStdout;
            }
            (Phase::CopyTable, TokenKind::Word, keyword) if keyword != Keyword::From => {}
            (
                Phase::CopyTable,
                TokenKind::Quoted | TokenKind::Dot | TokenKind::Comma | TokenKind::Open | TokenKind::Close,
                _,
            ) => {}
            (Phase::CopyStdout, TokenKind::Word, Keyword::Stdout) => self.phase = Phase::CopyOptions,
            _ => return self.other_form(token),
        }
        Ok(())
    }
}
