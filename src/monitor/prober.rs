//! Asks each node how it is, on a connection of its own, and hands the answers to the writer.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use sea_orm::DbErr;
use tokio::time;

use super::{
    Writer,
    demand::SHORTEST_INTERVAL,
    probe::{self, Scope},
};
use crate::{
    driver::{Changes, Driver, Fault, ProbeLink},
    routing::Draw,
    telemetry,
    topology::{
        FAILURES_TO_EJECT, Fresh, Generation, Lane, Lives, Member, Node, NodeId, Observation, Observed, Reply,
        Reported, Role, Stamp, Tick, Topology,
    },
};

/// Watches every member of every topology to come. Ends never; it is aborted with its owner.
pub(super) async fn watch(writer: &Writer) {
    let mut changes = writer.cell().changes();
    let mut watched = HashSet::new();
    let mut probes: FuturesUnordered<BoxFuture<'_, Prober>> = FuturesUnordered::new();
    loop {
        changes.mark_unchanged();
        let topology = writer.cell().load_full();
        if !topology.is_single() {
            for node in topology.nodes() {
                if !watched.contains(&node.id()) && probe::can_be_asked(&*node.driver(Lane::Read)) {
                    watched.insert(node.id());
                    probes.push(Prober::new(Arc::clone(node), writer).attend(writer).boxed());
                }
            }
        }
        tokio::select! {
            biased;
            () = changes.changed() => {}
            Some(prober) = probes.next(), if !probes.is_empty() => {
                if prober.is_wanted(writer) {
                    probes.push(prober.attend(writer).boxed());
                } else {
                    watched.remove(&prober.node.id());
                }
            }
        }
    }
}

/// One node's prober: its connection and its rhythm.
struct Prober {
    node: Arc<Node>,
    link: Option<Box<dyn ProbeLink>>,
    /// The server life that answered over the link.
    answered_by: Option<Arc<str>>,
    changes: Changes,
    failures: u32,
    asked_at: Stamp,
    /// The least time between two questions, whatever reads want.
    patience: Duration,
    /// Until then it is not asked where it is, because it does not know.
    identity_until: Tick,
    /// Whether a session of the read-only pool was seen to be read-only.
    read_only: ReadOnlyCheck,
    jitter: Draw,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadOnlyCheck {
    Passed,
    Due,
}

/// Who asks for more wants no probes; a timer cannot be set for ever.
const LONGEST_INTERVAL: Duration = Duration::from_secs(365 * 86_400);

/// The time between two probes of a node whose connections break again and again.
const SUSPICION_PAUSE: Duration = Duration::from_millis(10);

/// How soon after the primary a replica is asked whether it has caught up: most of the time it takes less.
const CATCH_UP: Duration = Duration::from_millis(2);

/// For how long a replica that is new here is asked often whether it has caught up.
const JOINING: Duration = Duration::from_secs(2);

/// The longest time between two questions to a replica that reads wait for and that stands still.
const LONGEST_PATIENCE: Duration = Duration::from_millis(40);

/// A server that does not know where it is is asked again after this time.
const ASK_AGAIN_FOR_POSITION: Duration = Duration::from_secs(60);

/// Where probes are further apart than this, the connection is closed in between.
const KEEP_LINK_FOR: Duration = Duration::from_secs(10);

/// The rhythm of a prober follows from the connection's seed, if it has one.
fn jitter_seed(node: &Node, writer: &Writer) -> u64 {
    let mut hasher = DefaultHasher::new();
    node.name().hash(&mut hasher);
    writer.settings.seed.unwrap_or_else(|| u64::from(std::process::id())).hash(&mut hasher);
    hasher.finish()
}

/// How soon a node that failed a probe, and is not down yet, is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Prober {
    fn new(node: Arc<Node>, writer: &Writer) -> Self {
        Self {
            jitter: Draw::seeded(jitter_seed(&node, writer)),
            node,
            link: None,
            answered_by: None,
            changes: writer.cell().changes(),
            failures: 0,
            asked_at: Stamp::default(),
            patience: SHORTEST_INTERVAL,
            identity_until: Tick::default(),
            read_only: ReadOnlyCheck::Due,
        }
    }

