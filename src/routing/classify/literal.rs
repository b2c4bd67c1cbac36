//! The literals: where each of them ends.

use super::chunk;
use super::class::goes_on_word;
use super::dialect::{Backslash, Dialect};
use super::lexer::Lexer;
use super::reason::Reason;
use super::token::{Kind, Token};

impl Lexer<'_> {
    /// A literal whose inside begins at `inside`.
    pub(super) fn text(&mut self, start: usize, inside: usize, quote: u8, backslash: Backslash) -> Token {
        // Only the setting-dependent kinds of literal can be ambiguous: they begin with their quote.
        let depends = inside == start + 1 && self.dialect != Dialect::Sqlite;
        let escape = match backslash {
            Backslash::Escapes => b'\\',
            Backslash::Plain => quote,
        };
        let mut at = inside;
        while let Some(found) = chunk::find_either(self.bytes, at, quote, escape) {
            let next = self.bytes.get(found + 1);
            let is_after_backslash = found > inside && self.bytes[found - 1] == b'\\';
            if self.bytes[found] != quote {
                if depends && next == Some(&quote) {
                    self.ambiguous.get_or_insert(start);
                }
            } else {
                if depends && backslash == Backslash::Plain && is_after_backslash {
                    self.ambiguous.get_or_insert(start);
                }
                if next != Some(&quote) {
                    return self.token(Kind::Text, start, found + 1);
                }
            }
            at = found + 2;
        }
        self.unterminated(start)
    }

    /// `E'…'`, `B'…'`, `X'…'`, `U&'…'`, `U&"…"`: whatever the setting, their ends are known.
    pub(super) fn prefixed(&mut self, start: usize) -> Option<Token> {
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
                b'"' => Some(self.quoted(start + 3, b'"', Kind::Escaped)),
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
                    at = chunk::find_either(self.bytes, at, b'\n', b'\r')?;
                    line_break = true;
                }
                b'\'' if line_break => return Some(at),
                _ => return None,
            }
            at += 1;
        }
    }

    /// `$1`
    #[inline]
    pub(super) fn numbered_parameter(&mut self) -> Token {
        let end = self.digits(self.at + 2);
        self.token(Kind::Parameter, self.at, end)
    }

    /// `$1`, or `$tag$ … $tag$`.
    pub(super) fn dollar(&mut self) -> Token {
        if self.peek(1).is_ascii_digit() {
            return self.numbered_parameter();
        }
        let start = self.at;
        let mut tag_end = start + 1;
        loop {
            match self.bytes.get(tag_end) {
                Some(b'$') => break,
                Some(byte) if goes_on_word(*byte) => tag_end += 1,
                _ => return self.stop(Reason::UnexpectedByte { at: start }),
            }
        }
        let tag = &self.bytes[start..=tag_end];
        let mut at = tag_end + 1;
        // A tag holds no `$` inside, so comparisons do not overlap: linear.
        while let Some(found) = chunk::find(self.bytes, at, b'$') {
            if self.bytes[found..].starts_with(tag) {
                return self.token(Kind::Text, start, found + tag.len());
            }
            at = found + 1;
        }
        self.unterminated(start)
    }
}
