//! PostgreSQL: a position in the write-ahead log.

use std::{fmt, str::FromStr};

use super::{PositionError, PositionOrder, excerpt};

/// The length of a page header at the start of a page.
const PAGE_HEADER: u64 = 24;
/// The length of the header at the start of a segment, which also describes the file.
const SEGMENT_HEADER: u64 = 40;

/// A position in the log of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalPosition {
    /// The system identifier, drawn when the cluster was made.
    pub(crate) system: u64,
    /// Counts the promotions: another timeline is another history.
    pub(crate) timeline: u32,
    pub(crate) lsn: Lsn,
}

/// A byte of the log, counted from the cluster's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lsn(pub(crate) u64);

impl WalPosition {
    pub(super) fn compared_to(self, target: Self) -> PositionOrder {
        match self.bytes_behind(target) {
            None => PositionOrder::Unrelated,
            Some(0) => PositionOrder::Covers,
            Some(_) => PositionOrder::Behind,
        }
    }

    pub(super) fn bytes_behind(self, target: Self) -> Option<u64> {
        self.is_history_of(target).then(|| target.lsn.0.saturating_sub(self.lsn.0))
    }

    pub(super) fn join(self, other: Self) -> Option<Self> {
        self.is_history_of(other).then(|| Self { lsn: self.lsn.max(other.lsn), ..self })
    }

    /// Whether a server that takes writes at this position has everything up to `target`; `None` where the
    /// positions do not tell. Of the timelines before its own, a promoted server has the part that it replayed in
    /// its last recovery.
    pub(super) fn has(self, target: Self, recovered_to: Option<Lsn>) -> Option<bool> {
        if self.system != target.system || self.timeline < target.timeline || self.lsn < target.lsn {
            return Some(false);
        }
        match (self.timeline - target.timeline, recovered_to) {
            (0, _) => Some(true),
            (_, Some(end)) if end < target.lsn => Some(false),
            (1, Some(_)) => Some(true),
            _ => None,
        }
    }

    fn is_history_of(self, other: Self) -> bool {
        self.system == other.system && self.timeline == other.timeline
    }
}

