//! The shapes of statements that looked like reads and that a server refused to run as reads.

use std::{
    collections::HashMap,
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
/// The largest number of remembered shapes.
const CAPACITY: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct RefusedShapes {
    shapes: Mutex<HashMap<Shape, Remembered>>,
    /// The instant at which the last shape is forgotten; zero when no shape is remembered, so that a look-up costs one
    /// load.
    until: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    refusal: Refusal,
    until: Tick,
}

impl RefusedShapes {
    /// Whether no shape is remembered. The clock is read only when a shape was remembered before.
    pub(super) fn is_empty(&self, now: impl FnOnce() -> Tick) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until == 0 || now() >= Tick(until)
    }

    pub(super) fn find(&self, shape: Shape, now: Tick) -> Option<Refusal> {
        let shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.get(&shape).filter(|remembered| now < remembered.until).map(|remembered| remembered.refusal)
    }

    /// Remembers a refusal; `true` if the shape was not remembered already.
    pub(super) fn remember(&self, shape: Shape, refusal: Refusal, now: Tick) -> bool {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = shapes.get(&shape).is_some_and(|remembered| now < remembered.until);
        shapes.retain(|_, remembered| now < remembered.until);
        if shapes.len() >= CAPACITY && !is_known {
            let oldest = shapes.iter().min_by_key(|(_, remembered)| remembered.until).map(|(shape, _)| *shape);
            if let Some(oldest) = oldest {
                shapes.remove(&oldest);
            }
        }
        let until = now.after(REMEMBERED_FOR);
        shapes.insert(shape, Remembered { refusal, until });
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
        assert_eq!(refused.shapes.lock().expect("no panic under it").len(), CAPACITY);
        let now = Tick(MINUTE);
        assert!((0..10).all(|number| refused.find(shape(number), now).is_none()));
        assert!((10..CAPACITY + 10).all(|number| refused.find(shape(number), now).is_some()));
    }
}
