//! The words that decide something.

use super::names::{self, NameTable};

/// A word that decides something, in any case of its letters; every other word is `None`.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    None,
    // with a rule of their own in queries
    Select, Values, Table, With, From, Join, StraightJoin, On, Where, Having, Order, Limit, Offset, Fetch, Window,
    Union, Intersect, Except, By, For, Into, Procedure, CalcFoundRows, Share,
    // verbs that modify data
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
    Is, Of, Quantifier, Trimmed, PostgresWord, Default,
    // operators between operands, and words of a window's frame
    Infix, Frame,
    // cannot end an operand, but can name a function
    Prefix,
    // inside EXPLAIN
    Analyze, Verbose, Extended, Partitions, Query, Plan, Format, To, Stdout,
    PgTemp,
}

#[rustfmt::skip]
const WORDS: &[(&str, Keyword)] = &[
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
    ("default", Keyword::Default), ("returning", Keyword::PostgresWord),
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

static KEYWORDS: NameTable<Keyword> = NameTable::new(WORDS, &names::slots::<_, 1024>(WORDS));

impl Keyword {
    /// The keyword that an unquoted word is.
    pub(super) fn of(word: &[u8]) -> Self {
        KEYWORDS.find(word).map_or(Self::None, |(_, keyword)| keyword)
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
                | Self::Default
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
