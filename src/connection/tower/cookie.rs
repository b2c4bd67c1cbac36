//! The cookie that carries a token.

use std::{fmt::Write, time::Duration};

use crate::Error;

/// The length of a cookie's name and value together that every browser keeps.
const MAX_LENGTH: usize = 4096;

/// The cookie that carries a token.
///
/// By default: `causal_token`, `Max-Age` 60 s, `Path=/`, `HttpOnly`, `SameSite=Lax`, and not `Secure`, so that it works
/// without TLS on a developer's machine. Wherever there is TLS, say [`secure(true)`](Self::secure).
///
/// A token too long for a cookie (4 KiB: MySQL, after many primaries) is replaced by one that asks for the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CausalCookie {
    name: String,
    path: String,
    domain: Option<String>,
    max_age: Duration,
    same_site: SameSite,
    is_secure: bool,
}

/// The requests of other sites with which a browser sends a cookie along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// No request of another site.
    Strict,
    /// Navigation by links.
    #[default]
    Lax,
    /// All requests; such a cookie is always `Secure`.
    None,
}

impl Default for CausalCookie {
    fn default() -> Self {
        Self {
            name: "causal_token".to_owned(),
            path: "/".to_owned(),
            domain: None,
            max_age: Duration::from_secs(60),
            same_site: SameSite::default(),
            is_secure: false,
        }
    }
}

impl CausalCookie {
    /// A cookie of another name: letters, digits and ``!#$%&'*+-.^_`|~``.
    ///
    /// # Errors
    /// A name that no cookie has.
    pub fn named(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_fit) {
            return Err(Error::config("cookie", "its name must be letters, digits and !#$%&'*+-.^_`|~ only"));
        }
        Ok(Self { name, ..Self::default() })
    }

    /// Only requests below this path carry it. Default: `/`.
    ///
    /// # Errors
    /// A path that does not begin with `/`, or holds what no attribute may.
    pub fn path(self, path: impl Into<String>) -> Result<Self, Error> {
        let path = path.into();
        if !path.starts_with('/') || !is_attribute(&path) {
            return Err(Error::config("cookie.path", "it must begin with / and be printable ASCII without `;`"));
        }
        Ok(Self { path, ..self })
    }

    /// The hosts below this domain share the cookie. Default: only the host that set it.
    ///
    /// # Errors
    /// A domain that holds what no attribute may.
    pub fn domain(self, domain: impl Into<String>) -> Result<Self, Error> {
        let domain = domain.into();
        if domain.is_empty() || !is_attribute(&domain) {
            return Err(Error::config("cookie.domain", "it must be printable ASCII without `;`"));
        }
        Ok(Self { domain: Some(domain), ..self })
    }

    /// How long a client keeps the cookie. Default: 60 s, which is longer than `unknown_outcome_hold` (30 s, in
    /// which a write of unknown outcome may still happen) and `max_lag` (10 s, by which a replica in rotation may
    /// be behind) together. Whole seconds, at least one; make it longer with those. A token of servers without
    /// positions asks for nothing after `stick_after_write` (1 s), and its cookie expires then.
    #[must_use]
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// Restricts the cookie to connections with TLS. Default: no.
    #[must_use]
    pub fn secure(self, is_secure: bool) -> Self {
        Self { is_secure, ..self }
    }

    /// The requests of other sites with which a browser sends the cookie along. Default: [`SameSite::Lax`].
    #[must_use]
    pub fn same_site(self, same_site: SameSite) -> Self {
        Self { same_site, ..self }
    }

    /// The values of this cookie in a `Cookie` line. The line may hold anything, in any encoding.
    pub(super) fn values_in<'a>(&'a self, line: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        line.split(|byte| *byte == b';').filter_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(self.name.as_bytes())?.strip_prefix(b"=")?;
            let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            Some(unquoted.unwrap_or(value))
        })
    }

    /// The `Set-Cookie` line for a client; `None` when the line would be too long for a browser.
    pub(super) fn line(&self, value: &str, needed_for: Duration) -> Option<String> {
        (self.name.len() + value.len() <= MAX_LENGTH).then(|| self.with_value(value, needed_for))
    }

    /// The same line, of any length.
    pub(super) fn with_value(&self, value: &str, needed_for: Duration) -> String {
        let Self { name, path, domain, max_age, same_site, is_secure } = self;
        let seconds = needed_for.min(*max_age).as_nanos().div_ceil(1_000_000_000).max(1);
        let mut line = format!("{name}={value}; Max-Age={seconds}; Path={path}; HttpOnly; SameSite={same_site:?}");
        if let Some(domain) = domain {
            let _ = write!(line, "; Domain={domain}");
        }
        if *is_secure || *same_site == SameSite::None {
            line.push_str("; Secure");
        }
        line
    }
}

fn is_attribute(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_says_what_was_configured() -> Result<(), Error> {
        let cookie = CausalCookie::named("after")?;
        assert_eq!(cookie.with_value("x", Duration::MAX), "after=x; Max-Age=60; Path=/; HttpOnly; SameSite=Lax");
        let cookie = cookie.path("/shop")?.domain("example.com")?.max_age(Duration::from_millis(1)).secure(true);
        let cookie = cookie.same_site(SameSite::Strict);
        let line = "after=x; Max-Age=1; Path=/shop; HttpOnly; SameSite=Strict; Domain=example.com; Secure";
        assert_eq!(cookie.with_value("x", Duration::MAX), line);
        let cookie = CausalCookie::default().same_site(SameSite::None).max_age(Duration::ZERO);
        assert_eq!(
            cookie.with_value("x", Duration::MAX),
            "causal_token=x; Max-Age=1; Path=/; HttpOnly; SameSite=None; Secure"
        );
        Ok(())
    }

    #[test]
    fn nothing_gets_out_of_its_attribute() {
        for name in ["", "a b", "a=b", "a;b", "a\nb", "ü", "a\"b", "a,b"] {
            assert!(CausalCookie::named(name).is_err_and(|error| error.is_config()), "{name:?}");
        }
        for path in ["", "shop", "/a;b", "/a\r\nSet-Cookie: b", "/ü"] {
            assert!(CausalCookie::default().path(path).is_err_and(|error| error.is_config()), "{path:?}");
        }
        for domain in ["", "a;b", "a\n", "ü.example"] {
            assert!(CausalCookie::default().domain(domain).is_err_and(|error| error.is_config()), "{domain:?}");
        }
    }

    #[test]
    fn a_value_as_long_as_a_browser_takes_is_the_longest() {
        let cookie = CausalCookie::default();
        let longest = "x".repeat(MAX_LENGTH - cookie.name.len());
        assert!(cookie.line(&longest, Duration::MAX).is_some());
        assert_eq!(cookie.line(&format!("{longest}x"), Duration::MAX), None);
    }
}
