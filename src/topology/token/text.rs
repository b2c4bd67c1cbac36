//! A causal token as text: `1w<open>.<sticks>.<position>~<checksum>`.
//!
//! * `1` is the version, and the letter the kind: `t` time alone, `w` write-ahead log, `g` GTID set,
//!   `d` domains, `p` the primary alone. `t` and `p` have no position.
//! * Times are milliseconds. They and the numbers of a log position (system, timeline, byte) are in
//!   base 36; lists of GTIDs are as their server prints them, with `.` where it has a comma.
//! * The checksum of all before the `~` has seven characters.
//!
//! A token has exactly one text: a text that differs from the token's own is refused, so two texts are equal
//! exactly when their tokens are.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, error::Kind};

use super::{
    super::position::{DomainPositions, GtidSet, Lsn, Position, WalPosition, excerpt},
    CausalToken, Target,
    digits::{Base36, CHECKSUM_LENGTH, base36, checksum},
};

const MAX_LENGTH: usize = CausalToken::MAX_LENGTH;
const VERSION: char = '1';

/// Why a text is no causal token of this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    /// The text has this many bytes.
    TooLong(usize),
    /// The text does not begin as a token; this is its beginning.
    NotAToken(String),
    /// Another version of this crate wrote it.
    Version(char),
    /// The end of the text is missing.
    Incomplete,
    /// The checksum is that of another text.
    Checksum,
    /// The text has a content that no token has.
    Content,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(length) => {
                write!(f, "a text of {length} bytes is no causal token: one has at most {MAX_LENGTH}")
            }
            Self::NotAToken(text) => write!(f, "`{text}` is no causal token"),
            Self::Version(version) => {
                write!(f, "the causal token is of version {version}, and this is version {VERSION}")
            }
            Self::Incomplete => f.write_str("the end of the causal token is missing"),
            Self::Checksum => f.write_str("the checksum of the causal token is wrong: it was changed on its way"),
            Self::Content => f.write_str("the causal token contradicts itself: it was not made by this library"),
        }
    }
}

impl std::error::Error for TokenError {}

impl fmt::Display for CausalToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = body(self);
        write!(f, "{body}~{}", checksum(&body))
    }
}

impl FromStr for CausalToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        read(text).map_err(|problem| Error::new(Kind::BadToken { problem: problem.to_string() }))
    }
}

fn read(text: &str) -> Result<CausalToken, TokenError> {
    if text.len() > MAX_LENGTH {
        return Err(TokenError::TooLong(text.len()));
    }
    match text.chars().next() {
        Some(VERSION) => {}
        Some(version) if version.is_ascii_digit() => return Err(TokenError::Version(version)),
        _ => return Err(TokenError::NotAToken(excerpt(text))),
    }
    let (body, found) = text.split_once('~').ok_or(TokenError::Incomplete)?;
    if found.len() < CHECKSUM_LENGTH {
        return Err(TokenError::Incomplete);
    }
    if found != checksum(body) {
        return Err(TokenError::Checksum);
    }
    // Numbers may be written in several ways, sets in any order: only one of these texts is a token.
    parse(body).filter(|token| self::body(token) == body).ok_or(TokenError::Content)
}

/// Whether the text of this token can be read again.
pub(super) fn fits(token: &CausalToken) -> bool {
    body(token).len() + 1 + CHECKSUM_LENGTH <= MAX_LENGTH
}

/// The text without the checksum.
fn body(token: &CausalToken) -> String {
    let (open, sticks) = (millis(token.open_for), millis(token.sticks_for));
    let times = format!("{open}.{sticks}");
    match &token.target {
        Target::Time => format!("{VERSION}t{times}"),
        Target::Primary => format!("{VERSION}p{times}"),
        Target::Position(Position::Wal(WalPosition { system, timeline, lsn })) => {
            let (system, timeline, lsn) = (Base36(*system), Base36((*timeline).into()), Base36(lsn.0));
            format!("{VERSION}w{times}.{system}.{timeline}.{lsn}")
        }
        Target::Position(Position::GtidSet(set)) => format!("{VERSION}g{times}.{}", dotted(set)),
        Target::Position(Position::Domains(domains)) => format!("{VERSION}d{times}.{}", dotted(domains)),
    }
}

/// The inverse of [`body`], which also accepts other ways to write the same token.
fn parse(body: &str) -> Option<CausalToken> {
    let mut parts = body.get(2..)?.splitn(3, '.');
    let (open_for, sticks_for) = (parts.next().and_then(time)?, parts.next().and_then(time)?);
    let position = parts.next();
    let target = match (body.get(1..2)?, position) {
        ("t", None) => Target::Time,
        ("p", None) => Target::Primary,
        ("w", Some(text)) => Target::Position(Position::Wal(wal(text)?)),
        ("g", Some(text)) => Target::Position(Position::GtidSet(undotted::<GtidSet>(text)?)),
        ("d", Some(text)) => Target::Position(Position::Domains(undotted::<DomainPositions>(text)?)),
        _ => return None,
    };
    let is_something = !matches!(&target, Target::Position(position) if position.is_empty());
    is_something.then_some(CausalToken { target, open_for, sticks_for })
}

