//! The position of a server in the history of its cluster.
//!
//! Positions are only partly ordered: two servers may each have what the other lacks, and after a
//! failover a higher number can belong to another history. So no type here is `Ord`.

mod domains;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod gtid_set;
mod wal;

use std::{fmt, time::Duration};

pub(crate) use domains::DomainPositions;
pub(crate) use error::{PositionError, excerpt};
pub(crate) use gtid_set::GtidSet;
pub(crate) use wal::{Lsn, WalPosition};

/// More write-ahead log than any server writes in a second: the fastest disks take about this much.
const MOST_BYTES_PER_SECOND: u64 = 4 << 30;
/// More transactions than any server commits in a second: ten times what MySQL and MariaDB were seen to do.
const MOST_COMMITS_PER_SECOND: u64 = 1_000_000;

/// How far a server has come towards a position of the primary. Ordered from the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PositionOrder {
    /// The server has everything up to the position.
    Covers,
    /// A part is missing, and may still arrive.
    Behind,
    /// Nothing shows that both positions are of one history: waiting need not help.
    Unrelated,
}

/// The transactions that a server has executed, in the terms of its database.
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
    /// An empty `target` is the report of a server without a binary log. An empty position proves nothing, so it is
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

    /// The bytes of log that a server at this position has yet to replay; only the log of one history is counted.
    pub(crate) fn bytes_behind(&self, target: &Self) -> Option<u64> {
        match (self, target) {
            (Self::Wal(at), Self::Wal(target)) => at.bytes_behind(*target),
            _ => None,
        }
    }

    /// The least position that covers both; `None` when no single position is known to cover both.
    pub(crate) fn join(self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Wal(one), Self::Wal(other)) => one.join(*other).map(Self::Wal),
            (Self::GtidSet(one), Self::GtidSet(other)) => Some(Self::GtidSet(one.union(other))),
            (Self::Domains(one), Self::Domains(other)) => one.join(other).map(Self::Domains),
            _ => None,
        }
    }

    /// Whether a primary at this position can have come to `target` within `time`, by a rate that no server reaches.
    /// Transactions of a server or domain that this position does not name may have come at once, by a promotion.
    pub(crate) fn can_reach(&self, target: &Self, time: Duration) -> bool {
        let (missing, most_per_second) = match (self, target) {
            (Self::Wal(at), Self::Wal(target)) => (at.bytes_behind(*target), MOST_BYTES_PER_SECOND),
            (Self::GtidSet(at), Self::GtidSet(target)) => (Some(at.lacks_of_known(target)), MOST_COMMITS_PER_SECOND),
            (Self::Domains(at), Self::Domains(target)) => (Some(at.lacks_of_known(target)), MOST_COMMITS_PER_SECOND),
            _ => (None, 0),
        };
        let seconds = time.as_secs().saturating_add(1);
        missing.is_none_or(|missing| missing <= most_per_second.saturating_mul(seconds))
    }

    /// Whether a server at this position belongs to another cluster than a server at `other`. MySQL and MariaDB
    /// have no name for a cluster: two servers of one cluster share at least one transaction, once both have any.
    pub(crate) fn is_foreign_to(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wal(at), Self::Wal(other)) => at.system != other.system,
            (Self::GtidSet(at), Self::GtidSet(other)) => {
                !at.is_empty() && !other.is_empty() && !at.shares_one_with(other)
            }
            (Self::Domains(at), Self::Domains(other)) => {
                !at.is_empty() && !other.is_empty() && !at.shares_one_with(other)
            }
            // A MariaDB replica of a MySQL primary: nothing can be compared.
            _ => false,
        }
    }

    /// Whether a server at this position has everything up to `target`; `None` where the positions do not tell.
    /// `recovered_to` is the end of the server's last recovery, for a promoted PostgreSQL server.
    pub(crate) fn has(&self, target: &Self, recovered_to: Option<Lsn>) -> Option<bool> {
        if let (Self::Wal(at), Self::Wal(target)) = (self, target) {
            return at.has(*target, recovered_to);
        }
        if target.is_empty() {
            return Some(true);
        }
        match self.compared_to(target) {
            PositionOrder::Covers => Some(true),
            PositionOrder::Behind => Some(false),
            PositionOrder::Unrelated => None,
        }
    }

    /// Names the history that the position belongs to, for a message: its full name, or else its beginning.
    pub(crate) fn history(&self) -> String {
        match self {
            Self::Wal(at) => format!("system {}", at.system),
            Self::GtidSet(_) | Self::Domains(_) => format!("GTIDs {}", self.shown()),
        }
    }

    /// Whether a server that lost its last transactions may give their numbers to others that replicas know. PostgreSQL
    /// sends a standby only what no crash takes back, and counts a restored server's transactions on another timeline.
    pub(crate) fn may_be_counted_again(&self) -> bool {
        match self {
            Self::Wal(_) => false,
            Self::GtidSet(_) | Self::Domains(_) => true,
        }
    }

    /// The position for a message.
    pub(crate) fn shown(&self) -> String {
        const CHARS: usize = 120;
        let text = self.to_string();
        match text.char_indices().nth(CHARS) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
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

    #[test]
    fn a_position_is_out_of_reach_when_no_server_is_so_fast() {
        let wal = |lsn: u64| Position::Wal(WalPosition { system: 7, timeline: 1, lsn: Lsn(lsn) });
        let domains = |text: &str| Position::Domains(text.parse().expect("a list"));
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let set = |text: &str| Position::GtidSet(text.replace('U', uuid).parse().expect("a set"));
        let second = Duration::from_secs(1);
        for (at, near, far) in [
            (wal(100), wal(100 + (1 << 30)), wal(u64::MAX)),
            (domains("0-1-100"), domains("0-1-100000"), domains("0-1-9000000")),
            (domains("0-1-100"), domains("0-2-100000"), domains("0-2-9000000")),
            (set("U:1-100"), set("U:1-100000"), set("U:1-9000000")),
            (set("U:1-100"), set("U:7"), set("U:50-9000000")),
        ] {
            assert!(at.can_reach(&at, second) && at.can_reach(&near, second), "{at} {near}");
            assert!(!at.can_reach(&far, second), "{at} {far}");
        }
        assert!(domains("0-1-100").can_reach(&domains("1-1-9000000"), second), "a new domain");
        let another = set("ed102faf-eb00-11eb-8f20-0c5415bfaa1d:1-9000000");
        assert!(set("U:1-100").can_reach(&another, second), "a promoted server");
        assert!(wal(100).can_reach(&wal(100 + (1 << 40)), second * 3600), "a primary that was not asked for an hour");
    }

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
            match a.clone().join(&b) {
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
            let [ab, ba, bc] = [(&a, &b), (&b, &a), (&b, &c)].map(|(one, other)| one.clone().join(other));
            prop_assert_eq!(a.clone().join(&a), Some(a.clone()));
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(join(ab, &c), join(bc, &a));
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

    fn set(text: &str) -> Position {
        Position::GtidSet(text.parse().expect("a set"))
    }

    fn domains(last: &str, history: &str) -> Position {
        let last: DomainPositions = last.parse().expect("a list");
        Position::Domains(last.with_history(history).expect("a history"))
    }

    fn wal(system: u64, timeline: u32, lsn: u64) -> Position {
        Position::Wal(WalPosition { system, timeline, lsn: Lsn(lsn) })
    }

    #[test]
    fn servers_of_one_cluster_share_a_name_or_a_transaction() {
        const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";
        for (at, primary, is_foreign) in [
            (wal(7, 1, 5), wal(7, 2, 9), false),
            (wal(8, 1, 5), wal(7, 1, 5), true),
            (set(&format!("{A}:1-5")), set(&format!("{A}:1-9,{B}:1")), false),
            (set(&format!("{A}:1-5,{B}:7")), set(&format!("{A}:3-9")), false),
            (set(&format!("{A}:1-2:8")), set(&format!("{A}:3-7")), true),
            (set(&format!("{B}:1-5")), set(&format!("{A}:1-9")), true),
            (set(""), set(&format!("{A}:1-9")), false),
            (set(&format!("{B}:1-5")), set(""), false),
            (domains("0-1-5", ""), domains("0-1-9", "0-1-9"), false),
            // The primary has not told yet that it came so far; and it was promoted.
            (domains("0-1-10", ""), domains("0-1-9", "0-1-9"), false),
            (domains("0-1-5", ""), domains("0-2-9", "0-1-7,0-2-9"), false),
            (domains("0-3-5", ""), domains("0-2-9", "0-1-7,0-2-9"), true),
            // Two servers were promoted one after the other, and the second one had nothing of the first one.
            (domains("0-3-4", "0-1-3,0-3-4"), domains("0-2-8", "0-1-3,0-2-8"), false),
            (domains("0-3-4", "0-3-4"), domains("0-2-8", "0-1-3,0-2-8"), true),
            (domains("1-1-5", ""), domains("0-1-9", "0-1-9"), true),
            (domains("", ""), domains("0-1-9", "0-1-9"), false),
            (domains("0-1-5", ""), wal(7, 1, 5), false),
        ] {
            assert_eq!(at.is_foreign_to(&primary), is_foreign, "{at} {primary}");
        }
    }

    #[test]
    fn a_promoted_server_has_of_the_log_before_what_it_replayed() {
        let end = |lsn| Some(Lsn(lsn));
        for (at, target, recovered_to, has) in [
            (wal(7, 1, 9), wal(7, 1, 9), None, Some(true)),
            (wal(7, 1, 8), wal(7, 1, 9), None, Some(false)),
            (wal(7, 2, 20), wal(7, 1, 9), end(9), Some(true)),
            (wal(7, 2, 20), wal(7, 1, 9), end(8), Some(false)),
            (wal(7, 2, 20), wal(7, 1, 9), None, None),
            (wal(7, 2, 8), wal(7, 1, 9), None, Some(false)),
            // On the way from the first to the third timeline a part may be lost.
            (wal(7, 3, 20), wal(7, 1, 9), end(15), None),
            (wal(7, 3, 20), wal(7, 1, 9), end(8), Some(false)),
            (wal(7, 1, 20), wal(7, 2, 9), end(15), Some(false)),
            (wal(8, 1, 20), wal(7, 1, 9), None, Some(false)),
        ] {
            assert_eq!(at.has(&target, recovered_to), has, "{at} {target} {recovered_to:?}");
        }
        assert_eq!(domains("0-2-9", "0-1-7,0-2-9").has(&domains("0-1-7", ""), None), Some(true));
        assert_eq!(domains("0-2-9", "0-1-7,0-2-9").has(&domains("0-1-8", ""), None), None);
        assert_eq!(domains("0-1-7", "0-1-7").has(&domains("0-1-8", ""), None), Some(false));
        assert_eq!(domains("", "").has(&domains("", ""), None), Some(true));
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
