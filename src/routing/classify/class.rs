//! The class of each byte as the first of a token.

/// The class of a first byte; bit 7 says that the byte goes on a word.
pub(super) type Class = u8;
pub(super) const WORD: Class = 0x80;
pub(super) const SPACE: Class = 1;
pub(super) const LETTER: Class = 2 | WORD;
pub(super) const DIGIT: Class = 3 | WORD;
pub(super) const HIGH: Class = 4 | WORD;
pub(super) const DOLLAR: Class = 5 | WORD;
pub(super) const OPERATOR: Class = 6;
pub(super) const QUOTE: Class = 7;
pub(super) const DOUBLE: Class = 8;
pub(super) const BACKTICK: Class = 9;
pub(super) const OPEN: Class = 10;
pub(super) const CLOSE: Class = 11;
pub(super) const COMMA: Class = 12;
pub(super) const DOT: Class = 13;
pub(super) const SEMICOLON: Class = 14;
pub(super) const DASH: Class = 15;
pub(super) const SLASH: Class = 16;
pub(super) const HASH: Class = 17;
pub(super) const QUESTION: Class = 18;
pub(super) const AT: Class = 19;
pub(super) const COLON: Class = 20;
pub(super) const OPEN_BRACKET: Class = 21;
pub(super) const CLOSE_BRACKET: Class = 22;
pub(super) const BRACE: Class = 23;
/// Begins no token of any dialect.
pub(super) const BAD: Class = 24;

static CLASS: [Class; 256] = {
    let mut class = [BAD; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b' ' | b'\t'..=b'\r' => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => LETTER,
            b'0'..=b'9' => DIGIT,
            0x80.. => HIGH,
            b'$' => DOLLAR,
            b'\'' => QUOTE,
            b'"' => DOUBLE,
            b'`' => BACKTICK,
            b'(' => OPEN,
            b')' => CLOSE,
            b',' => COMMA,
            b'.' => DOT,
            b';' => SEMICOLON,
            b'-' => DASH,
            b'/' => SLASH,
            b'#' => HASH,
            b'?' => QUESTION,
            b'@' => AT,
            b':' => COLON,
            b'[' => OPEN_BRACKET,
            b']' => CLOSE_BRACKET,
            b'{' | b'}' => BRACE,
            b'!' | b'%' | b'&' | b'*' | b'+' | b'<' | b'=' | b'>' | b'^' | b'|' | b'~' => OPERATOR,
            _ => BAD,
        };
        byte += 1;
    }
    class
};

#[inline]
pub(super) fn class(byte: u8) -> Class {
    CLASS[usize::from(byte)]
}
