//! One simulation: a cluster, one or two processes with sessions, and an operator, all from one seed.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use sea_orm::ConnectionTrait;
use sea_orm_resolver::{Consistency, DatabaseConnection, Member, NodeConfig, RouteLog};
use testkit::sim::{Ailment, Cluster, Dialect, Dice, LATEST_COMMIT, Restart, Shape};
use tokio::{task::JoinHandle, time};

use super::{
    actor::{Actor, Kind},
    ledger::{Ledger, Session, Tally},
    operator::{Operator, Site, Temper},
    trials::is_ejected,
};

/// How long sessions keep away from nodes without positions.
pub(super) const STICK: Duration = Duration::from_secs(1);

/// Longer than any write can take whose caller has stopped waiting.
const HOLD: Duration = LATEST_COMMIT.saturating_add(Duration::from_millis(1));

/// After so long of nothing, three probes have found every replica where the primary is.
const CALM: Duration = Duration::from_millis(4_500);

/// The slow start of most processes.
const SLOW_START: Duration = Duration::from_secs(10);

/// Longer than some hundred reads take.
const LATE: Duration = Duration::from_secs(60);

/// Nothing in a simulation takes so long.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// The fault of a simulation, and its trace.
pub(super) struct Failure {
    pub(super) violations: Vec<String>,
    pub(super) trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.trace)?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "{violation}"))
    }
}

/// The content of a simulation's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Statements,
    /// The servers' answers to probers, too.
    Probes,
}

/// Runs the simulation of a seed, on a thread and a runtime of its own, whose clock is paused.
pub(super) fn run(seed: u64, tally: &Arc<Tally>, detail: Detail) -> (Result<(), Failure>, String) {
    // A thread of its own, because the library remembers something per thread.
    let played = thread::scope(|scope| scope.spawn(|| play(seed, tally, detail)).join());
    played.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn play(seed: u64, tally: &Arc<Tally>, detail: Detail) -> (Result<(), Failure>, String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async { Scenario::new(seed, Arc::clone(tally), detail).await.play().await })
}

struct Scenario {
    cluster: Cluster,
    sites: Arc<Vec<Site>>,
    ledgers: Vec<Arc<Ledger>>,
    violations: Arc<Mutex<Vec<String>>>,
    temper: Temper,
    tally: Arc<Tally>,
    /// The addresses whose servers' positions are not believed.
    silent: Vec<String>,
    dice: Dice,
}

impl Scenario {
    async fn new(seed: u64, tally: Arc<Tally>, detail: Detail) -> Self {
        let mut dice = Dice::new(seed);
        let dialect =
            *dice.pick(&[Dialect::Postgres, Dialect::Postgres, Dialect::Postgres, Dialect::MySql, Dialect::MariaDb]);
        let replicas = (0..dice.between(1, 5)).map(|_| if dice.percent(6) { 2 } else { 1 }).collect();
        let cluster = Cluster::new(dice.seed(), &Shape { dialect, replicas });
        if detail == Detail::Probes {
            cluster.note_probes();
        }
        let addresses = cluster.addresses();
        let silent: Vec<_> = addresses[1..].iter().filter(|_| dice.percent(5)).cloned().collect();
        let two_faced = addresses.iter().filter(|address| cluster.faces(address) > 1).cloned();
        let by_time: Vec<_> = silent.iter().cloned().chain(two_faced).collect();
        let violations = Arc::new(Mutex::new(Vec::new()));
        let (mut sites, mut ledgers) = (Vec::new(), Vec::new());
        for _ in 0..dice.between(1, 4).saturating_sub(1).max(1) {
            let site = site(&cluster, &silent, &mut dice).await;
            let ledger = Ledger::new(
                site.db.clone(),
                cluster.clone(),
                Arc::clone(&tally),
                by_time.clone(),
                Arc::clone(&violations),
            );
            let ledger = Arc::new(ledger);
            let watcher = Arc::downgrade(&ledger);
            site.process.watch_reads(move |address| {
                if let Some(ledger) = watcher.upgrade() {
                    ledger.read_arrives(address);
                }
            });
            sites.push(site);
            ledgers.push(ledger);
        }
        let temper = *dice.pick(&[Temper::Calm, Temper::Lively, Temper::Lively, Temper::Wild]);
        cluster.note(move |f| write!(f, "{dialect:?}, {temper:?}, by time: {by_time:?}"));
        Self { cluster, sites: Arc::new(sites), ledgers, violations, temper, tally, silent, dice }
    }

