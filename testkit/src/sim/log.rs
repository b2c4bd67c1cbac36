//! The log of a cluster: its records, and the positions that servers report.

use std::fmt;

use tokio::time::Instant;

use super::{Dice, WriteId};

/// A place in a write-ahead log, shown as PostgreSQL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lsn(pub(super) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// The division of the log into pages, each of which begins with a header that is no record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) block: u64,
    pub(super) segment: u64,
}

impl Layout {
    const HEADER: u64 = 24;
    const SEGMENT_HEADER: u64 = 40;

    pub(super) fn random(dice: &mut Dice) -> Self {
        let block = *dice.pick(&[8_192, 8_192, 8_192, 4_096, 32_768]);
        Self { block, segment: *dice.pick(&[1 << 20, 16 << 20]) }
    }

    /// The position where the next record begins after a record that ended at `end`: a primary's insert position.
    pub(super) fn insert_position(self, end: Lsn) -> Lsn {
        Lsn(match end.0 {
            end if end % self.segment == 0 => end + Self::SEGMENT_HEADER,
            end if end % self.block == 0 => end + Self::HEADER,
            end => end,
        })
    }

    /// The end of a record that begins after `end`: now and then exactly at the end of a page.
    fn next_end(self, end: Lsn, dice: &mut Dice) -> Lsn {
        let begin = self.insert_position(end).0;
        let page_end = (begin / self.block + 1) * self.block;
        let segment_end = (begin / self.segment + 1) * self.segment;
        Lsn(match dice.below(100) {
            0..12 => page_end,
            12..14 => segment_end,
            14..17 => page_end + dice.between(1, 80),
            17..22 => begin + dice.between(1, 60_000) + 64,
            _ => begin + dice.between(48, 600),
        })
        .after(begin)
    }
}

impl Lsn {
    fn after(self, begin: u64) -> Self {
        Self(self.0.max(begin + 24))
    }
}

/// The content of a record.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A transaction became visible.
    Commit(Vec<(usize, WriteId)>),
    /// A part of an open transaction, or a change that no read sees.
    Other,
}

/// The number of a transaction, as servers with GTIDs give them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gtid {
    /// The server that was the primary.
    pub(super) origin: u32,
    /// MySQL counts per origin.
    pub(super) of_origin: u64,
    /// MariaDB goes on counting.
    pub(super) of_domain: u64,
}

/// One record of the log.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Different for every record of every timeline.
    id: u64,
    pub(super) end: Lsn,
    pub(super) what: What,
    /// Before this instant the record is in the primary's memory only: no replica has it, and a crash loses it.
    pub(super) flushed_at: Instant,
    pub(super) gtid: Option<Gtid>,
}

/// The history as one primary has it, its predecessors' part included.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub(super) number: u32,
    /// The server whose GTIDs new commits get.
    pub(super) origin: u32,
    /// The begin of the log.
    pub(super) base: Lsn,
    pub(super) records: Vec<Record>,
}

impl Timeline {
    pub(super) fn new(base: Lsn, origin: u32) -> Self {
        Self { number: 1, origin, base, records: Vec::new() }
    }

    /// The timeline of a primary that goes on after the first `applied` records of this one.
    pub(super) fn fork(&self, applied: usize, number: u32, origin: u32) -> Self {
        Self { number, origin, base: self.base, records: self.records[..applied].to_vec() }
    }

    /// The end of the first `applied` records.
    pub(super) fn end(&self, applied: usize) -> Lsn {
        applied.checked_sub(1).map_or(self.base, |last| self.records[last].end)
    }

    /// How many records two timelines share.
    pub(super) fn common(&self, other: &Self) -> usize {
        self.records.iter().zip(&other.records).take_while(|(one, other)| one.id == other.id).count()
    }

    /// The last transaction number among the first `applied` records.
    pub(super) fn last_gtid(&self, applied: usize) -> Option<Gtid> {
        self.records[..applied].iter().rev().find_map(|record| record.gtid)
    }

    pub(super) fn append(&mut self, what: What, flushed_at: Instant, layout: Layout, dice: &mut Dice) {
        let end = layout.next_end(self.end(self.records.len()), dice);
        let gtid = matches!(what, What::Commit(_)).then(|| self.next_gtid());
        self.records.push(Record { id: dice.seed(), end, what, flushed_at, gtid });
    }

    fn next_gtid(&self) -> Gtid {
        let known = self.records.iter().rev().filter_map(|record| record.gtid);
        let of_domain = known.clone().next().map_or(0, |last| last.of_domain);
        let of_origin = known.clone().find(|gtid| gtid.origin == self.origin).map_or(0, |last| last.of_origin);
        Gtid { origin: self.origin, of_origin: of_origin + 1, of_domain: of_domain + 1 }
    }

    /// Removes the records that a crash at `now` loses; returns how many remain.
    pub(super) fn crash(&mut self, now: Instant) -> usize {
        let kept = self.records.iter().position(|record| record.flushed_at > now).unwrap_or(self.records.len());
        self.records.truncate(kept);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_ends_a_page_moves_the_insert_position_behind_the_next_header() {
        let layout = Layout { block: 8_192, segment: 1 << 20 };
        assert_eq!(layout.insert_position(Lsn(8_191)), Lsn(8_191));
        assert_eq!(layout.insert_position(Lsn(8_192)), Lsn(8_192 + 24));
        assert_eq!(layout.insert_position(Lsn(1 << 20)), Lsn((1 << 20) + 40));
    }

    #[tokio::test(start_paused = true)]
    async fn records_go_on_end_pages_and_keep_their_numbers_over_a_fork() {
        let (mut dice, layout) = (Dice::new(1), Layout { block: 8_192, segment: 1 << 20 });
        let mut log = Timeline::new(Lsn(0xFFFF_F000), 1);
        for write in 0..200 {
            log.append(What::Commit(vec![(0, write)]), Instant::now(), layout, &mut dice);
        }
        assert!(log.records.windows(2).all(|pair| pair[0].end < pair[1].end));
        assert!(log.records.iter().filter(|record| record.end.0 % 8_192 == 0).count() > 10);
        assert!(log.end(200).to_string().starts_with("1/"), "it crossed 32 bits: {}", log.end(200));
        let mut other = log.fork(100, 2, 7);
        other.append(What::Commit(vec![(0, 999)]), Instant::now(), layout, &mut dice);
        let gtid = other.last_gtid(101).expect("a commit has one");
        assert_eq!((gtid.origin, gtid.of_origin, gtid.of_domain), (7, 1, 101));
    }
}