impl Lsn {
    /// The end of the last record, for an insert position that has already stepped over the header
    /// of the next page: an idle replica stays at the end of the page before.
    ///
    /// Sizes that no server can have leave the position alone.
    pub(crate) fn normalised(self, block_size: u64, segment_size: u64) -> Self {
        let are_sizes = block_size.is_power_of_two()
            && segment_size.is_power_of_two()
            && (SEGMENT_HEADER + 1..=segment_size).contains(&block_size);
        if !are_sizes {
            return self;
        }
        // A segment starts with the long header alone, every other page with the short one.
        let header = if self.0 % segment_size < block_size { SEGMENT_HEADER } else { PAGE_HEADER };
        if self.0 % block_size == header { Self(self.0 - header) } else { self }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = PositionError;

    /// The server's own form, `16/B374D848`: two halves of one to eight hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (high, low) =
            text.split_once('/').and_then(|(high, low)| half(high).zip(half(low))).ok_or_else(|| wrong(text))?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

fn half(digits: &str) -> Option<u32> {
    let is_half = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_half.then(|| u32::from_str_radix(digits, 16).ok())?
}

fn wrong(text: &str) -> PositionError {
    PositionError::Lsn(excerpt(text))
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on timeline {} of system {}", self.lsn, self.timeline, self.system)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: u64 = 8192;
    const SEGMENT: u64 = 16 << 20;

    fn at(timeline: u32, lsn: &str) -> WalPosition {
        WalPosition { system: 7, timeline, lsn: lsn.parse().expect("a position") }
    }

    #[test]
    fn the_text_is_the_servers() {
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!("16/b374d848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!("0/0306EE20".parse::<Lsn>().map(|lsn| lsn.to_string()), Ok("0/306EE20".to_owned()));
        assert_eq!("FFFFFFFF/FFFFFFFF".parse(), Ok(Lsn(u64::MAX)));
        for wrong in [
            "",
            "/",
            "16",
            "16/",
            "/16",
            "+1/0",
            "0/-1",
            " 0/1",
            "0/1 ",
            "0/1/2",
            "0/123456789",
            "0/000000001",
            "000000001/0",
            "0/0x1",
            "é/1",
        ] {
            assert_eq!(wrong.parse::<Lsn>(), Err(PositionError::Lsn(wrong.to_owned())), "{wrong}");
        }
    }

    #[test]
    fn more_log_covers_less_of_the_same_history() {
        assert_eq!(at(1, "0/10").compared_to(at(1, "0/10")), PositionOrder::Covers);
        assert_eq!(at(1, "1/0").compared_to(at(1, "0/FFFFFFFF")), PositionOrder::Covers);
        assert_eq!(at(1, "0/F").compared_to(at(1, "0/10")), PositionOrder::Behind);
        assert_eq!(at(1, "0/F").bytes_behind(at(1, "0/10")), Some(1));
        assert_eq!(at(1, "0/11").bytes_behind(at(1, "0/10")), Some(0));
    }

    #[test]
    fn a_promotion_and_another_cluster_are_other_histories() {
        let other = WalPosition { system: 8, ..at(1, "0/10") };
        for (one, target) in [(at(2, "0/20"), at(1, "0/10")), (at(1, "0/20"), at(2, "0/10")), (at(1, "0/20"), other)] {
            assert_eq!(one.compared_to(target), PositionOrder::Unrelated);
            assert_eq!(one.bytes_behind(target), None);
            assert_eq!(one.join(target), None);
        }
    }

    #[test]
    fn a_page_header_is_no_progress() {
        let normalised = |lsn| Lsn(lsn).normalised(BLOCK, SEGMENT).0;
        assert_eq!(normalised(SEGMENT + 3 * BLOCK + 24), SEGMENT + 3 * BLOCK);
        assert_eq!(normalised(5 * SEGMENT + 40), 5 * SEGMENT);
        // Each header has its own length; the other header's length is not stepped over.
        assert_eq!(normalised(5 * SEGMENT + 24), 5 * SEGMENT + 24);
        assert_eq!(normalised(SEGMENT + 3 * BLOCK + 40), SEGMENT + 3 * BLOCK + 40);
        // A record ends elsewhere, so no header precedes these positions.
        for beside in [0, 8, 16, 23, 25, 32, 39, 41, 48] {
            assert_eq!(normalised(SEGMENT + BLOCK + beside), SEGMENT + BLOCK + beside);
            assert_eq!(normalised(SEGMENT + beside), SEGMENT + beside);
        }
    }

    #[test]
    fn sizes_of_no_server_change_nothing() {
        for (block, segment) in [
            (0, 0),
            (0, SEGMENT),
            (BLOCK, 0),
            (BLOCK - 1, SEGMENT),
            (BLOCK, SEGMENT - 1),
            (SEGMENT, BLOCK),
            (16, SEGMENT),
            (32, SEGMENT),
            (u64::MAX, u64::MAX),
        ] {
            for lsn in [0, 24, 40, BLOCK + 24, BLOCK - 1 + 24, SEGMENT + 40, u64::MAX] {
                assert_eq!(Lsn(lsn).normalised(block, segment), Lsn(lsn), "{block} {segment}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_text_comes_back(lsn: u64) {
            prop_assert_eq!(Lsn(lsn).to_string().parse(), Ok(Lsn(lsn)));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*|[0-9A-F+/ -]{0,20}") {
            let _ = text.parse::<Lsn>();
        }

        #[test]
        fn normalising_goes_back_over_a_header_and_no_further(
            page in 0..1_u64 << 40, past in 0..64_u64, block in 0..20_u32, segment in 0..32_u32,
        ) {
            let (block, segment) = (1_u64 << block, 1_u64 << segment);
            let lsn = Lsn(page * block + past);
            let normalised = lsn.normalised(block, segment);
            prop_assert!([0, PAGE_HEADER, SEGMENT_HEADER].contains(&(lsn.0.wrapping_sub(normalised.0))));
            prop_assert_eq!(normalised.normalised(block, segment), normalised);
            prop_assert!(normalised == lsn || normalised.0.is_multiple_of(block));
        }

        #[test]
        fn no_size_is_too_strange(lsn: u64, block: u64, segment: u64) {
            prop_assert!(Lsn(lsn).normalised(block, segment) <= Lsn(lsn));
        }
    }
}
