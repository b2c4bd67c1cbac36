//! The shapes of statements that looked like reads and that a server refused to run as one.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{classify::Shape, judge::Refusal};
use crate::topology::Tick;

/// How long a refusal is remembered: a function can be mended, a table made permanent.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// Shapes remembered at the most.
const CAPACITY: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct Refused {
    shapes: Mutex<HashMap<Shape, Remembered>>,
    /// How many there are, so that asking costs nothing while there are none.
    count: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    refusal: Refusal,
    until: Tick,
}

impl Refused {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    pub(super) fn find(&self, shape: Shape, now: Tick) -> Option<Refusal> {
        let shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.get(&shape).filter(|remembered| now < remembered.until).map(|remembered| remembered.refusal)
    }

    /// Remembers a refusal; `true` if the shape was not remembered already.
    pub(super) fn remember(&self, shape: Shape, refusal: Refusal, now: Tick) -> bool {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        if shapes.len() >= CAPACITY && !shapes.contains_key(&shape) {
            shapes.retain(|_, remembered| now < remembered.until);
            let oldest = shapes.iter().min_by_key(|(_, remembered)| remembered.until).map(|(shape, _)| *shape);
            if let Some(oldest) = oldest.filter(|_| shapes.len() >= CAPACITY) {
                shapes.remove(&oldest);
            }
        }
        let before = shapes.insert(shape, Remembered { refusal, until: now.after(REMEMBERED_FOR) });
        self.count.store(shapes.len(), Ordering::Relaxed);
        before.is_none_or(|before| now >= before.until)
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
        let (keys, refused) = (RandomState::new(), Refused::default());
        let shape = |sql: &str| shape_of(sql, DbBackend::Postgres, &keys).expect("it can be followed").0;
        assert!(refused.is_empty());
        assert!(refused.remember(shape("SELECT f(1)"), Refusal::Writes, Tick(MINUTE)));
        assert!(!refused.remember(shape("SELECT f(2)"), Refusal::Writes, Tick(2 * MINUTE)));
        assert_eq!(refused.find(shape("SELECT f(3)"), Tick(12 * MINUTE - 1)), Some(Refusal::Writes));
        assert_eq!(refused.find(shape("SELECT f(3)"), Tick(12 * MINUTE)), None);
        assert_eq!(refused.find(shape("SELECT g(3)"), Tick(2 * MINUTE)), None);
        assert!(refused.remember(shape("SELECT f(1)"), Refusal::Writes, Tick(12 * MINUTE)), "it is news again");
    }

    #[test]
    fn the_oldest_makes_room_when_there_are_too_many() {
        let (keys, refused) = (RandomState::new(), Refused::default());
        let shape = |number: usize| {
            shape_of(&format!("SELECT f{number}()"), DbBackend::Postgres, &keys).expect("it can be followed").0
        };
        for number in 0..CAPACITY + 10 {
            refused.remember(shape(number), Refusal::Writes, Tick(number as u64));
        }
        assert_eq!(refused.count.load(Ordering::Relaxed), CAPACITY);
        let now = Tick(MINUTE);
        assert!((0..10).all(|number| refused.find(shape(number), now).is_none()));
        assert!((10..CAPACITY + 10).all(|number| refused.find(shape(number), now).is_some()));
    }
}
