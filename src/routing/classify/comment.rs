//! Comments: where each of them ends.

use super::dialect::Dialect;
use super::lexer::Lexer;
use super::reason::Reason;

impl Lexer<'_> {
    /// Whether a comment begins with the dash at this place. MySQL wants white space behind the second dash.
    pub(super) fn begins_line_comment(&self) -> bool {
        self.peek(1) == b'-' && (self.dialect != Dialect::MySql || matches!(self.peek(2), 0..=b' ' | 0x7F))
    }

    pub(super) fn line_comment(&mut self) {
        let ends_line = match self.dialect {
            Dialect::Postgres => |byte| matches!(byte, b'\n' | b'\r'),
            Dialect::MySql | Dialect::Sqlite => |byte| byte == b'\n',
        };
        self.at = self.find(self.at, ends_line).unwrap_or(self.bytes.len());
    }

    pub(super) fn block_comment(&mut self) -> Result<(), Reason> {
        let start = self.at;
        if self.dialect == Dialect::MySql {
            let is_executed = self.peek(2) == b'!' || (self.peek(2) | 0x20 == b'm' && self.peek(3) == b'!');
            if is_executed {
                return Err(Reason::ExecutableComment { at: start });
            }
        }
        let nests = self.dialect == Dialect::Postgres;
        let (mut at, mut depth) = (start + 2, 1_usize);
        while at < self.bytes.len() {
            match (self.byte(at), self.byte(at + 1)) {
                (b'*', b'/') => depth -= 1,
                (b'/', b'*') if nests => depth += 1,
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
            if depth == 0 {
                self.at = at;
                return Ok(());
            }
        }
        self.unterminated(start).map(drop)
    }
}
