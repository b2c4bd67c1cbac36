//! Tokens in the heads of requests and responses.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};
use smallvec::SmallVec;

use super::{cookie::CausalCookie, form::Form};
use crate::topology::CausalToken;

const HEADER: HeaderName = HeaderName::from_static("x-causal-token");

/// The most different texts that are read of one request. A client has two, one for each carrier; the others are for
/// cookies of a parent domain and for proxies that join the headers of several requests.
const MAX_TEXTS: usize = 8;
/// The most bytes of these texts together: the longest token in a header (8 KiB), and the longest cookie (4 KiB).
const MAX_TOKEN_BYTES: usize = 12 * 1024;
/// The most bytes of headers and cookies in which tokens are looked for. Other cookies count; proxies let 8 to 32 KiB of
/// headers through.
const MAX_BYTES: usize = 64 * 1024;

/// The header and the cookie in which tokens travel, and their form.
#[derive(Clone, Debug)]
pub(super) struct Carriers {
    pub(super) header: Option<HeaderName>,
    pub(super) cookie: Option<CausalCookie>,
    pub(super) form: Form,
}

/// The tokens that a request brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// The merge of all tokens that were read.
    pub(super) token: Option<CausalToken>,
    /// The length of the first text of the header that is no token.
    pub(super) unreadable_in_header: Option<usize>,
    /// The length of the first text of the cookie that is no token.
    pub(super) unreadable_in_cookie: Option<usize>,
    /// Whether something was not read, because the request brought too much.
    pub(super) is_over_limit: bool,
}

/// The texts of one request. Bounded, whatever the client sends.
#[derive(Debug)]
struct Reading<'a> {
    form: &'a Form,
    /// How many bytes of headers and cookies may still be looked at.
    bytes_left: usize,
    token_bytes_left: usize,
    /// The different texts so far.
    texts: SmallVec<[&'a [u8]; MAX_TEXTS]>,
    tokens: SmallVec<[CausalToken; 2]>,
    is_over_limit: bool,
}

impl Default for Carriers {
    fn default() -> Self {
        Self { header: Some(HEADER), cookie: Some(CausalCookie::default()), form: Form::default() }
    }
}

impl Carriers {
    /// All tokens that the client sent, within the limits. A text that is no token is ignored.
    pub(super) fn take(&self, headers: &HeaderMap) -> Taken {
        let mut reading = Reading::new(&self.form);
        let (mut unreadable_in_header, mut unreadable_in_cookie) = (None, None);
        for line in self.header.iter().flat_map(|name| headers.get_all(name)) {
            // A proxy may have joined several header lines into one.
            for text in reading.admit(line.as_bytes(), b',').split(|byte| *byte == b',') {
                let unreadable = reading.read(text);
                unreadable_in_header = unreadable_in_header.or(unreadable);
            }
        }
        if let Some(cookie) = &self.cookie {
            // HTTP/2 may send each cookie in a line of its own.
            for line in headers.get_all(COOKIE) {
                for text in cookie.values_in(reading.admit(line.as_bytes(), b';')) {
                    let unreadable = reading.read(text);
                    unreadable_in_cookie = unreadable_in_cookie.or(unreadable);
                }
            }
        }
        Taken {
            unreadable_in_header,
            unreadable_in_cookie,
            is_over_limit: reading.is_over_limit,
            token: CausalToken::merge_all(reading.tokens),
        }
    }

    /// Adds the token to a response, beside the cookies that the application sets. `false` when the token could not be
    /// sealed.
    pub(super) fn put(&self, token: &CausalToken, headers: &mut HeaderMap) -> bool {
        let Some(text) = self.form.write(token) else { return false };
        if let Some(name) = &self.header
            && let Ok(value) = HeaderValue::try_from(&text)
        {
            headers.insert(name, value);
        }
        if let Some(cookie) = &self.cookie {
            let line = cookie.line(&text, asks_for(token)).or_else(|| {
                // A browser drops a cookie that is too long, and would keep its older token.
                Some(cookie.with_value(&self.form.write(&CausalToken::for_the_primary())?, Duration::MAX))
            });
            if let Some(line) = line.and_then(|line| HeaderValue::try_from(line).ok()) {
                headers.append(SET_COOKIE, line);
            }
        }
        true
    }
}

impl<'a> Reading<'a> {
    fn new(form: &'a Form) -> Self {
        Self {
            form,
            bytes_left: MAX_BYTES,
            token_bytes_left: MAX_TOKEN_BYTES,
            texts: SmallVec::new(),
            tokens: SmallVec::new(),
            is_over_limit: false,
        }
    }

