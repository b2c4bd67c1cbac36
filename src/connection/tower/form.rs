//! The form in which a client sees a token.

use crate::topology::CausalToken;

/// Plain text, or sealed.
#[derive(Clone, Debug, Default)]
pub(super) enum Form {
    #[default]
    Plain,
    #[cfg(feature = "sealed-tokens")]
    Sealed(super::seal::SealKeys),
}

impl Form {
    /// The token of a text that a client sent.
    pub(super) fn read(&self, text: &[u8]) -> Option<CausalToken> {
        let text = str::from_utf8(text).ok()?;
        match self {
            Self::Plain => text.parse().ok(),
            #[cfg(feature = "sealed-tokens")]
            Self::Sealed(keys) => keys.open(text)?.parse().ok(),
        }
    }

    /// The text for a client. A token that is too long to be sealed asks for the primary instead; `None` when the
    /// operating system gives no random numbers.
    pub(super) fn write(&self, token: &CausalToken) -> Option<String> {
        match self {
            Self::Plain => Some(token.to_string()),
            #[cfg(feature = "sealed-tokens")]
            Self::Sealed(keys) => {
                let text = token.to_string();
                if keys.fits(&text) { keys.seal(&text) } else { keys.seal(&CausalToken::for_the_primary().to_string()) }
            }
        }
    }
}
