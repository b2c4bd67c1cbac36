//! Sealed tokens: a client can neither read a token nor make one up.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use rand::{TryRng, rngs::SysRng};
use sha2::Sha256;

use crate::{Error, topology::CausalToken};

/// The fewest bytes of a secret: as many as the cipher's key has.
const MIN_SECRET: usize = 32;
const KEY: usize = 32;
const ID: usize = 4;
const NONCE: usize = 24;
const TAG: usize = 16;
/// The beginning of a sealed text, and its version. No plain token begins so.
const PREFIX: &str = "s1";
/// The longest sealed text, as for plain ones.
const MAX_LENGTH: usize = CausalToken::MAX_LENGTH;
/// Texts are filled up to a multiple of this, so that their lengths tell less.
const BLOCK: usize = 64;
/// The sealed text is bound to its purpose: the same secret may serve another one.
const PURPOSE: &[u8] = b"sea-orm-resolver causal token s1";

/// A key that [seals](super::CausalLayer::seal) tokens.
///
/// Made of a secret of at least 32 random bytes, in whatever form the service keeps secrets: raw bytes, or the text of
/// `openssl rand -hex 32`. All processes of a service share it. A password that a person made up is no such secret.
/// Neither `Debug` nor any error shows the secret.
///
/// # Example
/// ```
/// # fn main() -> Result<(), sea_orm_resolver::Error> {
/// use sea_orm_resolver::tower::SealKey;
///
/// # let secret = "b5a0ac47e0f1d1c69f2d2ba9a4f1e8c3b5a0ac47e0f1d1c69f2d2ba9a4f1e8c3";
/// let key = SealKey::new(secret)?; // out of the environment, or a vault
/// assert!(SealKey::new("hunter2").is_err_and(|error| error.field() == Some("seal")));
/// # let _: SealKey = key;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SealKey {
    cipher: XChaCha20Poly1305,
    /// Tells which of several keys sealed a text. Derived from the secret, which it does not reveal.
    id: [u8; ID],
}

impl SealKey {
    /// The key of a secret.
    ///
    /// # Errors
    /// A configuration error that names the field `seal`: the secret has fewer than 32 bytes.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, Error> {
        let secret = secret.as_ref();
        if secret.len() < MIN_SECRET {
            return Err(Error::config(
                "seal",
                format!(
                    "the secret has {} bytes, and {MIN_SECRET} random ones are needed; `openssl rand -hex 32` makes one",
                    secret.len()
                ),
            ));
        }
        let mut derived = [0; KEY + ID];
        let expanded = Hkdf::<Sha256>::new(None, secret).expand(PURPOSE, &mut derived);
        let (key, id) = derived.split_at(KEY);
        let made = expanded.ok().and_then(|()| XChaCha20Poly1305::new_from_slice(key).ok()).zip(id.try_into().ok());
        let (cipher, id) = made.ok_or_else(|| Error::config("seal", "no key can be derived from the secret"))?;
        Ok(Self { cipher, id })
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").finish_non_exhaustive()
    }
}

/// The key that seals tokens, and the keys whose tokens are accepted beside its own.
///
/// A secret is rotated in three steps, each of which reaches all processes before the next one begins: accept the new
/// key beside the present one; seal with the new key and accept the present one; when the tokens of the old key are
/// out of use (after the cookie's `max_age`, 60 s), forget the old key. No client notices any of them.
///
/// # Example
/// ```
/// # fn main() -> Result<(), sea_orm_resolver::Error> {
/// # use sea_orm_resolver::{DatabaseConnection, tower::{CausalLayer, SealKey, SealKeys}};
/// # let db = DatabaseConnection::default();
/// # let [current, previous] = ["c"; 2].map(|byte| byte.repeat(64));
/// let keys = SealKeys::new(SealKey::new(current)?).accepting(SealKey::new(previous)?);
/// let layer = CausalLayer::new(&db).seal(keys);
/// # let _: CausalLayer = layer;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SealKeys {
    current: Arc<SealKey>,
    accepted: Vec<SealKey>,
}

impl SealKeys {
    /// One key, which seals and opens.
    #[must_use]
    pub fn new(current: SealKey) -> Self {
        Self { current: Arc::new(current), accepted: Vec::new() }
    }

    /// Also opens what this key sealed.
    #[must_use]
    pub fn accepting(mut self, key: SealKey) -> Self {
        self.accepted.push(key);
        self
    }

    /// Whether a text of this length can be sealed.
    pub(super) fn fits(&self, text: &str) -> bool {
        sealed_length(text.len()) <= MAX_LENGTH
    }

