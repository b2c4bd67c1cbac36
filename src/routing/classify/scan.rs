//! Follows the tokens of a text up to the first one that makes the text a write.

use super::called::KnownFunctions;
use super::dialect::{Dialect, LiteralRules};
use super::keyword::Keyword;
use super::lexer::Lexer;
use super::phase::Phase;
use super::reason::Reason;
use super::token::{Token, TokenKind};

/// The clause of a query in which the scan is, for one level of parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub(super) enum Clause {
    /// Arguments, or an expression in parentheses.
    Arguments,
    /// The parts of a query that hold expressions.
    Expressions,
    /// The list of tables, where a list of columns may follow a name.
    Tables,
    /// A condition within the list of tables: a comma or a join leads back to the list.
    JoinCondition,
    GroupBy,
    /// The inside of a parenthesis that ends no operand: `DISTINCT ON (…)`, `OPERATOR(…)`.
    NoOperand,
    /// The first word of a query must follow, or one more parenthesis.
    QueryStart,
    /// `WITH`: the name of a member follows.
    WithName,
    /// `WITH`: columns, `AS` and the body follow.
    WithBody,
    /// `WITH`: a comma or the main statement follows.
    WithNext,
    /// `WITH`: within `SEARCH` or `CYCLE`.
    WithSearch,
}

impl Clause {
    /// Whether a name needs no rule of the clause.
    pub(super) fn is_ordinary(self) -> bool {
        self as u8 <= Self::NoOperand as u8
    }

    pub(super) const fn is_with(self) -> bool {
        matches!(self, Self::WithName | Self::WithBody | Self::WithNext | Self::WithSearch)
    }

    pub(super) const fn is_query(self) -> bool {
        matches!(self, Self::Expressions | Self::Tables | Self::JoinCondition | Self::GroupBy)
    }
}

/// Names joined by dots, the last of which may turn out to be called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The token before the first name.
    pub(super) before: Token,
    /// The first name; of kind `Start` if no name stands before its dot.
    pub(super) first: Token,
    /// The number of names; 9 and more if the token before the dot is no name.
    pub(super) names: u32,
}

impl Chain {
    const EMPTY: Self = Self { before: Token::START, first: Token::START, names: 0 };

    /// A name with no dot before it.
    pub(super) fn begin(&mut self, before: Token, first: Token) {
        self.before = before;
        self.first = first;
        self.names = 1;
    }

    /// A name with a dot before it.
    pub(super) fn go_on(&mut self, name: Token) {
        if self.names == 0 {
            self.first = Token::new(TokenKind::Start, Keyword::None, name.start(), name.end());
            // `SELECT .f(1)` calls no built-in.
            self.names = 9;
        }
        self.names += 1;
    }

    /// Where the first name begins.
    pub(super) fn start(&self) -> usize {
        match self.first.is(TokenKind::Start) {
            true => 0,
            false => self.first.start(),
        }
    }
}

/// The depth to which the clauses of parentheses are kept. Deeper parentheses are only counted.
pub(super) const FOLLOWED: usize = 64;

/// The answer of a rule to a token: go on, or why the statement is no read.
pub(super) type RuleResult = Result<(), Reason>;

/// The scan of one text under one set of rules for literals.
pub(super) struct Scan<'sql, 'known> {
    pub(super) sql: &'sql str,
    pub(super) lexer: Lexer<'sql>,
    pub(super) dialect: Dialect,
    pub(super) known: &'known dyn KnownFunctions,
    /// Whether a built-in may be another function.
    pub(super) redefined: bool,
    pub(super) phase: Phase,
    pub(super) clause: Clause,
    pub(super) previous: Token,
    pub(super) before_previous: Token,
    pub(super) chain: Chain,
    pub(super) depth: usize,
    frames: [Clause; FOLLOWED],
    /// The first call of an unknown function.
    pub(super) unknown: Option<Reason>,
    statements: usize,
    /// Where the present statement begins.
    begun: usize,
}

impl<'sql, 'known> Scan<'sql, 'known> {
    pub(super) fn new(
        sql: &'sql str,
        dialect: Dialect,
        rules: LiteralRules,
        known: &'known dyn KnownFunctions,
    ) -> Self {
        Self {
            sql,
            lexer: Lexer::new(sql, dialect, rules),
            dialect,
            known,
            redefined: known.redefines_built_ins(),
            phase: Phase::Start,
            clause: Clause::Arguments,
            previous: Token::START,
            before_previous: Token::START,
            chain: Chain::EMPTY,
            depth: 0,
            frames: [Clause::Arguments; FOLLOWED],
            unknown: None,
            statements: 0,
            begun: 0,
        }
    }

