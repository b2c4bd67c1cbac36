//! The present belief in the server at one address, and the servers that have answered at that address.

use std::{sync::Arc, time::Duration};

use super::Tick;

/// Numbers the beliefs of this process in the server at one address. The position, the freshness and the role of a
/// member were learned in one generation, and say nothing in the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation(u64);

#[cfg(test)]
impl Generation {
    pub(crate) fn nth(number: u64) -> Self {
        Self(number)
    }
}

/// Whether the server has answered a question of the present generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Confirmation {
    /// An answer confirmed the belief, and no sign contradicted the answer since.
    #[default]
    Confirmed,
    /// A sign contradicted the belief, and no question went out since.
    Broken,
    /// A question went out since. A second sign may be newer than the answer, so a second sign begins another
    /// generation.
    Asked,
}

/// The present generation of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Belief {
    pub(crate) generation: Generation,
    /// When the generation began; zero for the first one.
    pub(crate) began: Tick,
    confirmation: Confirmation,
}

impl Belief {
    /// The belief after a sign that contradicts it. `None` when the belief is broken already and no question went out
    /// since: so a storm of errors changes the topology once.
    pub(super) fn broken(self, at: Tick) -> Option<Self> {
        (self.confirmation != Confirmation::Broken).then(|| self.next(at, Confirmation::Broken))
    }

    /// The belief when another server, or another life of the server, answered a question of this generation. The pools
    /// may still hold connections to the life before, so the next answer has to confirm the belief: by then they are closed.
    pub(super) fn of_another_life(self, at: Tick) -> Self {
        self.next(at, Confirmation::Broken)
    }

    fn next(self, at: Tick, confirmation: Confirmation) -> Self {
        Self { generation: Generation(self.generation.0 + 1), began: at, confirmation }
    }

    /// The belief when a question goes out; `None` when the question changes nothing.
    pub(super) fn asked(self) -> Option<Self> {
        (self.confirmation == Confirmation::Broken).then_some(Self { confirmation: Confirmation::Asked, ..self })
    }

    /// The belief when the server answered a question of this generation. A belief that was broken goes on as the
    /// next generation: another server may have answered a read that ran meanwhile.
    pub(crate) fn confirmed(self, at: Tick) -> Self {
        if self.is_confirmed() { self } else { self.next(at, Confirmation::Confirmed) }
    }

    /// The belief when a new connection led to a server that is not as believed. Another server ends the generation
    /// even of a broken belief.
    pub(super) fn met(self, at: Tick, answerer: Answerer) -> Option<Self> {
        match answerer {
            Answerer::Present => self.broken(at),
            Answerer::Other => Some(self.next(at, Confirmation::Broken)),
        }
    }

    pub(crate) fn is_confirmed(self) -> bool {
        self.confirmation == Confirmation::Confirmed
    }

    /// Whether the server should be asked at once.
    pub(crate) fn wants_question(self) -> bool {
        self.confirmation == Confirmation::Broken
    }
}

/// How long an address at which two servers answered counts as shared by two.
const SHARED_FOR: Duration = Duration::from_secs(600);
/// At a shared address, signs of the other server count again after this time.
const NOTED_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// The number of former lives that are remembered.
const FORMER_LIVES: usize = 8;

/// The server lives that answered at one address, by their incarnations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lives {
    /// The life that is believed to answer; `None` before the first answer.
    present: Option<Arc<str>>,
    /// The lives before, the latest last.
    former: Arc<[Arc<str>]>,
    /// When two servers were last seen to answer at the same time.
    shared_at: Option<Tick>,
}

/// The life that an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    /// The life that is believed to answer.
    Present,
    Other,
}

impl Lives {
    /// Records an answer. A life that ended does not come back: when one of the former lives answers, the address
    /// leads to two servers.
    pub(super) fn answer(&mut self, incarnation: &Arc<str>, at: Tick) -> Answerer {
        if self.former.contains(incarnation) {
            self.shared_at = Some(at);
        } else if self.shared_at.is_some_and(|since| at.since(since) > SHARED_FOR) {
            self.shared_at = None;
            self.former = Arc::default();
        }
        match self.present.replace(Arc::clone(incarnation)) {
            Some(known) if known != *incarnation => {
                let others = self.former.iter().filter(|former| **former != known && *former != incarnation);
                let kept = others.clone().count().saturating_sub(FORMER_LIVES - 1);
                self.former = others.skip(kept).chain([&known]).cloned().collect();
                Answerer::Other
            }
            _ => Answerer::Present,
        }
    }