    /// `s1`, and in base64: the key's id, a nonce, and the encrypted text with its tag. A nonce of 192 random bits may be
    /// drawn anew for each token: a repetition becomes likely after 2⁹⁶ tokens. `None` when the operating system gives
    /// no random numbers.
    pub(super) fn seal(&self, text: &str) -> Option<String> {
        let mut nonce = [0; NONCE];
        SysRng.try_fill_bytes(&mut nonce).ok()?;
        let mut padded = text.as_bytes().to_vec();
        padded.resize(text.len().next_multiple_of(BLOCK), b' ');
        let payload = Payload { msg: &padded, aad: PURPOSE };
        let encrypted = self.current.cipher.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some(PREFIX.to_owned() + &URL_SAFE_NO_PAD.encode([&self.current.id[..], &nonce, &encrypted].concat()))
    }

    /// The text that one of the keys sealed. Costs one decryption at most, of a text that has a known key's id.
    pub(super) fn open(&self, sealed: &str) -> Option<String> {
        let encoded = sealed.strip_prefix(PREFIX).filter(|_| sealed.len() <= MAX_LENGTH)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (id, rest) = bytes.split_first_chunk::<ID>()?;
        let (nonce, encrypted) = rest.split_first_chunk::<NONCE>()?;
        let key = std::iter::once(&*self.current).chain(&self.accepted).find(|key| key.id == *id)?;
        let payload = Payload { msg: encrypted, aad: PURPOSE };
        let mut text = String::from_utf8(key.cipher.decrypt(&XNonce::from(*nonce), payload).ok()?).ok()?;
        text.truncate(text.trim_end_matches(' ').len());
        Some(text)
    }
}

impl From<SealKey> for SealKeys {
    fn from(current: SealKey) -> Self {
        Self::new(current)
    }
}

fn sealed_length(text: usize) -> usize {
    PREFIX.len() + (ID + NONCE + text.next_multiple_of(BLOCK) + TAG).div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(secret: u8) -> SealKey {
        SealKey::new([secret; MIN_SECRET]).expect("long enough")
    }

    #[test]
    fn a_secret_that_is_too_short_is_an_error_that_does_not_repeat_the_secret() {
        for secret in ["", "hunter2", &"hunter2".repeat(4), &"s".repeat(31)] {
            let error = SealKey::new(secret).expect_err("too short");
            assert!(error.is_config() && error.field() == Some("seal"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(!format!("{:?} {:?}", key(b'x'), SealKeys::new(key(b'x'))).contains('x'));
    }

    #[test]
    fn each_text_is_sealed_with_a_nonce_of_its_own() {
        let keys = SealKeys::new(key(1));
        let texts: BTreeSet<_> = (0..1_000).filter_map(|_| keys.seal("1t0.rs~0000000")).collect();
        assert_eq!(texts.len(), 1_000);
        assert!(texts.iter().all(|text| keys.open(text).as_deref() == Some("1t0.rs~0000000")));
        let lengths: BTreeSet<_> = ["1", "1t0.rs~0000000", &"1".repeat(BLOCK)]
            .map(|text| keys.seal(text))
            .into_iter()
            .flatten()
            .map(|text| text.len())
            .collect();
        assert_eq!(lengths.len(), 1, "the length does not tell the content");
    }

    #[test]
    fn keys_are_rotated_without_a_loss() {
        let [old, new] = [1, 2].map(key);
        let steps = [
            SealKeys::new(old.clone()),
            SealKeys::new(old.clone()).accepting(new.clone()),
            SealKeys::new(new.clone()).accepting(old),
            SealKeys::new(new),
        ];
        for pair in steps.windows(2) {
            for (seals, opens) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                assert_eq!(opens.open(&seals.seal("text").expect("random numbers")).as_deref(), Some("text"));
            }
        }
        assert_eq!(steps[3].open(&steps[0].seal("text").expect("random numbers")), None, "another key");
    }

    #[test]
    fn the_longest_text_that_fits_can_be_opened() {
        let keys = SealKeys::new(key(1));
        let longest = (0..MAX_LENGTH).rfind(|length| sealed_length(*length) <= MAX_LENGTH).expect("one fits");
        let text = "1".repeat(longest);
        assert!(keys.fits(&text) && !keys.fits(&format!("{text}1")));
        let sealed = keys.seal(&text).expect("random numbers");
        assert!(sealed.len() <= sealed_length(longest));
        assert_eq!(keys.open(&sealed), Some(text));
    }

    proptest! {
        #[test]
        fn what_was_changed_is_not_opened(text in "[ -~]{0,200}", at: prop::sample::Index, to in "[A-Za-z0-9_=~-]") {
            let keys = SealKeys::new(key(1));
            let sealed = keys.seal(&text).expect("random numbers");
            let at = at.index(sealed.len());
            prop_assert_eq!(keys.open(&sealed[..at]), None);
            prop_assume!(sealed[at..=at] != to);
            let changed = format!("{}{to}{}", &sealed[..at], &sealed[at + 1..]);
            prop_assert_eq!(keys.open(&changed), None);
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*|s1[A-Za-z0-9_-]{0,200}") {
            prop_assert_eq!(SealKeys::new(key(1)).open(&text), None);
        }
    }
}
