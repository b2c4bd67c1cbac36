//! Follows the tokens of a query.

use super::dialect::Dialect;
use super::functions::Known;
use super::keyword::Keyword;
use super::lexer::Lexed;
use super::phase::Phase;
use super::reason::Reason;
use super::scan::{Clause, RuleResult, Scan};
use super::token::{Token, TokenKind};

impl Scan<'_, '_> {
    /// Follows a query up to the token that does not belong to it.
    pub(super) fn query(&mut self) -> Lexed {
        while self.phase.is_query() {
            let token = self.lexer.next()?;
            match token.kind {
                TokenKind::End | TokenKind::Semicolon => return Ok(token),
                TokenKind::Word | TokenKind::Quoted | TokenKind::Escaped => self.name(token)?,
                TokenKind::Open => self.open(token)?,
                TokenKind::Close => self.close(token)?,
                _ => self.other(token)?,
            }
        }
        self.lexer.next()
    }

    /// A token that is no name and no parenthesis.
    fn other(&mut self, mut token: Token) -> RuleResult {
        match token.kind {
            TokenKind::Dot if self.clause != Clause::QueryStart => return self.dot(token),
            TokenKind::Comma => match self.clause {
                Clause::JoinCondition => self.clause = Clause::Tables,
                Clause::WithNext => self.clause = Clause::WithName,
                Clause::WithName | Clause::WithBody => return self.incomplete(token),
                _ => {}
            },
            TokenKind::Operator if self.text(token) == b"{" => token = self.odbc_escape()?,
            TokenKind::At | TokenKind::AtAt | TokenKind::Assign => self.variable(&mut token)?,
            TokenKind::Text if self.phase == Phase::ShowVariables => self.shown_variable(token)?,
            TokenKind::Text if self.dialect == Dialect::Sqlite && self.clause.is_ordinary() => {
                self.pragma_text(token)?;
            }
            _ if self.clause.is_with() && self.clause != Clause::WithSearch => {
                return self.incomplete(token);
            }
            _ => {}
        }
        if self.clause == Clause::QueryStart {
            return self.incomplete(token);
        }
        self.advance(token);
        Ok(())
    }

    /// The word behind `{` in `{d '2020-01-01'}` or `{fn now()}`: neither an operand nor called.
    fn odbc_escape(&mut self) -> Lexed {
        let word = self.lexer.next()?;
        // The server refuses a reserved word at this place.
        match word.is_name() && word.is_keyword(Keyword::None) {
            true => Ok(Token { kind: TokenKind::Operator, keyword: Keyword::None, ..word }),
            false => Err(Reason::Incomplete { at: word.start() }),
        }
    }

    fn dot(&mut self, token: Token) -> RuleResult {
        if !self.previous.is_name() {
            self.chain.names = 9;
        } else if self.is_temporary_schema(self.previous) {
            return Err(Reason::SessionVariable { at: self.previous.start() });
        }
        self.advance(token);
        Ok(())
    }

    /// Whether `name` is `pg_temp` or `"pg_temp"`: a schema that belongs to the session.
    fn is_temporary_schema(&self, name: Token) -> bool {
        let is_named_so = name.is_keyword(Keyword::PgTemp) || self.text(name) == b"\"pg_temp\"";
        is_named_so && self.dialect == Dialect::Postgres
    }

    /// A word or a quoted name. Where the grammar wants a name, a keyword loses its meaning.
    fn name(&mut self, mut token: Token) -> RuleResult {
        let previous = self.previous;
        if previous.is(TokenKind::Dot) {
            self.field(token)?;
            token.keyword = Keyword::None;
            self.chain.go_on(token);
        } else {
            self.chain.begin(previous, token);
            if previous.is_keyword(Keyword::As) && self.clause != Clause::WithBody {
                token.keyword = Keyword::None;
            }
        }
        if self.dialect == Dialect::Sqlite {
            self.pragma_table(token)?;
        }
        match self.clause {
            Clause::QueryStart => self.begin_query(token)?,
            clause if clause.is_with() => self.with_name(token)?,
            // `(INSERT` is a verb, unless the next word goes on with an expression: then `insert` is a column.
            _ if previous.keyword.is_dml()
                && self.before_previous.is(TokenKind::Open)
                && !token.keyword.continues_expression() =>
            {
                return self.modifies(previous);
            }
            _ => self.keyword(token)?,
        }
        self.advance(token);
        Ok(())
    }

    /// A name behind a dot: a column, unless the dialect lets the name act without being called.
    fn field(&self, token: Token) -> RuleResult {
        match self.dialect {
            // `s.nextval`
            Dialect::MySql if matches!(token.keyword, Keyword::Nextval | Keyword::Currval) => {
                Err(Reason::SequenceValue { at: token.start() })
            }
            Dialect::Postgres if token.is(TokenKind::Escaped) => Err(Reason::UnresolvedEscape { at: token.start() }),
            Dialect::Postgres => self.attribute(token),
            _ => Ok(()),
        }
    }

    /// `('s'::regclass).nextval` is a call: PostgreSQL takes `x.f` for `f(x)` if `x` has no column `f`.
    fn attribute(&self, token: Token) -> RuleResult {
        match self.built_in(token) {
            Known::NeedsPrimary(effect) if !self.is_followed_by_parenthesis(token) => {
                Err(Reason::PrimaryFunction { effect, at: token.start(), len: token.len() })
            }
            _ => Ok(()),
        }
    }

    /// Looks past white space only: a comment in between changes the reason, not the intent.
    fn is_followed_by_parenthesis(&self, token: Token) -> bool {
        let rest = self.sql.as_bytes().get(token.end()..).unwrap_or_default();
        rest.iter().take(16).find(|byte| !byte.is_ascii_whitespace()) == Some(&b'(')
    }
}
