//! The token that tells another process of a session's writes.

mod digits;
#[cfg(test)]
mod fixture;
mod text;

use std::{fmt, time::Duration};

use super::position::Position;

/// The floor of a session after its writes, as a short text for a header or a cookie: the next request then reads
/// the writes, whichever process serves it.
///
/// `Display` and `FromStr` convert to the text and back, and serde uses the same text:
///
/// ```text
/// 1w0.0.1l606bayd1sbc.1.18sh0nk8~0u41a4u
/// ```
///
/// The text has letters, digits, `.`, `-`, `_`, `:` and `~` only, so it needs no quoting in a header, in a cookie
/// or in the query of a URL. Its length is about 40 characters for PostgreSQL; for MySQL and MariaDB the length
/// grows with the servers that have ever been the primary, up to 8 KiB. The format may change with a new version of
/// this crate; the first character names the version.
///
/// A checksum refuses a text that was cut short or mistyped. The checksum is no signature: a client can make up a
/// token. A token that asks for too much sends that client's reads to the primary, and a token that asks for too
/// little lets the client read old rows; no token gives access to anything. The text shows the position of the primary:
/// where clients must not learn or make up any, `tower::CausalLayer::seal` seals the text.
#[derive(Clone, PartialEq, Eq)]
pub struct CausalToken {
    target: Target,
    open_for: Duration,
    sticks_for: Duration,
}

/// The proof that a node has the session's writes.
#[derive(Clone, PartialEq, Eq)]
enum Target {
    /// Time alone.
    Time,
    /// A position that the node covers. Never an empty one.
    Position(Position),
    /// No proof: no one position exists that a replica could cover.
    Primary,
}

impl CausalToken {
    /// A longer text is no token: servers and proxies take this length for all headers together.
    pub(crate) const MAX_LENGTH: usize = 8 * 1024;

    /// The token of a session.
    ///
    /// * `position`: the primary's position after the writes; `None`, or an empty set, where positions are not
    ///   known.
    /// * `open_for`: how long a write of unknown outcome may still happen.
    /// * `sticks_for`: how long the session stays away from replicas without known positions.
    ///
    /// The times are rounded up to milliseconds. A position whose text would be too long leaves the
    /// primary as the only node that is fit.
    pub(crate) fn new(position: Option<Position>, open_for: Duration, sticks_for: Duration) -> Self {
        let target = match position {
            Some(position) if position.is_empty() => Target::Time,
            // A target's own history is never asked for.
            Some(Position::Domains(domains)) => Target::Position(Position::Domains(domains.without_history())),
            Some(position) => Target::Position(position),
            None => Target::Time,
        };
        Self { target, open_for: round_up(open_for), sticks_for: round_up(sticks_for) }.that_fits()
    }

    /// The token for a session whose floor cannot be told: the primary has every write.
    #[cfg(feature = "tower")]
    pub(crate) fn for_the_primary() -> Self {
        Self { target: Target::Primary, open_for: Duration::ZERO, sticks_for: Duration::ZERO }
    }

    /// The position a replica must cover; `None` too when [only the primary](Self::is_primary_only)
    /// will do.
    pub(crate) fn position(&self) -> Option<&Position> {
        match &self.target {
            Target::Position(position) => Some(position),
            Target::Time | Target::Primary => None,
        }
    }

    /// Whether no replica can show that it has the writes.
    pub(crate) fn is_primary_only(&self) -> bool {
        self.target == Target::Primary
    }

    /// How long a write of unknown outcome may still happen, counted from when the token was made.
    pub(crate) fn open_for(&self) -> Duration {
        self.open_for
    }

    /// How long a session stays away from replicas without known positions, counted from when the
    /// token was made.
    pub(crate) fn sticks_for(&self) -> Duration {
        self.sticks_for
    }

    /// The least token that includes both: the reader sees the writes of both sessions.
    ///
    /// Where no one position stands for both (other clusters, a promotion between them, a text that
    /// would be too long), the merged token asks for the primary.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        self.clone().absorb(other).that_fits()
    }

    /// The least token that includes all; `None` for no token. The time grows with the length of the tokens' texts
    /// together, because the merged token is measured once.
    #[cfg(feature = "tower")]
    pub(crate) fn merge_all(tokens: impl IntoIterator<Item = Self>) -> Option<Self> {
        let merged = tokens.into_iter().reduce(|merged, token| merged.absorb(&token))?;
        Some(merged.that_fits())
    }

    fn absorb(self, other: &Self) -> Self {
        let Self { target, open_for, sticks_for } = self;
        let is_time = [&target, &other.target].map(|target| *target == Target::Time);
        let target = match (target, &other.target) {
            (Target::Time, target) => target.clone(),
            (target, Target::Time) => target,
            (Target::Position(one), Target::Position(other)) => {
                one.join(other).map_or(Target::Primary, Target::Position)
            }
            (Target::Primary, _) | (_, Target::Primary) => Target::Primary,
        };
        // A token without a position is open beside one with a position: like a write of unknown outcome, its write
        // has happened for sure only after that time.
        let is_mixed = target != Target::Time;
        let open = |is_time: bool, open_for: Duration, sticks_for: Duration| {
            if is_time && is_mixed { open_for.max(sticks_for) } else { open_for }
        };
        let [one, two] = is_time;
        Self {
            open_for: open(one, open_for, sticks_for).max(open(two, other.open_for, other.sticks_for)),
            sticks_for: sticks_for.max(other.sticks_for),
            target,
        }
    }

    fn that_fits(self) -> Self {
        if text::fits(&self) { self } else { Self { target: Target::Primary, ..self } }
    }
}

