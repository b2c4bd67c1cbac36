//! Bytes to tokens: one pass, nothing allocated, literals and comments skipped as the dialect does.

use super::chunk;
use super::class::{Class, Classes, classes};
use super::dialect::{Dialect, Double, Reading};
use super::keyword::Keyword;
use super::reason::Reason;
use super::token::{Kind, Token};

/// The lexer of one text in one reading.
pub(super) struct Lexer<'sql> {
    pub(super) bytes: &'sql [u8],
    pub(super) at: usize,
    pub(super) classes: &'static Classes,
    pub(super) dialect: Dialect,
    pub(super) reading: Reading,
    /// The byte after the last name: a dot there is no decimal point.
    name_end: usize,
    /// Where a literal begins whose reading depends on a setting.
    pub(super) ambiguous: Option<usize>,
    /// Why [`Kind::Stop`] was given.
    pub(super) stop: Reason,
}

impl<'sql> Lexer<'sql> {
    pub(super) fn new(sql: &'sql str, dialect: Dialect, reading: Reading) -> Self {
        let bytes = sql.as_bytes();
        let at = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        Self {
            bytes,
            at,
            classes: classes(dialect),
            dialect,
            reading,
            name_end: usize::MAX,
            ambiguous: None,
            stop: Reason::Empty,
        }
    }

    /// How many bytes have been read: for the tests of linearity.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn peek(&self, ahead: usize) -> u8 {
        // NUL begins no token, so it can stand for the end.
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    #[cold]
    pub(super) fn stop(&mut self, reason: Reason) -> Token {
        self.stop = reason;
        Token::new(Kind::Stop, Keyword::None, self.at, self.at)
    }

    #[inline]
    pub(super) fn token(&mut self, kind: Kind, start: usize, end: usize) -> Token {
        self.at = end;
        Token::new(kind, Keyword::None, start, end)
    }

    /// A token of one byte.
    #[inline]
    pub(super) fn single(&mut self, kind: Kind) -> Token {
        self.token(kind, self.at, self.at + 1)
    }

    /// The next token; [`Kind::End`] and [`Kind::Stop`] come again when asked again.
    pub(super) fn next(&mut self) -> Token {
        loop {
            let start = self.at;
            return match self.classes[usize::from(self.peek(0))] {
                Class::Space => {
                    self.at += 1;
                    continue;
                }
                Class::Letter => self.word(start),
                Class::Quoted => self.quoted(start + 1, b'"', Kind::Quoted),
                Class::Backtick => self.quoted(start + 1, b'`', Kind::Quoted),
                Class::Bracket => self.bracketed(),
                Class::Comma => self.single(Kind::Comma),
                Class::Dot => self.dot(),
                Class::Open => self.single(Kind::Open),
                Class::Close => self.single(Kind::Close),
                Class::CloseBracket => self.single(Kind::CloseBracket),
                Class::Operator => self.single(Kind::Operator),
                Class::Semicolon => self.single(Kind::Semicolon),
                Class::Digit => self.number(),
                Class::Quote => self.text(start, start + 1, b'\'', self.reading.backslash),
                Class::Double => {
                    if self.reading.double == Double::Name {
                        return self.quoted(start + 1, b'"', Kind::Quoted);
                    }
                    self.ambiguous.get_or_insert(start);
                    self.text(start, start + 1, b'"', self.reading.backslash)
                }
                Class::Dollar => self.dollar(),
                Class::Question | Class::Parameter => self.parameter(),
                Class::Mark => {
                    if self.peek(1) == 0xBB && self.peek(2) == 0xBF {
                        self.at += 3;
                        continue;
                    }
                    self.word(start)
                }
                Class::Dash => {
                    if self.peek(1) == b'-' && self.dashes_comment() {
                        self.line_comment();
                        continue;
                    }
                    self.single(Kind::Operator)
                }
                Class::Hash => {
                    self.line_comment();
                    continue;
                }
                Class::Slash => {
                    if self.peek(1) != b'*' {
                        return self.single(Kind::Operator);
                    }
                    match self.block_comment() {
                        Ok(()) => continue,
                        Err(reason) => self.stop(reason),
                    }
                }
                Class::At if self.peek(1) == b'@' => self.token(Kind::AtAt, start, start + 2),
                Class::At => self.single(Kind::At),
                Class::Colon => self.colon(),
                Class::Bad if start == self.bytes.len() => self.token(Kind::End, start, start),
                Class::Bad => self.stop(Reason::UnexpectedByte { at: start }),
            };
        }
    }

    fn word(&mut self, start: usize) -> Token {
        let chunk = chunk::load(self.bytes, start);
        let length = chunk::word_bytes(chunk);
        if length == 1
            && self.dialect == Dialect::Postgres
            && let Some(token) = self.prefixed(start)
        {
            return token;
        }
        let (keyword, end) = match length < 8 {
            true => (Keyword::short(chunk, length), start + length),
            false => long_word(self.bytes, start, chunk),
        };
        self.pass_name(end);
        Token::new(Kind::Word, keyword, start, end)
    }

    /// Goes on at this place, given where the last name ended.
    pub(super) fn resume(&mut self, at: usize, name_end: usize) {
        self.at = at;
        self.name_end = name_end;
    }

    /// Goes on behind a name.
    #[inline]
    pub(super) fn pass_name(&mut self, end: usize) {
        self.at = end;
        self.name_end = end;
    }

    /// A quoted name whose inside begins at `inside`.
    pub(super) fn quoted(&mut self, inside: usize, quote: u8, kind: Kind) -> Token {
        let start = self.at;
        match chunk::find_close(self.bytes, inside, quote) {
            Some(end) => {
                self.pass_name(end);
                Token::new(kind, Keyword::None, start, end)
            }
            None => self.unterminated(start),
        }
    }

    /// `[…]`, in which nothing stands for a bracket.
    fn bracketed(&mut self) -> Token {
        let start = self.at;
        match chunk::find(self.bytes, start, b']') {
            Some(close) => {
                self.pass_name(close + 1);
                Token::new(Kind::Quoted, Keyword::None, start, close + 1)
            }
            None => self.unterminated(start),
        }
    }

    #[cold]
    pub(super) fn unterminated(&mut self, start: usize) -> Token {
        // Under another setting it may end; still not one reading in which this is a read.
        self.at = self.bytes.len();
        self.stop(Reason::Unterminated { at: start })
    }

    /// `.`, or a number that begins with it.
    fn dot(&mut self) -> Token {
        let (start, is_after_name) = (self.at, self.name_end == self.at);
        match self.peek(1).is_ascii_digit() {
            true if !is_after_name => self.number(),
            // What follows a dot is a name, even if it is made of digits.
            true if self.dialect == Dialect::MySql => self.stop(Reason::UnexpectedByte { at: start }),
            _ => self.single(Kind::Dot),
        }
    }

    fn colon(&mut self) -> Token {
        let start = self.at;
        match (self.dialect, self.peek(1)) {
            (Dialect::Postgres, b':') => self.token(Kind::Cast, start, start + 2),
            (Dialect::MySql, b'=') => self.token(Kind::Assign, start, start + 2),
            _ => self.single(Kind::Operator),
        }
    }
}

/// The keyword that a word of eight bytes and more is, and its end; `beginning` are its first bytes.
pub(super) fn long_word(text: &[u8], start: usize, beginning: u64) -> (Keyword, usize) {
    let mut end = start + 8;
    loop {
        let more = chunk::word_bytes(chunk::load(text, end));
        end += more;
        if more < 8 {
            return (Keyword::long(beginning, &text[start..end]), end);
        }
    }
}