    /// The part of a line that may be looked at, without a text that was cut.
    fn admit(&mut self, line: &'a [u8], separator: u8) -> &'a [u8] {
        let Some(admitted) = line.get(..self.bytes_left) else {
            self.bytes_left -= line.len();
            return line;
        };
        self.bytes_left = 0;
        self.is_over_limit |= admitted.len() < line.len();
        let end = admitted.iter().rposition(|byte| *byte == separator);
        end.and_then(|end| admitted.get(..end)).unwrap_or_default()
    }

    /// Reads a text, unless it was read already or is too much. The length of a text that is no token.
    fn read(&mut self, text: &'a [u8]) -> Option<usize> {
        let text = text.trim_ascii();
        if text.is_empty() || self.texts.contains(&text) {
            return None;
        }
        if text.len() > CausalToken::MAX_LENGTH {
            return Some(text.len());
        }
        if self.texts.len() == MAX_TEXTS || text.len() > self.token_bytes_left {
            self.is_over_limit = true;
            return None;
        }
        self.texts.push(text);
        self.token_bytes_left -= text.len();
        let token = self.form.read(text);
        let unreadable = token.is_none().then_some(text.len());
        self.tokens.extend(token);
        unreadable
    }
}

/// How long a token asks for anything at all.
fn asks_for(token: &CausalToken) -> Duration {
    if token.position().is_some() || token.is_primary_only() {
        return Duration::MAX;
    }
    // The time in a token would begin anew with each request that brings the token.
    token.open_for().max(token.sticks_for())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Position;

    fn token(millis: u64) -> CausalToken {
        CausalToken::new(None, Duration::ZERO, Duration::from_millis(millis))
    }

    fn headers(lines: &[(HeaderName, &[u8])]) -> HeaderMap {
        let value = |line: &[u8]| HeaderValue::from_bytes(line).expect("a header may hold it");
        lines.iter().map(|(name, line)| (name.clone(), value(line))).collect()
    }

    fn taken(lines: &[(HeaderName, &[u8])]) -> Option<CausalToken> {
        Carriers::default().take(&headers(lines)).token
    }

    #[test]
    fn a_token_comes_in_the_header_or_in_the_cookie() {
        let text = token(5).to_string();
        assert_eq!(taken(&[]), None);
        assert_eq!(taken(&[(HEADER, text.as_bytes())]), Some(token(5)));
        assert_eq!(taken(&[(HEADER, format!(" {text}\t").as_bytes())]), Some(token(5)));
        let cookie = |line: String| taken(&[(COOKIE, line.as_bytes())]);
        assert_eq!(cookie(format!("causal_token={text}")), Some(token(5)));
        assert_eq!(cookie(format!("a=1; causal_token={text}; b=2")), Some(token(5)));
        assert_eq!(cookie(format!("a=1;causal_token=\"{text}\"")), Some(token(5)));
    }

    #[test]
    fn of_several_tokens_all_count() {
        let [small, large] = [token(5).to_string(), token(9).to_string()];
        let both = format!("{small}, {large}");
        assert_eq!(taken(&[(HEADER, both.as_bytes())]), Some(token(9)));
        assert_eq!(taken(&[(HEADER, large.as_bytes()), (HEADER, small.as_bytes())]), Some(token(9)));
        let cookie = |text: &str| format!("causal_token={text}").into_bytes();
        assert_eq!(taken(&[(COOKIE, &cookie(&small)), (COOKIE, &cookie(&large))]), Some(token(9)));
        assert_eq!(taken(&[(HEADER, small.as_bytes()), (COOKIE, &cookie(&large))]), Some(token(9)));
        let twice = format!("causal_token={large}; causal_token={small}");
        assert_eq!(taken(&[(COOKIE, twice.as_bytes())]), Some(token(9)));
    }

    #[test]
    fn what_is_no_token_is_ignored_and_hides_none() {
        let good = token(5).to_string();
        let huge = "a".repeat(12 << 10);
        let cut = &good[..good.len() - 1];
        let bad: [&[u8]; 12] = [
            b"",
            b"\"",
            b"\"\"",
            b"=",
            b"==;=",
            b"1",
            b"\xff\xfe",
            "1t0.0~Ünicode".as_bytes(),
            b"1w0.0.1.1.1~0000000",
            cut.as_bytes(),
            huge.as_bytes(),
            b"1t0.0~0000000; Path=/; HttpOnly",
        ];
        for bad in bad {
            let cookie = [b"causal_token=", bad].concat();
            assert_eq!(taken(&[(HEADER, bad)]), None);
            assert_eq!(taken(&[(COOKIE, &cookie)]), None);
            let beside = [&cookie[..], b"; causal_token=", good.as_bytes(), b"; c=\xff"].concat();
            assert_eq!(taken(&[(COOKIE, &beside)]), Some(token(5)), "{}", String::from_utf8_lossy(&cookie));
            assert_eq!(taken(&[(HEADER, bad), (HEADER, good.as_bytes())]), Some(token(5)));
        }
    }

    /// The work of reading these lines: the bytes that were looked at, the texts and the bytes that were parsed.
    fn cost(lines: &[(HeaderName, &[u8])]) -> (usize, usize, usize) {
        let (carriers, headers) = (Carriers::default(), headers(lines));
        let mut reading = Reading::new(&carriers.form);
        for line in headers.get_all(HEADER) {
            for text in reading.admit(line.as_bytes(), b',').split(|byte| *byte == b',') {
                reading.read(text);
            }
        }
        (MAX_BYTES - reading.bytes_left, reading.texts.len(), MAX_TOKEN_BYTES - reading.token_bytes_left)
    }

    /// A list of domains as long as a token may be, and a short token again and again, as far as axum takes headers.
    #[test]
    fn however_much_a_client_sends_little_is_read() {
        let domains: Vec<_> = (0..800).map(|domain| format!("{domain}-1-1")).collect();
        let list = domains.join(",").parse().expect("a list");
        let long = CausalToken::new(Some(Position::Domains(list)), Duration::ZERO, Duration::ZERO).to_string();
        let short = |server: u32| {
            let list = format!("0-{server}-1").parse().expect("a list");
            CausalToken::new(Some(Position::Domains(list)), Duration::ZERO, Duration::ZERO).to_string()
        };
        let repeated = format!("{long}{}", format!(",{}", short(1)).repeat(400_000 / 20));
        assert!(repeated.len() > 300_000);
        let (bytes, texts, parsed) = cost(&[(HEADER, repeated.as_bytes())]);
        assert_eq!((texts, parsed), (2, long.len() + short(1).len()), "equal texts are read once");
        assert!(bytes <= MAX_BYTES);
        let different = (1..20_000).fold(long, |all, server| format!("{all},{}", short(server)));
        let (bytes, texts, parsed) = cost(&[(HEADER, different.as_bytes()), (HEADER, repeated.as_bytes())]);
        assert!(bytes <= MAX_BYTES && texts <= MAX_TEXTS && parsed <= MAX_TOKEN_BYTES, "{bytes} {texts} {parsed}");
        for line in [repeated, different] {
            let cookies = line.replace(',', "; causal_token=");
            for line in [(HEADER, line.as_bytes()), (COOKIE, format!("causal_token={cookies}").as_bytes())] {
                let taken = Carriers::default().take(&headers(&[line]));
                assert!(taken.is_over_limit && taken.token.is_some(), "what was read counts, and the rest is told");
            }
        }
    }

    #[test]
    fn what_an_ordinary_client_sends_is_within_the_limits() {
        let (text, other) = (token(5).to_string(), "a=".to_owned() + &"b".repeat(16 << 10));
        let cookie = format!("{other}; causal_token={text}; c={}", "d".repeat(16 << 10));
        let taken = Carriers::default().take(&headers(&[(HEADER, text.as_bytes()), (COOKIE, cookie.as_bytes())]));
        assert_eq!(taken, Taken { token: Some(token(5)), ..Taken::default() });
    }

    #[cfg(feature = "sealed-tokens")]
    #[test]
    fn a_sealed_token_tells_nothing_and_cannot_be_made_up() {
        use super::super::seal::{SealKey, SealKeys};

        let key = |byte: u8| SealKeys::new(SealKey::new([byte; 32]).expect("long enough"));
        let sealing = |byte| Carriers { form: Form::Sealed(key(byte)), ..Carriers::default() };
        let wal: Position = Position::Wal(crate::topology::WalPosition {
            system: 7_524_391_882_160_446_104,
            timeline: 1,
            lsn: crate::topology::Lsn(0x16_B374_D848),
        });
        let token = CausalToken::new(Some(wal), Duration::ZERO, Duration::ZERO);
        let mut response = HeaderMap::new();
        assert!(sealing(1).put(&token, &mut response));
        let sent = response[HEADER].to_str().expect("text").to_owned();
        assert!(!sent.contains("1l606bayd1sbc") && !sent.contains("18sh0nk8"), "{sent}");
        assert!(sent.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{sent}");
        assert!(response[SET_COOKIE].to_str().expect("text").contains(&sent));
        let cookie = format!("causal_token={sent}");
        for line in [(HEADER, sent.as_bytes()), (COOKIE, cookie.as_bytes())] {
            let taken = |carriers: Carriers| carriers.take(&headers(std::slice::from_ref(&line))).token;
            assert_eq!(taken(sealing(1)), Some(token.clone()));
            assert_eq!((taken(sealing(2)), taken(Carriers::default())), (None, None), "another key, no key");
        }
        let plain = sealing(1).take(&headers(&[(HEADER, token.to_string().as_bytes())]));
        assert_eq!((plain.token, plain.unreadable_in_header.is_some()), (None, true), "as none");

        let holes: String = (1..=1_500).map(|number| format!(":{}", number * 2)).collect();
        let set = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562{holes}").parse().expect("a set");
        let long = CausalToken::new(Some(Position::GtidSet(set)), Duration::ZERO, Duration::ZERO);
        let mut response = HeaderMap::new();
        assert!(!long.is_primary_only() && sealing(1).put(&long, &mut response));
        let taken = sealing(1).take(&headers(&[(HEADER, response[HEADER].as_bytes())])).token;
        assert!(taken.is_some_and(|token| token.is_primary_only()), "too long to be sealed");
    }

    #[test]
    fn a_cookie_of_another_name_is_somebody_elses() {
        let good = token(5);
        for name in [
            "Causal_Token",
            "xcausal_token",
            "causal_tokens",
            "x=causal_token",
            "\"causal_token\"",
            "$causal_token",
            "causal_token ",
        ] {
            assert_eq!(taken(&[(COOKIE, format!("{name}={good}").as_bytes())]), None, "{name}");
        }
        assert_eq!(taken(&[(SET_COOKIE, format!("causal_token={good}").as_bytes())]), None);
    }

    #[test]
    fn what_is_switched_off_is_neither_read_nor_set() {
        let lines = headers(&[
            (HEADER, token(5).to_string().as_bytes()),
            (COOKIE, format!("causal_token={}", token(9)).as_bytes()),
        ]);
        let [header, cookie] =
            [Carriers { cookie: None, ..Carriers::default() }, Carriers { header: None, ..Carriers::default() }];
        assert_eq!((header.take(&lines).token, cookie.take(&lines).token), (Some(token(5)), Some(token(9))));
        let set_by = |carriers: &Carriers| {
            let mut headers = HeaderMap::new();
            assert!(carriers.put(&token(5), &mut headers));
            (headers.contains_key(HEADER), headers.contains_key(SET_COOKIE))
        };
        assert_eq!((set_by(&header), set_by(&cookie)), ((true, false), (false, true)));
    }

    #[test]
    fn a_token_is_put_beside_the_cookies_of_the_application() {
        let mut headers = headers(&[(SET_COOKIE, b"theme=dark"), (SET_COOKIE, b"id=1; Secure"), (HEADER, b"stale")]);
        assert!(Carriers::default().put(&token(5), &mut headers));
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).into_iter().filter_map(|line| line.to_str().ok()).collect();
        let ours = format!("causal_token={}; Max-Age=1; Path=/; HttpOnly; SameSite=Lax", token(5));
        assert_eq!(cookies, ["theme=dark", "id=1; Secure", ours.as_str()]);
        let in_header: Vec<_> = headers.get_all(HEADER).into_iter().collect();
        assert_eq!(in_header, [token(5).to_string().as_str()]);
    }

    #[test]
    fn a_cookie_goes_when_its_token_asks_for_nothing_any_more() {
        let max_age_of = |token: CausalToken| {
            let mut headers = HeaderMap::new();
            assert!(Carriers::default().put(&token, &mut headers));
            let cookie = headers[SET_COOKIE].to_str().expect("text").to_owned();
            cookie.split("; ").find_map(|part| part.strip_prefix("Max-Age=")).map(str::to_owned)
        };
        let of = |position, open, sticks| {
            max_age_of(CausalToken::new(position, Duration::from_millis(open), Duration::from_millis(sticks)))
        };
        let set = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1".parse().expect("a set");
        assert_eq!(of(None, 0, 1_000).as_deref(), Some("1"));
        assert_eq!(of(None, 30_001, 1_000).as_deref(), Some("31"));
        assert_eq!(of(None, 0, 3_600_000).as_deref(), Some("60"), "never longer than was configured");
        assert_eq!(of(Some(Position::GtidSet(set)), 0, 1_000).as_deref(), Some("60"));
        assert_eq!(max_age_of(CausalToken::for_the_primary()).as_deref(), Some("60"));
    }

    #[test]
    fn a_token_too_long_for_a_cookie_asks_for_the_primary_there() {
        let holes: String = (1..=1_200).map(|number| format!(":{}", number * 2)).collect();
        let set = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562{holes}").parse().expect("a set");
        let long = CausalToken::new(Some(Position::GtidSet(set)), Duration::ZERO, Duration::ZERO);
        assert!(!long.is_primary_only(), "a header can hold it");
        let mut headers = HeaderMap::new();
        assert!(Carriers::default().put(&long, &mut headers));
        let cookie = headers.get(SET_COOKIE).expect("it is set").to_str().expect("text");
        assert!(cookie.len() < 200, "{cookie}");
        let sent = cookie.split(';').next().expect("a pair").as_bytes();
        assert!(taken(&[(COOKIE, sent)]).is_some_and(|token| token.is_primary_only()));
        assert_eq!(taken(&[(HEADER, headers[HEADER].as_bytes())]), Some(long));
    }
}
