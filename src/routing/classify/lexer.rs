//! Bytes to tokens: one pass, nothing allocated, literals and comments skipped as the dialect does.

use super::class::{
    AT, BACKTICK, BRACE, CLOSE, CLOSE_BRACKET, COLON, COMMA, DASH, DIGIT, DOLLAR, DOT, DOUBLE, HASH, HIGH, LETTER,
    OPEN, OPEN_BRACKET, OPERATOR, QUESTION, QUOTE, SEMICOLON, SLASH, SPACE, WORD, class,
};
use super::dialect::{Backslash, Dialect, Double, Reading};
use super::keyword::{self, Keyword};
use super::reason::Reason;
use super::token::{Kind, Token};

/// The lexer of one text in one reading.
pub(super) struct Lexer<'sql> {
    bytes: &'sql [u8],
    at: usize,
    dialect: Dialect,
    reading: Reading,
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
        Self { bytes, at, dialect, reading, name_end: usize::MAX, ambiguous: None, stop: Reason::Empty }
    }

    /// How many bytes have been read: for the tests of linearity.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    fn peek(&self, ahead: usize) -> u8 {
        // NUL begins no token, so it can stand for the end.
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn stop(&mut self, reason: Reason) -> Token {
        self.stop = reason;
        Token::new(Kind::Stop, Keyword::None, self.at, self.at)
    }

    #[inline]
    fn token(&mut self, kind: Kind, start: usize, end: usize) -> Token {
        self.at = end;
        Token::new(kind, Keyword::None, start, end)
    }

    /// The next token; [`Kind::End`] and [`Kind::Stop`] come again when asked again.
    #[inline]
    pub(super) fn next(&mut self) -> Token {
        loop {
            // One space is what most often stands between tokens.
            self.at += usize::from(self.bytes.get(self.at) == Some(&b' '));
            let start = self.at;
            let Some(&byte) = self.bytes.get(start) else {
                return self.token(Kind::End, start, start);
            };
            match class(byte) {
                SPACE => self.at += 1,
                LETTER => return self.word(start),
                DOUBLE => {
                    if self.reading.double == Double::Text {
                        self.ambiguous.get_or_insert(start);
                        return self.text(start, start + 1, b'"', self.reading.backslash);
                    }
                    return self.name(start, start + 1, b'"', Kind::Quoted);
                }
                DOT => {
                    if self.peek(1).is_ascii_digit() && self.name_end != start {
                        return self.number(start);
                    }
                    return self.dot(start);
                }
                COMMA => return self.token(Kind::Comma, start, start + 1),
                OPEN => return self.token(Kind::Open, start, start + 1),
                CLOSE => return self.token(Kind::Close, start, start + 1),
                // A placeholder, and on PostgreSQL an operator of JSON.
                QUESTION if self.dialect == Dialect::Postgres => {
                    return self.token(Kind::Operator, start, start + 1);
                }
                QUESTION => return self.parameter(start),
                OPERATOR => return self.token(Kind::Operator, start, start + 1),
                DIGIT => return self.number(start),
                QUOTE => return self.text(start, start + 1, b'\'', self.reading.backslash),
                BACKTICK => {
                    if self.dialect == Dialect::Postgres {
                        return self.token(Kind::Operator, start, start + 1);
                    }
                    return self.name(start, start + 1, b'`', Kind::Quoted);
                }
                DOLLAR => match self.dialect {
                    Dialect::Postgres => return self.dollar(start),
                    Dialect::MySql => return self.word(start),
                    Dialect::Sqlite => return self.parameter(start),
                },
                HIGH => {
                    if self.dialect == Dialect::Sqlite && self.bytes[start..].starts_with(b"\xEF\xBB\xBF") {
                        self.at += 3;
                    } else {
                        return self.word(start);
                    }
                }
                SEMICOLON => return self.token(Kind::Semicolon, start, start + 1),
                DASH => {
                    if self.peek(1) == b'-' && self.dashes_comment() {
                        self.line_comment();
                    } else {
                        return self.token(Kind::Operator, start, start + 1);
                    }
                }
                SLASH => {
                    if self.peek(1) != b'*' {
                        return self.token(Kind::Operator, start, start + 1);
                    }
                    if let Err(reason) = self.block_comment() {
                        return self.stop(reason);
                    }
                }
                HASH => match self.dialect {
                    Dialect::MySql => self.line_comment(),
                    Dialect::Postgres => return self.token(Kind::Operator, start, start + 1),
                    Dialect::Sqlite => return self.stop(Reason::UnexpectedByte { at: start }),
                },
                AT => match self.dialect {
                    Dialect::MySql if self.peek(1) == b'@' => {
                        return self.token(Kind::AtAt, start, start + 2);
                    }
                    Dialect::MySql => return self.token(Kind::At, start, start + 1),
                    Dialect::Postgres => return self.token(Kind::Operator, start, start + 1),
                    Dialect::Sqlite => return self.parameter(start),
                },
                COLON => return self.colon(start),
                OPEN_BRACKET => match self.dialect {
                    Dialect::Postgres => return self.token(Kind::Operator, start, start + 1),
                    Dialect::Sqlite => return self.name(start, start + 1, b']', Kind::Quoted),
                    // A quoted name in one mode of MariaDB, an error elsewhere.
                    Dialect::MySql => return self.stop(Reason::UnexpectedByte { at: start }),
                },
                CLOSE_BRACKET if self.dialect == Dialect::Postgres => {
                    return self.token(Kind::CloseBracket, start, start + 1);
                }
                // {d '2020-01-01'}, {fn now()}
                BRACE if self.dialect == Dialect::MySql => {
                    return self.token(Kind::Operator, start, start + 1);
                }
                _ => return self.stop(Reason::UnexpectedByte { at: start }),
            }
        }
    }

    #[inline]
    fn word(&mut self, start: usize) -> Token {
        let (mut at, mut key) = (start, 0);
        while let Some(&byte) = self.bytes.get(at) {
            if class(byte) & WORD == 0 {
                break;
            }
            key = keyword::push(key, byte);
            at += 1;
        }
        if self.dialect == Dialect::Postgres
            && at == start + 1
            && let Some(token) = self.prefixed(start)
        {
            return token;
        }
        self.at = at;
        self.name_end = at;
        Token::new(Kind::Word, Keyword::of(&self.bytes[start..at], key), start, at)
    }

    /// `E'…'`, `B'…'`, `X'…'`, `U&'…'`, `U&"…"`: whatever the setting, their ends are known.
    fn prefixed(&mut self, start: usize) -> Option<Token> {
        let after = self.bytes.get(start + 1).copied()?;
        match (self.bytes[start] | 0x20, after) {
            (b'e', b'\'') => Some(self.escape_text(start)),
            (b'b' | b'x', b'\'') => Some(self.text(start, start + 2, b'\'', Backslash::Plain)),
            (b'u', b'&') => match self.bytes.get(start + 2).copied()? {
                // Escapes are resolved later: they do not move the end.
                b'\'' => {
                    let before = self.ambiguous;
                    let token = self.text(start, start + 3, b'\'', Backslash::Plain);
                    self.ambiguous = before;
                    Some(token)
                }
                b'"' => Some(self.name(start, start + 3, b'"', Kind::Escaped)),
                _ => None,
            },
            _ => None,
        }
    }

    /// `E'…'`, which goes on, still with escapes, in a literal on a later line.
    fn escape_text(&mut self, start: usize) -> Token {
        let mut token = self.text(start, start + 2, b'\'', Backslash::Escapes);
        while token.kind() == Kind::Text {
            let Some(open) = self.continuation() else {
                break;
            };
            token = self.text(start, open + 1, b'\'', Backslash::Escapes);
        }
        token
    }

    /// The quote that goes on with the literal just read: after white space with a line break, and `--` comments.
    ///
    /// The scanned space is read again as space, once: the pass stays linear.
    fn continuation(&self) -> Option<usize> {
        let (mut at, mut line_break) = (self.at, false);
        loop {
            match self.bytes.get(at).copied()? {
                b'\n' | b'\r' => line_break = true,
                b' ' | b'\t' | 0x0B | 0x0C => {}
                b'-' if self.bytes.get(at + 1) == Some(&b'-') => {
                    while !matches!(self.bytes.get(at).copied()?, b'\n' | b'\r') {
                        at += 1;
                    }
                    line_break = true;
                }
                b'\'' if line_break => return Some(at),
                _ => return None,
            }
            at += 1;
        }
    }

    /// A literal whose inside begins at `inside`.
    fn text(&mut self, start: usize, inside: usize, quote: u8, backslash: Backslash) -> Token {
        let mut at = inside;
        // Only the setting-dependent kinds of literal can be ambiguous: they begin with their quote.
        let depends = inside == start + 1 && self.dialect != Dialect::Sqlite;
        while let Some(&byte) = self.bytes.get(at) {
            if byte == quote {
                if depends && backslash == Backslash::Plain && at > inside && self.bytes[at - 1] == b'\\' {
                    self.ambiguous.get_or_insert(start);
                }
                if self.bytes.get(at + 1) != Some(&quote) {
                    return self.token(Kind::Text, start, at + 1);
                }
                at += 2;
            } else if byte == b'\\' && backslash == Backslash::Escapes {
                if depends && self.bytes.get(at + 1) == Some(&quote) {
                    self.ambiguous.get_or_insert(start);
                }
                at += 2;
            } else {
                at += 1;
            }
        }
        // Under another setting it may end; still not one reading in which this is a read.
        self.at = self.bytes.len();
        self.stop(Reason::Unterminated { at: start })
    }

    /// A quoted name whose inside begins at `inside`; a doubled quote stands for itself, but not `]]`.
    #[inline]
    fn name(&mut self, start: usize, inside: usize, quote: u8, kind: Kind) -> Token {
        let mut at = inside;
        while let Some(&byte) = self.bytes.get(at) {
            if byte == quote {
                if quote == b']' || self.bytes.get(at + 1) != Some(&quote) {
                    self.name_end = at + 1;
                    return self.token(kind, start, at + 1);
                }
                at += 1;
            }
            at += 1;
        }
        self.at = self.bytes.len();
        self.stop(Reason::Unterminated { at: start })
    }

    fn dot(&mut self, start: usize) -> Token {
        // What follows a dot is a name, even if it is made of digits.
        if self.name_end == start && self.peek(1).is_ascii_digit() && self.dialect == Dialect::MySql {
            return self.stop(Reason::UnexpectedByte { at: start });
        }
        self.token(Kind::Dot, start, start + 1)
    }

    fn digits(&self, mut at: usize) -> usize {
        while self.bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    }

    fn number(&mut self, start: usize) -> Token {
        let hexadecimal = self.bytes[start] == b'0' && self.peek(1) | 0x20 == b'x' && self.peek(2).is_ascii_hexdigit();
        let binary = self.bytes[start] == b'0' && self.peek(1) | 0x20 == b'b' && matches!(self.peek(2), b'0' | b'1');
        let mut at = start;
        if hexadecimal || binary {
            at += 2;
            while self.bytes.get(at).is_some_and(u8::is_ascii_hexdigit) {
                at += 1;
            }
        } else {
            at = self.digits(at);
            if self.bytes.get(at) == Some(&b'.') {
                at = self.digits(at + 1);
            }
            if self.bytes.get(at).is_some_and(|byte| byte | 0x20 == b'e') {
                let sign = usize::from(matches!(self.bytes.get(at + 1), Some(b'+' | b'-')));
                let end = self.digits(at + 1 + sign);
                if end > at + 1 + sign {
                    at = end;
                }
            }
        }
        // On MySQL a name may begin with digits: `1lower(x)` calls a function of the user's.
        if self.dialect == Dialect::MySql && self.bytes.get(at).is_some_and(|byte| class(*byte) & WORD != 0) {
            return self.stop(Reason::UnexpectedByte { at });
        }
        self.token(Kind::Number, start, at)
    }

    /// `?`, `?1`; on SQLite also `$a`, `@a`, `:a`.
    fn parameter(&mut self, start: usize) -> Token {
        let mut at = start + 1;
        if self.bytes[start] == b'?' {
            at = self.digits(at);
            return self.token(Kind::Parameter, start, at);
        }
        while self.bytes.get(at).is_some_and(|byte| class(*byte) & WORD != 0) {
            at += 1;
        }
        // `$a(…)` is one variable, whatever the parentheses hold, and so is `$a::b`.
        let odd = matches!(self.bytes.get(at), Some(b'(')) || self.bytes[at..].starts_with(b"::");
        if odd || at == start + 1 {
            return self.stop(Reason::UnexpectedByte { at: start });
        }
        self.token(Kind::Parameter, start, at)
    }

    /// `$1`, or `$tag$ … $tag$`.
    fn dollar(&mut self, start: usize) -> Token {
        if self.peek(1).is_ascii_digit() {
            let end = self.digits(start + 1);
            return self.token(Kind::Parameter, start, end);
        }
        let mut tag_end = start + 1;
        loop {
            match self.bytes.get(tag_end) {
                Some(b'$') => break,
                Some(byte) if class(*byte) & WORD != 0 => tag_end += 1,
                _ => return self.stop(Reason::UnexpectedByte { at: start }),
            }
        }
        let tag = &self.bytes[start..=tag_end];
        let mut at = tag_end + 1;
        // A tag holds no `$` inside, so comparisons do not overlap: linear.
        while at < self.bytes.len() {
            if self.bytes[at] == b'$' && self.bytes[at..].starts_with(tag) {
                return self.token(Kind::Text, start, at + tag.len());
            }
            at += 1;
        }
        self.at = self.bytes.len();
        self.stop(Reason::Unterminated { at: start })
    }

    fn colon(&mut self, start: usize) -> Token {
        match (self.dialect, self.peek(1)) {
            (Dialect::Postgres, b':') => self.token(Kind::Cast, start, start + 2),
            (Dialect::Postgres, _) => self.token(Kind::Operator, start, start + 1),
            (Dialect::MySql, b'=') => self.token(Kind::Assign, start, start + 2),
            (Dialect::MySql, _) => self.token(Kind::Operator, start, start + 1),
            (Dialect::Sqlite, _) => self.parameter(start),
        }
    }

    /// Do the two dashes at this place begin a comment?
    fn dashes_comment(&self) -> bool {
        self.dialect != Dialect::MySql || self.bytes.get(self.at + 2).is_none_or(|byte| matches!(byte, 0..=b' ' | 0x7F))
    }

    fn line_comment(&mut self) {
        let carriage_return_ends = self.dialect == Dialect::Postgres;
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n' || (*byte == b'\r' && carriage_return_ends));
        self.at += length.unwrap_or(rest.len());
    }

    fn block_comment(&mut self) -> Result<(), Reason> {
        let start = self.at;
        if self.dialect == Dialect::MySql {
            let bang = self.peek(2) == b'!' || (self.peek(2) | 0x20 == b'm' && self.peek(3) == b'!');
            if bang {
                return Err(Reason::ExecutableComment { at: start });
            }
        }
        let nests = self.dialect == Dialect::Postgres;
        let (mut at, mut depth) = (start + 2, 1_usize);
        while let Some(&byte) = self.bytes.get(at) {
            if byte == b'*' && self.bytes.get(at + 1) == Some(&b'/') {
                at += 2;
                depth -= 1;
                if depth == 0 {
                    self.at = at;
                    return Ok(());
                }
            } else if nests && byte == b'/' && self.bytes.get(at + 1) == Some(&b'*') {
                at += 2;
                depth += 1;
            } else {
                at += 1;
            }
        }
        self.at = self.bytes.len();
        Err(Reason::Unterminated { at: start })
    }
}
