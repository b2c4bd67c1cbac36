//! The writes and reads of sessions, and the check that each read may be what it is.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use sea_orm::{DbErr, QueryResult, Statement};
use sea_orm_resolver::{Consistency, DatabaseConnection, Error, Health};
use testkit::sim::{Cluster, KEYS, ReadId, WriteId};
use tokio::time::Instant;

use super::{scenario::STICK, trials::Trials};

/// A fault may be felt for this long: until the next probes of every process.
pub(super) const AFTERMATH: Duration = Duration::from_secs(3);

/// Longer than the time between two probes of a node.
const PROBES: Duration = Duration::from_millis(1_300);

/// For so long a read may be taken for the one with which SeaORM reads back what it wrote.
const READ_BACK: Duration = Duration::from_secs(1);

/// The writes that have to be seen: a list that only grows.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: Mutex<Vec<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: usize,
    write: WriteId,
    at: Instant,
}

impl Book {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: usize, write: WriteId) {
        self.entries().push(Entry { key, write, at: Instant::now() });
    }
}

/// The writes of one session, and its reads.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Writes that were acknowledged, or that a read has shown.
    written: Book,
    /// Writes of unknown outcome.
    unknown: Mutex<Vec<Entry>>,
    /// For explicit sessions: the rows that reads returned.
    seen: Book,
}

impl Session {
    /// The knowledge that a session passes on with its token. The token of a plain handle stands for every write of
    /// its process.
    pub(super) fn carried_on(&self, plain: Option<&Ledger>) -> Self {
        let copy = |book: &Book| Book { entries: Mutex::new(book.entries().clone()) };
        let with_what_was_read = plain.is_none();
        Self {
            written: copy(plain.map_or(&self.written, |process| &process.written)),
            unknown: Mutex::new(self.unknown.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            seen: if with_what_was_read { copy(&self.seen) } else { Book::default() },
        }
    }
}

/// The guarantees of one read.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) who: Arc<str>,
    pub(super) consistency: Consistency,
    pub(super) session: Arc<Session>,
    /// Whether the read is a plain one: it must see every acknowledged write of its process, and has no memory.
    pub(super) is_plain: bool,
    /// The sessions whose rows this read may not be older than.
    pub(super) seen: Vec<Arc<Session>>,
    /// Whether the read cannot move to another node: inside a transaction.
    pub(super) is_fragile: bool,
    /// The writes of the read's own transaction.
    pub(super) pending: [Option<WriteId>; KEYS],
}

/// A read that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    terms: Terms,
    read: ReadId,
    at: Instant,
    written: usize,
    of_process: usize,
    seen: Vec<usize>,
}

impl Begun {
    /// Whether the read may be the one that has to see the row which its session wrote, whatever consistency it
    /// asks for.
    fn may_be_a_read_back(&self) -> bool {
        let unknown = self.terms.session.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.terms.session.written.entries();
        written.iter().chain(unknown.iter()).any(|entry| entry.at <= self.at && self.at - entry.at <= READ_BACK)
    }
}

/// Counts over many simulations.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) operations: AtomicU64,
    pub(super) session_reads: AtomicU64,
    pub(super) session_reads_on_replicas: AtomicU64,
    pub(super) after_write: AtomicU64,
    pub(super) after_write_on_replicas: AtomicU64,
    pub(super) eventual_reads: AtomicU64,
    pub(super) stale_eventual_reads: AtomicU64,
    pub(super) bounded_reads: AtomicU64,
    pub(super) bounded_on_replicas: AtomicU64,
    pub(super) unknown_outcomes: AtomicU64,
    pub(super) unknown_that_happened: AtomicU64,
    pub(super) failed_reads: AtomicU64,
    pub(super) promotions: AtomicU64,
    pub(super) tokens: AtomicU64,
    pub(super) second_opinions: AtomicU64,
    pub(super) ejections: AtomicU64,
    pub(super) trials: AtomicU64,
    pub(super) slow_starts: AtomicU64,
    pub(super) lost_races: AtomicU64,
}

/// The operations of one process (one `DatabaseConnection`).
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) cluster: Cluster,
    db: DatabaseConnection,
    trials: Trials,
    pub(super) tally: Arc<Tally>,
    /// Every acknowledged write of the process.
    written: Book,
    /// The addresses of which no position is believed.
    by_time: Vec<String>,
    violations: Arc<Mutex<Vec<String>>>,
}

