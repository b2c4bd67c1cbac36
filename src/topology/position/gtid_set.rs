//! MySQL: the set of transactions a server has executed.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{PositionError, PositionOrder, excerpt, number};

const MAX_TAG: usize = 32;

/// Transactions by the server that made them, as `gtid_executed` of MySQL 5.7 to 9 lists them.
///
/// Equal sets are equal values: ranges are sorted and neither touch nor overlap, and every source has transactions.
/// The size of the set and the time to read it grow with the text, never with the numbers in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct GtidSet {
    sources: BTreeMap<TransactionSource, Vec<Range>>,
}

/// The counter of the transactions: since 8.3 a server counts the transactions of each tag separately.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TransactionSource {
    uuid: u128,
    /// In lower case; empty for transactions without a tag.
    tag: Box<str>,
}

/// From `first` to `last`, both included. Neither is above `i64::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: u64,
    last: u64,
}

impl GtidSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether every transaction of `other` is in this set.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.sources.iter().all(|(source, theirs)| {
            let ours = self.sources.get(source).map_or(&[][..], Vec::as_slice);
            theirs.iter().all(|range| is_within(*range, ours))
        })
    }

    /// Whether at least one transaction is in both sets.
    pub(super) fn shares_one_with(&self, other: &Self) -> bool {
        self.sources.iter().any(|(source, ours)| {
            let theirs = other.sources.get(source).map_or(&[][..], Vec::as_slice);
            ours.iter().any(|range| {
                let candidate = theirs.partition_point(|candidate| candidate.last < range.first);
                theirs.get(candidate).is_some_and(|candidate| candidate.first <= range.last)
            })
        })
    }

    /// A set that lacks a transaction can always get it, so two sets are never unrelated: even a replica that has
    /// replayed nothing yet may hold transactions of its own.
    pub(super) fn compared_to(&self, target: &Self) -> PositionOrder {
        if self.covers(target) { PositionOrder::Covers } else { PositionOrder::Behind }
    }

    /// The number of transactions of `target` beyond the last one that this set has of the same source. Sources that
    /// this set does not name do not count.
    pub(super) fn lacks_of_known(&self, target: &Self) -> u64 {
        let last = |ranges: &Vec<Range>| ranges.last().map(|range| range.last);
        let missing = target.sources.iter().filter_map(|(source, theirs)| {
            let ours = self.sources.get(source).and_then(last)?;
            Some(last(theirs)?.saturating_sub(ours))
        });
        missing.fold(0, u64::saturating_add)
    }

    pub(super) fn union(self, other: &Self) -> Self {
        let mut sources = self.sources;
        for (source, theirs) in &other.sources {
            let ranges = sources.entry(source.clone()).or_default();
            ranges.extend(theirs);
            normalise(ranges);
        }
        Self { sources }
    }
}

/// Ranges of a set do not touch, so one of them must contain the whole range.
fn is_within(range: Range, ranges: &[Range]) -> bool {
    let candidate = ranges.partition_point(|candidate| candidate.last < range.first);
    ranges.get(candidate).is_some_and(|candidate| candidate.first <= range.first && range.last <= candidate.last)
}

fn normalise(ranges: &mut Vec<Range>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let touches = next.first <= kept.last + 1;
        if touches {
            kept.last = kept.last.max(next.last);
        }
        touches
    });
}

impl FromStr for GtidSet {
    type Err = PositionError;

    /// `uuid:1-5:7,uuid:tag:3`, in any order, with blanks and line ends between the parts.
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut set = Self::default();
        if text.trim_ascii().is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            set.insert(part)?;
        }
        set.sources.values_mut().for_each(normalise);
        Ok(set)
    }
}

impl GtidSet {
    /// Adds the transactions of one server, `uuid[:tag]:1-5[:7...][:tag:1...]`, unsorted.
    fn insert(&mut self, part: &str) -> Result<(), PositionError> {
        let mut items = part.split(':').map(str::trim_ascii).peekable();
        let uuid = items.next().map_or_else(|| uuid(""), uuid)?;
        loop {
            let tag = items.next_if(|item| is_tag(item)).unwrap_or_default().to_ascii_lowercase().into();
            let first = items.next_if(|item| !is_tag(item));
            let first = first.ok_or_else(|| PositionError::NoTransactions(excerpt(part.trim_ascii())))?;
            let ranges = self.sources.entry(TransactionSource { uuid, tag }).or_default();
            ranges.push(range(first)?);
            while let Some(item) = items.next_if(|item| !is_tag(item)) {
                ranges.push(range(item)?);
            }
            if items.peek().is_none() {
                return Ok(());
            }
        }
    }
}

