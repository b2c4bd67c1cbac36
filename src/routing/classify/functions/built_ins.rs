//! The built-ins of one dialect, found by their name.

use super::super::chunk;
use super::super::keyword::Keyword;
use super::{Case, Effect, Known, Name};

/// The built-ins of one dialect, and where each of them is.
pub(super) struct BuiltIns {
    /// By hash, one more than the place in `entries`; 0 is an empty slot.
    pub(super) index: &'static [u16],
    pub(super) entries: &'static [BuiltIn],
}

/// The harmless names of up to eight bytes of one dialect that are no keywords, each as one number: most calls are
/// of these, and a look at them costs a quarter of a look at all.
pub(super) struct ShortNames {
    /// By hash; 0 is an empty slot.
    pub(super) slots: &'static [u64],
}

impl ShortNames {
    /// Is the word of `length` bytes (up to eight) at the beginning of `chunk` one of them?
    #[inline]
    pub(super) fn has(&self, chunk: u64, length: usize) -> bool {
        let name = chunk::first(chunk::fold(chunk), length);
        let mut slot = short_hash(name);
        loop {
            // The number of slots is a power of two.
            slot &= self.slots.len() - 1;
            match self.slots[slot] {
                found if found == name => return true,
                0 => return false,
                _ => slot += 1,
            }
        }
    }
}

const fn short_hash(name: u64) -> usize {
    (name.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44) as usize
}

/// [`ShortNames::slots`], built by the compiler: open addressing.
pub(super) const fn short_names<const SLOTS: usize>(harmless: &[&'static str]) -> [u64; SLOTS] {
    assert!(SLOTS.is_power_of_two());
    let mut slots = [0; SLOTS];
    let (mut at, mut taken) = (0, 0);
    while at < harmless.len() {
        let name = harmless[at].as_bytes();
        let chunk = chunk::of(name, 0);
        if name.len() <= 8 && matches!(Keyword::short(chunk, name.len()), Keyword::None) {
            let name = chunk::first(chunk::fold(chunk), name.len());
            let mut slot = short_hash(name) & (SLOTS - 1);
            while slots[slot] != 0 {
                slot = (slot + 1) & (SLOTS - 1);
            }
            slots[slot] = name;
            taken += 1;
        }
        at += 1;
    }
    assert!(taken * 2 <= SLOTS);
    slots
}

/// What is known about one name.
///
/// Its ends stand beside each other: of names up to sixteen bytes there is no more to compare.
#[derive(Clone, Copy)]
pub(super) struct BuiltIn {
    ends: Ends,
    known: Known,
    /// In lower case.
    name: &'static str,
}

/// The first and the last eight bytes of a name in one case, and its length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    beginning: u64,
    ending: u64,
    length: u32,
}

impl Ends {
    /// Of a name that is followed by more text.
    fn of(name: Name<'_>) -> Self {
        let chunk = chunk::fold(chunk::load(name.rest, 0));
        let (beginning, ending) = match name.length > 8 {
            true => (chunk, chunk::fold(chunk::load(name.rest, name.length - 8))),
            false => (chunk::first(chunk, name.length), 0),
        };
        Self { beginning, ending, length: name.length as u32 }
    }

    const fn of_known(name: &[u8]) -> Self {
        let ending = if name.len() > 8 { chunk::fold(chunk::of(name, name.len() - 8)) } else { 0 };
        let beginning = chunk::first(chunk::fold(chunk::of(name, 0)), name.len());
        Self { beginning, ending, length: name.len() as u32 }
    }

    /// All of it: a name longer than the longest built-in costs no more than others.
    const fn hash(self) -> usize {
        let mixed = self.beginning.rotate_left(29) ^ self.ending ^ self.length as u64;
        (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize
    }
}

impl BuiltIns {
    pub(super) fn look_up(&self, name: Name<'_>) -> Known {
        let ends = Ends::of(name);
        let mut slot = ends.hash();
        loop {
            // The number of slots is a power of two.
            slot &= self.index.len() - 1;
            let Some(place) = usize::from(self.index[slot]).checked_sub(1) else {
                return Known::Unknown;
            };
            let entry = &self.entries[place];
            if entry.ends == ends && is_same(entry.name.as_bytes(), name) {
                return entry.known;
            }
            slot += 1;
        }
    }
}

/// Is it this one, given that the ends and the lengths are the same?
#[inline]
fn is_same(known: &[u8], name: Name<'_>) -> bool {
    match name.case {
        Case::Word if name.length <= 16 => true,
        // Folding keeps the bytes of words apart, so the rest is compared like the ends.
        Case::Word => (8..known.len() - 8)
            .step_by(8)
            .all(|at| chunk::fold(chunk::load(name.rest, at)) == chunk::fold(chunk::load(known, at))),
        Case::Folds => known.eq_ignore_ascii_case(name.rest.get(..name.length).unwrap_or_default()),
        Case::Exact => known == name.rest.get(..name.length).unwrap_or_default(),
    }
}

/// [`BuiltIns::entries`], built by the compiler: the harmless ones first.
pub(super) const fn entries<const NAMES: usize>(
    harmless: &[&'static str],
    denied: &[(&'static str, Effect)],
) -> [BuiltIn; NAMES] {
    assert!(NAMES == harmless.len() + denied.len());
    let mut entries = [entry("", Known::Unknown); NAMES];
    let mut at = 0;
    while at < NAMES {
        entries[at] = match at < harmless.len() {
            true => entry(harmless[at], Known::Harmless),
            false => {
                let (name, effect) = denied[at - harmless.len()];
                entry(name, Known::NeedsPrimary(effect))
            }
        };
        at += 1;
    }
    entries
}

const fn entry(name: &'static str, known: Known) -> BuiltIn {
    BuiltIn { ends: Ends::of_known(name.as_bytes()), known, name }
}

/// [`BuiltIns::index`], built by the compiler: open addressing.
pub(super) const fn index<const SLOTS: usize>(entries: &[BuiltIn]) -> [u16; SLOTS] {
    assert!(SLOTS.is_power_of_two() && entries.len() * 2 <= SLOTS && entries.len() < u16::MAX as usize);
    let mut slots = [0_u16; SLOTS];
    let mut at = 0;
    while at < entries.len() {
        let mut slot = entries[at].ends.hash() & (SLOTS - 1);
        while slots[slot] != 0 {
            slot = (slot + 1) & (SLOTS - 1);
        }
        slots[slot] = at as u16 + 1;
        at += 1;
    }
    slots
}
