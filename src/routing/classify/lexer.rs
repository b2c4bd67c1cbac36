//! Turns bytes into tokens: one pass without allocation. Literals and comments are skipped as the dialect skips them.

use super::dialect::{Dialect, DoubleQuotes, LiteralRules};
use super::keyword::Keyword;
use super::reason::Reason;
use super::token::{Token, TokenKind};

/// The next token, or why the lexer cannot go on.
pub(super) type Lexed = Result<Token, Reason>;

/// The lexer of one text under one set of rules for literals.
pub(super) struct Lexer<'sql> {
    pub(super) bytes: &'sql [u8],
    pub(super) at: usize,
    pub(super) dialect: Dialect,
    pub(super) rules: LiteralRules,
    /// The byte after the last name: a dot at this place is no decimal point.
    name_end: usize,
    /// Where the first literal begins that other rules may read otherwise.
    pub(super) ambiguous: Option<usize>,
}

impl<'sql> Lexer<'sql> {
    pub(super) fn new(sql: &'sql str, dialect: Dialect, rules: LiteralRules) -> Self {
        let bytes = sql.as_bytes();
        let at = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        Self { bytes, at, dialect, rules, name_end: usize::MAX, ambiguous: None }
    }

    /// The byte `ahead` of the present place; NUL, which begins no token, stands for the end of the text.
    pub(super) fn peek(&self, ahead: usize) -> u8 {
        self.byte(self.at + ahead)
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// The place of the first byte from `at` that `is_wanted`.
    pub(super) fn find(&self, at: usize, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
        let rest = self.bytes.get(at..)?;
        rest.iter().position(|byte| is_wanted(*byte)).map(|distance| at + distance)
    }

    pub(super) fn token(&mut self, kind: TokenKind, end: usize) -> Token {
        let start = std::mem::replace(&mut self.at, end);
        Token::new(kind, Keyword::None, start, end)
    }

    /// The token of one byte at the present place.
    pub(super) fn single(&mut self, kind: TokenKind) -> Token {
        self.token(kind, self.at + 1)
    }

    /// Reads the next token. At the end of the text every call gives [`TokenKind::End`].
    pub(super) fn next(&mut self) -> Lexed {
        use Dialect::{MySql, Postgres, Sqlite};
        loop {
            let start = self.at;
            let kind = match (self.peek(0), self.dialect) {
                (0, _) if start == self.bytes.len() => return Ok(self.token(TokenKind::End, start)),
                (b' ' | b'\t'..=b'\r', _) => {
                    self.at += 1;
                    continue;
                }
                // A byte order mark inside a text is white space on SQLite.
                (0xEF, Sqlite) if self.peek(1) == 0xBB && self.peek(2) == 0xBF => {
                    self.at += 3;
                    continue;
                }
                (b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.., _) | (b'$', MySql) => return self.word(),
                (b'0'..=b'9', _) => return self.number(),
                (b'\'', _) => return self.text(start + 1, b'\'', self.rules.backslash),
                (b'"', MySql) if self.rules.double_quotes == DoubleQuotes::Text => {
                    self.ambiguous.get_or_insert(start);
                    return self.text(start + 1, b'"', self.rules.backslash);
                }
                (b'"', _) => return self.quoted(start + 1, b'"', TokenKind::Quoted),
                (b'`', MySql | Sqlite) => return self.quoted(start + 1, b'`', TokenKind::Quoted),
                (b'[', Sqlite) => return self.bracketed(),
                (b'.', _) => return self.dot(),
                (b'$', Postgres) => return self.dollar(),
                (b'?', MySql | Sqlite) | (b'$' | b'@' | b':', Sqlite) => return self.parameter(),
                (b':', Postgres) if self.peek(1) == b':' => return Ok(self.token(TokenKind::Cast, start + 2)),
                (b':', MySql) if self.peek(1) == b'=' => return Ok(self.token(TokenKind::Assign, start + 2)),
                (b'@', MySql) if self.peek(1) == b'@' => return Ok(self.token(TokenKind::AtAt, start + 2)),
                (b'-', _) if self.begins_line_comment() => {
                    self.line_comment();
                    continue;
                }
                (b'#', MySql) => {
                    self.line_comment();
                    continue;
                }
                (b'/', _) if self.peek(1) == b'*' => {
                    self.block_comment()?;
                    continue;
                }
                (b'@', MySql) => TokenKind::At,
                (b',', _) => TokenKind::Comma,
                (b';', _) => TokenKind::Semicolon,
                (b'(', _) => TokenKind::Open,
                (b')', _) => TokenKind::Close,
                (b']', Postgres) => TokenKind::CloseBracket,
                (b'!' | b'%' | b'&' | b'*' | b'+' | b'-' | b'/' | b'<' | b'=' | b'>' | b'^' | b'|' | b'~', _)
                | (b'#' | b':' | b'?' | b'@' | b'[' | b'`', Postgres)
                // `{d '2020-01-01'}` and `{fn now()}`. On MySQL `[` opens a quoted name in one mode of MariaDB only.
                | (b':' | b'{' | b'}', MySql) => TokenKind::Operator,
                _ => return Err(Reason::UnexpectedByte { at: start }),
            };
            return Ok(self.single(kind));
        }
    }

    fn word(&mut self) -> Lexed {
        let start = self.at;
        let end = self.find(start, |byte| !goes_on_word(byte)).unwrap_or(self.bytes.len());
        if end == start + 1
            && self.dialect == Dialect::Postgres
            && let Some(literal) = self.prefixed()
        {
            return literal;
        }
        self.pass_name(end);
        Ok(Token::new(TokenKind::Word, Keyword::of(&self.bytes[start..end]), start, end))
    }

    fn pass_name(&mut self, end: usize) {
        self.at = end;
        self.name_end = end;
    }

    /// A quoted name whose inside begins at `inside`. A doubled quote stands for one quote and ends nothing.
    pub(super) fn quoted(&mut self, inside: usize, quote: u8, kind: TokenKind) -> Lexed {
        let (start, mut at) = (self.at, inside);
        loop {
            let Some(found) = self.find(at, |byte| byte == quote) else {
                return self.unterminated(start);
            };
            if self.byte(found + 1) != quote {
                self.pass_name(found + 1);
                return Ok(Token::new(kind, Keyword::None, start, found + 1));
            }
            at = found + 2;
        }
    }

    /// A name in brackets, which cannot hold a bracket.
    fn bracketed(&mut self) -> Lexed {
        let start = self.at;
        match self.find(start, |byte| byte == b']') {
            Some(close) => {
                self.pass_name(close + 1);
                Ok(Token::new(TokenKind::Quoted, Keyword::None, start, close + 1))
            }
            None => self.unterminated(start),
        }
    }

    pub(super) fn unterminated(&mut self, start: usize) -> Lexed {
        self.at = self.bytes.len();
        Err(Reason::Unterminated { at: start })
    }

    /// A dot, or a number that begins with it.
    fn dot(&mut self) -> Lexed {
        let is_after_name = self.name_end == self.at;
        match self.peek(1).is_ascii_digit() {
            true if !is_after_name => self.number(),
            // A name follows the dot, even one that is made of digits.
            true if self.dialect == Dialect::MySql => Err(Reason::UnexpectedByte { at: self.at }),
            _ => Ok(self.single(TokenKind::Dot)),
        }
    }
}

/// Whether the byte goes on a word.
pub(super) const fn goes_on_word(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80..)
}
