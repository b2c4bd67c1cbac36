//! Positions for property tests, close enough to each other to meet.

use std::fmt::Write;

use proptest::prelude::*;

use super::{DomainPositions, GtidSet, Lsn, Position, WalPosition};

pub(crate) fn positions() -> impl Strategy<Value = Position> {
    prop_oneof![
        wal_positions().prop_map(Position::Wal),
        gtid_sets().prop_map(Position::GtidSet),
        last_gtids().prop_map(Position::Domains),
    ]
}

pub(crate) fn wal_positions() -> impl Strategy<Value = WalPosition> {
    (prop_oneof![Just(7), Just(u64::MAX)], prop_oneof![Just(1), Just(u32::MAX)], prop_oneof![0..4_u64, Just(u64::MAX)])
        .prop_map(|(system, timeline, lsn)| WalPosition { system, timeline, lsn: Lsn(lsn) })
}

/// A server, a tag or none, and a range that includes both ends.
pub(crate) type Transactions = (u128, &'static str, u64, u64);

/// Transactions in any order, overlapping and touching.
pub(crate) fn transactions() -> impl Strategy<Value = Vec<Transactions>> {
    let uuid = prop_oneof![Just(0), Just(0x3e11_fa47_71ca_11e1_9e33_c80a_a942_9562), Just(u128::MAX)];
    let tag = prop_oneof![Just(""), Just(""), Just("a"), Just("b_2")];
    let one = (uuid, tag, 1..30_u64, 0..6_u64);
    prop::collection::vec(one.prop_map(|(uuid, tag, first, more)| (uuid, tag, first, first + more)), 0..8)
}

pub(crate) fn gtid_sets() -> impl Strategy<Value = GtidSet> {
    transactions().prop_map(|listed| gtid_set_text(&listed).parse().expect("a set"))
}

/// One entry for each range, in the order given.
pub(crate) fn gtid_set_text(listed: &[Transactions]) -> String {
    listed.iter().fold(String::new(), |mut text, &(uuid, tag, first, last)| {
        let hex = format!("{uuid:032X}");
        let groups = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let separator = if text.is_empty() { "" } else { ",\n" };
        let tag = if tag.is_empty() { String::new() } else { format!(":{tag}") };
        let _ = write!(text, "{separator}{groups}{tag}:{first}-{last}");
        text
    })
}

/// One last GTID for each of up to three domains, no history.
pub(crate) fn last_gtids() -> impl Strategy<Value = DomainPositions> {
    let domain = prop_oneof![Just(0_u32), Just(1), Just(u32::MAX)];
    let last = (1..3_u32, prop_oneof![0..4_u64, Just(u64::MAX)]);
    prop::collection::btree_map(domain, last, 0..4).prop_map(|last| {
        let gtids = last.iter().map(|(domain, (server, sequence))| format!("{domain}-{server}-{sequence}"));
        gtids.collect::<Vec<_>>().join(",").parse().expect("a list")
    })
}
