//! MariaDB: the last transaction of every replication domain.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    str::FromStr,
};

use super::{PositionError, PositionOrder, excerpt, number};

/// The last GTID of every domain, and the known part of the transactions before them.
///
/// A sequence number belongs to the server that wrote it. After a failover the new primary counts on, so `0-2-110`
/// may or may not have the lost primary's `0-1-107` before it; only the history tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DomainPositions {
    last: BTreeMap<u32, Last>,
    /// The last sequence number of each (domain, server) that went through this server's binary
    /// log; empty where it is not known.
    history: BTreeMap<(u32, u32), u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    server: u32,
    sequence: u64,
}

impl DomainPositions {
    /// Adds the transactions that a server lists in `gtid_binlog_state`: one GTID for each domain and server.
    pub(crate) fn with_history(mut self, text: &str) -> Result<Self, PositionError> {
        self.history = once_each(text, |domain, last| ((domain, last.server), last.sequence))?;
        Ok(self)
    }

    /// Adds to the history the transactions that a server had replicated before it was promoted. The binary log
    /// lacks these transactions where the server did not log replicated transactions.
    pub(crate) fn with_replicated(mut self, text: &str) -> Result<Self, PositionError> {
        for (domain, last) in text.parse::<Self>()?.last {
            let sequence = self.history.entry((domain, last.server)).or_insert(last.sequence);
            *sequence = last.sequence.max(*sequence);
        }
        Ok(self)
    }

    /// Whether a server has written in both histories: then at least one transaction is in both.
    pub(super) fn shares_one_with(&self, other: &Self) -> bool {
        self.writers().any(|ours| other.writers().any(|theirs| theirs == ours))
    }

    /// The servers whose transactions are known to be in this history, each with its domain.
    fn writers(&self) -> impl Iterator<Item = (u32, u32)> {
        let last = self.last.iter().map(|(domain, last)| (*domain, last.server));
        last.chain(self.history.keys().copied())
    }

    /// The last GTIDs alone: a target needs no history.
    pub(crate) fn without_history(self) -> Self {
        Self { history: BTreeMap::new(), ..self }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// The worst order among the domains of `target`.
    pub(super) fn compared_to(&self, target: &Self) -> PositionOrder {
        let reaches = target.last.iter().map(|(domain, target)| self.reach_in(*domain, *target));
        reaches.max().unwrap_or(PositionOrder::Unrelated)
    }

    fn reach_in(&self, domain: u32, target: Last) -> PositionOrder {
        if self.history.get(&(domain, target.server)).is_some_and(|sequence| *sequence >= target.sequence) {
            return PositionOrder::Covers;
        }
        match self.last.get(&domain) {
            None => PositionOrder::Behind,
            Some(last) if last.sequence < target.sequence => PositionOrder::Behind,
            Some(last) if last.server == target.server => PositionOrder::Covers,
            Some(_) => PositionOrder::Unrelated,
        }
    }

    /// The number of transactions that a server at this position has yet to commit for `target`, in the domains that
    /// this position names.
    pub(super) fn lacks_of_known(&self, target: &Self) -> u64 {
        let missing = target.last.iter().filter_map(|(domain, target)| {
            let last = self.last.get(domain)?;
            Some(target.sequence.saturating_sub(last.sequence))
        });
        missing.fold(0, u64::saturating_add)
    }

    /// In each domain the later GTID; `None` when two servers wrote the two, for the higher number need not have
    /// the lower one before it. The result has no history.
    pub(super) fn join(self, other: &Self) -> Option<Self> {
        let mut last = self.last;
        for (domain, theirs) in &other.last {
            let ours = last.entry(*domain).or_insert(*theirs);
            if ours.server != theirs.server {
                return None;
            }
            ours.sequence = ours.sequence.max(theirs.sequence);
        }
        Some(Self { last, history: BTreeMap::new() })
    }
}

impl FromStr for DomainPositions {
    type Err = PositionError;

    /// The list of last GTIDs, `0-1-107,1-2-5`, in any order; an empty text is an empty list.
    fn from_str(text: &str) -> Result<Self, PositionError> {
        Ok(Self { last: once_each(text, |domain, last| (domain, last))?, history: BTreeMap::new() })
    }
}

/// A list of GTIDs in a map whose key may occur only once.
fn once_each<K: Ord, V>(text: &str, by: impl Fn(u32, Last) -> (K, V)) -> Result<BTreeMap<K, V>, PositionError> {
    let mut all = BTreeMap::new();
    if text.trim_ascii().is_empty() {
        return Ok(all);
    }
    for item in text.split(',').map(str::trim_ascii) {
        let (domain, last) = gtid(item).ok_or_else(|| PositionError::Gtid(excerpt(item)))?;
        let (key, value) = by(domain, last);
        let Entry::Vacant(place) = all.entry(key) else { return Err(PositionError::Repeated(excerpt(item))) };
        place.insert(value);
    }
    Ok(all)
}

fn gtid(item: &str) -> Option<(u32, Last)> {
    let (domain, rest) = item.split_once('-')?;
    let (server, sequence) = rest.split_once('-')?;
    let id = |text| u32::try_from(number(text)?).ok();
    Some((id(domain)?, Last { server: id(server)?, sequence: number(sequence)? }))
}

impl fmt::Display for DomainPositions {
    /// The last GTIDs; the history is not printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (domain, Last { server, sequence })) in self.last.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            write!(f, "{domain}-{server}-{sequence}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::fixture::last_gtids, *};

    fn last(text: &str) -> DomainPositions {
        text.parse().expect("a list")
    }

    fn with(text: &str, history: &str) -> DomainPositions {
        last(text).with_history(history).expect("a history")
    }

