//! The reasons of a classification.

use std::fmt;

use super::functions::Effect;

/// The rule that decided, and the byte offset `at` which its token stands in the text.
///
/// A reason holds positions and no text, so that it allocates nothing. [`Reason::text`] gives the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A read, by every rule.
    PlainRead,
    /// The text holds only white space, comments and semicolons.
    Empty,
    /// The verb of the statement is not that of a read.
    Verb {
        /// Where its verb begins.
        at: usize,
        /// How long the verb is.
        len: usize,
    },
    /// A form of `SHOW`, `PRAGMA`, `COPY`, `EXPLAIN` or `DESCRIBE` that is not known to only read.
    Form {
        /// The statement's verb.
        verb: &'static str,
        /// Where the unknown token begins.
        at: usize,
    },
    /// A data-modifying statement inside or after `WITH`.
    DataModifyingCte {
        /// Where its verb begins.
        at: usize,
        /// How long the verb is.
        len: usize,
    },
    /// `FOR UPDATE` and its kin.
    LockingClause {
        /// The words of the clause, in upper case.
        clause: &'static str,
        /// Where its last word begins.
        at: usize,
    },
    /// `INTO`: a table, a file, variables.
    SelectInto {
        /// Where `INTO` begins.
        at: usize,
    },
    /// A part of a `SELECT` that changes the session or runs a procedure.
    SideEffect {
        /// The word, in upper case.
        clause: &'static str,
        /// Where the token begins.
        at: usize,
    },
    /// `@x`, `@@session.x`, `:=`, or a temporary schema.
    SessionVariable {
        /// Where the token begins.
        at: usize,
    },
    /// `NEXT VALUE FOR s`, `s.nextval`.
    SequenceValue {
        /// Where the token begins.
        at: usize,
    },
    /// A call of a built-in that needs the primary.
    PrimaryFunction {
        /// Why the function needs the primary.
        effect: Effect,
        /// Where the qualified name begins.
        at: usize,
        /// How long the name is.
        len: usize,
    },
    /// A call of a function not known to be harmless; otherwise the statement is a read.
    UnknownFunction {
        /// Where the qualified name begins.
        at: usize,
        /// How long the name is.
        len: usize,
    },
    /// A call of a quoted name with escapes, which the classifier does not resolve.
    UnresolvedEscape {
        /// Where the name begins.
        at: usize,
    },
    /// `/*! … */` or `/*M! … */`: the server executes the inside of the comment.
    ExecutableComment {
        /// Where the token begins.
        at: usize,
    },
    /// A setting of the server moves the end of this literal, and the statement is a write under one of the settings.
    AmbiguousLiteral {
        /// Where the token begins.
        at: usize,
    },
    /// A literal, name or comment that does not end.
    Unterminated {
        /// Where the token begins.
        at: usize,
    },
    /// A byte that begins no token of the dialect.
    UnexpectedByte {
        /// Where the byte is.
        at: usize,
    },
    /// Parentheses that do not match, or a statement that breaks off.
    Incomplete {
        /// Where the token begins that does not fit.
        at: usize,
    },
    /// A construct that the scan must follow, nested deeper than it can follow.
    TooDeep {
        /// Where the token begins.
        at: usize,
    },
    /// Four gigabytes or more.
    TooLong,
    /// A backend that this library does not know.
    UnknownBackend,
}

impl Reason {
    /// Whether a function that is neither built in nor declared is the only reason for the write.
    #[must_use]
    pub const fn is_unknown_function(&self) -> bool {
        matches!(self, Self::UnknownFunction { .. })
    }

    /// The byte offset in the text, if the reason has a place.
    #[must_use]
    pub const fn position(&self) -> Option<usize> {
        match *self {
            Self::PlainRead | Self::Empty | Self::TooLong | Self::UnknownBackend => None,
            Self::Verb { at, .. }
            | Self::Form { at, .. }
            | Self::DataModifyingCte { at, .. }
            | Self::LockingClause { at, .. }
            | Self::SelectInto { at }
            | Self::SideEffect { at, .. }
            | Self::SessionVariable { at }
            | Self::SequenceValue { at }
            | Self::PrimaryFunction { at, .. }
            | Self::UnknownFunction { at, .. }
            | Self::UnresolvedEscape { at }
            | Self::ExecutableComment { at }
            | Self::AmbiguousLiteral { at }
            | Self::Unterminated { at }
            | Self::UnexpectedByte { at }
            | Self::Incomplete { at }
            | Self::TooDeep { at } => Some(at),
        }
    }

