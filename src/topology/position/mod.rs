//! Where a server is in the history of its cluster.
//!
//! Positions are only partly ordered: two servers may each have what the other lacks, and after a
//! failover a higher number can belong to another history. So nothing here is `Ord`.

mod domains;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod gtid_set;
mod wal;

use std::fmt;

pub(crate) use domains::DomainPositions;
pub(crate) use error::{PositionError, excerpt};
pub(crate) use gtid_set::GtidSet;
pub(crate) use wal::{Lsn, WalPosition};

/// How far a server has come towards a position of the primary. Ordered from the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PositionOrder {
    /// Everything up to the position is there.
    Covers,
    /// Something is missing, and may still arrive.
    Behind,
    /// Nothing shows that both are of one history: waiting need not help.
    Unrelated,
}

/// What a server has executed, in the words of its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// PostgreSQL.
    Wal(WalPosition),
    /// MySQL.
    GtidSet(GtidSet),
    /// MariaDB.
    Domains(DomainPositions),
}

impl Position {
    /// How far a server at this position has come towards `target`.
    ///
    /// An empty `target` is what a server without a binary log reports. It proves nothing, so it is
    /// unrelated to every position, itself included.
    pub(crate) fn compared_to(&self, target: &Self) -> PositionOrder {
        if target.is_empty() {
            return PositionOrder::Unrelated;
        }
        match (self, target) {
            (Self::Wal(at), Self::Wal(target)) => at.compared_to(*target),
            (Self::GtidSet(at), Self::GtidSet(target)) => at.compared_to(target),
            (Self::Domains(at), Self::Domains(target)) => at.compared_to(target),
            _ => PositionOrder::Unrelated,
        }
    }

    /// The bytes of log a server here has yet to repeat; only the log of one history is counted.
    pub(crate) fn bytes_behind(&self, target: &Self) -> Option<u64> {
        match (self, target) {
            (Self::Wal(at), Self::Wal(target)) => at.bytes_behind(*target),
            _ => None,
        }
    }

    /// The least position that covers both; `None` when no single position is known to.
    pub(crate) fn join(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Wal(one), Self::Wal(other)) => one.join(*other).map(Self::Wal),
            (Self::GtidSet(one), Self::GtidSet(other)) => Some(Self::GtidSet(one.union(other))),
            (Self::Domains(one), Self::Domains(other)) => one.join(other).map(Self::Domains),
            _ => None,
        }
    }

    /// Whether the server named no transaction at all: its positions are not known.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Wal(_) => false,
            Self::GtidSet(set) => set.is_empty(),
            Self::Domains(domains) => domains.is_empty(),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(position) => position.fmt(f),
            Self::GtidSet(set) => set.fmt(f),
            Self::Domains(domains) => domains.fmt(f),
        }
    }
}

/// Decimal digits only: `str::parse` takes a sign too.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{fixture::positions, *};

    proptest! {
        #[test]
        fn every_position_but_an_empty_one_covers_itself(a in positions()) {
            prop_assert_eq!(a.compared_to(&a), if a.is_empty() { PositionOrder::Unrelated } else { PositionOrder::Covers });
        }

        #[test]
        fn two_positions_that_cover_each_other_are_equal(a in positions(), b in positions()) {
            if a.compared_to(&b) == PositionOrder::Covers && b.compared_to(&a) == PositionOrder::Covers {
                prop_assert_eq!(a, b);
            }
        }

        #[test]
        fn covering_is_transitive(a in positions(), b in positions(), c in positions()) {
            if a.compared_to(&b) == PositionOrder::Covers && b.compared_to(&c) == PositionOrder::Covers {
                prop_assert_eq!(a.compared_to(&c), PositionOrder::Covers);
            }
        }

        #[test]
        fn a_join_is_the_least_position_over_both(a in positions(), b in positions(), c in positions()) {
            prop_assume!(!a.is_empty() && !b.is_empty());
            let covers_both = |at: &Position| at.compared_to(&a) == PositionOrder::Covers && at.compared_to(&b) == PositionOrder::Covers;
            match a.join(&b) {
                Some(join) => {
                    prop_assert!(covers_both(&join));
                    prop_assert_eq!(covers_both(&c), c.compared_to(&join) == PositionOrder::Covers);
                }
                None => prop_assert!(!covers_both(&c)),
            }
        }

        #[test]
        fn joining_has_no_order(a in positions(), b in positions(), c in positions()) {
            let join = |one: Option<Position>, other: &Position| one.and_then(|one| one.join(other));
            prop_assert_eq!(a.join(&a), Some(a.clone()));
            prop_assert_eq!(a.join(&b), b.join(&a));
            prop_assert_eq!(join(a.join(&b), &c), join(b.join(&c), &a));
        }

        #[test]
        fn only_related_log_is_counted(a in positions(), b in positions()) {
            let expected = match (&a, &b) {
                (Position::Wal(at), Position::Wal(to)) if a.compared_to(&b) != PositionOrder::Unrelated => {
                    Some(to.lsn.0.saturating_sub(at.lsn.0))
                }
                _ => None,
            };
            prop_assert_eq!(a.bytes_behind(&b), expected);
        }
    }

    #[test]
    fn an_empty_set_is_never_reached() {
        let some: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().expect("a set");
        let (some, none) = (Position::GtidSet(some), Position::GtidSet(GtidSet::default()));
        assert_eq!(some.compared_to(&none), PositionOrder::Unrelated);
        assert_eq!(none.compared_to(&none), PositionOrder::Unrelated);
        assert_eq!(none.compared_to(&some), PositionOrder::Behind);
        assert_eq!(some.compared_to(&some), PositionOrder::Covers);
    }
}