    fn is_wanted(&self, writer: &Writer) -> bool {
        let topology = writer.cell().load();
        !topology.is_single() && topology.member_of(self.node.id()).is_some()
    }

    /// As [`next`](Self::next). A driver that panics fails the probe of its own node, and no other.
    async fn attend(self, writer: &Writer) -> Self {
        let (node, failures) = (Arc::clone(&self.node), self.failures.saturating_add(1));
        // What the panic leaves behind, the connection and the rhythm, is dropped with it.
        match AssertUnwindSafe(self.next(writer)).catch_unwind().await {
            Ok(prober) => prober,
            Err(_) => {
                telemetry::probe_panicked(node.name());
                let reply = Reply::Failed { conclusive: false, why: "its driver panicked".into() };
                writer.observe(&Observation { node: node.id(), generation: Generation::default(), reply });
                Self { failures, asked_at: writer.clock.stamp(), ..Self::new(node, writer) }
            }
        }
    }

    /// Waits for the next probe, makes it, and has its answer published.
    async fn next(mut self, writer: &Writer) -> Self {
        if !self.wait(writer).await {
            return self;
        }
        let (generation, answer) = self.ask(writer).await;
        let reply = match answer {
            Ok(observed) => {
                self.failures = 0;
                Reply::Answered(observed)
            }
            Err(failure) => {
                self.failures = self.failures.saturating_add(1);
                Reply::Failed { conclusive: failure.conclusive, why: failure.why.into() }
            }
        };
        writer.observe(&Observation { node: self.node.id(), generation, reply });
        let is_asked_again = wants_question(&writer.cell().load(), self.node.id());
        if writer.settings.probe_interval > KEEP_LINK_FOR && !is_asked_again && self.wanted_at(writer).is_none() {
            // A server counts connections, and a large fleet has many.
            self.link = None;
        }
        self
    }

    /// Returns when a probe is due or the belief in the node broke; `false` when the node has left.
    async fn wait(&mut self, writer: &Writer) -> bool {
        let interval = writer.settings.probe_interval.min(LONGEST_INTERVAL);
        let pause = if self.asked_at == Stamp::default() {
            // At once: what `connect` learned came over a connection that is closed again, and only
            // an open one shows a restart.
            Duration::ZERO
        } else if (1..FAILURES_TO_EJECT).contains(&self.failures) {
            RETRY_AFTER.min(interval)
        } else {
            // ± 20 %, so that a fleet does not ask in step.
            interval.mul_f64(0.8 + 0.4 * self.jitter.unit())
        };
        let started = writer.clock.now();
        loop {
            // All are armed before anything is looked at.
            let wanted = writer.demand.raised().wait();
            self.changes.mark_unchanged();
            if !self.is_wanted(writer) {
                return false;
            }
            if self.asked_at != Stamp::default() && wants_question(&writer.cell().load(), self.node.id()) {
                // Under load the belief in a lost primary breaks with every write.
                let since = writer.clock.now().since(self.asked_at.at);
                time::sleep(SUSPICION_PAUSE.saturating_sub(since)).await;
                return true;
            }
            let due = match self.wanted_at(writer) {
                Some(wanted_at) if self.failures == 0 => wanted_at.min(started.after(pause)),
                _ => started.after(pause),
            };
            let now = writer.clock.now();
            if now >= due {
                return true;
            }
            tokio::select! {
                biased;
                () = time::sleep(due.since(now)) => return true,
                () = wanted => {}
                () = self.changes.changed() => {}
            }
        }
    }

