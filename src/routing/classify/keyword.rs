//! The words that decide something.

/// A word that decides something, in any case of its letters; every other word is `None`.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Keyword {
    None,
    // verbs
    Select, Values, Table, With, Explain, Describe, Desc, Show, Pragma, Copy,
    Insert, Update, Delete, Merge, Replace,
    // locking
    For, No, Key, Share, Lock, In,
    // sequences
    Next, Previous, Value, Nextval, Currval,
    // clauses that decide
    Into, Procedure, CalcFoundRows,
    // structure
    As, Not, Materialized, Recursive, Search, Cycle, From, Distinct, Join, On, Using, Where, Group, By, Having,
    Order, Limit, Offset, Fetch, Window, Union, Intersect, Except, Lateral, Tablesample, Partition,
    Left, Right, Inner, Outer, Cross, Full, Natural, StraightJoin, Only, Sets, Set,
    // followed by a parenthesis in one place only
    Over, Filter, Repeatable, Columns, Passing, Escape, Ilike, Like, Zone, Operator, Varying, Second, Rollup, Cube,
    First, Uescape, SystemTime,
    // cannot end an operand, and cannot name a function
    Operatorish,
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
    ("all", Keyword::Operatorish), ("any", Keyword::Operatorish), ("some", Keyword::Operatorish),
    ("variadic", Keyword::Operatorish), ("array", Keyword::Operatorish), ("collate", Keyword::Operatorish),
    ("both", Keyword::Operatorish), ("leading", Keyword::Operatorish), ("trailing", Keyword::Operatorish),
    ("placing", Keyword::Operatorish), ("symmetric", Keyword::Operatorish), ("asymmetric", Keyword::Operatorish),
    ("default", Keyword::Operatorish), ("returning", Keyword::Operatorish),
    ("between", Keyword::Prefix), ("is", Keyword::Prefix), ("similar", Keyword::Prefix), ("rows", Keyword::Prefix),
    ("range", Keyword::Prefix), ("groups", Keyword::Prefix), ("document", Keyword::Prefix),
    ("content", Keyword::Prefix), ("name", Keyword::Prefix), ("regexp", Keyword::Prefix), ("rlike", Keyword::Prefix),
    ("glob", Keyword::Prefix), ("match", Keyword::Prefix), ("div", Keyword::Prefix), ("mod", Keyword::Prefix),
    ("xor", Keyword::Prefix), ("binary", Keyword::Prefix), ("interval", Keyword::Prefix), ("of", Keyword::Prefix),
    ("analyze", Keyword::Analyze), ("analyse", Keyword::Analyze), ("verbose", Keyword::Verbose),
    ("extended", Keyword::Extended), ("partitions", Keyword::Partitions), ("query", Keyword::Query),
    ("plan", Keyword::Plan), ("format", Keyword::Format), ("to", Keyword::To), ("stdout", Keyword::Stdout),
    ("pg_temp", Keyword::PgTemp),
];

const SLOTS: usize = 1024;

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    length: u8,
    place: u8,
}

/// Open addressing, built by the compiler; an empty slot has length 0.
static INDEX: [Slot; SLOTS] = {
    let mut index = [Slot { key: 0, length: 0, place: 0 }; SLOTS];
    let mut place = 0;
    while place < WORDS.len() {
        let word = WORDS[place].0.as_bytes();
        let (mut key, mut at) = (0_u64, 0);
        while at < word.len() {
            key = push(key, word[at]);
            at += 1;
        }
        let mut slot = slot_of(key, word.len());
        while index[slot].length != 0 {
            slot = (slot + 1) & (SLOTS - 1);
        }
        index[slot] = Slot { key, length: word.len() as u8, place: place as u8 };
        place += 1;
    }
    index
};

/// Adds a byte to the key of a word: the last eight bytes, letters folded.
///
/// Folding by one bit keeps letters apart from everything else: only letters have a letter's folded value.
#[inline]
pub(super) const fn push(key: u64, byte: u8) -> u64 {
    (key << 8) | (byte | 0x20) as u64
}

const fn slot_of(key: u64, length: usize) -> usize {
    ((key ^ length as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as usize
}

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

    /// The keyword that `word` is; `key` is made of its bytes by [`push`].
    #[inline]
    pub(super) fn of(word: &[u8], key: u64) -> Self {
        if word.len() > 19 {
            return Self::None;
        }
        let mut slot = slot_of(key, word.len());
        loop {
            let found = INDEX[slot];
            if found.length == 0 {
                return Self::None;
            }
            if found.key == key && usize::from(found.length) == word.len() {
                let (text, keyword) = WORDS[usize::from(found.place)];
                if word.len() <= 8 || text.as_bytes().eq_ignore_ascii_case(word) {
                    return keyword;
                }
            }
            slot = (slot + 1) & (SLOTS - 1);
        }
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
                | Self::Prefix
        )
    }
}