fn is_tag(item: &str) -> bool {
    item.len() <= MAX_TAG
        && item.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && item.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Five groups of hexadecimal digits of these lengths, with dashes between them.
fn uuid(text: &str) -> Result<u128, PositionError> {
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let digits = is_uuid.then(|| u128::from_str_radix(&text.replace('-', ""), 16).ok()).flatten();
    digits.ok_or_else(|| PositionError::Uuid(excerpt(text)))
}

fn range(item: &str) -> Result<Range, PositionError> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    match (transaction(first), transaction(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Range { first, last }),
        (Some(_), Some(_)) => Err(PositionError::Reversed(excerpt(item))),
        _ => Err(PositionError::Transactions(excerpt(item))),
    }
}

/// Servers count from 1, in a signed number.
fn transaction(text: &str) -> Option<u64> {
    number(text).filter(|number| (1..=i64::MAX.unsigned_abs()).contains(number))
}

impl fmt::Display for GtidSet {
    /// The form that MySQL prints, without the line ends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = None;
        for (TransactionSource { uuid, tag }, ranges) in &self.sources {
            if printed != Some(uuid) {
                f.write_str(if printed.is_some() { "," } else { "" })?;
                write_uuid(f, *uuid)?;
                printed = Some(uuid);
            }
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for Range { first, last } in ranges {
                if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
            }
        }
        Ok(())
    }
}

fn write_uuid(f: &mut fmt::Formatter<'_>, uuid: u128) -> fmt::Result {
    let [a, b, c, d] = [uuid >> 96, uuid >> 80 & 0xFFFF, uuid >> 64 & 0xFFFF, uuid >> 48 & 0xFFFF];
    write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", uuid & 0xFFFF_FFFF_FFFF)
}