    /// When reads want this node to be asked, if they do before its next turn.
    fn wanted_at(&self, writer: &Writer) -> Option<Tick> {
        let (demand, topology) = (&writer.demand, writer.cell().load());
        let bounded = demand.longest_interval(writer.clock.now()).map(|interval| self.asked_at.at.after(interval));
        let (wanted, newest) =
            (demand.wanted(writer.clock.now()), topology.samples.newest().map(|sample| sample.stamp));
        let for_sessions = if topology.primary.node.id() == self.node.id() {
            // Nobody has asked the primary since.
            newest.filter(|newest| newest.seq <= wanted).map(|_| self.asked_at.at.after(SHORTEST_INTERVAL))
        } else {
            let fresh = topology.member_of(self.node.id()).and_then(|member| member.freshness.fresh());
            match (fresh, newest) {
                // It may have reached what is wanted by now, and it takes a moment to get there.
                (Some(fresh), Some(newest))
                    if fresh.through.seq < newest.seq
                        && (fresh.through.seq <= wanted || self.has_just_joined(fresh)) =>
                {
                    Some(self.asked_at.at.after(self.patience).max(newest.at.after(CATCH_UP)))
                }
                _ => None,
            }
        };
        bounded.into_iter().chain(for_sessions).min()
    }

    /// A replica that is new here, or restarted, and was not seen to have caught up yet: soon it is.
    fn has_just_joined(&self, fresh: &Fresh) -> bool {
        !fresh.has_caught_up() && self.asked_at.at.since(fresh.since) < JOINING
    }

    /// Asks the node, over a new connection where the old one is broken or leads to a server that is no member any
    /// more. Returns the generation in which the question went out, and the answer.
    async fn ask(&mut self, writer: &Writer) -> (Generation, Result<Observed, Failure>) {
        let generation = self.begin_question(writer);
        let (is_shared, is_former) = self.lives(writer, |lives| {
            let is_former = self.answered_by.as_ref().is_some_and(|answered| !lives.is_present(answered));
            (lives.is_shared(), is_former)
        });
        if is_former && !is_shared {
            self.link = None;
        }
        let had_link = self.link.is_some();
        match self.ask_once(writer).await {
            // The server may have been restarted since: the connection says nothing about now.
            Err(_) if had_link && self.link.is_none() => {
                writer.invalidate(&self.node);
                let generation = self.begin_question(writer);
                (generation, self.ask_once(writer).await)
            }
            answer => (generation, answer),
        }
    }

    fn begin_question(&mut self, writer: &Writer) -> Generation {
        let generation = writer.begin_question(&self.node);
        self.asked_at = writer.clock.stamp();
        generation
    }

    fn lives<T: Default>(&self, writer: &Writer, look: impl FnOnce(&Lives) -> T) -> T {
        writer.cell().load().member_of(self.node.id()).map(|member| look(&member.lives)).unwrap_or_default()
    }

    /// A replica that stands still is asked less and less often, however much reads want it to move.
    fn be_patient(&mut self, known: Option<&Member>, position: &Reported) {
        let known = known.and_then(|member| member.freshness.fresh());
        let stands_still = matches!((known, position), (Some(known), Reported::At(now)) if known.position == *now);
        self.patience = if stands_still { (self.patience * 2).min(LONGEST_PATIENCE) } else { SHORTEST_INTERVAL };
    }

    async fn ask_once(&mut self, writer: &Writer) -> Result<Observed, Failure> {
        let (driver, asked) = (self.node.driver(Lane::Read), self.asked_at);
        let answer = self.question(writer, &*driver).await?;
        let incarnation: Arc<str> = answer.incarnation.into();
        if !self.lives(writer, |lives| lives.is_present(&incarnation)) {
            // Every session belongs to the life before, and the server of that life can go on: at an address that
            // moved, or that leads to several servers.
            if self.lives(writer, |lives| lives.is_successor(&incarnation)) {
                writer.leave_former_server(&self.node, &driver);
            }
            self.node.check_idle();
        }
        self.answered_by = Some(Arc::clone(&incarnation));
        if self.read_only == ReadOnlyCheck::Due {
            check_read_only(&self.node, writer.settings.connect_timeout).await?;
            self.read_only = ReadOnlyCheck::Passed;
        }
        let topology = writer.cell().load_full();
        self.be_patient(topology.member_of(self.node.id()), &answer.position);
        Ok(Observed {
            role: answer.role,
            incarnation,
            position: answer.position,
            round_trip: writer.clock.now().since(asked.at),
            asked,
        })
    }

