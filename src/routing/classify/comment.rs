//! Comments: where each of them ends.

use super::chunk;
use super::dialect::Dialect;
use super::lexer::Lexer;
use super::reason::Reason;

impl Lexer<'_> {
    /// Do the two dashes at this place begin a comment?
    pub(super) fn dashes_comment(&self) -> bool {
        self.dialect != Dialect::MySql || self.bytes.get(self.at + 2).is_none_or(|byte| matches!(byte, 0..=b' ' | 0x7F))
    }

    pub(super) fn line_comment(&mut self) {
        let carriage_return = match self.dialect {
            Dialect::Postgres => b'\r',
            Dialect::MySql | Dialect::Sqlite => b'\n',
        };
        self.at = chunk::find_either(self.bytes, self.at, b'\n', carriage_return).unwrap_or(self.bytes.len());
    }

    pub(super) fn block_comment(&mut self) -> Result<(), Reason> {
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
