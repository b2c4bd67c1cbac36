//! The literals: where each of them ends.

use super::dialect::{Backslash, Dialect};
use super::lexer::{Lexed, Lexer, goes_on_word};
use super::reason::Reason;
use super::token::TokenKind;

impl Lexer<'_> {
    /// A literal whose inside begins at `inside`.
    pub(super) fn text(&mut self, inside: usize, quote: u8, backslash: Backslash) -> Lexed {
        let start = self.at;
        // Only a literal that begins with its quote is read by the rules of a setting.
        let depends = inside == start + 1 && self.dialect != Dialect::Sqlite;
        let escape = match backslash {
            Backslash::Escapes => b'\\',
            Backslash::Plain => quote,
        };
        let mut at = inside;
        while let Some(found) = self.find(at, |byte| byte == quote || byte == escape) {
            let (byte, next) = (self.byte(found), self.bytes.get(found + 1));
            let is_escaped_quote = match byte == quote {
                true => backslash == Backslash::Plain && found > inside && self.byte(found - 1) == b'\\',
                false => next == Some(&quote),
            };
            if depends && is_escaped_quote {
                self.ambiguous.get_or_insert(start);
            }
            if byte == quote && next != Some(&quote) {
                return Ok(self.token(TokenKind::Text, found + 1));
            }
            at = found + 2;
        }
        self.unterminated(start)
    }

    /// `E'…'`, `B'…'`, `X'…'`, `U&'…'`, `U&"…"`: no setting moves their ends.
    pub(super) fn prefixed(&mut self) -> Option<Lexed> {
        let start = self.at;
        match (self.peek(0) | 0x20, self.peek(1), self.peek(2)) {
            (b'e', b'\'', _) => Some(self.escape_text()),
            (b'b' | b'x', b'\'', _) => Some(self.text(start + 2, b'\'', Backslash::Plain)),
            // The server resolves the escapes later: they do not move the end.
            (b'u', b'&', b'\'') => Some(self.text(start + 3, b'\'', Backslash::Plain)),
            (b'u', b'&', b'"') => Some(self.quoted(start + 3, b'"', TokenKind::Escaped)),
            _ => None,
        }
    }

    /// `E'…'`, which goes on, still with escapes, in a literal on a later line.
    fn escape_text(&mut self) -> Lexed {
        let start = self.at;
        let mut text = self.text(start + 2, b'\'', Backslash::Escapes)?;
        while let Some(open) = self.continuation() {
            self.at = start;
            text = self.text(open + 1, b'\'', Backslash::Escapes)?;
        }
        Ok(text)
    }

    /// The quote with which the literal just read goes on: behind white space with a line break, and `--` comments.
    ///
    /// The lexer reads this space once more as space, so the pass stays linear.
    fn continuation(&self) -> Option<usize> {
        let (mut at, mut line_break) = (self.at, false);
        loop {
            match self.bytes.get(at).copied()? {
                b'\n' | b'\r' => line_break = true,
                b' ' | b'\t' | 0x0B | 0x0C => {}
                b'-' if self.byte(at + 1) == b'-' => {
                    at = self.find(at, |byte| matches!(byte, b'\n' | b'\r'))?;
                    line_break = true;
                }
                b'\'' if line_break => return Some(at),
                _ => return None,
            }
            at += 1;
        }
    }

    /// `$1`, or `$tag$ … $tag$`.
    pub(super) fn dollar(&mut self) -> Lexed {
        let start = self.at;
        if self.peek(1).is_ascii_digit() {
            let end = self.digits(start + 2);
            return Ok(self.token(TokenKind::Parameter, end));
        }
        let is_end_of_tag = |byte| byte == b'$' || !goes_on_word(byte);
        let Some(tag_end) = self.find(start + 1, is_end_of_tag).filter(|end| self.byte(*end) == b'$') else {
            return Err(Reason::UnexpectedByte { at: start });
        };
        let tag = &self.bytes[start..=tag_end];
        let mut at = tag_end + 1;
        // A tag holds no `$` inside, so the comparisons do not overlap and the search stays linear.
        while let Some(found) = self.find(at, |byte| byte == b'$') {
            if self.bytes[found..].starts_with(tag) {
                return Ok(self.token(TokenKind::Text, found + tag.len()));
            }
            at = found + 1;
        }
        self.unterminated(start)
    }
}
