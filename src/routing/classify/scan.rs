//! Follows the tokens of a text and stops at the first one that makes it no read.

use super::called::KnownFunctions;
use super::dialect::{Dialect, Reading};
use super::forms::Phase;
use super::functions::{self, Case};
use super::keyword::Keyword;
use super::lexer::Lexer;
use super::reason::Reason;
use super::token::{Kind, Token};

/// Where in a query the scan is, for one level of parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clause {
    /// Arguments, or an expression in parentheses.
    Arguments,
    /// In a query, where expressions stand.
    Expressions,
    /// The list of tables: here a name may be followed by a list of columns.
    Tables,
    /// A condition within the list of tables: a comma or a join leads back.
    JoinCondition,
    GroupBy,
    /// `WITH`: the name of a member comes.
    WithName,
    /// `WITH`: columns, `AS` and the body come.
    WithBody,
    /// `WITH`: a comma or the main statement comes.
    WithNext,
    /// `WITH`: within `SEARCH` or `CYCLE`.
    WithSearch,
}

impl Clause {
    pub(super) const fn is_with(self) -> bool {
        matches!(self, Self::WithName | Self::WithBody | Self::WithNext | Self::WithSearch)
    }

    const fn is_query(self) -> bool {
        matches!(self, Self::Expressions | Self::Tables | Self::JoinCondition | Self::GroupBy)
    }
}

/// Names joined by dots, the last of which may turn out to be called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// What stands before the first name.
    pub(super) before: Token,
    /// Where the first name begins.
    pub(super) start: usize,
    /// The name before the last one.
    pub(super) qualifier: Token,
    pub(super) last: Token,
    /// How many names; 9 if what is before the dot is no name.
    pub(super) names: u8,
}

/// How deep parentheses are followed; deeper ones are counted.
const FOLLOWED: usize = 64;

/// The scan of one text in one reading.
pub(super) struct Scan<'sql, 'known> {
    pub(super) sql: &'sql str,
    pub(super) lexer: Lexer<'sql>,
    pub(super) dialect: Dialect,
    pub(super) known: &'known dyn KnownFunctions,
    pub(super) phase: Phase,
    pub(super) previous: Token,
    pub(super) before_previous: Token,
    pub(super) chain: Chain,
    pub(super) clause: Clause,
    pub(super) depth: usize,
    frames: [Clause; FOLLOWED],
    /// The next word must begin a query.
    pub(super) expects_query: bool,
    /// The first call of an unknown function.
    pub(super) unknown: Option<Reason>,
    statements: usize,
}

impl<'sql, 'known> Scan<'sql, 'known> {
    pub(super) fn new(sql: &'sql str, dialect: Dialect, reading: Reading, known: &'known dyn KnownFunctions) -> Self {
        Self {
            sql,
            lexer: Lexer::new(sql, dialect, reading),
            dialect,
            known,
            phase: Phase::Start,
            previous: Token::START,
            before_previous: Token::START,
            chain: Chain { before: Token::START, start: 0, qualifier: Token::START, last: Token::START, names: 0 },
            clause: Clause::Arguments,
            depth: 0,
            frames: [Clause::Arguments; FOLLOWED],
            expects_query: false,
            unknown: None,
            statements: 0,
        }
    }

    /// How far the lexer has come.
    pub(super) fn position(&self) -> usize {
        self.lexer.position()
    }

    /// Where the first literal begins that another setting may end elsewhere.
    pub(super) fn ambiguous(&self) -> Option<usize> {
        self.lexer.ambiguous
    }

    /// Runs to the end of the text, or to what makes it a write.
    pub(super) fn run(&mut self) -> Reason {
        loop {
            let token = self.lexer.next();
            let step = match token.kind() {
                Kind::Stop => Err(self.lexer.stop),
                Kind::End => {
                    return match (self.end_statement(token), self.unknown) {
                        (Err(reason), _) | (Ok(()), Some(reason)) => reason,
                        (Ok(()), None) if self.statements == 0 => Reason::Empty,
                        (Ok(()), None) => Reason::PlainRead,
                    };
                }
                Kind::Semicolon => self.end_statement(token),
                _ if self.phase.is_query() => self.in_query(token),
                _ => self.in_form(token),
            };
            if let Err(reason) = step {
                return reason;
            }
        }
    }

    /// Moves on by a token.
    #[inline]
    pub(super) fn advance(&mut self, token: Token) {
        self.before_previous = self.previous;
        self.previous = token;
    }

