//! The tokens of a text.

use super::keyword::Keyword;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Word,
    /// A quoted name.
    Quoted,
    /// A quoted name with escapes: `U&"…"`.
    Escaped,
    /// Stands before the first token of a statement.
    Start,
    /// The end of the text.
    End,
    Text,
    Number,
    Parameter,
    Open,
    Close,
    CloseBracket,
    Comma,
    Dot,
    Semicolon,
    /// `::`
    Cast,
    /// `:=` on MySQL.
    Assign,
    /// `@` on MySQL.
    At,
    /// `@@` on MySQL.
    AtAt,
    Operator,
}

/// A token: its kind, its keyword if the word is one, and its place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) keyword: Keyword,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Token {
    pub(super) const START: Self = Self { kind: TokenKind::Start, keyword: Keyword::None, start: 0, end: 0 };

    /// `end` is less than [`TOO_LONG`]: longer texts are never read.
    pub(super) fn new(kind: TokenKind, keyword: Keyword, start: usize, end: usize) -> Self {
        Self { kind, keyword, start: start as u32, end: end as u32 }
    }

    pub(super) fn is(self, kind: TokenKind) -> bool {
        self.kind == kind
    }

    /// Whether the token is a word or a quoted name.
    pub(super) fn is_name(self) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::Quoted | TokenKind::Escaped)
    }

    pub(super) fn is_keyword(self, keyword: Keyword) -> bool {
        self.keyword == keyword
    }

    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    pub(super) fn end(self) -> usize {
        self.end as usize
    }

    pub(super) fn len(self) -> usize {
        self.end() - self.start()
    }

    /// Whether an operand can end with this token. A name that follows an operand is not called.
    pub(super) fn ends_operand(self) -> bool {
        match self.kind {
            TokenKind::Word => self.keyword.ends_operand(),
            TokenKind::Quoted | TokenKind::Escaped | TokenKind::Text | TokenKind::Number | TokenKind::Parameter => true,
            TokenKind::Close | TokenKind::CloseBracket => true,
            _ => false,
        }
    }
}

/// The length from which a text is not read, because the places of its tokens would not fit.
pub(super) const TOO_LONG: usize = u32::MAX as usize;
