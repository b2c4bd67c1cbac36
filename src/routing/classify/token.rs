//! What the lexer gives.

use super::keyword::Keyword;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Word,
    /// A quoted name.
    Quoted,
    /// A quoted name with escapes: `U&"…"`.
    Escaped,
    /// Before the first token of a statement.
    Start,
    /// The end of the text.
    End,
    /// The lexer cannot go on: `Lexer::stop` says why.
    Stop,
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
    /// `:=` on MySQL
    Assign,
    /// `@` on MySQL
    At,
    /// `@@` on MySQL
    AtAt,
    Operator,
}

/// A token: its kind, the keyword if it is one, and its bytes.
///
/// Two numbers and not four fields: functions take and give it in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The kind, and the keyword above it.
    what: u16,
    /// The start, and the end above it: longer texts are refused before.
    span: u64,
}

impl Token {
    pub(super) const START: Self = Self { what: Kind::Start as u16, span: 0 };

    #[inline]
    pub(super) fn new(kind: Kind, keyword: Keyword, start: usize, end: usize) -> Self {
        Self { what: kind as u16 | ((keyword as u16) << 8), span: start as u64 | ((end as u64) << 32) }
    }

    /// A token of one byte.
    #[inline]
    pub(super) fn single(kind: Kind, at: usize) -> Self {
        Self::new(kind, Keyword::None, at, at + 1)
    }

    #[inline]
    pub(super) fn kind(self) -> Kind {
        KINDS[usize::from(self.what & 31)]
    }

    /// Is it of this kind, one that has no keywords?
    #[inline]
    pub(super) fn is(self, kind: Kind) -> bool {
        self.what == kind as u16
    }

    /// A word, or a quoted name.
    #[inline]
    pub(super) fn is_name(self) -> bool {
        self.what & 0xFF <= Kind::Escaped as u16
    }

    #[inline]
    pub(super) fn keyword(self) -> Keyword {
        Keyword::numbered(self.what >> 8)
    }

    /// Is it this keyword?
    #[inline]
    pub(super) fn is_keyword(self, keyword: Keyword) -> bool {
        self.what >> 8 == keyword as u16
    }

    /// Is it the word of this keyword? As [`Token::is_keyword`], in one comparison.
    #[inline]
    pub(super) fn is_word(self, keyword: Keyword) -> bool {
        self.what == Kind::Word as u16 | ((keyword as u16) << 8)
    }

    /// A verb that modifies data.
    #[inline]
    pub(super) fn is_dml(self) -> bool {
        (Keyword::Update as u16..=Keyword::Replace as u16).contains(&(self.what >> 8))
    }

    /// A keyword with a rule of its own in queries.
    #[inline]
    pub(super) fn has_rule(self) -> bool {
        (Keyword::Select as u16..=Keyword::Update as u16).contains(&(self.what >> 8))
    }

    #[inline]
    pub(super) fn forget_keyword(&mut self) {
        self.what &= 0xFF;
    }

    #[inline]
    pub(super) fn start(self) -> usize {
        (self.span & 0xFFFF_FFFF) as usize
    }

    #[inline]
    pub(super) fn end(self) -> usize {
        (self.span >> 32) as usize
    }

    pub(super) fn len(self) -> usize {
        self.end() - self.start()
    }
}

/// The kinds by their number.
static KINDS: [Kind; 32] = {
    let mut kinds = [Kind::Stop; 32];
    let all = [
        Kind::Word,
        Kind::Quoted,
        Kind::Escaped,
        Kind::Start,
        Kind::End,
        Kind::Stop,
        Kind::Text,
        Kind::Number,
        Kind::Parameter,
        Kind::Open,
        Kind::Close,
        Kind::CloseBracket,
        Kind::Comma,
        Kind::Dot,
        Kind::Semicolon,
        Kind::Cast,
        Kind::Assign,
        Kind::At,
        Kind::AtAt,
        Kind::Operator,
    ];
    let mut at = 0;
    while at < all.len() {
        kinds[all[at] as usize] = all[at];
        at += 1;
    }
    kinds
};

/// The length from which a text is not looked at.
pub(super) const TOO_LONG: usize = u32::MAX as usize;