fn wal(text: &str) -> Option<WalPosition> {
    let (system, rest) = text.split_once('.')?;
    let (timeline, lsn) = rest.split_once('.')?;
    let timeline = base36(timeline)?.try_into().ok()?;
    Some(WalPosition { system: base36(system)?, timeline, lsn: Lsn(base36(lsn)?) })
}

fn dotted(list: &impl fmt::Display) -> String {
    list.to_string().replace(',', ".")
}

fn undotted<T: FromStr>(text: &str) -> Option<T> {
    text.replace('.', ",").parse().ok()
}

fn millis(duration: Duration) -> Base36 {
    Base36(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn time(text: &str) -> Option<Duration> {
    base36(text).map(Duration::from_millis)
}

impl Serialize for CausalToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CausalToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::fixture::tokens, *};

    fn parsed(text: &str) -> Result<CausalToken, TokenError> {
        read(text)
    }

    /// A text with the right checksum.
    fn sealed(body: &str) -> String {
        format!("{body}~{}", checksum(body))
    }

    fn postgres(open: u64, sticks: u64) -> CausalToken {
        let position = WalPosition { system: 7_524_391_882_160_446_104, timeline: 1, lsn: Lsn(0x16_B374_D848) };
        CausalToken::new(Some(Position::Wal(position)), Duration::from_millis(open), Duration::from_millis(sticks))
    }

    #[test]
    fn each_kind_has_its_text() {
        let token = |position, open, sticks| {
            CausalToken::new(position, Duration::from_millis(open), Duration::from_millis(sticks))
        };
        let uuids = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:foo:1,ed102faf-eb00-11eb-8f20-0c5415bfaa1d:9";
        let gtids = Position::GtidSet(uuids.parse().expect("a set"));
        let domains = Position::Domains("0-1-107,1-2-5".parse().expect("a list"));
        let primary = token(Some(gtids.clone()), 0, 0).merge(&token(Some(domains.clone()), 35, 36));
        for (token, body) in [
            (postgres(0, 0), "1w0.0.1l606bayd1sbc.1.18sh0nk8".to_owned()),
            (token(None, 0, 1000), "1t0.rs".to_owned()),
            (token(Some(gtids), 30_000, 0), format!("1gn5c.0.{}", uuids.replace(',', "."))),
            (token(Some(domains), 0, 0), "1d0.0.0-1-107.1-2-5".to_owned()),
            (primary, "1pz.10".to_owned()),
        ] {
            assert_eq!(token.to_string(), sealed(&body));
        }
    }

    #[test]
    fn the_longest_token_can_be_read_again() {
        let token = |holes: u64, open_digits: u32| {
            let holes: String = (1..=holes).map(|hole| format!(":{}", hole * 2)).collect();
            let set = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562{holes}").parse().expect("a set");
            let open_for = Duration::from_millis(36_u64.pow(open_digits - 1));
            CausalToken::new(Some(Position::GtidSet(set)), open_for, Duration::ZERO)
        };
        // With so many transactions that the digits of the time decide.
        let counts: Vec<_> = (1..4000).collect();
        let is_shorter = |token: &CausalToken| !token.is_primary_only() && token.to_string().len() <= MAX_LENGTH - 8;
        let most = counts[counts.partition_point(|holes| is_shorter(&token(*holes, 1)))];
        let tokens: Vec<_> = (1..=12).map(|digits| token(most, digits)).collect();
        for token in &tokens {
            assert_eq!(parsed(&token.to_string()).as_ref(), Ok(token));
        }
        let longest = tokens.iter().filter(|token| !token.is_primary_only()).map(|token| token.to_string().len()).max();
        assert_eq!(longest, Some(MAX_LENGTH));
        assert!(tokens.iter().any(CausalToken::is_primary_only));
    }

    #[test]
    fn the_example_of_the_documentation_is_a_token() {
        assert_eq!(parsed("1w0.0.1l606bayd1sbc.1.18sh0nk8~0u41a4u"), Ok(postgres(0, 0)));
    }

    #[test]
    fn a_token_for_postgresql_is_short() {
        assert!(postgres(0, 0).to_string().len() < 45);
        assert!(postgres(30_000, 1000).to_string().len() < 45);
        let position = WalPosition { system: u64::MAX, timeline: u32::MAX, lsn: Lsn(u64::MAX) };
        let longest = CausalToken::new(Some(Position::Wal(position)), Duration::MAX, Duration::MAX);
        assert_eq!(longest.to_string().len(), 2 + 13 + 1 + 13 + 1 + 13 + 1 + 7 + 1 + 13 + 1 + 7);
    }

    #[test]
    fn an_error_names_the_problem_and_little_of_the_text() {
        let long = "1".repeat(MAX_LENGTH + 1);
        assert_eq!(parsed(&long), Err(TokenError::TooLong(MAX_LENGTH + 1)));
        assert_eq!(parsed(&long[1..]), Err(TokenError::Incomplete));
        assert_eq!(parsed(""), Err(TokenError::NotAToken(String::new())));
        let secret = "Bearer eyJhbGciOiJIUzI1NiJ9.secret";
        assert_eq!(
            parsed(secret).map_err(|e| e.to_string()),
            Err("`Bearer eyJhbGciOiJIUzI1N…` is no causal token".into())
        );
        assert_eq!(parsed(&sealed("2w0.0.1.1.1")), Err(TokenError::Version('2')));
        assert_eq!(parsed("1t0.0"), Err(TokenError::Incomplete));
        assert_eq!(parsed("1t0.0~"), Err(TokenError::Incomplete));
        assert_eq!(parsed("1t0.0~0000000"), Err(TokenError::Checksum));
        assert_eq!(parsed(&format!("{}0", sealed("1t0.0"))), Err(TokenError::Checksum));
    }

    #[test]
    fn another_way_to_write_a_token_is_none() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let upper = uuid.to_uppercase();
        assert!(parsed(&sealed("1w0.0.1.1.1")).is_ok());
        assert!(parsed(&sealed(&format!("1g0.0.{uuid}:1-5"))).is_ok());
        for body in [
            "1",
            "1w",
            "1é",
            "1t",
            "1t0",
            "1t0.",
            "1t0.0.",
            "1t0.0.1",
            "1p0.0.",
            "1x0.0",
            "1w0.0",
            "1w0.0.1.1",
            "1w0.0.1.1.1.1",
            "1w0.0.1.1.01",
            "1w0.0.1.1.+1",
            "1w0.0.1.1.A",
            "1w00.0.1.1.1",
            "1w0.0.1.1z141z4.1",
            "1w0.0.1.1.3w5e11264sgsg",
            "1d0.0.",
            "1d0.0.1-1-1.0-1-1",
            "1d0.0.0-1-1.0-2-2",
            "1d0.0.0-1-01",
            "1d0.0.0-1-1,1-1-1",
            "1g0.0.",
            "1g0.0.0-1-1",
        ] {
            assert_eq!(parsed(&sealed(body)), Err(TokenError::Content), "{body}");
        }
        for rest in [format!("{uuid}:1-5:6"), format!("{upper}:1-5"), format!("{uuid}:5:1"), format!("{uuid}:5-5")] {
            assert_eq!(parsed(&sealed(&format!("1g0.0.{rest}"))), Err(TokenError::Content), "{rest}");
        }
    }

    #[test]
    fn serde_has_the_same_text() {
        let token = postgres(0, 5);
        let json = serde_json::to_string(&token).expect("JSON");
        assert_eq!(json, format!("\"{token}\""));
        assert_eq!(serde_json::from_str::<CausalToken>(&json).expect("a token"), token);
        let error = serde_json::from_str::<CausalToken>("\"1t0.0~0000000\"").expect_err("a wrong checksum");
        assert!(error.to_string().contains("checksum"), "{error}");
        assert!(serde_json::from_str::<CausalToken>("1").is_err());
    }

    proptest! {
        #[test]
        fn the_text_comes_back(token in tokens()) {
            prop_assert_eq!(parsed(&token.to_string()), Ok(token));
        }

        #[test]
        fn the_text_needs_no_quoting(token in tokens()) {
            let text = token.to_string();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-~:".contains(&b)), "{}", text);
            prop_assert!(text.len() <= MAX_LENGTH);
        }

        #[test]
        fn one_changed_character_is_refused(token in tokens(), at: prop::sample::Index, to in " -~|é") {
            let text = token.to_string();
            let at = at.index(text.len());
            prop_assume!(text[at..=at] != to);
            let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
            prop_assert!(parsed(&changed).is_err(), "{} as {}", text, changed);
        }

        #[test]
        fn two_swapped_characters_are_refused(token in tokens(), at: prop::sample::Index) {
            let text = token.to_string();
            let mut bytes = text.clone().into_bytes();
            let at = at.index(text.len() - 1);
            bytes.swap(at, at + 1);
            let swapped = String::from_utf8(bytes).expect("ASCII");
            prop_assume!(swapped != text);
            prop_assert!(parsed(&swapped).is_err(), "{} as {}", text, swapped);
        }

        #[test]
        fn a_text_without_its_end_or_beginning_is_refused(token in tokens(), at: prop::sample::Index) {
            let text = token.to_string();
            let at = at.index(text.len());
            prop_assert!(parsed(&text[..at]).is_err());
            prop_assert!(at == 0 || parsed(&text[at..]).is_err());
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*|1[twgdp][0-9a-z.:~_-]{0,60}") {
            prop_assert!(parsed(&text).is_err());
            if let Ok(token) = parsed(&sealed(&text)) {
                prop_assert_eq!(token.to_string(), sealed(&text));
            }
        }
    }
}
