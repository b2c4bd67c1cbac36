//! What servers said about statements of a shape, remembered for ten minutes: that a server refused to run them as reads,
//! and that an error is their own.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{classify::Shape, router::Refusal};
use crate::topology::Tick;

/// How long a refusal is remembered: users mend functions, and make tables permanent.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// The largest number of remembered keys.
const CAPACITY: usize = 1_024;

/// The shapes of statements that looked like reads and that a server refused to run as reads.
pub(super) type RefusedShapes = Remembered<Shape, Refusal>;

/// The errors that two nodes gave alike to statements of a shape, by the hash of their code: no node is to blame for them.
pub(super) type OwnErrors = Remembered<(Shape, u64), ()>;

#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    entries: Mutex<HashMap<K, Entry<V>>>,
    /// The instant at which the last entry is forgotten; zero when there is none, so that a look-up costs one load.
    until: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Entry<V> {
    value: V,
    until: Tick,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { entries: Mutex::default(), until: AtomicU64::new(0) }
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Remembered<K, V> {
    /// Whether nothing is remembered. The clock is read only when something was remembered before.
    pub(super) fn is_empty(&self, now: impl FnOnce() -> Tick) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until == 0 || now() >= Tick(until)
    }

    pub(super) fn find(&self, key: K, now: Tick) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(&key).filter(|entry| now < entry.until).map(|entry| entry.value)
    }

    /// Remembers a value; `true` if the key was not remembered already.
    pub(super) fn remember(&self, key: K, value: V, now: Tick) -> bool {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = entries.get(&key).is_some_and(|entry| now < entry.until);
        entries.retain(|_, entry| now < entry.until);
        if entries.len() >= CAPACITY && !is_known {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.until).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                entries.remove(&oldest);
            }
        }
        let until = now.after(REMEMBERED_FOR);
        entries.insert(key, Entry { value, until });
        self.until.fetch_max(until.0, Ordering::AcqRel);
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use sea_orm::DbBackend;

    use super::*;
    use crate::routing::classify::shape_of;

    const MINUTE: u64 = 60_000_000_000;

    #[test]
    fn a_refusal_is_remembered_for_ten_minutes_and_said_once() {
        let (keys, refused) = (RandomState::new(), RefusedShapes::default());
        let shape = |sql: &str| shape_of(sql, DbBackend::Postgres, &keys).expect("it can be followed").0;
        assert!(refused.is_empty(|| unreachable!("nothing was refused")));
        assert!(refused.remember(shape("SELECT f(1)"), Refusal::Writes, Tick(MINUTE)));
        assert!(!refused.remember(shape("SELECT f(2)"), Refusal::Writes, Tick(2 * MINUTE)));
        assert_eq!(refused.find(shape("SELECT f(3)"), Tick(12 * MINUTE - 1)), Some(Refusal::Writes));
        assert_eq!(refused.find(shape("SELECT f(3)"), Tick(12 * MINUTE)), None);
        assert_eq!(refused.find(shape("SELECT g(3)"), Tick(2 * MINUTE)), None);
        assert!(!refused.is_empty(|| Tick(12 * MINUTE - 1)) && refused.is_empty(|| Tick(12 * MINUTE)));
        assert!(refused.remember(shape("SELECT f(1)"), Refusal::Writes, Tick(12 * MINUTE)), "it is news again");
    }

    #[test]
    fn the_oldest_makes_room_when_there_are_too_many() {
        let (keys, refused) = (RandomState::new(), RefusedShapes::default());
        let shape = |number: usize| {
            shape_of(&format!("SELECT f{number}()"), DbBackend::Postgres, &keys).expect("it can be followed").0
        };
        for number in 0..CAPACITY + 10 {
            refused.remember(shape(number), Refusal::Writes, Tick(number as u64));
        }
        assert_eq!(refused.entries.lock().expect("no panic under it").len(), CAPACITY);
        let now = Tick(MINUTE);
        assert!((0..10).all(|number| refused.find(shape(number), now).is_none()));
        assert!((10..CAPACITY + 10).all(|number| refused.find(shape(number), now).is_some()));
    }
}
