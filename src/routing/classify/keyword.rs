//! The words that decide something.

use super::chunk;

/// A word that decides something, in any case of its letters; every other word is `None`.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Keyword {
    None,
    // with a rule of their own in queries: `Token::has_rule` counts on Select and Update being the ends
    Select, Values, Table, With, From, Join, StraightJoin, On, Where, Having, Order, Limit, Offset, Fetch, Window,
    Union, Intersect, Except, By, For, Into, Procedure, CalcFoundRows, Share,
    // verbs that modify data: `Token::is_dml` counts on Update and Replace being the ends
    Update, Insert, Delete, Merge, Replace,
    // other verbs
    Explain, Describe, Desc, Show, Pragma, Copy,
    // locking
    No, Key, Lock, In,
    // sequences
    Next, Previous, Value, Nextval, Currval,
    // structure
    As, Not, Materialized, Recursive, Search, Cycle, Distinct, Using, Group, Lateral, Tablesample, Partition,
    Left, Right, Inner, Outer, Cross, Full, Natural, Only, Sets, Set,
    // followed by a parenthesis in one place only
    Over, Filter, Repeatable, Columns, Passing, Escape, Ilike, Like, Zone, Operator, Varying, Second, Rollup, Cube,
    First, Uescape, SystemTime,
    // cannot end an operand, and cannot name a function: in no dialect
    Operatorish,
    // … in some dialects only
    Is, Of, Quantifier, Trimmed, PostgresWord,
    // operators between operands, and words of a window's frame
    Infix, Frame,
    // cannot end an operand, but can name a function
    Prefix,
    // inside EXPLAIN
    Analyze, Verbose, Extended, Partitions, Query, Plan, Format, To, Stdout,
    PgTemp,
}

#[rustfmt::skip]
static WORDS: &[(&str, Keyword)] = &[
    ("select", Keyword::Select), ("values", Keyword::Values), ("table", Keyword::Table), ("with", Keyword::With),
    ("explain", Keyword::Explain), ("describe", Keyword::Describe), ("desc", Keyword::Desc), ("show", Keyword::Show),
    ("pragma", Keyword::Pragma), ("copy", Keyword::Copy), ("insert", Keyword::Insert), ("update", Keyword::Update),
    ("delete", Keyword::Delete), ("merge", Keyword::Merge), ("replace", Keyword::Replace), ("for", Keyword::For),
    ("no", Keyword::No), ("key", Keyword::Key), ("share", Keyword::Share), ("lock", Keyword::Lock), ("in", Keyword::In),
    ("next", Keyword::Next), ("previous", Keyword::Previous), ("value", Keyword::Value),
    ("nextval", Keyword::Nextval), ("currval", Keyword::Currval), ("into", Keyword::Into),
    ("procedure", Keyword::Procedure), ("sql_calc_found_rows", Keyword::CalcFoundRows), ("as", Keyword::As),
    ("not", Keyword::Not), ("materialized", Keyword::Materialized), ("recursive", Keyword::Recursive),
    ("search", Keyword::Search), ("cycle", Keyword::Cycle), ("from", Keyword::From), ("distinct", Keyword::Distinct),
    ("join", Keyword::Join), ("on", Keyword::On), ("using", Keyword::Using), ("where", Keyword::Where),
    ("group", Keyword::Group), ("by", Keyword::By), ("having", Keyword::Having), ("order", Keyword::Order),
    ("limit", Keyword::Limit), ("offset", Keyword::Offset), ("fetch", Keyword::Fetch), ("window", Keyword::Window),
    ("union", Keyword::Union), ("intersect", Keyword::Intersect), ("except", Keyword::Except),
    ("lateral", Keyword::Lateral), ("tablesample", Keyword::Tablesample), ("partition", Keyword::Partition),
    ("left", Keyword::Left), ("right", Keyword::Right), ("inner", Keyword::Inner), ("outer", Keyword::Outer),
    ("cross", Keyword::Cross), ("full", Keyword::Full), ("natural", Keyword::Natural),
    ("straight_join", Keyword::StraightJoin), ("only", Keyword::Only), ("sets", Keyword::Sets), ("set", Keyword::Set),
    ("over", Keyword::Over), ("filter", Keyword::Filter), ("repeatable", Keyword::Repeatable),
    ("columns", Keyword::Columns), ("passing", Keyword::Passing), ("escape", Keyword::Escape),
    ("ilike", Keyword::Ilike), ("like", Keyword::Like), ("zone", Keyword::Zone), ("operator", Keyword::Operator),
    ("varying", Keyword::Varying), ("second", Keyword::Second), ("rollup", Keyword::Rollup), ("cube", Keyword::Cube),
    ("first", Keyword::First), ("uescape", Keyword::Uescape), ("system_time", Keyword::SystemTime),
    ("and", Keyword::Operatorish), ("or", Keyword::Operatorish), ("case", Keyword::Operatorish),
    ("when", Keyword::Operatorish), ("then", Keyword::Operatorish), ("else", Keyword::Operatorish),
    ("all", Keyword::Operatorish), ("any", Keyword::Quantifier), ("some", Keyword::Quantifier),
    ("variadic", Keyword::PostgresWord), ("array", Keyword::PostgresWord), ("collate", Keyword::Operatorish),
    ("both", Keyword::Trimmed), ("leading", Keyword::Trimmed), ("trailing", Keyword::Trimmed),
    ("placing", Keyword::PostgresWord), ("symmetric", Keyword::PostgresWord), ("asymmetric", Keyword::PostgresWord),
    ("default", Keyword::Operatorish), ("returning", Keyword::PostgresWord),
    ("between", Keyword::Operatorish), ("is", Keyword::Is), ("similar", Keyword::Prefix), ("rows", Keyword::Frame),
    ("range", Keyword::Frame), ("groups", Keyword::Frame), ("document", Keyword::Prefix),
    ("content", Keyword::Prefix), ("name", Keyword::Prefix), ("regexp", Keyword::Infix), ("rlike", Keyword::Infix),
    ("glob", Keyword::Infix), ("match", Keyword::Infix), ("div", Keyword::Infix), ("mod", Keyword::Infix),
    ("xor", Keyword::Infix), ("binary", Keyword::Prefix), ("interval", Keyword::Prefix), ("of", Keyword::Of),
    ("analyze", Keyword::Analyze), ("analyse", Keyword::Analyze), ("verbose", Keyword::Verbose),
    ("extended", Keyword::Extended), ("partitions", Keyword::Partitions), ("query", Keyword::Query),
    ("plan", Keyword::Plan), ("format", Keyword::Format), ("to", Keyword::To), ("stdout", Keyword::Stdout),
    ("pg_temp", Keyword::PgTemp),
];

