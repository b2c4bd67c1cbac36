//! The statements that are not queries, and the words before a query.

use super::dialect::Dialect;
use super::keyword::Keyword;
use super::phase::{Phase, PragmaForms};
use super::reason::Reason;
use super::scan::{Clause, RuleResult, Scan};
use super::token::{Token, TokenKind};

impl Scan<'_, '_> {
    pub(super) fn is_one_of(&self, token: Token, words: &[&str]) -> bool {
        let text = self.text(token);
        words.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(text))
    }

    /// A token outside queries.
    pub(super) fn in_form(&mut self, token: Token) -> RuleResult {
        match self.phase {
            Phase::Start => self.verb(token)?,
            Phase::Explain => self.explain(token)?,
            Phase::ExplainOpen | Phase::ExplainOptions => self.explain_options(token)?,
            Phase::ExplainFormat if self.text(token) == b"=" => self.phase = Phase::ExplainFormatValue,
            Phase::ExplainFormatValue if matches!(token.kind, TokenKind::Word | TokenKind::Text) => {
                self.phase = Phase::Explain;
            }
            Phase::Describe if token.kind == TokenKind::Dot => self.phase = Phase::DescribeName,
            Phase::Describe if matches!(token.kind, TokenKind::Word | TokenKind::Quoted | TokenKind::Text) => {
                self.phase = Phase::DescribeEnd;
            }
            Phase::DescribeName if matches!(token.kind, TokenKind::Word | TokenKind::Quoted) => {
                self.phase = Phase::Describe;
            }
            Phase::ShowSetting if matches!(token.kind, TokenKind::Word | TokenKind::Quoted) => {
                self.phase = Phase::ShowSettingEnd;
            }
            Phase::ShowSettingEnd if matches!(token.kind, TokenKind::Word | TokenKind::Quoted | TokenKind::Dot) => {}
            Phase::Show if token.kind == TokenKind::Word => self.shown(token)?,
            Phase::ShowStatus if token.kind == TokenKind::Word => self.shown_status(token)?,
            Phase::Pragma | Phase::PragmaName(_) | Phase::PragmaValue => self.pragma(token)?,
            Phase::Copy | Phase::CopyTable | Phase::CopyTo | Phase::CopyStdout => self.copy(token)?,
            Phase::CopyOptions => {}
            _ => return self.other_form(token),
        }
        self.advance(token);
        Ok(())
    }

    /// The statement has no form that is known to only read.
    pub(super) fn other_form(&self, token: Token) -> RuleResult {
        let verb = match self.phase {
            Phase::Show | Phase::ShowStatus | Phase::ShowSetting | Phase::ShowSettingEnd => "SHOW",
            Phase::Describe | Phase::DescribeName | Phase::DescribeEnd => "DESCRIBE",
            Phase::Pragma | Phase::PragmaName(_) | Phase::PragmaValue => "PRAGMA",
            Phase::Copy | Phase::CopyTable | Phase::CopyTo | Phase::CopyStdout => "COPY",
            _ => "EXPLAIN",
        };
        let at = token.start();
        Err(Reason::Form { verb, at })
    }

    /// Whether the statement may end at this place.
    pub(super) fn may_end(&self) -> Result<bool, Reason> {
        match self.phase {
            Phase::Start | Phase::Query | Phase::ShowRest | Phase::ShowVariables => Ok(true),
            Phase::Describe | Phase::DescribeEnd | Phase::ShowSettingEnd | Phase::PragmaValue => Ok(true),
            Phase::CopyOptions => Ok(true),
            Phase::PragmaName(PragmaForms::None) => {
                self.other_form(self.previous)?;
                Ok(false)
            }
            Phase::PragmaName(_) => Ok(true),
            _ => Ok(false),
        }
    }

    /// The first token of a statement.
    fn verb(&mut self, token: Token) -> RuleResult {
        match (token.kind, token.keyword, self.dialect) {
            (TokenKind::Open, ..) => {
                self.phase = Phase::Query;
                self.push(Clause::QueryStart);
            }
            (TokenKind::Word, Keyword::Explain, _) => self.phase = Phase::Explain,
            (TokenKind::Word, Keyword::Describe | Keyword::Desc, Dialect::MySql) => self.phase = Phase::Explain,
            (TokenKind::Word, Keyword::Show, Dialect::Postgres) => self.phase = Phase::ShowSetting,
            (TokenKind::Word, Keyword::Show, Dialect::MySql) => self.phase = Phase::Show,
            (TokenKind::Word, Keyword::Pragma, Dialect::Sqlite) => self.phase = Phase::Pragma,
            (TokenKind::Word, Keyword::Copy, Dialect::Postgres) => self.phase = Phase::Copy,
            (TokenKind::Word, ..) => {
                self.phase = Phase::Query;
                self.begin_query(token)?;
            }
            _ => return self.verb_refused(token),
        }
        Ok(())
    }
}