    async fn play(mut self) -> (Result<(), Failure>, String) {
        let is_over = Arc::new(AtomicBool::new(false));
        let operator = Operator {
            cluster: self.cluster.clone(),
            sites: Arc::clone(&self.sites),
            temper: self.temper,
            dice: Dice::new(self.dice.seed()),
            tally: Arc::clone(&self.tally),
            is_over: Arc::clone(&is_over),
            silent: self.silent.clone(),
        };
        let operating = tokio::spawn(operator.operate());
        let mut acting: Vec<JoinHandle<()>> = Vec::new();
        for group in 0..self.dice.between(2, 5) {
            self.enter(group, &mut acting);
        }
        for task in acting {
            match time::timeout(FOR_EVER, task).await {
                Ok(Ok(())) => {}
                Ok(Err(panic)) => self.ledgers[0].violation(format_args!("an actor panicked: {panic}")),
                Err(_) => self.ledgers[0].violation("an actor hangs"),
            }
        }
        is_over.store(true, Relaxed);
        if time::timeout(FOR_EVER, operating).await.is_err() {
            self.ledgers[0].violation("the operator hangs");
        }
        if self.dice.percent(2) {
            self.the_failing_replica().await;
            self.the_late_table().await;
        }
        if self.dice.percent(4) {
            self.the_slow_start().await;
        }
        // The last phase takes as long as all the others together.
        if self.dice.percent(33) {
            self.the_calm_after().await;
        }
        self.tally.lost_races.fetch_add(self.cluster.lost_races(), Relaxed);
        for offence in self.cluster.take_offences() {
            self.ledgers[0].violation(offence);
        }
        let violations = std::mem::take(&mut *self.violations.lock().unwrap_or_else(PoisonError::into_inner));
        let trace = self.cluster.trace();
        if violations.is_empty() { (Ok(()), trace) } else { (Err(Failure { violations, trace: trace.clone() }), trace) }
    }

    /// One session begins, with one or more tasks.
    fn enter(&mut self, group: u64, acting: &mut Vec<JoinHandle<()>>) {
        let at = self.dice.index(self.sites.len());
        let (db, ledger) = (self.sites[at].db.clone(), Arc::clone(&self.ledgers[at]));
        let session = Arc::new(Session::default());
        let operations = self.dice.between(8, 20);
        let elsewhere: Vec<_> =
            self.sites.iter().map(|site| site.db.clone()).zip(self.ledgers.iter().cloned()).collect();
        let mut actor = |name: String, db: DatabaseConnection, kind| {
            let dice = Dice::new(self.dice.seed());
            Actor::new(name.into(), db, kind, Arc::clone(&session), Arc::clone(&ledger), elsewhere.clone(), dice)
        };
        match group % 3 {
            0 => acting.push(tokio::spawn(actor(format!("task {group}"), db, Kind::Implicit).act(operations))),
            1 => {
                let handle = db.session();
                for half in ["a", "b"] {
                    let actor = actor(format!("session {group}{half}"), handle.clone(), Kind::Explicit);
                    acting.push(tokio::spawn(actor.act(operations / 2)));
                }
            }
            _ => {
                let handle = db.session();
                let actor = actor(format!("scope {group}"), db.clone(), Kind::Explicit);
                acting.push(tokio::spawn(async move { db.scope(&handle, actor.act(operations)).await }));
            }
        }
    }