    /// The number of bytes that the lexer has read.
    pub(super) fn position(&self) -> usize {
        self.lexer.at
    }

    /// Where the first literal begins whose end depends on a setting.
    pub(super) fn ambiguous(&self) -> Option<usize> {
        self.lexer.ambiguous
    }

    /// Runs to the end of the text, or to the token that makes it a write.
    pub(super) fn run(&mut self) -> Reason {
        match (self.follow(), self.unknown) {
            (Err(reason), _) | (Ok(()), Some(reason)) => reason,
            (Ok(()), None) if self.statements == 0 => Reason::Empty,
            (Ok(()), None) => Reason::PlainRead,
        }
    }

    /// The call of an unknown function in a statement that has ended: the server runs that statement before it parses
    /// the next.
    pub(super) fn unknown_before(&self) -> Option<Reason> {
        self.unknown.filter(|reason| reason.position() < Some(self.begun))
    }

    /// Whether the statement that is no read for this reason cannot be parsed either: a literal or a comment does not
    /// end, or a backslash stands outside of them. The server then runs no part of the statement.
    pub(super) fn breaks_off(&mut self, reason: Reason) -> bool {
        match reason {
            Reason::Unterminated { .. } => return true,
            // The statement has ended: the lexer would go on with the next one.
            Reason::Incomplete { at } if self.lexer.byte(at) == b';' => return false,
            _ => {}
        }
        loop {
            match self.lexer.next() {
                Ok(token) if matches!(token.kind, TokenKind::Semicolon | TokenKind::End) => return false,
                Ok(_) => {}
                Err(Reason::Unterminated { .. }) => return true,
                // `\N` is NULL to MariaDB.
                Err(Reason::UnexpectedByte { at }) if self.lexer.byte(at) == b'\\' => {
                    return self.lexer.byte(at + 1) != b'N';
                }
                Err(_) => return false,
            }
        }
    }

    fn follow(&mut self) -> RuleResult {
        loop {
            let token = match self.phase.is_query() {
                true => self.query()?,
                false => self.lexer.next()?,
            };
            match token.kind {
                TokenKind::End => return self.end_statement(token),
                TokenKind::Semicolon => self.end_statement(token)?,
                _ => self.in_form(token)?,
            }
        }
    }

    /// The statement is no read because it breaks off or does not match at this token.
    pub(super) fn incomplete(&self, token: Token) -> RuleResult {
        Err(Reason::Incomplete { at: token.start() })
    }

    /// The statement is no read because of this verb.
    pub(super) fn verb_refused(&self, token: Token) -> RuleResult {
        let (at, len) = (token.start(), token.len());
        Err(Reason::Verb { at, len })
    }

    /// The statement is no read because this verb modifies data.
    pub(super) fn modifies(&self, token: Token) -> RuleResult {
        let (at, len) = (token.start(), token.len());
        Err(Reason::DataModifyingCte { at, len })
    }

    /// Moves on by a token.
    pub(super) fn advance(&mut self, token: Token) {
        self.before_previous = self.previous;
        self.previous = token;
    }

    pub(super) fn text(&self, token: Token) -> &'sql [u8] {
        self.sql.as_bytes().get(token.start()..token.end()).unwrap_or_default()
    }

    fn end_statement(&mut self, token: Token) -> RuleResult {
        if self.depth > 0 || !self.clause.is_ordinary() || !self.may_end()? {
            return self.incomplete(token);
        }
        if self.phase != Phase::Start {
            self.statements += 1;
        }
        self.begun = token.end();
        self.phase = Phase::Start;
        self.clause = Clause::Arguments;
        self.previous = Token::START;
        self.before_previous = Token::START;
        Ok(())
    }

    /// Goes into a parenthesis.
    pub(super) fn push(&mut self, inside: Clause) {
        if let Some(frame) = self.frames.get_mut(self.depth) {
            *frame = self.clause;
        }
        self.depth += 1;
        self.clause = inside;
    }

    /// Comes back out of a parenthesis.
    pub(super) fn pop(&mut self) {
        self.depth -= 1;
        self.clause = match self.frames.get(self.depth) {
            Some(clause) => *clause,
            None => Clause::Arguments,
        };
    }
}
