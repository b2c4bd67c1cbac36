//! Numbers and parameters.

use super::class::goes_on_word;
use super::dialect::Dialect;
use super::lexer::Lexer;
use super::reason::Reason;
use super::token::{Kind, Token};

impl Lexer<'_> {
    #[inline]
    pub(super) fn digits(&self, mut at: usize) -> usize {
        while self.bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    }

    pub(super) fn number(&mut self) -> Token {
        let start = self.at;
        // MySQL takes `0X1F` for a name, and `0X1F(1)` for a call.
        let base = match self.dialect {
            Dialect::MySql => self.peek(1),
            Dialect::Postgres | Dialect::Sqlite => self.peek(1) | 0x20,
        };
        let is_based = self.peek(0) == b'0'
            && match base {
                b'x' => self.peek(2).is_ascii_hexdigit(),
                b'b' => matches!(self.peek(2), b'0' | b'1'),
                _ => false,
            };
        let mut at = start;
        if is_based {
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
        if self.dialect == Dialect::MySql && self.goes_on(at) {
            return self.stop(Reason::UnexpectedByte { at });
        }
        self.token(Kind::Number, start, at)
    }

    fn goes_on(&self, at: usize) -> bool {
        self.bytes.get(at).is_some_and(|byte| goes_on_word(*byte))
    }

    /// `?`, `?1`; on SQLite also `$a`, `@a`, `:a`.
    pub(super) fn parameter(&mut self) -> Token {
        let start = self.at;
        let mut at = start + 1;
        if self.peek(0) == b'?' {
            at = self.digits(at);
            return self.token(Kind::Parameter, start, at);
        }
        while self.goes_on(at) {
            at += 1;
        }
        // `$a(…)` is one variable, whatever the parentheses hold, and so is `$a::b`.
        let odd = matches!(self.bytes.get(at), Some(b'(')) || self.bytes[at..].starts_with(b"::");
        if odd || at == start + 1 {
            return self.stop(Reason::UnexpectedByte { at: start });
        }
        self.token(Kind::Parameter, start, at)
    }
}