    /// For a while one replica fails each statement, and more reads find that out than those that eject a node.
    async fn the_failing_replica(&self) {
        self.cluster.calm();
        time::sleep(CALM).await;
        let (site, ledger) = (&self.sites[0], &self.ledgers[0]);
        let db = site.db.with_consistency(Consistency::Eventual);
        let primary = self.cluster.primary();
        let topology = db.topology();
        let Some(replica) = topology.replicas().iter().find(|replica| replica.name() != primary) else { return };
        self.cluster.afflict(replica.name(), Ailment::FailsAlone, LATE);
        for _ in 0..80 {
            time::sleep(Duration::from_millis(40)).await;
            // Several reads meet at the end of a pause, and one of them is the trial.
            let read = || db.query_one_raw(self.cluster.select());
            let (one, two, three, four) = tokio::join!(read(), read(), read(), read());
            if let Some(error) = [one, two, three, four].into_iter().find_map(Result::err) {
                return ledger.violation(format_args!("a read failed that only one replica fails: {error}"));
            }
        }
    }

    /// For a while the replicas lack a table, and more reads find that out than the budget for second opinions has.
    async fn the_late_table(&self) {
        self.cluster.calm();
        time::sleep(CALM).await;
        let (site, ledger) = (&self.sites[0], &self.ledgers[0]);
        let db = site.db.with_consistency(Consistency::Eventual);
        if site.db.set_primary_read_share(0.0).is_err() {
            ledger.violation("the primary's share of the reads cannot be set");
        }
        for address in self.cluster.addresses() {
            if address != self.cluster.primary() {
                self.cluster.afflict(&address, Ailment::LacksTable, LATE);
            }
        }
        for _ in 0..300 {
            if let Err(error) = db.query_one_raw(self.cluster.select()).await {
                return ledger.violation(format_args!("a read failed that only the primary can serve yet: {error}"));
            }
        }
    }

    /// A well replica that was restarted takes few reads of a process at first, and its full share in the end.
    async fn the_slow_start(&self) {
        self.cluster.calm();
        time::sleep(CALM + SLOW_START).await;
        let (site, ledger) = (&self.sites[0], &self.ledgers[0]);
        let topology = site.db.topology();
        let well = |name: &str| {
            name != self.cluster.primary() && self.cluster.is_with_primary(name) && self.cluster.faces(name) == 1
        };
        let Some(replica) = topology.replicas().iter().map(Member::name).find(|name| well(name)) else { return };
        self.cluster.restart_replica(replica, Restart::Server);
        if let Err(why) = self.the_share_recovers(site, replica).await {
            ledger.violation(format_args!("{why}\n{}", site.db.topology()));
        }
    }

