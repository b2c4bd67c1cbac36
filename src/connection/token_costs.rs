//! The bounds of the cost of clients' tokens to a process: questions to the primary, and lines of the log.
//!
//! A client can make up tokens, as many as it likes. A token of this cluster is honoured by one sample of the primary, so
//! a token that a sample does not show is a sign of forging, and slows down the questions for the tokens that follow.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::event_limit::EventLimit;
use crate::{
    telemetry,
    topology::{Place, Position, Seq, Tick, Topology},
};

/// How long no question is asked for a token after the primary was asked for another one in vain.
const PAUSE_AFTER_VAIN: Duration = Duration::from_millis(500);

/// The least time between two questions for requests that wrote nothing and need another token.
#[cfg(feature = "tower")]
const BETWEEN_FRESH: Duration = Duration::from_millis(100);

/// Bounds the cost of tokens, genuine and made up.
#[derive(Debug, Default)]
pub(super) struct TokenCosts {
    ahead: Mutex<Ahead>,
    #[cfg(feature = "tower")]
    fresh: Mutex<Tick>,
    unrelated: EventLimit,
    beyond: EventLimit,
    #[cfg(feature = "tower")]
    in_header: EventLimit,
    #[cfg(feature = "tower")]
    in_cookie: EventLimit,
    #[cfg(feature = "tower")]
    too_many: EventLimit,
    #[cfg(feature = "tower")]
    not_made: EventLimit,
}

/// The question for tokens that are ahead of the newest sample. One token stands for all that come meanwhile.
#[derive(Debug, Default)]
struct Ahead {
    asked: Option<Asked>,
    /// No question before this instant: the last one was in vain.
    not_before: Tick,
}

#[derive(Debug)]
struct Asked {
    position: Arc<Position>,
    since: Seq,
}

impl TokenCosts {
    /// The place in the order after which the primary shall be asked for a token at `position`; `None` while the
    /// regular probes have to do.
    pub(super) fn question(&self, position: &Arc<Position>, since: Seq, topology: &Topology, now: Tick) -> Option<Seq> {
        let mut ahead = lock(&self.ahead);
        if let Some(asked) = &ahead.asked {
            match topology.place_of(&asked.position, asked.since, now) {
                Place::Ahead => return Some(asked.since),
                Place::At(_) | Place::NotCompared => {}
                Place::Beyond(_) | Place::Unrelated => ahead.not_before = now.after(PAUSE_AFTER_VAIN),
            }
            ahead.asked = None;
        }
        if now < ahead.not_before {
            return None;
        }
        ahead.asked = Some(Asked { position: Arc::clone(position), since });
        Some(since)
    }

    /// When the primary may be asked for a token that stands for no write. Requests of the same moment are given the
    /// same instant, so that one answer serves them.
    #[cfg(feature = "tower")]
    pub(super) fn fresh_at(&self, now: Tick) -> Tick {
        let mut granted = lock(&self.fresh);
        if now >= granted.after(BETWEEN_FRESH) || *granted == Tick::default() {
            *granted = now;
        } else if now >= *granted {
            *granted = granted.after(BETWEEN_FRESH);
        }
        *granted
    }

    /// Says that a token cannot be compared.
    pub(super) fn unrelated(&self, why: &str, now: Tick) {
        if let Some(suppressed) = self.unrelated.is_due(now) {
            telemetry::token_unrelated(why, suppressed);
        }
    }

    /// Says that a token is ahead of everything that the primary has.
    pub(super) fn beyond(&self, now: Tick) {
        if let Some(suppressed) = self.beyond.is_due(now) {
            telemetry::token_beyond(suppressed);
        }
    }

    /// Says that a header brought a text that is no token.
    #[cfg(feature = "tower")]
    pub(super) fn unreadable_in_header(&self, bytes: usize, now: Tick) {
        if let Some(suppressed) = self.in_header.is_due(now) {
            telemetry::token_ignored("header", bytes, suppressed);
        }
    }

    /// Says that a cookie brought a text that is no token.
    #[cfg(feature = "tower")]
    pub(super) fn unreadable_in_cookie(&self, bytes: usize, now: Tick) {
        if let Some(suppressed) = self.in_cookie.is_due(now) {
            telemetry::token_ignored("cookie", bytes, suppressed);
        }
    }

    /// Says that a request brought more than is read.
    #[cfg(feature = "tower")]
    pub(super) fn too_many(&self, now: Tick) {
        if let Some(suppressed) = self.too_many.is_due(now) {
            telemetry::tokens_over_limit(suppressed);
        }
    }

    /// Says that a request wrote and could be given no position.
    #[cfg(feature = "tower")]
    pub(super) fn not_made(&self, why: impl std::fmt::Display, now: Tick) {
        if let Some(suppressed) = self.not_made.is_due(now) {
            telemetry::token_not_made(why, suppressed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, feature = "tower"))]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn requests_that_wrote_nothing_share_a_question_in_a_tenth_of_a_second() {
        let costs = TokenCosts::default();
        let at = |ms: u64| costs.fresh_at(Tick(1 + ms * MS)).0 / MS;
        assert_eq!([at(0), at(1), at(50), at(99)], [0, 100, 100, 100]);
        assert_eq!([at(101), at(150), at(450), at(451)], [200, 200, 450, 550]);
    }
}
