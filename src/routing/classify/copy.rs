//! `COPY`: a read only as `COPY (query) TO STDOUT` or of a table to there.

use super::keyword::Keyword;
use super::phase::Phase;
use super::scan::{Clause, Scan, Step};
use super::token::{Kind, Token};

impl Scan<'_, '_> {
    pub(super) fn copy(&mut self, token: Token) -> Step {
        match (self.phase, token.kind(), token.keyword()) {
            (Phase::Copy, Kind::Open, _) => {
                self.push(Clause::QueryStart);
                self.phase = Phase::CopyQuery;
            }
            (Phase::Copy, Kind::Word | Kind::Quoted, _) => self.phase = Phase::CopyTable,
            (Phase::CopyTable | Phase::CopyTo, Kind::Word, Keyword::To) if self.previous.kind() != Kind::Dot => {
                self.phase = Phase::CopyStdout;
            }
            (Phase::CopyTable, Kind::Word, keyword) if keyword != Keyword::From => {}
            (Phase::CopyTable, Kind::Quoted | Kind::Dot | Kind::Comma | Kind::Open | Kind::Close, _) => {}
            (Phase::CopyStdout, Kind::Word, Keyword::Stdout) => self.phase = Phase::CopyOptions,
            _ => return self.other_form(token),
        }
        Ok(())
    }
}