    pub(super) fn text(&self, token: Token) -> &'sql [u8] {
        self.sql.as_bytes().get(token.start()..token.end()).unwrap_or_default()
    }

    fn end_statement(&mut self, token: Token) -> Result<(), Reason> {
        let incomplete = self.depth > 0 || self.expects_query || self.clause.is_with() || !self.may_end()?;
        if incomplete {
            return Err(Reason::Incomplete { at: token.start() });
        }
        if self.phase != Phase::Start {
            self.statements += 1;
        }
        self.phase = Phase::Start;
        self.clause = Clause::Arguments;
        self.previous = Token::START;
        self.before_previous = Token::START;
        Ok(())
    }

    #[inline]
    fn in_query(&mut self, mut token: Token) -> Result<(), Reason> {
        match token.kind() {
            Kind::Word | Kind::Quoted | Kind::Escaped => self.name(&mut token)?,
            Kind::Open => self.open(token)?,
            Kind::Close => self.close(token)?,
            Kind::Dot => {
                if !matches!(self.previous.kind(), Kind::Word | Kind::Quoted | Kind::Escaped) {
                    self.chain.names = 9;
                }
                if self.previous.keyword() == Keyword::PgTemp && self.dialect == Dialect::Postgres {
                    return Err(Reason::SessionVariable { at: self.previous.start() });
                }
            }
            Kind::Comma => match self.clause {
                Clause::JoinCondition => self.clause = Clause::Tables,
                Clause::WithNext => self.clause = Clause::WithName,
                Clause::WithName | Clause::WithBody => {
                    return Err(Reason::Incomplete { at: token.start() });
                }
                _ => {}
            },
            Kind::At | Kind::AtAt | Kind::Assign => self.variable(&mut token)?,
            Kind::Text if self.phase == Phase::ShowVariables => self.shown_variable(token)?,
            _ if self.clause.is_with() && self.clause != Clause::WithSearch => {
                return Err(Reason::Incomplete { at: token.start() });
            }
            _ => {}
        }
        if self.expects_query && token.kind() != Kind::Open {
            return Err(Reason::Incomplete { at: token.start() });
        }
        self.advance(token);
        Ok(())
    }

    /// A word or a quoted name. Where the grammar wants a name, its keyword is taken away.
    fn name(&mut self, token: &mut Token) -> Result<(), Reason> {
        let previous = self.previous;
        if previous.kind() == Kind::Dot {
            self.qualified(*token)?;
            token.forget_keyword();
            self.chain.qualifier = self.chain.last;
            self.chain.names = self.chain.names.saturating_add(1);
        } else {
            self.chain.before = previous;
            self.chain.start = token.start();
            self.chain.names = 1;
            if previous.keyword() == Keyword::As && self.clause != Clause::WithBody {
                token.forget_keyword();
            }
        }
        self.chain.last = *token;
        if self.dialect == Dialect::Sqlite {
            self.pragma_table(*token)?;
        }
        if self.expects_query {
            return self.begin_query(*token);
        }
        if self.clause.is_with() {
            return self.with_name(*token);
        }
        if previous.keyword().is_dml()
            && self.before_previous.kind() == Kind::Open
            && !token.keyword().continues_expression()
        {
            let len = previous.end() - previous.start();
            return Err(Reason::DataModifyingCte { at: previous.start(), len });
        }
        if token.keyword() != Keyword::None { self.keyword(*token) } else { Ok(()) }
    }

    /// A name after a dot: a column, unless it is one of the names that act when they are written so.
    fn qualified(&self, token: Token) -> Result<(), Reason> {
        match self.dialect {
            // `s.nextval`
            Dialect::MySql if matches!(token.keyword(), Keyword::Nextval | Keyword::Currval) => {
                Err(Reason::SequenceValue { at: token.start() })
            }
            // `('s'::regclass).nextval` is a call: PostgreSQL takes `x.f` for `f(x)` if x has no column f.
            Dialect::Postgres => {
                let text = self.text(token);
                let (name, case) = match token.kind() {
                    Kind::Quoted => (text.get(1..text.len() - 1).unwrap_or_default(), Case::Exact),
                    Kind::Escaped => return Err(Reason::UnresolvedEscape { at: token.start() }),
                    _ => (text, Case::Folds),
                };
                match functions::attribute_call(name, case) {
                    Some(effect) if !self.is_followed_by_parenthesis(token) => {
                        Err(Reason::PrimaryFunction { effect, at: token.start(), len: token.end() - token.start() })
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Looks past white space only: a comment in between changes the reason, not the intent.
    fn is_followed_by_parenthesis(&self, token: Token) -> bool {
        let rest = self.sql.as_bytes().get(token.end()..).unwrap_or_default();
        rest.iter().take(16).find(|byte| !byte.is_ascii_whitespace()) == Some(&b'(')
    }

    /// The first word of a query, where one must stand.
    pub(super) fn begin_query(&mut self, token: Token) -> Result<(), Reason> {
        let len = token.end() - token.start();
        match token.keyword() {
            Keyword::Select | Keyword::Values => self.clause = Clause::Expressions,
            Keyword::Table if self.dialect != Dialect::Sqlite => self.clause = Clause::Expressions,
            Keyword::With => self.begin_with(token)?,
            keyword if keyword.is_dml() && self.depth > 0 => {
                return Err(Reason::DataModifyingCte { at: token.start(), len });
            }
            _ => {
                return Err(Reason::Verb { at: token.start(), len });
            }
        }
        self.expects_query = false;
        Ok(())
    }

    fn begin_with(&mut self, token: Token) -> Result<(), Reason> {
        if self.depth >= FOLLOWED {
            return Err(Reason::TooDeep { at: token.start() });
        }
        self.clause = Clause::WithName;
        Ok(())
    }

    fn keyword(&mut self, token: Token) -> Result<(), Reason> {
        let at = token.start();
        let (previous, before) = (self.previous.keyword(), self.before_previous.keyword());
        match token.keyword() {
            Keyword::Select => self.clause = Clause::Expressions,
            Keyword::Values | Keyword::Table if self.previous.kind() == Kind::Open => self.clause = Clause::Expressions,
            Keyword::With if self.previous.kind() == Kind::Open => self.begin_with(token)?,
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
                    return Err(Reason::SequenceValue { at: self.before_previous.start() });
                }
                // FOR SYSTEM_TIME, USE INDEX FOR JOIN: no list of columns can follow.
                if self.clause == Clause::Tables {
                    self.clause = Clause::JoinCondition;
                }
            }
            Keyword::Update | Keyword::Share => {
                if let Some(clause) = locking_clause(before, previous, token.keyword()) {
                    return Err(Reason::LockingClause { clause, at });
                }
            }
            Keyword::Into => return Err(Reason::SelectInto { at }),
            Keyword::Procedure if self.dialect == Dialect::MySql && !self.phase.is_show() => {
                return Err(Reason::SideEffect { clause: "PROCEDURE", at });
            }
            Keyword::CalcFoundRows if self.dialect == Dialect::MySql => {
                return Err(Reason::SideEffect { clause: "SQL_CALC_FOUND_ROWS", at });
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, token: Token) -> Result<(), Reason> {
        if self.expects_query {
            self.push(Clause::Arguments);
            return Ok(());
        }
        if self.clause.is_with() {
            return self.open_with(token);
        }
        match self.previous.kind() {
            Kind::Word | Kind::Quoted | Kind::Escaped => self.call()?,
            Kind::Text if self.before_previous.keyword() == Keyword::Uescape => {
                return Err(Reason::UnresolvedEscape { at: self.chain.start });
            }
            _ => {}
        }
        let previous = self.previous.keyword();
        let lists = matches!(self.previous.kind(), Kind::Comma | Kind::Open);
        let inside = match self.clause {
            Clause::Tables
                if lists
                    || matches!(
                        previous,
                        Keyword::From | Keyword::Join | Keyword::StraightJoin | Keyword::Lateral | Keyword::Only
                    ) =>
            {
                Clause::Tables
            }
            Clause::GroupBy
                if lists || matches!(previous, Keyword::Sets | Keyword::Rollup | Keyword::Cube | Keyword::By) =>
            {
                Clause::GroupBy
            }
            _ => Clause::Arguments,
        };
        self.push(inside);
        Ok(())
    }

    pub(super) fn push(&mut self, inside: Clause) {
        if let Some(frame) = self.frames.get_mut(self.depth) {
            *frame = self.clause;
        }
        self.depth += 1;
        self.clause = inside;
    }

    fn close(&mut self, token: Token) -> Result<(), Reason> {
        if self.depth == 0 || self.clause.is_with() {
            return Err(Reason::Incomplete { at: token.start() });
        }
        self.depth -= 1;
        self.clause = self.frames.get(self.depth).copied().unwrap_or(Clause::Arguments);
        if self.depth == 0 && self.phase == Phase::CopyQuery {
            self.phase = Phase::CopyTo;
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