    async fn the_share_recovers(&self, site: &Site, replica: &str) -> Result<(), String> {
        let starts_slowly = || site.db.topology().member(replica).is_some_and(Member::is_starting_slowly);
        site.db.set_primary_read_share(0.0).map_err(|error| error.to_string())?;
        // The next probe notices the restart.
        for _ in 0..150 {
            if starts_slowly() {
                break;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
        if starts_slowly() == site.slow_start.is_zero() {
            return Err(format!("{replica} was restarted and does not start slowly"));
        }
        let (served, even) = self.served(site, replica).await?;
        // A read that is the trial of an ejected replica begins that one's slow start, too.
        let topology = site.db.topology();
        let all_do = topology.replicas().iter().all(Member::is_starting_slowly);
        if starts_slowly() && !all_do && even.is_some_and(|even| 2 * served > even) {
            return Err(format!("{replica} serves {served} reads of {even:?} in the first moment"));
        }
        time::sleep(SLOW_START + CALM).await;
        let (served, even) = self.served(site, replica).await?;
        if starts_slowly() || even.is_some_and(|even| 2 * served < even) {
            return Err(format!("{replica} serves {served} reads of {even:?} after its slow start"));
        }
        self.tally.slow_starts.fetch_add(u64::from(even.is_some() && !site.slow_start.is_zero()), Relaxed);
        Ok(())
    }

    /// How many reads a replica serves now, and its even share of them. `None` where no other replica takes reads, or
    /// this one does not for another reason.
    async fn served(&self, site: &Site, replica: &str) -> Result<(u64, Option<u64>), String> {
        const EVEN: u64 = 60;
        let db = site.db.with_consistency(Consistency::Eventual);
        let topology = db.topology();
        let takes_reads = |name: &str| {
            let decision = db.explain(&self.cluster.select());
            decision.candidates().iter().any(|candidate| candidate == name)
        };
        let taking = topology.replicas().iter().map(Member::name).filter(|name| takes_reads(name)).count() as u64;
        let before = topology.member(replica).map_or(0, |member| member.node().served_reads());
        for _ in 0..EVEN * taking {
            let read = db.query_one_raw(self.cluster.select()).await;
            read.map_err(|error| format!("a read in the calm failed: {error}"))?;
        }
        let served = topology.member(replica).map_or(0, |member| member.node().served_reads()) - before;
        Ok((served, (taking > 1 && takes_reads(replica)).then_some(EVEN)))
    }

    /// When the servers have no trouble any more, replicas soon serve reads of all writes.
    async fn the_calm_after(&self) {
        self.cluster.calm();
        self.cluster.note(|f| f.write_str("calm from here on"));
        time::sleep(CALM).await;
        for (site, ledger) in self.sites.iter().zip(&self.ledgers) {
            let db = &site.db;
            if db.set_primary_read_share(0.0).is_err() {
                ledger.violation("the primary's share of the reads cannot be set");
            }
            let able = |address: &str| {
                self.cluster.is_with_primary(address)
                    && self.cluster.faces(address) == 1
                    && !is_ejected(&db.topology(), address)
                    && !site.dressed.iter().any(|dressed| dressed == address)
            };
            if !db.topology().replicas().iter().any(|replica| able(replica.name())) {
                continue;
            }
            for round in 0..3 {
                if let Err(why) = self.written_and_read_from_a_replica(db).await {
                    ledger.violation(format_args!("{why} (round {round})\n{}", db.topology()));
                    break;
                }
            }
        }
    }

    async fn written_and_read_from_a_replica(&self, db: &DatabaseConnection) -> Result<(), String> {
        let log = RouteLog::new();
        let handle = db.session().recorded(&log);
        let write = self.cluster.new_write();
        handle.execute_raw(self.cluster.update(0, write)).await.map_err(|error| format!("a calm write: {error}"))?;
        for _ in 0..20 {
            let row =
                handle.query_one_raw(self.cluster.select()).await.map_err(|error| format!("a calm read: {error}"))?;
            let row = row.ok_or("a calm read without a row")?;
            let number = row.try_get::<i64>("", "server").map_err(|error| error.to_string())?;
            let value = row.try_get::<i64>("", "k0").map_err(|error| error.to_string())?;
            if value != i64::from(write) {
                return Err(format!("in the calm, {value} was read and not {write}"));
            }
            if self.cluster.address_of(number) != self.cluster.primary() {
                return Ok(());
            }
            // Less than it takes to stick by time.
            time::sleep(Duration::from_millis(40)).await;
        }
        let decided = log.last().map(|decision| decision.to_string()).unwrap_or_default();
        Err(format!("in the calm, a write was read from no replica within 800 ms:\n{decided}"))
    }
}

async fn site(cluster: &Cluster, silent: &[String], dice: &mut Dice) -> Site {
    let process = cluster.process();
    let dress: fn(NodeConfig) -> NodeConfig = |node| node.positions(false);
    let dressed = silent.to_vec();
    let node = |address: &String| {
        let node = process.node(address);
        if dressed.contains(address) { dress(node) } else { node }
    };
    let addresses = cluster.addresses();
    let slow_start = *dice.pick(&[Duration::ZERO, SLOW_START, SLOW_START, SLOW_START]);
    let primary_read_share = *dice.pick(&[0.0, 0.1, 0.1, 0.5]);
    let probe_interval = *dice.pick(&[500, 1_000, 1_000].map(Duration::from_millis));
    let seed = dice.seed();
    // Far more than a service would allow, in half of the processes.
    let hedge = if seed.is_multiple_of(2) { 0.5 } else { 0.0 };
    let db = DatabaseConnection::builder()
        .primary(node(&addresses[0]))
        .replicas(addresses[1..].iter().map(node))
        .primary_read_share(primary_read_share)
        .consistency(Consistency::Session)
        .stick_after_write(STICK)
        .unknown_outcome_hold(HOLD)
        .probe_interval(probe_interval)
        .drain_timeout(Duration::from_millis(300))
        .slow_start(slow_start)
        .hedge(hedge)
        .seed(seed)
        .connect()
        .await
        .expect("a cluster to which nothing happened yet can be connected");
    Site { db, process, dress, dressed, slow_start }
}