/// Rounds up to the next millisecond, at most to the largest number that the text can hold.
fn round_up(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

impl fmt::Debug for CausalToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut token = f.debug_struct("CausalToken");
        match &self.target {
            Target::Time => token.field("position", &format_args!("unknown")),
            Target::Position(position) => token.field("position", &format_args!("{position}")),
            Target::Primary => token.field("position", &format_args!("the primary's alone")),
        };
        token.field("open_for", &self.open_for).field("sticks_for", &self.sticks_for).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::position::{DomainPositions, Lsn, PositionOrder, WalPosition, fixture::positions},
        fixture::tokens,
        *,
    };

    fn wal(timeline: u32, lsn: u64) -> Position {
        Position::Wal(WalPosition { system: 7, timeline, lsn: Lsn(lsn) })
    }

    fn token(position: Option<Position>, open: u64, sticks: u64) -> CausalToken {
        CausalToken::new(position, Duration::from_millis(open), Duration::from_millis(sticks))
    }

    #[test]
    fn times_are_rounded_up() {
        let token = CausalToken::new(None, Duration::from_nanos(1), Duration::from_micros(1000));
        assert_eq!((token.open_for(), token.sticks_for()), (Duration::from_millis(1), Duration::from_millis(1)));
        let token = CausalToken::new(None, Duration::MAX, Duration::from_nanos(1_000_001));
        assert_eq!((token.open_for(), token.sticks_for()), (Duration::from_millis(u64::MAX), Duration::from_millis(2)));
    }

    #[test]
    fn an_empty_set_and_a_history_are_no_part_of_a_token() {
        let nothing = Position::GtidSet("".parse().expect("a set"));
        assert_eq!(token(Some(nothing), 0, 5), token(None, 0, 5));
        let last: DomainPositions = "0-1-5".parse().expect("a list");
        let with = last.clone().with_history("0-1-5,0-2-3").expect("a history");
        let [last, with] = [last, with].map(Position::Domains);
        assert_eq!(token(Some(with), 0, 0), token(Some(last), 0, 0));
    }

    #[test]
    fn a_position_too_long_for_a_header_leaves_the_primary() {
        let set = |count: u64| {
            let holes: String = (1..=count).map(|number| format!(":{}", number * 2)).collect();
            Some(Position::GtidSet(format!("3e11fa47-71ca-11e1-9e33-c80aa9429562{holes}").parse().expect("a set")))
        };
        assert!(token(set(1000), 0, 0).position().is_some());
        assert!(token(set(9000), 0, 0).is_primary_only());
    }

    #[test]
    fn one_history_merges_into_its_later_position() {
        let merged = token(Some(wal(1, 5)), 30, 0).merge(&token(Some(wal(1, 9)), 0, 1000));
        assert_eq!(merged, token(Some(wal(1, 9)), 30, 1000));
    }

    #[test]
    fn two_histories_merge_into_the_primary_for_good() {
        let merged = token(Some(wal(1, 5)), 0, 0).merge(&token(Some(wal(2, 9)), 7, 0));
        assert!(merged.is_primary_only());
        assert_eq!((merged.position(), merged.open_for()), (None, Duration::from_millis(7)));
        assert!(merged.merge(&token(Some(wal(2, 9)), 0, 0)).is_primary_only());
    }

    #[test]
    fn a_write_without_a_position_stays_open_beside_one_with() {
        let merged = token(None, 0, 1000).merge(&token(Some(wal(1, 9)), 30, 0));
        assert_eq!(merged, token(Some(wal(1, 9)), 1000, 1000));
        assert_eq!(token(None, 0, 1000).merge(&token(None, 30, 0)), token(None, 30, 1000));
    }

    #[test]
    fn debug_shows_what_is_inside() {
        let shown = format!("{:?}", token(Some(wal(1, 0x16_B374_D848)), 30_000, 0));
        let expected =
            "CausalToken { position: 16/B374D848 on timeline 1 of system 7, open_for: 30s, sticks_for: 0ns }";
        assert_eq!(shown, expected);
    }

    /// Whether a replica at this position, or without one, may serve the session this long after.
    fn is_fit(token: &CausalToken, at: Option<&Position>, after: Duration) -> bool {
        after >= token.open_for
            && match (&token.target, at) {
                (Target::Primary, _) => false,
                (Target::Position(target), Some(at)) => at.compared_to(target) == PositionOrder::Covers,
                (Target::Time, _) | (_, None) => after >= token.sticks_for,
            }
    }

    proptest! {
        #[cfg(feature = "tower")]
        #[test]
        fn merging_all_is_merging_one_after_the_other(all in prop::collection::vec(tokens(), 0..4)) {
            let one_by_one = all.iter().cloned().reduce(|merged, token| merged.merge(&token));
            prop_assert_eq!(CausalToken::merge_all(all), one_by_one);
        }

        #[test]
        fn a_merged_token_asks_for_what_both_ask(
            a in tokens(), b in tokens(), at in prop::option::of(positions()), after in 0..12_u64,
        ) {
            let (merged, after) = (a.merge(&b), Duration::from_millis(after));
            let both = is_fit(&a, at.as_ref(), after) && is_fit(&b, at.as_ref(), after);
            if merged.is_primary_only() {
                // Then no position is fit for both tokens; a replica without positions might have been.
                prop_assert!(at.is_none() || !both);
            } else {
                prop_assert_eq!(is_fit(&merged, at.as_ref(), after), both);
            }
        }

        #[test]
        fn merging_has_no_order(a in tokens(), b in tokens(), c in tokens()) {
            prop_assert_eq!(a.merge(&a), a.clone());
            prop_assert_eq!(a.merge(&b), b.merge(&a));
            prop_assert_eq!(a.merge(&b).merge(&c), a.merge(&b.merge(&c)));
        }
    }
}