    /// The verb or the called name as written in `sql`, the text that was classified.
    #[must_use]
    pub fn text<'sql>(&self, sql: &'sql str) -> Option<&'sql str> {
        match *self {
            Self::Verb { at, len }
            | Self::DataModifyingCte { at, len }
            | Self::PrimaryFunction { at, len, .. }
            | Self::UnknownFunction { at, len } => sql.get(at..at.checked_add(len)?),
            _ => None,
        }
    }

    /// The name of the kind, for counters and labels.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::PlainRead => "plain_read",
            Self::Empty => "empty",
            Self::Verb { .. } => "verb",
            Self::Form { .. } => "form",
            Self::DataModifyingCte { .. } => "data_modifying_cte",
            Self::LockingClause { .. } => "locking_clause",
            Self::SelectInto { .. } => "select_into",
            Self::SideEffect { .. } => "side_effect",
            Self::SessionVariable { .. } => "session_variable",
            Self::SequenceValue { .. } => "sequence_value",
            Self::PrimaryFunction { .. } => "primary_function",
            Self::UnknownFunction { .. } => "unknown_function",
            Self::UnresolvedEscape { .. } => "unresolved_escape",
            Self::ExecutableComment { .. } => "executable_comment",
            Self::AmbiguousLiteral { .. } => "ambiguous_literal",
            Self::Unterminated { .. } => "unterminated",
            Self::UnexpectedByte { .. } => "unexpected_byte",
            Self::Incomplete { .. } => "incomplete",
            Self::TooDeep { .. } => "too_deep",
            Self::TooLong => "too_long",
            Self::UnknownBackend => "unknown_backend",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainRead => f.write_str("a plain read"),
            Self::Empty => f.write_str("nothing to run"),
            Self::Verb { at, .. } => write!(f, "the statement at byte {at} is not a read"),
            Self::Form { verb, at } => write!(f, "a form of {verb} at byte {at} that is not known to only read"),
            Self::DataModifyingCte { at, .. } => write!(f, "a data-modifying WITH at byte {at}"),
            Self::LockingClause { clause, at } => {
                write!(f, "the locking clause {clause} at byte {at}")
            }
            Self::SelectInto { at } => write!(f, "INTO at byte {at}"),
            Self::SideEffect { clause, at } => write!(f, "{clause} at byte {at}"),
            Self::SessionVariable { at } => write!(f, "session state at byte {at}"),
            Self::SequenceValue { at } => write!(f, "a sequence value at byte {at}"),
            Self::PrimaryFunction { effect, at, .. } => {
                write!(f, "a function at byte {at} that needs the primary ({effect:?})")
            }
            Self::UnknownFunction { at, .. } => {
                write!(f, "a function at byte {at} not known to be harmless")
            }
            Self::UnresolvedEscape { at } => write!(f, "a called name with escapes at byte {at}"),
            Self::ExecutableComment { at } => write!(f, "an executable comment at byte {at}"),
            Self::AmbiguousLiteral { at } => {
                write!(f, "a literal at byte {at} whose end depends on a setting")
            }
            Self::Unterminated { at } => write!(f, "something at byte {at} does not end"),
            Self::UnexpectedByte { at } => write!(f, "an unexpected byte at {at}"),
            Self::Incomplete { at } => {
                write!(f, "the statement breaks off or does not match at byte {at}")
            }
            Self::TooDeep { at } => write!(f, "nested too deep to follow at byte {at}"),
            Self::TooLong => f.write_str("a text too long to look at"),
            Self::UnknownBackend => f.write_str("a backend whose reads are not known"),
        }
    }
}