    #[test]
    fn the_list_is_read_as_servers_print_it() {
        assert_eq!(last(" 1-2-5,\n0-1-107 ").to_string(), "0-1-107,1-2-5");
        let highest = format!("{0}-{0}-{1}", u32::MAX, u64::MAX);
        assert_eq!(last(&highest).to_string(), highest);
        assert!(last("").is_empty());
        assert!(!last("0-1-1").is_empty());
        assert_eq!(with("0-1-1", "").without_history(), last("0-1-1"));
        assert_eq!(with("0-1-1", "0-1-1,0-2-9").without_history(), last("0-1-1"));
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for wrong in ["0", "0-1", "0-1-", "-1-1", "0-1-1-1", "0-1-+1", "4294967296-1-1", "0-4294967296-1", "a-1-1"] {
            assert_eq!(wrong.parse::<DomainPositions>(), Err(PositionError::Gtid(wrong.into())));
        }
        assert_eq!(
            "0-1-18446744073709551616".parse::<DomainPositions>().map_err(|e| e.to_string()),
            Err("`0-1-18446744073709551616` is not a GTID such as 0-1-107 (domain, server, sequence)".into())
        );
        assert_eq!("0-1-1,".parse::<DomainPositions>(), Err(PositionError::Gtid(String::new())));
        assert_eq!("0-1-1,0-2-2".parse::<DomainPositions>(), Err(PositionError::Repeated("0-2-2".into())));
        assert_eq!(last("0-1-1").with_history("0-1-1,0-1-2"), Err(PositionError::Repeated("0-1-2".into())));
    }

    #[test]
    fn a_domain_is_covered_by_its_last_gtid_or_by_the_history() {
        let target = last("0-1-107");
        assert_eq!(last("0-1-107").compared_to(&target), PositionOrder::Covers);
        assert_eq!(last("0-1-108,5-5-5").compared_to(&target), PositionOrder::Covers);
        assert_eq!(with("0-2-110", "0-1-107,0-2-110").compared_to(&target), PositionOrder::Covers);
        assert_eq!(with("0-2-110", "0-1-109,0-2-110").compared_to(&target), PositionOrder::Covers);
    }

    #[test]
    fn a_lower_or_missing_domain_is_behind() {
        let target = last("0-1-107,1-1-5");
        assert_eq!(last("0-1-106,1-1-5").compared_to(&target), PositionOrder::Behind);
        assert_eq!(last("0-2-106,1-1-5").compared_to(&target), PositionOrder::Behind);
        assert_eq!(last("0-1-107").compared_to(&target), PositionOrder::Behind);
        assert_eq!(last("").compared_to(&target), PositionOrder::Behind);
    }

    #[test]
    fn the_transactions_of_a_lost_primary_are_in_no_other_history() {
        let target = last("0-1-107");
        assert_eq!(last("0-2-110").compared_to(&target), PositionOrder::Unrelated);
        assert_eq!(last("0-2-107").compared_to(&target), PositionOrder::Unrelated);
        assert_eq!(with("0-2-110", "0-1-105,0-2-110").compared_to(&target), PositionOrder::Unrelated);
        assert_eq!(with("0-2-110", "1-1-107,0-2-110").compared_to(&target), PositionOrder::Unrelated);
        // One domain is enough, whatever the other domains say.
        assert_eq!(last("0-2-110,1-1-1").compared_to(&last("0-1-107,1-1-5")), PositionOrder::Unrelated);
        assert_eq!(last("0-2-110,1-1-9").compared_to(&last("0-1-107,1-1-5")), PositionOrder::Unrelated);
        assert_eq!(last("0-1-107").join(&last("0-2-110")), None);
    }

    /// A domain's binary log: the server of each transaction, numbered in order.
    fn position(domain: u32, log: &[u32]) -> DomainPositions {
        let gtids: Vec<_> = log.iter().zip(1_u64..).map(|(&server, number)| (server, number)).collect();
        let latest: BTreeMap<_, _> = gtids.iter().copied().collect();
        let history: Vec<_> = latest.iter().map(|(server, number)| format!("{domain}-{server}-{number}")).collect();
        let last = gtids.last().map_or(String::new(), |(server, number)| format!("{domain}-{server}-{number}"));
        with(&last, &history.join(","))
    }

    proptest! {
        #[test]
        fn in_one_log_more_covers_less(log in prop::collection::vec(1..4_u32, 1..12), at: usize, target: usize) {
            let (at, target) = (at % (log.len() + 1), 1 + target % log.len());
            let reach = position(0, &log[..at]).compared_to(&position(0, &log[..target]).without_history());
            prop_assert_eq!(reach, if at >= target { PositionOrder::Covers } else { PositionOrder::Behind });
        }

        /// The lost primary's writes after the failover are in no other log, however long.
        #[test]
        fn a_lost_tail_is_never_covered(
            shared in prop::collection::vec(1..4_u32, 0..6), lost in 1..6_usize,
            after in prop::collection::vec(1..4_u32, 0..12),
        ) {
            let old = [shared.clone(), vec![9; lost]].concat();
            let new = [shared, after].concat();
            let target = position(0, &old).without_history();
            let expected = if new.len() >= old.len() { PositionOrder::Unrelated } else { PositionOrder::Behind };
            prop_assert_eq!(position(0, &new).compared_to(&target), expected);
            prop_assert_eq!(position(0, &new).without_history().compared_to(&target), expected);
        }

        #[test]
        fn the_text_comes_back(last in last_gtids()) {
            prop_assert_eq!(last.to_string().parse(), Ok(last));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*|[0-9,+ -]{0,30}") {
            if let Ok(last) = text.parse::<DomainPositions>() {
                prop_assert_eq!(last.to_string().parse(), Ok(last.clone()));
                let _ = last.with_history(&text);
            }
        }
    }
}