    async fn question(&mut self, writer: &Writer, driver: &dyn Driver) -> Result<probe::Answer, Failure> {
        let configured = writer.cell().load().configured_role(self.node.id());
        let is_off = self.identity_until > writer.clock.now();
        let scope = if is_off { Scope::Identity } else { Scope::Position };
        self.node.count_probe();
        let asking = ask_server(driver, &mut self.link, configured, scope);
        match time::timeout(writer.settings.probe_timeout, asking).await {
            Ok(Ok((answer, not_told))) => {
                if let Some(why) = not_told {
                    telemetry::positions_not_told(self.node.name(), why);
                    self.identity_until = writer.clock.now().after(ASK_AGAIN_FOR_POSITION);
                }
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.link = None;
                Err(Failure::of(&error))
            }
            Err(_) => {
                // The answer may still come, to the wrong question: this connection is done.
                self.link = None;
                Err(Failure { conclusive: false, why: format!("no answer within {:?}", writer.settings.probe_timeout) })
            }
        }
    }
}

/// Whether the belief in a member broke, and the member was not asked since.
fn wants_question(topology: &Topology, node: NodeId) -> bool {
    topology.member_of(node).is_some_and(|member| member.belief.wants_question())
}

/// Asks once, over the given connection or over a new one that is left in its place. A server that refuses the
/// whole question is asked the smaller one, and why it refused comes with the answer.
pub(super) async fn ask_server(
    driver: &dyn Driver,
    link: &mut Option<Box<dyn ProbeLink>>,
    configured: Role,
    scope: Scope,
) -> Result<(probe::Answer, Option<DbErr>), DbErr> {
    let backend = driver.backend();
    let question = |scope| probe::question(backend, scope).expect("only nodes with a question are probed");
    let open = match link {
        Some(open) => open,
        None => {
            let Some(connecting) = driver.open_probe() else {
                return Err(DbErr::Custom("the driver opens no probe connection".into()));
            };
            link.insert(connecting.await?)
        }
    };
    let answer = open.ask(question(scope)).await.and_then(|row| probe::read_answer(backend, configured, &row));
    match answer {
        Ok(answer) => Ok((answer, None)),
        Err(refused) if scope == Scope::Position && Fault::is_not_understood(&refused) => {
            let row = open.ask(question(Scope::Identity)).await?;
            Ok((probe::read_answer(backend, configured, &row)?, Some(refused)))
        }
        Err(error) => Err(error),
    }
}

/// Makes sure that a session of the read-only pool is read-only in the database.
pub(super) async fn check_read_only(node: &Node, timeout: Duration) -> Result<(), Failure> {
    let driver = node.driver(Lane::Read);
    if !driver.is_read_only() {
        return Ok(());
    }
    match time::timeout(timeout, probe::is_read_only(&*driver)).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Failure {
            conclusive: true,
            why: crate::Error::new(crate::error::Kind::NotReadOnly { node: node.name().to_owned() }).to_string(),
        }),
        Ok(Err(error)) => Err(Failure::of(&error)),
        Err(_) => Err(Failure { conclusive: false, why: "no read connection could be opened in time".to_owned() }),
    }
}

/// Why a probe failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Leaves no doubt: one is enough.
    pub(super) conclusive: bool,
    pub(super) why: String,
}

impl Failure {
    pub(super) fn of(error: &DbErr) -> Self {
        Self { conclusive: matches!(Fault::of(error), Fault::Unreachable { refused: true }), why: error.to_string() }
    }
}