impl Ledger {
    pub(super) fn new(
        db: DatabaseConnection,
        cluster: Cluster,
        tally: Arc<Tally>,
        by_time: Vec<String>,
        violations: Arc<Mutex<Vec<String>>>,
    ) -> Self {
        Self { cluster, db, trials: Trials::default(), tally, written: Book::default(), by_time, violations }
    }

    /// Something happened that may not.
    pub(super) fn violation(&self, what: impl fmt::Display) {
        let what = what.to_string();
        let shown = what.clone();
        self.cluster.note(move |f| write!(f, "VIOLATION: {shown}"));
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    // --- writes --------------------------------------------------------------------------------

    /// A write came to an end: acknowledged, or of unknown outcome.
    pub(super) fn write_ended<T>(
        &self,
        who: &Arc<str>,
        session: &Session,
        writes: &[(usize, WriteId)],
        began: Instant,
        outcome: &Outcome<T>,
    ) {
        self.tally.operations.fetch_add(1, Relaxed);
        let (who, shown) = (Arc::clone(who), writes.to_vec());
        match outcome {
            Outcome::Ended(Ok(_)) => {
                for (key, write) in writes {
                    session.written.add(*key, *write);
                    self.written.add(*key, *write);
                }
                self.cluster.note(move |f| write!(f, "{who}: {shown:?} acknowledged"));
            }
            Outcome::Ended(Err(error)) => {
                self.is_unknown(session, writes);
                let text = error.to_string();
                self.cluster.note(move |f| write!(f, "{who}: {shown:?} failed: {text}"));
                if !self.cluster.weather(began - AFTERMATH, Instant::now()).on_primary {
                    self.violation(format_args!("a write failed though nothing befell the primary: {error}"));
                }
            }
            Outcome::GivenUp => {
                self.is_unknown(session, writes);
                self.cluster.note(move |f| write!(f, "{who}: {shown:?} given up"));
            }
        }
    }

    /// A session was asked for its token, and gave none.
    pub(super) fn token_failed(&self, began: Instant, error: &DbErr) {
        if !self.cluster.weather(began - AFTERMATH, Instant::now()).on_primary {
            self.violation(format_args!("there was no token though nothing befell the primary: {error}"));
        }
    }

    fn is_unknown(&self, session: &Session, writes: &[(usize, WriteId)]) {
        self.tally.unknown_outcomes.fetch_add(1, Relaxed);
        let entries = writes.iter().map(|(key, write)| Entry { key: *key, write: *write, at: Instant::now() });
        session.unknown.lock().unwrap_or_else(PoisonError::into_inner).extend(entries);
    }

    // --- reads ---------------------------------------------------------------------------------

    /// A read begins.
    pub(super) fn begin(&self, terms: Terms) -> Begun {
        let at = Instant::now();
        let written = terms.session.written.entries().len();
        let of_process = self.written.entries().len();
        let seen = terms.seen.iter().map(|seen| seen.seen.entries().len()).collect();
        Begun { terms, read: self.cluster.new_read(), at, written, of_process, seen }
    }

    /// The statement of a read.
    pub(super) fn select(&self, begun: &Begun) -> Statement {
        self.cluster.select_as(begun.read)
    }

    /// A read is about to run on the node at an address.
    pub(super) fn read_arrives(&self, address: &str) {
        if let Some(why) = self.trials.read_arrives(&self.cluster, &self.db, &self.tally, address) {
            self.violation(why);
        }
    }

    /// A read came back: checks that its rows are allowed.
    pub(super) fn ended(&self, begun: &Begun, result: Result<QueryResult, DbErr>) {
        self.tally.operations.fetch_add(1, Relaxed);
        let second = u64::from(self.cluster.attempts(begun.read).had_a_second_opinion());
        self.tally.second_opinions.fetch_add(second, Relaxed);
        let consistency = begun.terms.consistency;
        let row = match result {
            Ok(row) => row,
            Err(error) => return self.failed(begun, &error),
        };
        let column = |name: &str| row.try_get::<i64>("", name).expect("the model's rows have these columns");
        let address = self.cluster.address_of(column("server"));
        let values: [WriteId; KEYS] =
            std::array::from_fn(|key| WriteId::try_from(column(&format!("k{key}"))).expect("the name of a write"));
        {
            let (who, address) = (Arc::clone(&begun.terms.who), address.clone());
            self.cluster.note(move |f| write!(f, "{who}: {consistency} read on {address}: {values:?}"));
        }
        for (key, value) in values.into_iter().enumerate() {
            if let Some(pending) = begun.terms.pending[key] {
                if value != pending {
                    self.violation(format_args!("a transaction does not see its own write {pending} of k{key}"));
                }
                continue;
            }
            self.check(begun, key, value, &address);
        }
        self.count(begun, &values, &address);
        self.learn(begun, &values);
    }

    fn failed(&self, begun: &Begun, error: &DbErr) {
        self.tally.failed_reads.fetch_add(1, Relaxed);
        let (from, now) = (begun.at - AFTERMATH, Instant::now());
        let weather = self.cluster.weather(from, now);
        let attempts = self.cluster.attempts(begun.read);
        let (who, text) = (Arc::clone(&begun.terms.who), error.to_string());
        self.cluster.note(move |f| write!(f, "{who}: read failed: {text}"));
        // A read that moves to another node bears every trouble but the primary's, until the read was attempted as often
        // as a read may be. A read that asks the primary alone meets none of the replicas' troubles, and while the
        // primary is well no error may say that no node is eligible.
        let is_bearable = if begun.terms.is_fragile { weather.troubles == 0 } else { !attempts.are_used_up() };
        let blames_replicas = begun.terms.consistency != Consistency::Strong
            && !Error::from_db_err(error).is_some_and(Error::is_no_eligible_node);
        if !weather.on_primary && (is_bearable || !blames_replicas) {
            self.violation(format_args!(
                "a {} read failed though the primary is well ({weather:?}, {attempts:?}): {error}",
                begun.terms.consistency
            ));
        }
        // The primary had a trouble, a replica had none, and any state of the database will do. (What a read with a floor may ask of a replica is not only there, but known to be there, and the
        // primary has to be well for that.)
        let asks_nothing = begun.terms.consistency == Consistency::Eventual && !begun.may_be_a_read_back();
        let may_move = !begun.terms.is_fragile && !attempts.are_used_up() && !attempts.are_for_the_primary();
        let is_served = weather.troubles == 1 || !weather.members_changed && self.has_a_well_replica(from, now);
        if weather.on_primary && asks_nothing && may_move && is_served {
            self.violation(format_args!(
                "a read that any replica may serve failed though one of them is well ({attempts:?}): {error}\n{}",
                self.db.topology()
            ));
        }
    }

    /// Whether a replica of this process had no trouble between two instants, and is believed to be up.
    fn has_a_well_replica(&self, from: Instant, to: Instant) -> bool {
        let primary = self.cluster.primary();
        self.db.topology().replicas().iter().any(|replica| {
            let name = replica.name();
            name != primary && replica.health() == Health::Up && self.cluster.was_well(name, from, to)
        })
    }

    fn check(&self, begun: &Begun, key: usize, value: WriteId, address: &str) {
        let terms = &begun.terms;
        let got = self.cluster.order_even_if_lost(value);
        let by_time = self.by_time.iter().any(|known| known == address);
        // Nothing but time speaks for such a node.
        let counts = |entry: &Entry| !by_time || entry.at.elapsed() < STICK;
        let newest = |book: &Book, len: usize| {
            let entries = book.entries();
            let own = entries[..len].iter().filter(|entry| entry.key == key && counts(entry));
            own.filter_map(|entry| Some((self.cluster.order(entry.write)?, entry.write))).max()
        };
        let must_see = |what: &str, floor: Option<(u64, WriteId)>| {
            if let Some((order, write)) = floor
                && got < order
            {
                self.violation(format_args!(
                    "{}: {} read of k{key} on {address} returned {value}, and not {write}: {what}",
                    terms.who, terms.consistency
                ));
            }
        };
        if terms.consistency == Consistency::Eventual {
            return;
        }
        if !terms.is_plain {
            must_see("the session wrote it", newest(&terms.session.written, begun.written));
        }
        let sees_process = match terms.consistency {
            Consistency::Session => terms.is_plain,
            consistency => consistency == Consistency::Process,
        };
        if sees_process {
            must_see("the process wrote it", newest(&self.written, begun.of_process));
        }
        // Between a crash of a standby's processes and the next probe nothing tells that it went back: it has the
        // name it had, and may be no further back than where it was last asked.
        let is_hidden = self.cluster.went_back_silently(address, begun.at - PROBES);
        if terms.consistency == Consistency::Session && !by_time && !is_hidden {
            for (seen, len) in terms.seen.iter().zip(&begun.seen) {
                must_see("it was read before", newest(&seen.seen, *len));
            }
        }
        let bound = match terms.consistency {
            Consistency::Strong => Some(Duration::ZERO),
            Consistency::BoundedStaleness(within) => Some(within),
            _ => None,
        };
        if let Some(bound) = bound {
            let write = self.cluster.newest_before(key, begun.at - bound);
            must_see("it is older than the bound", self.cluster.order(write).map(|order| (order, write)));
        }
    }

    /// Later reads have to show the rows of this one.
    fn learn(&self, begun: &Begun, values: &[WriteId; KEYS]) {
        if begun.terms.consistency == Consistency::Eventual {
            return;
        }
        let session = &begun.terms.session;
        // A plain read binds no later one.
        let binds = !begun.terms.is_plain;
        let mut unknown = session.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.retain(|entry| {
            let order = self.cluster.order(entry.write);
            let is_shown = begun.terms.pending[entry.key].is_none()
                && order.is_some_and(|order| self.cluster.order_even_if_lost(values[entry.key]) >= order);
            if is_shown {
                self.tally.unknown_that_happened.fetch_add(1, Relaxed);
                if binds {
                    session.written.entries().push(*entry);
                }
            }
            !is_shown
        });
        if begun.terms.consistency == Consistency::Session {
            for seen in &begun.terms.seen {
                for (key, value) in values.iter().enumerate() {
                    if begun.terms.pending[key].is_none() {
                        seen.seen.add(key, *value);
                    }
                }
            }
        }
    }

    fn count(&self, begun: &Begun, values: &[WriteId; KEYS], address: &str) {
        let on_replica = u64::from(address != self.cluster.primary());
        match begun.terms.consistency {
            Consistency::Session => {
                self.tally.session_reads.fetch_add(1, Relaxed);
                self.tally.session_reads_on_replicas.fetch_add(on_replica, Relaxed);
                if begun.written > 0 {
                    self.tally.after_write.fetch_add(1, Relaxed);
                    self.tally.after_write_on_replicas.fetch_add(on_replica, Relaxed);
                }
            }
            Consistency::Eventual => {
                self.tally.eventual_reads.fetch_add(1, Relaxed);
                let own = begun.terms.session.written.entries();
                let is_stale = own[..begun.written].iter().any(|entry| {
                    self.cluster.order(entry.write) > Some(self.cluster.order_even_if_lost(values[entry.key]))
                });
                self.tally.stale_eventual_reads.fetch_add(u64::from(is_stale), Relaxed);
            }
            Consistency::BoundedStaleness(_) => {
                self.tally.bounded_reads.fetch_add(1, Relaxed);
                self.tally.bounded_on_replicas.fetch_add(on_replica, Relaxed);
            }
            _ => {}
        }
    }
}

/// How a write came to an end.
#[derive(Debug)]
pub(super) enum Outcome<T> {
    Ended(Result<T, DbErr>),
    /// The future of the operation was dropped.
    GivenUp,
}

impl Tally {
    /// The simulations could see what they look for.
    pub(super) fn is_worth_something(&self, seeds: u64) {
        let share = |part: &AtomicU64, of: &AtomicU64| {
            #[expect(clippy::cast_precision_loss, reason = "a share needs no exact count")]
            let share = part.load(Relaxed) as f64 / of.load(Relaxed).max(1) as f64;
            share
        };
        if seeds < 500 {
            return; // too few to say
        }
        assert!(share(&self.session_reads_on_replicas, &self.session_reads) > 0.25, "{self:#?}");
        assert!(share(&self.stale_eventual_reads, &self.eventual_reads) > 0.02, "{self:#?}");
        assert!(self.unknown_that_happened.load(Relaxed) > seeds / 100, "{self:#?}");
        assert!(self.promotions.load(Relaxed) > seeds / 20, "{self:#?}");
        assert!(self.second_opinions.load(Relaxed) > seeds / 20, "{self:#?}");
        assert!(self.ejections.load(Relaxed) > seeds / 100, "{self:#?}");
        assert!(self.trials.load(Relaxed) > seeds / 200, "{self:#?}");
        assert!(self.slow_starts.load(Relaxed) > seeds / 200, "{self:#?}");
        assert!(self.lost_races.load(Relaxed) > seeds / 20, "{self:#?}");
    }
}
