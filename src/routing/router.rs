//! Decides where statements belong: their text decides, unless the configuration or a server's refusal says otherwise.

use std::{
    cell::Cell,
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sea_orm::DbBackend;
use serde::{Deserialize, Serialize};

use super::{
    Classification, FunctionName, Intent, KnownFunctions, Reason,
    catalogue::Catalogue,
    classify::{Shape, Statements, shape_of, text_of_shape},
    classify_with,
    memo::{Listed, Memo, Seen, Worth},
    refused::{OwnErrors, RefusedShapes},
};
use crate::topology::{Swap, Tick};

/// The class of a statement: where it belongs, and what decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatementClass {
    pub(crate) intent: Intent,
    /// The reason that the text gives.
    pub(crate) reason: Reason,
    pub(crate) decided_by: DecidedBy,
}

impl StatementClass {
    /// Whether the text alone makes the statement a read.
    pub(crate) fn is_read_by_text(&self) -> bool {
        matches!(self.reason, Reason::PlainRead | Reason::Empty)
    }
}

/// The source of a decision about a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecidedBy {
    /// The statement's text.
    Text,
    /// The database's catalogue: the statement calls a function that is not marked as one that only reads.
    Catalogue,
    /// A rule of the configuration for statements of its shape.
    Configuration,
    /// A server refused a statement of its shape as a read within the last ten minutes.
    Server,
    /// A standby could not run a statement of its shape within the last ten minutes.
    Standby,
}

/// Why a server did not run a statement that looked like a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The statement writes, and the session is read-only.
    Writes,
    /// A standby cannot run the statement, and a primary can.
    NotOnStandby,
}

/// Why a rule for a shape of statements cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRule {
    /// The text holds no statement.
    Empty,
    /// The classifier cannot follow the text to its end.
    Unreadable,
    /// The rule sends a statement to replicas that writes or locks for certain.
    Writes(Reason),
    /// Another rule for the same shape says otherwise.
    Contradicts,
}

/// Decides where statements belong. The handles ask the router; the monitor loads the database's catalogue of
/// functions into the router.
pub(crate) struct StatementRouter {
    backend: DbBackend,
    keys: RandomState,
    memo: Memo,
    catalogue: Swap<Arc<Catalogue>>,
    /// The number of catalogues loaded so far.
    epoch: AtomicU64,
    /// Whether a statement called a function that no catalogue lists.
    missed: AtomicBool,
    rules: HashMap<Shape, Intent>,
    refused: RefusedShapes,
    own_errors: OwnErrors,
}

impl StatementRouter {
    /// `rules` are texts with the intent of the statements of their shape. The error names the index of a rule that
    /// cannot work.
    pub(crate) fn new<'a>(
        backend: DbBackend,
        harmless_functions: &[String],
        rules: impl IntoIterator<Item = (&'a str, Intent)>,
    ) -> Result<Self, (usize, BadRule)> {
        let mut router = Self {
            backend,
            keys: RandomState::new(),
            memo: Memo::new(),
            catalogue: Swap::new(Arc::new(Catalogue::declared(harmless_functions))),
            epoch: AtomicU64::new(0),
            missed: AtomicBool::new(false),
            rules: HashMap::new(),
            refused: RefusedShapes::default(),
            own_errors: OwnErrors::default(),
        };
        for (index, (text, intent)) in rules.into_iter().enumerate() {
            router.add_rule(text, intent).map_err(|problem| (index, problem))?;
        }
        Ok(router)
    }

    fn add_rule(&mut self, text: &str, intent: Intent) -> Result<(), BadRule> {
        let (shape, _) = shape_of(text, self.backend, &self.keys).ok_or(BadRule::Unreadable)?;
        match self.classify(text).reason {
            Reason::Empty => return Err(BadRule::Empty),
            reason if intent.is_read() && !may_be_allowed(reason) => return Err(BadRule::Writes(reason)),
            _ => {}
        }
        match self.rules.insert(shape, intent) {
            Some(before) if before != intent => Err(BadRule::Contradicts),
            _ => Ok(()),
        }
    }

    /// The class of a statement that is about to run. Takes no lock and allocates nothing for a text that the memo
    /// holds, as long as no server refused a statement.
    ///
    /// The clock is read only when the answer depends on it.
    pub(crate) fn class(&self, sql: &str, now: impl Fn() -> Tick) -> StatementClass {
        self.classified(sql, now, || self.missed.store(true, Ordering::Relaxed))
    }

    /// The class of a statement that will not run: the monitor does not load the catalogue again because of it.
    pub(crate) fn preview(&self, sql: &str, now: impl Fn() -> Tick) -> StatementClass {
        self.classified(sql, now, || {})
    }