impl fmt::Debug for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GtidSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{
        super::fixture::{gtid_set_text, gtid_sets, transactions},
        *,
    };

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "ed102faf-eb00-11eb-8f20-0c5415bfaa1d";

    fn set(text: &str) -> GtidSet {
        text.parse().expect("a set")
    }

    /// Parsed and printed again.
    fn printed(text: &str) -> Result<String, PositionError> {
        text.parse().map(|set: GtidSet| set.to_string())
    }

    #[test]
    fn a_set_is_read_as_servers_print_it_and_printed_in_one_way() {
        assert_eq!(printed(&format!("{B}:1-3:11:47-49,\n{A}:1-19")), Ok(format!("{A}:1-19,{B}:1-3:11:47-49")));
        assert_eq!(printed(&format!(" {} : 5 : 1-2 , {A}:3\r\n", A.to_uppercase())), Ok(format!("{A}:1-3:5")));
        assert_eq!(printed(&format!("{A}:7-9:1-8:9-20:22")), Ok(format!("{A}:1-20:22")));
        assert_eq!(printed(&format!("{A}:{0}", i64::MAX)), Ok(format!("{A}:{0}", i64::MAX)));
        assert_eq!(printed(" \n"), Ok(String::new()));
        assert!(set("").is_empty());
        assert!(!set(&format!("{A}:1")).is_empty());
    }

    #[test]
    fn the_transactions_of_a_tag_are_counted_for_themselves() {
        let text = format!("{A}:1-3:foo:1:_x9:3-4,{A}:Domain_1:15-21,{A}:FOO:2");
        assert_eq!(printed(&text), Ok(format!("{A}:1-3:_x9:3-4:domain_1:15-21:foo:1-2")));
        assert!(set(&text).covers(&set(&format!("{A}:foo:2"))));
        assert!(!set(&text).covers(&set(&format!("{A}:foo:3"))));
        assert!(!set(&text).covers(&set(&format!("{A}:bar:1"))));
        assert!(!set(&format!("{A}:1-100")).covers(&set(&format!("{A}:foo:2"))));
        assert_eq!(printed(&format!("{A}:{}:1", "t".repeat(32))), Ok(format!("{A}:{}:1", "t".repeat(32))));
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        use PositionError as E;
        let of = |rest: &str| printed(&format!("{A}{rest}"));
        assert_eq!(of(":0"), Err(E::Transactions("0".into())));
        assert_eq!(of(":1-0"), Err(E::Transactions("1-0".into())));
        assert_eq!(of(":9223372036854775808"), Err(E::Transactions("9223372036854775808".into())));
        assert_eq!(of(":99999999999999999999"), Err(E::Transactions("99999999999999999999".into())));
        assert_eq!(of(":5-4"), Err(E::Reversed("5-4".into())));
        for wrong in ["", "-5", "1-", "1-2-3", "+1", "1--2", "9a", "a-b", "é", "1 - 2"] {
            assert_eq!(of(&format!(":{wrong}")), Err(E::Transactions(wrong.into())));
        }
        assert!(matches!(of(&format!(":{}:1", "t".repeat(33))), Err(E::Transactions(_))));
        for wrong in ["", ":foo", ":1:foo", ":foo:bar:1"] {
            assert!(matches!(of(wrong), Err(E::NoTransactions(_))), "{wrong}");
        }
        for wrong in ["3e11fa47", "3e11fa4771ca11e19e33c80aa9429562", ",", &A.replace('f', "g"), &A.replace('-', "a")] {
            assert!(matches!(printed(&format!("{wrong}:1")), Err(E::Uuid(_))), "{wrong}");
        }
        assert!(matches!(printed(&format!("{A}:1,")), Err(E::Uuid(_))));
    }

    #[test]
    fn a_hole_is_not_covered() {
        let holed = set(&format!("{A}:1-5:7-9"));
        assert!(holed.covers(&set(&format!("{A}:2-5:7"))));
        for beyond in ["6", "5-7", "1-9", "10", "9-10"] {
            assert!(!holed.covers(&set(&format!("{A}:{beyond}"))), "{beyond}");
        }
        assert!(!holed.covers(&set(&format!("{B}:1"))));
        assert!(holed.covers(&GtidSet::default()));
    }

    /// Every number of a set, one by one.
    fn members(set: &GtidSet) -> BTreeSet<(u128, String, u64)> {
        let of_source = |(source, ranges): (&TransactionSource, &Vec<Range>)| {
            let source = source.clone();
            let numbers = ranges.clone().into_iter().flat_map(|Range { first, last }| first..=last);
            numbers.map(move |number| (source.uuid, source.tag.to_string(), number)).collect::<Vec<_>>()
        };
        set.sources.iter().flat_map(of_source).collect()
    }

    proptest! {
        #[test]
        fn a_set_holds_what_its_text_lists(listed in transactions()) {
            let naive = listed.iter().flat_map(|&(uuid, tag, first, last)| {
                (first..=last).map(move |number| (uuid, tag.to_owned(), number))
            });
            prop_assert_eq!(members(&set(&gtid_set_text(&listed))), naive.collect::<BTreeSet<_>>());
        }

        #[test]
        fn sets_behave_as_sets(a in gtid_sets(), b in gtid_sets()) {
            let (all_a, all_b) = (members(&a), members(&b));
            prop_assert_eq!(a.covers(&b), all_a.is_superset(&all_b));
            prop_assert_eq!(a == b, all_a == all_b);
            prop_assert_eq!(members(&a.clone().union(&b)), &all_a | &all_b);
            prop_assert_eq!(a.is_empty(), all_a.is_empty());
        }

        #[test]
        fn the_text_comes_back(a in gtid_sets(), b in gtid_sets()) {
            prop_assert_eq!(a.to_string().parse(), Ok(a.clone()));
            let union = a.clone().union(&b);
            prop_assert_eq!(union.to_string().parse(), Ok(union));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*|(3e11fa47-71ca-11e1-9e33-c80aa9429562)?[0-9a-c:,_ -]{0,40}") {
            if let Ok(set) = text.parse::<GtidSet>() {
                prop_assert_eq!(set.to_string().parse(), Ok(set));
            }
        }
    }
}
