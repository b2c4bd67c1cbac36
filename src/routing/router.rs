//! Where statements belong: what their text says, corrected by what the configuration and the servers
//! said about them.

use std::{
    cell::Cell,
    collections::HashMap,
    fmt,
    hash::RandomState,
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
    refused::RefusedShapes,
};
use crate::topology::{Swap, Tick};

/// Where a statement belongs, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatementClass {
    pub(crate) intent: Intent,
    /// What its text says.
    pub(crate) reason: Reason,
    pub(crate) decided_by: DecidedBy,
}

impl StatementClass {
    /// Whether the text alone makes it a read.
    pub(crate) fn is_read_by_text(&self) -> bool {
        matches!(self.reason, Reason::PlainRead | Reason::Empty)
    }
}

/// Who decided where a statement belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecidedBy {
    /// Its text.
    Text,
    /// The database's catalogue: it calls a function that is not marked as one that only reads.
    Catalogue,
    /// A rule of the configuration for statements of its shape.
    Configuration,
    /// A server refused a statement of its shape as a read within the last ten minutes.
    Server,
    /// A server that is no primary could not run a statement of its shape within the last ten minutes.
    Standby,
}

/// Why a server did not run a statement that looked like a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It writes, and the session is read-only.
    Writes,
    /// A standby cannot run it, and a primary can.
    NotOnStandby,
}

/// Why a rule for a shape of statements cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRule {
    /// There is no statement.
    Empty,
    /// The text cannot be followed to its end.
    Unreadable,
    /// A replica shall run what writes or locks for certain.
    Writes(Reason),
    /// Another rule for the same shape says otherwise.
    Contradicts,
}

/// Says where statements belong. Shared by the handles, which ask, and the monitor, which has the
/// database's catalogue of functions loaded.
pub(crate) struct StatementRouter {
    backend: DbBackend,
    keys: RandomState,
    memo: Memo,
    catalogue: Swap<Arc<Catalogue>>,
    /// Counts the catalogues.
    epoch: AtomicU64,
    /// Whether a function was called that no catalogue lists.
    missed: AtomicBool,
    rules: HashMap<Shape, Intent>,
    refused: RefusedShapes,
}

impl StatementRouter {
    /// `rules` are texts with what statements of their shape are taken for; the index of one that cannot
    /// work is given back.
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

    /// Where a statement belongs. Takes no lock and allocates nothing for a text that comes again and
    /// again, as long as no server refused anything.
    ///
    /// The clock is read only when the answer depends on it.
    pub(crate) fn class(&self, sql: &str, now: impl Fn() -> Tick) -> StatementClass {
        self.classified(sql, now, || self.missed.store(true, Ordering::Relaxed))
    }

    /// The class of a statement that is not run: nobody asks the database about its functions because of it.
    pub(crate) fn preview(&self, sql: &str, now: impl Fn() -> Tick) -> StatementClass {
        self.classified(sql, now, || {})
    }

    /// `missed` is called when a function is not listed that perhaps is by now.
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
                // What a server refused to do is stronger than an opinion about it.
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
        // Only PostgreSQL has a catalogue that says what a function does.
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

    /// Whether a text is one statement, however a server may read it.
    pub(crate) fn is_one_statement(&self, sql: &str) -> bool {
        shape_of(sql, self.backend, &self.keys).is_some_and(|(_, statements)| statements == Statements::One)
    }

    /// The text as one can show it: without the values that stand in it.
    pub(crate) fn shown(&self, sql: &str) -> String {
        text_of_shape(sql, self.backend)
    }

    /// A server did not run this as a read; `true` if that is news about statements of its shape.
    pub(crate) fn was_refused(&self, sql: &str, refusal: Refusal, now: Tick) -> bool {
        shape_of(sql, self.backend, &self.keys).is_some_and(|(shape, _)| self.refused.remember(shape, refusal, now))
    }

    /// Whether a function was called that the catalogue does not list; asks once.
    pub(crate) fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// The database listed its functions; `true` if that is another list than before.
    pub(crate) fn learn(&self, listing: &str) -> bool {
        let known = self.catalogue.load_full();
        let next = known.with_listing(listing);
        if known.is_same_listing(&next) {
            return false;
        }
        self.catalogue.store(Arc::new(next));
        // After the store: what was read with the old list is then of an old epoch.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        true
    }
}

/// The catalogue, and whether it was asked for something that it does not list.
struct CatalogueLookup<'a> {
    catalogue: &'a Catalogue,
    unlisted: Cell<bool>,
    /// Whether it was asked for something that it knows to write.
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

/// Whether a rule may send statements of this kind to a replica: those that write or lock for certain
/// may not, those that perhaps do, or whose answer belongs to a node, may.
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
