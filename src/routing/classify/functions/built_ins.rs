//! The built-ins of one dialect, found by their name.

use super::super::chunk;
use super::{Case, Effect, Known, Name};

/// The built-ins of one dialect, all in lower case, and where each of them is.
pub(super) struct BuiltIns {
    pub(super) harmless: &'static [&'static str],
    pub(super) denied: &'static [(&'static str, Effect)],
    /// By hash, one more than the place in the harmless names and the denied ones after them; 0 is an empty slot.
    pub(super) index: &'static [u16],
    /// By place, the first eight bytes of the name.
    pub(super) beginnings: &'static [u64],
}

impl BuiltIns {
    pub(super) fn look_up(&self, name: Name<'_>) -> Known {
        let length = name.length;
        let beginning = chunk::first(chunk::fold(chunk::load(name.rest, 0)), length);
        let ending = match length > 8 {
            true => chunk::fold(chunk::load(name.rest, length - 8)),
            false => beginning,
        };
        let mut slot = hash(beginning, ending, length);
        loop {
            // The number of slots is a power of two.
            slot &= self.index.len() - 1;
            let Some(place) = usize::from(self.index[slot]).checked_sub(1) else {
                return Known::Unknown;
            };
            if self.beginnings[place] == beginning {
                let (known, found) = self.at(place);
                if is_same(known.as_bytes(), name) {
                    return found;
                }
            }
            slot += 1;
        }
    }

    fn at(&self, place: usize) -> (&'static str, Known) {
        match self.harmless.get(place) {
            Some(known) => (known, Known::Harmless),
            None => {
                let (known, effect) = self.denied[place - self.harmless.len()];
                (known, Known::NeedsPrimary(effect))
            }
        }
    }
}

/// Is it this one, given that the first eight bytes are the same when folded?
fn is_same(known: &[u8], name: Name<'_>) -> bool {
    if known.len() != name.length {
        return false;
    }
    match name.case {
        Case::Word => {
            let mut at = 8;
            while at < known.len() {
                // The last eight bytes may overlap those before.
                let from = at.min(known.len() - 8);
                if chunk::fold(chunk::load(name.rest, from)) != chunk::fold(chunk::load(known, from)) {
                    return false;
                }
                at += 8;
            }
            true
        }
        Case::Folds => known.eq_ignore_ascii_case(name.rest.get(..name.length).unwrap_or_default()),
        Case::Exact => known == name.rest.get(..name.length).unwrap_or_default(),
    }
}

/// All names, the harmless ones first.
const fn nth<'name>(harmless: &[&'name str], denied: &[(&'name str, Effect)], at: usize) -> &'name [u8] {
    match at < harmless.len() {
        true => harmless[at].as_bytes(),
        false => denied[at - harmless.len()].0.as_bytes(),
    }
}

const fn beginning(name: &[u8]) -> u64 {
    chunk::first(chunk::fold(chunk::of(name, 0)), name.len())
}

/// [`BuiltIns::beginnings`], built by the compiler.
pub(super) const fn beginnings<const NAMES: usize>(harmless: &[&str], denied: &[(&str, Effect)]) -> [u64; NAMES] {
    let mut beginnings = [0; NAMES];
    let mut at = 0;
    while at < NAMES {
        beginnings[at] = beginning(nth(harmless, denied, at));
        at += 1;
    }
    beginnings
}

/// [`BuiltIns::index`], built by the compiler: open addressing.
pub(super) const fn index<const SLOTS: usize>(harmless: &[&str], denied: &[(&str, Effect)]) -> [u16; SLOTS] {
    let names = harmless.len() + denied.len();
    assert!(SLOTS.is_power_of_two() && names * 2 <= SLOTS && names < u16::MAX as usize);
    let mut slots = [0_u16; SLOTS];
    let mut at = 0;
    while at < names {
        let name = nth(harmless, denied, at);
        let ending = match name.len() > 8 {
            true => chunk::fold(chunk::of(name, name.len() - 8)),
            false => beginning(name),
        };
        let mut slot = hash(beginning(name), ending, name.len()) & (SLOTS - 1);
        while slots[slot] != 0 {
            slot = (slot + 1) & (SLOTS - 1);
        }
        slots[slot] = at as u16 + 1;
        at += 1;
    }
    slots
}

/// Both ends and the length: a name longer than the longest built-in costs no more than others.
const fn hash(beginning: u64, ending: u64, length: usize) -> usize {
    let mixed = beginning.rotate_left(29) ^ ending ^ length as u64;
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize
}