/// The beginning and the length of a word as one number, the beginning folded by [`chunk::fold`].
const fn key(beginning: u64, length: usize) -> u64 {
    beginning ^ length as u64
}

/// Found by trying: with it no two keywords share a slot, as the compiler checks when it fills the index.
const MULTIPLIER: u64 = 0x1440_CD85_827A_8485;

const fn slot(key: u64) -> usize {
    (key.wrapping_mul(MULTIPLIER) >> 54) as usize
}

/// The place in [`KEYS`], one more than in [`WORDS`]; 0, where no word is, in the slots that most words meet.
static INDEX: [u8; 1024] = {
    let mut index = [0; 1024];
    let mut place = 0;
    while place < WORDS.len() {
        let slot = slot(KEYS[place + 1].0);
        assert!(index[slot] == 0, "two keywords in one slot");
        index[slot] = place as u8 + 1;
        place += 1;
    }
    index
};

/// The keys of the words, and their keywords; none at place 0, for no word has the key 0.
static KEYS: [(u64, Keyword); WORDS.len() + 1] = {
    let mut keys = [(0, Keyword::None); WORDS.len() + 1];
    let mut place = 0;
    while place < WORDS.len() {
        let word = WORDS[place].0.as_bytes();
        let beginning = chunk::first(chunk::fold(chunk::of(word, 0)), word.len());
        keys[place + 1] = (key(beginning, word.len()), WORDS[place].1);
        place += 1;
    }
    keys
};

/// The keywords by their number.
static KEYWORDS: [Keyword; 128] = {
    let mut keywords = [Keyword::None; 128];
    let mut place = 0;
    while place < WORDS.len() {
        keywords[WORDS[place].1 as usize] = WORDS[place].1;
        place += 1;
    }
    keywords
};

impl Keyword {
    /// The keyword with this number.
    #[inline]
    pub(super) fn numbered(number: u16) -> Self {
        KEYWORDS[usize::from(number & 127)]
    }

    /// The keyword that a word of up to eight bytes is; `chunk` begins with it.
    #[inline]
    pub(super) const fn short(chunk: u64, length: usize) -> Self {
        let key = key(chunk::first(chunk::fold(chunk), length), length);
        let (known, keyword) = KEYS[INDEX[slot(key)] as usize];
        match known == key {
            true => keyword,
            false => Self::None,
        }
    }

    /// The keyword that a longer word is; `beginning` is its first eight bytes.
    pub(super) fn long(beginning: u64, word: &[u8]) -> Self {
        let key = key(chunk::fold(beginning), word.len());
        let place = usize::from(INDEX[slot(key)]);
        if KEYS[place].0 == key
            && let Some((text, keyword)) = WORDS.get(place.wrapping_sub(1))
            && text.as_bytes().eq_ignore_ascii_case(word)
        {
            return *keyword;
        }
        Self::None
    }

    /// Can a word like this be the end of an operand (a column, a table, an alias)?
    pub(super) const fn ends_operand(self) -> bool {
        matches!(
            self,
            Self::None
                | Self::Update
                | Self::Delete
                | Self::Insert
                | Self::Replace
                | Self::Merge
                | Self::Share
                | Self::Lock
                | Self::No
                | Self::Nextval
                | Self::Currval
                | Self::Copy
                | Self::Show
                | Self::Pragma
                | Self::Describe
                | Self::Explain
                | Self::Search
                | Self::Cycle
                | Self::Recursive
                | Self::Query
                | Self::Plan
                | Self::Stdout
                | Self::Extended
                | Self::Partitions
                | Self::Second
                | Self::Varying
                | Self::SystemTime
        )
    }

    /// A verb that modifies data.
    pub(super) const fn is_dml(self) -> bool {
        matches!(self, Self::Insert | Self::Update | Self::Delete | Self::Merge | Self::Replace)
    }

    /// Can this word follow a column, so that the column's name is no verb?
    pub(super) const fn continues_expression(self) -> bool {
        matches!(
            self,
            Self::In
                | Self::Not
                | Self::As
                | Self::Like
                | Self::Ilike
                | Self::Order
                | Self::Desc
                | Self::Operatorish
                | Self::Is
                | Self::Of
                | Self::Quantifier
                | Self::Trimmed
                | Self::PostgresWord
                | Self::Infix
                | Self::Frame
                | Self::Prefix
        )
    }
}
