//! Tokens in the heads of requests and responses.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};

use super::cookie::CausalCookie;
use crate::{telemetry, topology::CausalToken};

const HEADER: HeaderName = HeaderName::from_static("x-causal-token");

/// The header and the cookie in which tokens travel.
#[derive(Clone, Debug)]
pub(super) struct Carriers {
    pub(super) header: Option<HeaderName>,
    pub(super) cookie: Option<CausalCookie>,
}

impl Default for Carriers {
    fn default() -> Self {
        Self { header: Some(HEADER), cookie: Some(CausalCookie::default()) }
    }
}

impl Carriers {
    /// The merge of all tokens that the client sent. A text that is no token is ignored.
    pub(super) fn take(&self, headers: &HeaderMap) -> Option<CausalToken> {
        let in_header = self.header.iter().flat_map(|name| {
            // A proxy may have joined several header lines into one.
            let texts = headers.get_all(name).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
            texts.filter_map(|text| read("header", text))
        });
        let in_cookie = self.cookie.iter().flat_map(|cookie| {
            // HTTP/2 may send each cookie in a line of its own.
            let texts = headers.get_all(COOKIE).into_iter().flat_map(|line| cookie.values_in(line.as_bytes()));
            texts.filter_map(|text| read("cookie", text))
        });
        in_header.chain(in_cookie).reduce(|one, other| one.merge(&other))
    }

    /// Adds the token to a response, beside the cookies that the application sets.
    pub(super) fn put(&self, token: &CausalToken, headers: &mut HeaderMap) {
        let text = token.to_string();
        if let Some(name) = &self.header
            && let Ok(value) = HeaderValue::try_from(&text)
        {
            headers.insert(name, value);
        }
        if let Some(cookie) = &self.cookie {
            let line = cookie.line(&text, asks_for(token)).unwrap_or_else(|| {
                // A browser drops a cookie that is too long, and would keep its older token.
                cookie.with_value(&CausalToken::for_the_primary().to_string(), Duration::MAX)
            });
            if let Ok(line) = HeaderValue::try_from(line) {
                headers.append(SET_COOKIE, line);
            }
        }
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

fn read(carrier: &str, text: &[u8]) -> Option<CausalToken> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return None;
    }
    let token = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    if token.is_none() {
        telemetry::token_ignored(carrier, text.len());
    }
    token
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
        Carriers::default().take(&headers(lines))
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
        let huge = "a".repeat(1 << 20);
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
        assert_eq!((header.take(&lines), cookie.take(&lines)), (Some(token(5)), Some(token(9))));
        let set_by = |carriers: &Carriers| {
            let mut headers = HeaderMap::new();
            carriers.put(&token(5), &mut headers);
            (headers.contains_key(HEADER), headers.contains_key(SET_COOKIE))
        };
        assert_eq!((set_by(&header), set_by(&cookie)), ((true, false), (false, true)));
    }

    #[test]
    fn a_token_is_put_beside_the_cookies_of_the_application() {
        let mut headers = headers(&[(SET_COOKIE, b"theme=dark"), (SET_COOKIE, b"id=1; Secure"), (HEADER, b"stale")]);
        Carriers::default().put(&token(5), &mut headers);
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
            Carriers::default().put(&token, &mut headers);
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
        Carriers::default().put(&long, &mut headers);
        let cookie = headers.get(SET_COOKIE).expect("it is set").to_str().expect("text");
        assert!(cookie.len() < 200, "{cookie}");
        let sent = cookie.split(';').next().expect("a pair").as_bytes();
        assert!(taken(&[(COOKIE, sent)]).is_some_and(|token| token.is_primary_only()));
        assert_eq!(taken(&[(HEADER, headers[HEADER].as_bytes())]), Some(long));
    }
}