    /// Whether the life is the one that is believed to answer, or no life is known yet.
    pub(crate) fn is_present(&self, incarnation: &str) -> bool {
        self.present.as_deref().is_none_or(|present| present == incarnation)
    }

    /// Whether the life is new: it was not known to answer at the address, and the address leads to one server.
    pub(crate) fn is_successor(&self, incarnation: &str) -> bool {
        !self.is_shared() && !self.is_present(incarnation) && !self.former.iter().any(|former| **former == *incarnation)
    }

    /// Whether the address counts as leading to more than one server.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared_at.is_some()
    }

    /// Records another life at a shared address. `None` when the last record is a moment old.
    pub(super) fn still_shared(&self, at: Tick) -> Option<Self> {
        let is_due = self.shared_at.is_some_and(|since| at.since(since) > NOTED_AGAIN_AFTER);
        is_due.then(|| Self { shared_at: Some(at), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Tick {
        Tick::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_storm_of_errors_breaks_a_belief_once() {
        let broken = Belief::default().broken(seconds(1)).expect("a confirmed belief can be broken");
        assert_eq!((broken.generation, broken.began), (Generation(1), seconds(1)));
        assert_eq!(broken.broken(seconds(2)), None);
        assert!(!broken.is_confirmed() && broken.wants_question());
    }

    #[test]
    fn an_error_after_the_question_begins_another_generation() {
        let asked = Belief::default().broken(seconds(1)).and_then(Belief::asked).expect("a broken belief is asked for");
        assert!(!asked.is_confirmed() && !asked.wants_question());
        assert_eq!(asked.asked(), None);
        let again = asked.broken(seconds(2)).expect("the answer can be older than this error");
        assert_eq!(again.generation, Generation(2));
        assert!(again.wants_question());
        let confirmed = asked.confirmed(seconds(3));
        assert!(confirmed.is_confirmed());
        assert_eq!(confirmed.generation, Generation(2));
        assert_eq!(confirmed.confirmed(seconds(4)), confirmed);
    }

    #[test]
    fn one_restart_after_the_other_is_one_server() {
        let mut lives = Lives::default();
        for (second, life) in [(1, "a"), (2, "b"), (3, "b"), (4, "c")] {
            lives.answer(&life.into(), seconds(second));
        }
        assert!(!lives.is_shared());
        assert!(lives.is_successor("d") && !lives.is_successor("a") && !lives.is_successor("c"));
    }

    #[test]
    fn a_life_that_comes_back_shows_two_servers_for_ten_minutes() {
        let mut lives = Lives::default();
        for (second, life) in [(1, "a"), (2, "b"), (3, "a"), (603, "a")] {
            lives.answer(&life.into(), seconds(second));
        }
        assert!(lives.is_shared());
        assert!(!lives.is_successor("c"), "flapping between two servers is no news");
        lives.answer(&"a".into(), seconds(604));
        assert!(!lives.is_shared());
    }

    #[test]
    fn a_sign_of_the_other_server_counts_once_a_minute() {
        let mut lives = Lives::default();
        for (second, life) in [(1, "a"), (2, "b"), (3, "a")] {
            lives.answer(&life.into(), seconds(second));
        }
        assert_eq!(lives.still_shared(seconds(63)), None);
        lives = lives.still_shared(seconds(64)).expect("a minute later");
        lives.answer(&"a".into(), seconds(604));
        assert!(lives.is_shared(), "ten minutes from the last sign");
    }

    #[test]
    fn only_some_former_lives_are_remembered() {
        let mut lives = Lives::default();
        for life in 0..100_u64 {
            assert_eq!(lives.answer(&life.to_string().into(), seconds(life)) == Answerer::Other, life > 0);
        }
        assert_eq!(lives.former.len(), FORMER_LIVES);
        assert!(!lives.is_successor("91") && lives.is_successor("90"));
    }
}
