//! Remembers the classification of texts that come again and again.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::{
    Classification,
    classify::{Shape, Statements},
};
use crate::topology::Swap;

/// The largest number of remembered texts. A service has some dozens of hot statements.
const SLOTS: usize = 1_024;
/// Longer texts are classified each time, so that the memo stays below 4 MB.
const LONGEST: usize = 4_096;

/// A direct-mapped table of texts. A look-up is exact (the text is compared), takes no lock and
/// allocates nothing. A text is kept when it comes for the second time while no other text claimed
/// its slot, so texts that carry their values do not push out texts that do not.
pub(super) struct Memo {
    slots: Box<[Slot]>,
}

#[derive(Default)]
struct Slot {
    entry: Swap<Option<Arc<Entry>>>,
    /// The fingerprint of the last text that claimed this slot without getting it.
    claim: AtomicU64,
}

struct Entry {
    text: Box<str>,
    /// The epoch of the function catalogue with which the text was classified.
    epoch: u64,
    seen: Seen,
}

/// The result of classifying a text.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) classification: Classification,
    /// Computed when it is needed for the first time.
    pub(super) shape: OnceLock<Option<(Shape, Statements)>>,
    pub(super) worth: Worth,
    pub(super) listed: Listed,
}

/// Whether the text calls a function that the catalogue lists as one that may write or lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    No,
    AsWriting,
}

/// Whether the result stays true.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    Keeping,
    /// The text calls a function that the catalogue may list later, and a new classification asks for it.
    AskingAgain,
}

impl Memo {
    pub(super) fn new() -> Self {
        Self { slots: std::iter::repeat_with(Slot::default).take(SLOTS).collect() }
    }

    /// Hands the result for `text` as of `epoch` to `then`; `read` classifies the text when the memo does not hold it.
    pub(super) fn with<T>(
        &self,
        text: &str,
        epoch: u64,
        read: impl FnOnce() -> Seen,
        then: impl FnOnce(&Seen) -> T,
    ) -> T {
        if text.len() > LONGEST {
            return then(&read());
        }
        let fingerprint = fingerprint(text.as_bytes());
        let slot = &self.slots[(fingerprint >> 32) as usize % SLOTS];
        if let Some(entry) = &*slot.entry.load()
            && entry.epoch == epoch
            && *entry.text == *text
        {
            return then(&entry.seen);
        }
        let seen = read();
        if seen.worth == Worth::Keeping {
            slot.claim(text, epoch, &seen, fingerprint);
        }
        then(&seen)
    }
}

impl Slot {
    #[cold]
    fn claim(&self, text: &str, epoch: u64, seen: &Seen, fingerprint: u64) {
        if self.claim.swap(fingerprint, Ordering::Relaxed) == fingerprint {
            self.entry.store(Some(Arc::new(Entry { text: text.into(), epoch, seen: seen.clone() })));
        }
    }
}

/// Spreads texts over the slots. Not all bytes count, because the text is compared anyway. Texts that a client makes
/// fall together are classified again, as they would be without a memo.
fn fingerprint(text: &[u8]) -> u64 {
    /// The odd constant of SplitMix64 (Steele, Lea, Flood 2014).
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    /// The number of words that count: in a long text every n-th.
    const SAMPLES: usize = 16;
    let mut hash = text.len() as u64;
    let mut mix = |word: [u8; 8]| {
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(GAMMA);
        hash ^= hash >> 29;
    };
    let (words, _) = text.as_chunks::<8>();
    for word in words.iter().step_by(words.len() / SAMPLES + 1) {
        mix(*word);
    }
    // The end differs most often: `WHERE a = $1`, `WHERE b = $1`.
    match text.last_chunk::<8>() {
        Some(end) => mix(*end),
        None => text.iter().for_each(|byte| mix([*byte, 0, 0, 0, 0, 0, 0, 0])),
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use sea_orm::DbBackend;

    use super::*;
    use crate::routing::classify;

    fn read(memo: &Memo, text: &str, epoch: u64, count: &Cell<u32>) -> Classification {
        let read = || {
            count.set(count.get() + 1);
            let classification = classify(text, DbBackend::Postgres);
            let worth = if text.contains("unlisted") { Worth::AskingAgain } else { Worth::Keeping };
            Seen { classification, shape: OnceLock::new(), worth, listed: Listed::No }
        };
        memo.with(text, epoch, read, |seen| seen.classification)
    }

    #[test]
    fn a_text_is_read_until_it_has_come_twice_and_again_in_another_epoch() {
        let (memo, count) = (Memo::new(), Cell::new(0));
        for (epoch, expected) in [(0, 1), (0, 2), (0, 2), (0, 2), (1, 3), (1, 3), (0, 4), (0, 4)] {
            read(&memo, "SELECT 1", epoch, &count);
            assert_eq!(count.get(), expected, "epoch {epoch}");
        }
    }

    #[test]
    fn texts_that_fall_together_never_share_an_answer() {
        // As long as each other, and equal wherever the fingerprint looks.
        let (memo, count) = (Memo::new(), Cell::new(0));
        let read_text = format!("SELECT {} FROM item", "a, ".repeat(200));
        let mut texts = vec![];
        for at in 0..read_text.len() {
            let mut text = read_text.clone().into_bytes();
            text[at] = b';';
            texts.push(String::from_utf8(text).expect("ASCII"));
        }
        for _ in 0..4 {
            for text in &texts {
                let remembered = read(&memo, text, 0, &count);
                assert_eq!(remembered, classify(text, DbBackend::Postgres), "{text}");
            }
        }
    }

    #[test]
    fn one_off_texts_do_not_push_out_the_hot_one_and_long_ones_are_not_kept() {
        let (memo, count) = (Memo::new(), Cell::new(0));
        read(&memo, "SELECT 1", 0, &count);
        read(&memo, "SELECT 1", 0, &count);
        for number in 0..20_000 {
            read(&memo, &format!("SELECT {number} + 1"), 0, &count);
        }
        count.set(0);
        read(&memo, "SELECT 1", 0, &count);
        assert_eq!(count.get(), 0);
        for _ in 0..3 {
            read(&memo, "SELECT unlisted()", 0, &count);
        }
        assert_eq!(count.replace(0), 3);
        let long = format!("SELECT '{}'", "x".repeat(LONGEST));
        for _ in 0..3 {
            read(&memo, &long, 0, &count);
        }
        assert_eq!(count.get(), 3);
    }
}
