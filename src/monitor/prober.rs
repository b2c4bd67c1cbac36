//! Probes each node, on a connection of its own, and hands the answers to the writer. The first question to a node goes over
//! the pool for reads, whose first read uses that connection then.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, pending},
    stream::FuturesUnordered,
};
use sea_orm::{DbErr, QueryResult};
use tokio::{sync::Notify, time};

use super::{
    Writer, connect,
    probe::{self, Scope},
    rhythm::{Rhythm, Wanted},
};
use crate::{
    driver::{Driver, Fault, ProbeLink, Recovery},
    routing::Draw,
    telemetry,
    topology::{
        FAILURES_TO_EJECT, Generation, Lane, Lives, Node, NodeId, Observation, Observed, Reply, Reported, Role, Stamp,
        Tick, Topology, Unfit,
    },
};

/// Watches every member of every topology to come. The future never ends; its owner aborts it.
pub(super) async fn watch(writer: &Writer) {
    let mut changes = writer.cell().changes();
    let mut rhythm = Rhythm::new(writer.settings.max_questions_per_second(), writer.settings.probe_interval);
    let mut turns: HashMap<NodeId, Arc<ProbeCall>> = HashMap::new();
    let mut called_for: HashMap<NodeId, Generation> = HashMap::new();
    let mut probes: FuturesUnordered<BoxFuture<'_, Prober>> = FuturesUnordered::new();
    loop {
        changes.mark_unchanged();
        // Both waits are armed before the code looks at the snapshot and the demand.
        let raised = writer.demand.listen();
        let topology = writer.cell().load_full();
        let mut present = 0;
        if !topology.is_single() {
            for node in topology.nodes() {
                if let Entry::Vacant(vacant) = turns.entry(node.id()) {
                    if !probe::can_be_asked(&*node.driver(Lane::Read)) {
                        continue;
                    }
                    let turn = Arc::clone(vacant.insert(Arc::default()));
                    probes.push(Prober::new(Arc::clone(node), turn, writer).attend(writer).boxed());
                }
                present += 1;
            }
        }
        if present < turns.len() {
            let has_left = |id| topology.is_single() || topology.member_of(id).is_none();
            turns.iter().filter(|(id, _)| has_left(**id)).for_each(|(_, turn)| turn.end());
        }
        let now = writer.clock.now();
        let is_asking = |node| turns.get(&node).is_none_or(|turn| turn.is_asking());
        let plan = rhythm.plan(now, writer.demand.wanted(now), &topology, is_asking);
        writer.demand.set_open(plan.is_open);
        plan.ask.iter().filter_map(|node| turns.get(node)).for_each(|turn| turn.call());
        // A broken belief calls its prober once.
        for member in topology.members().filter(|member| member.belief.wants_question()) {
            let (node, generation) = (member.node.id(), member.belief.generation);
            if called_for.insert(node, generation) != Some(generation)
                && let Some(turn) = turns.get(&node)
            {
                turn.call();
            }
        }
        let again = async {
            match plan.again {
                Some(again) => time::sleep(again.since(now)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = changes.changed() => {}
            () = raised => {}
            Some(prober) = probes.next(), if !probes.is_empty() => {
                rhythm.ended(prober.node.id(), writer.clock.now(), &writer.cell().load());
                if prober.turn.has_ended() {
                    turns.remove(&prober.node.id());
                    called_for.remove(&prober.node.id());
                } else {
                    probes.push(prober.attend(writer).boxed());
                }
            }
            () = again => {}
        }
    }
}

/// The watch's call to one prober before the prober's own time, and the sign that the prober is asking.
#[derive(Debug, Default)]
struct ProbeCall {
    called: Notify,
    is_asking: AtomicBool,
    has_ended: AtomicBool,
}

impl ProbeCall {
    /// Asks the node now. A call that comes while the node is being asked counts for the time after the answer.
    fn call(&self) {
        self.called.notify_one();
    }

    /// Tells the prober that the node has left the topology.
    fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.call();
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    fn is_asking(&self) -> bool {
        self.is_asking.load(Ordering::SeqCst)
    }
}

/// One node's prober: its connection, and the time of its next probe.
struct Prober {
    node: Arc<Node>,
    next_over: QuestionPath,
    link: Option<Box<dyn ProbeLink>>,
    /// The server life that answered over the link.
    answered_by: Option<Arc<str>>,
    turn: Arc<ProbeCall>,
    /// Whether the last question had no answer in time. The next one goes over a new connection.
    was_silent: bool,
    failures: u32,
    /// The operations that the node had answered at the last probe.
    served: u64,
    /// Since when the node is down, or in another role.
    unfit_since: Option<Tick>,
    asked_at: Stamp,
    /// Until then the server is not asked for its position, because the server does not know it.
    identity_until: Tick,
    /// Whether a session of the read-only pool was seen to be read-only.
    read_only: ReadOnlyCheck,
    jitter: Draw,
}

/// The connection over which a question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuestionPath {
    /// A connection of the pool for reads, which the first read finds open.
    Pool,
    /// A connection of the prober's own.
    Link,
}

impl QuestionPath {
    /// The path of the first question to a node. Where the pool keeps the connection, a second one would be opened in
    /// vain, and of many processes that start at once each would wait for two.
    pub(super) fn first(driver: &dyn Driver) -> Self {
        if driver.keeps_first_connection() { Self::Pool } else { Self::Link }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadOnlyCheck {
    Passed,
    Due,
}

/// A larger interval means that no probes are wanted; a timer cannot be set for ever.
const LONGEST_INTERVAL: Duration = Duration::from_secs(365 * 86_400);

/// The time between two probes of a node whose connections break again and again.
const SUSPICION_PAUSE: Duration = Duration::from_millis(10);

/// A server that does not know its position is asked for it again after this time.
const ASK_AGAIN_FOR_POSITION: Duration = Duration::from_secs(60);

/// When probes are further apart than this, the connection is closed in between.
pub(super) const KEEP_LINK_FOR: Duration = Duration::from_secs(10);

/// The rhythm of a prober follows from the connection's seed, if it has one.
fn jitter_seed(node: &Node, writer: &Writer) -> u64 {
    let mut hasher = DefaultHasher::new();
    node.name().hash(&mut hasher);
    writer.settings.seed.unwrap_or_else(|| u64::from(std::process::id())).hash(&mut hasher);
    hasher.finish()
}

/// How soon a node that failed a probe, and is not down yet, is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A node that operations miss is asked again after this part of the time that it was away: an outage costs operations hardly more
/// than its own length, and a server that is away for long is not asked often.
const WHILE_MISSED: u32 = 8;

impl Prober {
    fn new(node: Arc<Node>, turn: Arc<ProbeCall>, writer: &Writer) -> Self {
        Self {
            jitter: Draw::seeded(jitter_seed(&node, writer)),
            next_over: QuestionPath::first(&*node.driver(Lane::Read)),
            node,
            link: None,
            answered_by: None,
            turn,
            was_silent: false,
            failures: 0,
            served: 0,
            unfit_since: None,
            asked_at: Stamp::default(),
            identity_until: Tick::default(),
            read_only: ReadOnlyCheck::Due,
        }
    }

    /// As [`next`](Self::next). A driver that panics fails the probe of its own node, and no other.
    async fn attend(self, writer: &Writer) -> Self {
        let (node, turn) = (Arc::clone(&self.node), Arc::clone(&self.turn));
        let failures = self.failures.saturating_add(1);
        // The panic drops the connection and the rhythm.
        match AssertUnwindSafe(self.next(writer)).catch_unwind().await {
            Ok(prober) => prober,
            Err(_) => {
                telemetry::probe_panicked(node.name());
                let asked = writer.clock.now();
                let why = "its driver panicked".into();
                let reply = Reply::Failed { conclusive: false, why, asked, has_served: false };
                writer.observe(&Observation { node: node.id(), generation: Generation::default(), reply });
                turn.is_asking.store(false, Ordering::SeqCst);
                Self { failures, asked_at: writer.clock.stamp(), ..Self::new(node, turn, writer) }
            }
        }
    }

    /// Waits for the next probe, makes it, and has its answer published.
    async fn next(mut self, writer: &Writer) -> Self {
        if !self.wait(writer).await {
            return self;
        }
        self.turn.is_asking.store(true, Ordering::SeqCst);
        let served_before = std::mem::replace(&mut self.served, self.node.served());
        let served = self.served;
        let (generation, answer) = self.ask(writer).await;
        let reply = match answer {
            Ok(observed) => {
                self.failures = 0;
                Reply::Answered(observed)
            }
            // The probe missed its time on a busy machine, or found no free slot on the server.
            Err(failure) if failure.is_disproved_by(&self.node, served_before, served) => {
                self.failures = 0;
                Reply::Served
            }
            Err(failure) => {
                self.failures = self.failures.saturating_add(1);
                let has_served = self.node.served() > served;
                let (conclusive, why) = (failure.conclusive, failure.why.into());
                Reply::Failed { conclusive, why, asked: self.asked_at.at, has_served }
            }
        };
        let other_life = match &reply {
            Reply::Answered(observed) => self.lives(writer, |lives| {
                (!lives.is_present(&observed.incarnation)).then(|| lives.is_successor(&observed.incarnation))
            }),
            Reply::Served | Reply::Failed { .. } | Reply::Unexpected(_) => None,
        };
        writer.observe(&Observation { node: self.node.id(), generation, reply });
        if let Some(is_successor) = other_life {
            // Every session belongs to the former life, whose server can go on: at an address that moved, or that leads
            // to several servers. Until the next answer nothing is believed of the new life, and each connection that is
            // opened from now on is compared with it.
            if is_successor {
                writer.leave_former_server(&self.node, &self.node.driver(Lane::Read));
            }
            self.node.check_idle();
        }
        self.turn.is_asking.store(false, Ordering::SeqCst);
        let is_asked_again = wants_question(&writer.cell().load(), self.node.id());
        let is_wanted = writer.demand.wanted(writer.clock.now()) != Wanted::default();
        if writer.settings.probe_interval > KEEP_LINK_FOR && !is_asked_again && !is_wanted {
            // A server counts connections, and a large fleet has many.
            self.link = None;
        }
        self
    }

    /// Takes the answer that came over the pool when the node was connected as the prober's first: the first reads have
    /// the connection for themselves, and the next question goes over the prober's own.
    fn take_first_answer(&mut self, writer: &Writer) {
        let topology = writer.cell().load();
        let observed = topology.member_of(self.node.id()).and_then(|member| member.observed.as_ref());
        // While `connect` waited for the primary the answers of the replicas grew old.
        let is_young =
            |observed: &Observed| writer.clock.now().since(observed.asked.at) < writer.settings.probe_interval;
        if let Some(observed) = observed.filter(|_| self.next_over == QuestionPath::Pool).filter(|it| is_young(it)) {
            self.asked_at = observed.asked;
            self.answered_by = Some(Arc::clone(&observed.incarnation));
            self.next_over = QuestionPath::Link;
        }
    }

    /// Returns when a probe is due or the watch calls; `false` when the node has left.
    async fn wait(&mut self, writer: &Writer) -> bool {
        let interval = writer.settings.probe_interval.min(LONGEST_INTERVAL);
        self.take_first_answer(writer);
        let is_new = self.asked_at == Stamp::default();
        let pause = if is_new {
            // At once: the first answer, if there was one, came over a connection that is closed again, and only an open
            // connection shows a restart.
            Duration::ZERO
        } else if (1..FAILURES_TO_EJECT).contains(&self.failures) {
            RETRY_AFTER.min(interval)
        } else {
            // ± 20 %, so that a fleet does not ask in step.
            interval.mul_f64(0.8 + 0.4 * self.jitter.unit())
        };
        let while_missed = self.pause_while_missed(writer);
        let is_broken = || !is_new && wants_question(&writer.cell().load(), self.node.id());
        if !self.turn.has_ended() && !is_broken() {
            tokio::select! {
                biased;
                () = self.turn.called.notified() => {}
                () = missed(&self.node, while_missed) => {}
                () = time::sleep(pause) => {}
            }
        }
        if !self.turn.has_ended() && is_broken() {
            // Under load the belief in a lost primary breaks with every write.
            let since = writer.clock.now().since(self.asked_at.at);
            time::sleep(SUSPICION_PAUSE.saturating_sub(since)).await;
        }
        !self.turn.has_ended()
    }

    /// How soon the node is asked again for operations that miss it; `None` while operations are given to it.
    fn pause_while_missed(&mut self, writer: &Writer) -> Option<Duration> {
        let now = writer.clock.now();
        if !is_unfit(&writer.cell().load(), self.node.id(), now) {
            self.unfit_since = None;
            return None;
        }
        let unfit_for = now.since(*self.unfit_since.get_or_insert(self.asked_at.at));
        let pause = (unfit_for / WHILE_MISSED).max(RETRY_AFTER);
        Some(pause.mul_f64(0.8 + 0.4 * self.jitter.unit()))
    }

    /// Asks the node. A new connection is opened where the old one is broken or leads to a server that is not a
    /// member any more. Returns the generation in which the question went out, and the answer.
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
            // The server may have been restarted since, so the old connection says nothing about now.
            Err(failure) if had_link && self.link.is_none() || failure.is_of_pool => {
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

    async fn ask_once(&mut self, writer: &Writer) -> Result<Observed, Failure> {
        let (driver, asked) = (self.node.driver(Lane::Read), self.asked_at);
        let mut answer = self.question(writer, &*driver).await?;
        if connect::is_behind_detected_proxy(&self.node) {
            // The next answer may come from another server.
            writer.disregard_positions(&self.node);
            answer.position = Reported::Unknown;
        }
        let incarnation: Arc<str> = answer.incarnation.into();
        self.answered_by = Some(Arc::clone(&incarnation));
        if self.read_only == ReadOnlyCheck::Due {
            check_read_only(&self.node, writer.settings.connect_timeout).await?;
            self.read_only = ReadOnlyCheck::Passed;
        }
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
        let path = std::mem::replace(&mut self.next_over, QuestionPath::Link);
        let asking = ask_server(driver, path, &mut self.link, configured, scope);
        match time::timeout(writer.settings.probe_timeout, asking).await {
            Ok(Ok((answer, not_told))) => {
                if let Some(why) = not_told {
                    telemetry::positions_not_told(self.node.name(), why);
                    self.identity_until = writer.clock.now().after(ASK_AGAIN_FOR_POSITION);
                }
                if std::mem::take(&mut self.was_silent) {
                    self.node.losses().connections_are_silent();
                }
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.link = None;
                let is_of_pool = path == QuestionPath::Pool && Fault::of(&error) == Fault::Broken;
                Err(Failure { is_of_pool, ..Failure::of(&error) })
            }
            Err(_) => {
                // The answer may still come, as the answer to a later question: this connection is not used again.
                self.link = None;
                self.was_silent = true;
                Err(Failure::doubtful(format!("no answer within {:?}", writer.settings.probe_timeout)))
            }
        }
    }
}

/// Returns when operations miss the node after the pause.
async fn missed(node: &Node, pause: Option<Duration>) {
    let Some(pause) = pause else { return pending().await };
    time::sleep(pause).await;
    while !node.was_missed() {
        time::sleep(RETRY_AFTER).await;
    }
}

/// Whether no operation is given to the node: it is down, or in another role.
fn is_unfit(topology: &Topology, node: NodeId, now: Tick) -> bool {
    topology.member_of(node).is_some_and(|member| {
        let fitness = member.fitness(topology.configured_role(node), now, topology.believed_for);
        matches!(fitness, Err(Unfit::Down | Unfit::RoleContradicts(_)))
    })
}

/// Whether the belief in a member broke, and the member was not asked since.
fn wants_question(topology: &Topology, node: NodeId) -> bool {
    topology.member_of(node).is_some_and(|member| member.belief.wants_question())
}

/// Asks once: over the pool, or over the given connection or a new one that is left in its place. A server that refuses
/// the whole question is asked the smaller one, and the reason of the refusal comes with the answer.
pub(super) async fn ask_server(
    driver: &dyn Driver,
    path: QuestionPath,
    link: &mut Option<Box<dyn ProbeLink>>,
    configured: Role,
    scope: Scope,
) -> Result<(probe::Answer, Option<DbErr>), DbErr> {
    let backend = driver.backend();
    let question = |scope| probe::question(backend, scope).expect("only nodes with a question are probed");
    let mut open = match (path, link) {
        (QuestionPath::Pool, _) => Open::Pool(driver),
        (QuestionPath::Link, Some(open)) => Open::Link(&mut **open),
        (QuestionPath::Link, link) => {
            let Some(connecting) = driver.open_probe() else {
                return Err(DbErr::Custom("the driver opens no probe connection".into()));
            };
            Open::Link(&mut **link.insert(connecting.await?))
        }
    };
    let answer = open.ask(question(scope)).await.and_then(|row| probe::read_answer(backend, configured, &row));
    if let (Ok(answer), Some(sessions)) = (&answer, driver.sessions()) {
        sessions.heard(match answer.role {
            Role::Primary => Recovery::Over,
            Role::Replica => Recovery::Running,
        });
    }
    match answer {
        Ok(answer) => Ok((answer, None)),
        Err(refused) if scope == Scope::Position && Fault::is_not_understood(&refused) => {
            let row = open.ask(question(Scope::Identity)).await?;
            Ok((probe::read_answer(backend, configured, &row)?, Some(refused)))
        }
        Err(error) => Err(error),
    }
}

/// The open path of a question.
enum Open<'a> {
    Pool(&'a dyn Driver),
    Link(&'a mut dyn ProbeLink),
}

impl Open<'_> {
    async fn ask(&mut self, question: &'static str) -> Result<QueryResult, DbErr> {
        match self {
            Self::Pool(driver) => {
                driver.ask(question).await?.ok_or_else(|| DbErr::Type("the answer has no row".into()))
            }
            Self::Link(link) => link.ask(question).await,
        }
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
            is_refusal: false,
            is_of_pool: false,
            why: crate::Error::new(crate::error::Kind::NotReadOnly { node: node.name().to_owned() }).to_string(),
        }),
        Ok(Err(error)) => Err(Failure::of(&error)),
        Err(_) => Err(Failure::doubtful("no read connection could be opened in time".to_owned())),
    }
}

/// The reason of a failed probe.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether one such failure is enough.
    pub(super) conclusive: bool,
    /// Whether the server answered, and refused another connection.
    is_refusal: bool,
    /// Whether a connection of the pool broke, which says nothing about now.
    is_of_pool: bool,
    pub(super) why: String,
}

impl Failure {
    pub(super) fn of(error: &DbErr) -> Self {
        let fault = Fault::of(error);
        let conclusive = fault == Fault::Unreachable { refused: true };
        Self {
            conclusive,
            is_refusal: fault == Fault::ConnectionRefused,
            is_of_pool: false,
            why: crate::Error::shown(error),
        }
    }

    /// A failure that leaves room for doubt.
    fn doubtful(why: String) -> Self {
        Self { conclusive: false, is_refusal: false, is_of_pool: false, why }
    }

    /// Whether operations that the node answered prove that its server lives: since the question went out or, when the
    /// server answered with a refusal, since the question before.
    fn is_disproved_by(&self, node: &Node, served_before: u64, served: u64) -> bool {
        let served_then = if self.is_refusal { served_before } else { served };
        !self.conclusive && node.served() > served_then
    }
}