    /// `missed` is called for a function that the catalogue does not list: the database may have it by now.
    fn classified(&self, sql: &str, now: impl Fn() -> Tick, missed: impl Fn()) -> StatementClass {
        let epoch = self.epoch.load(Ordering::Acquire);
        self.memo.with(
            sql,
            epoch,
            || self.read(sql, missed),
            |seen| {
                let Classification { intent, reason } = seen.classification;
                let by_text = StatementClass { intent, reason, decided_by: DecidedBy::Text };
                let by_text = match seen.listed {
                    Listed::AsWriting => StatementClass { decided_by: DecidedBy::Catalogue, ..by_text },
                    Listed::No => by_text,
                };
                let none_refused = self.refused.is_empty(&now);
                if self.rules.is_empty() && none_refused {
                    return by_text;
                }
                let shape = seen.shape.get_or_init(|| shape_of(sql, self.backend, &self.keys));
                let Some((shape, _)) = shape else { return by_text };
                // The refusal of a server is stronger than a rule.
                let refusal = if none_refused { None } else { self.refused.find(*shape, now()) };
                let (intent, decided_by) = match (refusal, self.rules.get(shape)) {
                    (Some(Refusal::Writes), _) => (Intent::Write, DecidedBy::Server),
                    (_, Some(intent)) => (*intent, DecidedBy::Configuration),
                    (Some(Refusal::NotOnStandby), None) => (Intent::Write, DecidedBy::Standby),
                    (None, None) => return by_text,
                };
                StatementClass { intent, reason, decided_by }
            },
        )
    }

    fn classify(&self, sql: &str) -> Classification {
        classify_with(sql, self.backend, &**self.catalogue.load())
    }

    fn read(&self, sql: &str, missed: impl Fn()) -> Seen {
        let catalogue = self.catalogue.load();
        let asked = CatalogueLookup { catalogue: &catalogue, unlisted: Cell::new(false), writing: Cell::new(false) };
        let classification = classify_with(sql, self.backend, &asked);
        // Only PostgreSQL has a catalogue with the volatility of functions.
        let worth = if asked.unlisted.get() && self.backend == DbBackend::Postgres {
            missed();
            Worth::AskingAgain
        } else {
            Worth::Keeping
        };
        let writing = asked.writing.get() && classification.reason.is_unknown_function();
        let listed = if writing { Listed::AsWriting } else { Listed::No };
        Seen { classification, shape: OnceLock::new(), worth, listed }
    }

    /// Whether a text is one statement under all settings of a server.
    pub(crate) fn is_one_statement(&self, sql: &str) -> bool {
        shape_of(sql, self.backend, &self.keys).is_some_and(|(_, statements)| statements == Statements::One)
    }

    /// The text for logs and messages: without the values in it.
    pub(crate) fn shown(&self, sql: &str) -> String {
        text_of_shape(sql, self.backend)
    }

    /// Records that a server did not run this statement as a read; `true` if its shape was not on record.
    pub(crate) fn was_refused(&self, sql: &str, refusal: Refusal, now: Tick) -> bool {
        shape_of(sql, self.backend, &self.keys).is_some_and(|(shape, _)| self.refused.remember(shape, refusal, now))
    }

    /// Whether two nodes gave this error to statements of this shape: the error is the statement's own.
    pub(crate) fn is_own_error(&self, sql: &str, code: &str, now: Tick) -> bool {
        !self.own_errors.is_empty(|| now)
            && self.error_key(sql, code).is_some_and(|key| self.own_errors.find(key, now).is_some())
    }

    /// Records that two nodes gave this error to this statement.
    pub(crate) fn remember_own_error(&self, sql: &str, code: &str, now: Tick) {
        if let Some(key) = self.error_key(sql, code) {
            self.own_errors.remember(key, (), now);
        }
    }

    fn error_key(&self, sql: &str, code: &str) -> Option<(Shape, u64)> {
        shape_of(sql, self.backend, &self.keys).map(|(shape, _)| (shape, self.keys.hash_one(code)))
    }

    /// Whether a statement called a function that the catalogue does not list; resets the answer.
    pub(crate) fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// Takes over the database's list of functions; `true` if the list has changed.
    pub(crate) fn learn(&self, listing: &str) -> bool {
        let known = self.catalogue.load_full();
        let next = known.with_listing(listing);
        if known.is_same_listing(&next) {
            return false;
        }
        self.catalogue.store(Arc::new(next));
        // After the store, so that a text that was classified with the old list is of an old epoch.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        true
    }
}

/// The catalogue, and whether one classification asked it for a function that it does not list.
struct CatalogueLookup<'a> {
    catalogue: &'a Catalogue,
    unlisted: Cell<bool>,
    /// Whether the classification asked for a function that the catalogue knows to write.
    writing: Cell<bool>,
}

impl KnownFunctions for CatalogueLookup<'_> {
    fn is_harmless(&self, call: &FunctionName<'_>) -> bool {
        let is_harmless = self.catalogue.is_harmless(call);
        if !is_harmless {
            let asked_for = if self.catalogue.lists(call) { &self.writing } else { &self.unlisted };
            asked_for.set(true);
        }
        is_harmless
    }

    fn redefines(&self, call: &FunctionName<'_>) -> bool {
        let redefines = self.catalogue.redefines(call);
        self.writing.set(self.writing.get() || redefines);
        redefines
    }

    fn redefines_built_ins(&self) -> bool {
        self.catalogue.redefines_built_ins()
    }
}

impl fmt::Debug for StatementRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementRouter")
            .field("backend", &self.backend)
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

/// Whether a rule may send statements of this kind to a replica: not those that write or lock for certain, but those
/// that perhaps do, and those whose answer belongs to a node.
fn may_be_allowed(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::Verb { .. }
            | Reason::DataModifyingCte { .. }
            | Reason::LockingClause { .. }
            | Reason::SelectInto { .. }
            | Reason::SideEffect { .. }
            | Reason::SequenceValue { .. }
            | Reason::ExecutableComment { .. }
    )
}
