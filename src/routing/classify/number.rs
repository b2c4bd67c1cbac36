//! Numbers and parameters.

use super::dialect::Dialect;
use super::lexer::{Lexed, Lexer, goes_on_word};
use super::reason::Reason;
use super::token::TokenKind;

impl Lexer<'_> {
    /// The end of the digits that begin at `at`.
    pub(super) fn digits(&self, at: usize) -> usize {
        self.find(at, |byte| !byte.is_ascii_digit()).unwrap_or(self.bytes.len())
    }

    pub(super) fn number(&mut self) -> Lexed {
        let start = self.at;
        // MySQL takes `0X1F` for a name, and `0X1F(1)` for a call.
        let base = match self.dialect {
            Dialect::MySql => self.peek(1),
            Dialect::Postgres | Dialect::Sqlite => self.peek(1) | 0x20,
        };
        let has_base = self.peek(0) == b'0'
            && match base {
                b'x' => self.peek(2).is_ascii_hexdigit(),
                b'b' => matches!(self.peek(2), b'0' | b'1'),
                _ => false,
            };
        let end = match has_base {
            true => self.find(start + 2, |byte| !byte.is_ascii_hexdigit()).unwrap_or(self.bytes.len()),
            false => self.end_of_decimal(start),
        };
        // On MySQL a name may begin with digits: `1lower(x)` calls a function of the user's.
        if self.dialect == Dialect::MySql && goes_on_word(self.byte(end)) {
            return Err(Reason::UnexpectedByte { at: end });
        }
        Ok(self.token(TokenKind::Number, end))
    }

    /// The end of a number with a fraction and an exponent, if there are any.
    fn end_of_decimal(&self, start: usize) -> usize {
        let mut at = self.digits(start);
        if self.byte(at) == b'.' {
            at = self.digits(at + 1);
        }
        if self.byte(at) | 0x20 == b'e' {
            let digits = at + 1 + usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
            let end = self.digits(digits);
            if end > digits {
                at = end;
            }
        }
        at
    }

    /// `?`, `?1`; on SQLite also `$a`, `@a`, `:a`.
    pub(super) fn parameter(&mut self) -> Lexed {
        let start = self.at;
        if self.peek(0) == b'?' {
            let end = self.digits(start + 1);
            return Ok(self.token(TokenKind::Parameter, end));
        }
        let end = self.find(start + 1, |byte| !goes_on_word(byte)).unwrap_or(self.bytes.len());
        // `$a(…)` is one variable, whatever the parentheses hold, and so is `$a::b`.
        let is_longer = self.byte(end) == b'(' || self.bytes[end..].starts_with(b"::");
        if is_longer || end == start + 1 {
            return Err(Reason::UnexpectedByte { at: start });
        }
        Ok(self.token(TokenKind::Parameter, end))
    }
}
