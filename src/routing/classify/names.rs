//! Tables of names that the compiler builds: the keywords, and the built-in functions of each dialect.

/// Names with a value each, found by hash whatever the case of their letters.
pub(super) struct NameTable<T: 'static> {
    /// By hash: one more than the place in `entries`; 0 is an empty slot. The number of slots is a power of two.
    slots: &'static [u16],
    /// The names are in lower case.
    entries: &'static [(&'static str, T)],
}

impl<T: Copy> NameTable<T> {
    pub(super) const fn new(entries: &'static [(&'static str, T)], slots: &'static [u16]) -> Self {
        Self { slots, entries }
    }

    /// The entry of `name`.
    pub(super) fn find(&self, name: &[u8]) -> Option<(&'static str, T)> {
        let mut slot = hash(name);
        loop {
            slot &= self.slots.len() - 1;
            let place = usize::from(self.slots[slot]).checked_sub(1)?;
            let (known, value) = self.entries[place];
            if known.as_bytes().eq_ignore_ascii_case(name) {
                return Some((known, value));
            }
            slot += 1;
        }
    }
}

/// The slots of a [`NameTable`] with these entries: open addressing, at most half full, so that a search ends.
pub(super) const fn slots<T, const SLOTS: usize>(entries: &[(&'static str, T)]) -> [u16; SLOTS] {
    assert!(SLOTS.is_power_of_two() && entries.len() * 2 <= SLOTS && entries.len() < u16::MAX as usize);
    let mut slots = [0_u16; SLOTS];
    let mut at = 0;
    while at < entries.len() {
        let mut slot = hash(entries[at].0.as_bytes()) & (SLOTS - 1);
        while slots[slot] != 0 {
            slot = (slot + 1) & (SLOTS - 1);
        }
        slots[slot] = at as u16 + 1;
        at += 1;
    }
    slots
}

/// FNV-1a over the lower-case letters.
const fn hash(name: &[u8]) -> usize {
    let mut hash = 0x811C_9DC5_u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize
}
