//! Opens nodes and asks each for a first answer, all at the same time.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::{Either, join_all, pending, select};
use sea_orm::{ConnAcquireErr, DbErr};
use tokio::time;

use super::{
    probe::{self, Scope},
    prober::{self, QuestionPath},
};
use crate::{
    Error,
    clock::Clock,
    config::NodePlan,
    driver::{Access, ConnectProbe, Driver, Fault, Opener, Pooling, Sessions},
    error::Kind,
    telemetry,
    topology::{Health, Lane, Lanes, Member, MemberSettings, Node, Observed, Positions, Role, RoleCheck, Tick},
};

/// The last part of a node's time, in which a pool that has not answered is asked for the reason too.
const REASON_PART: u32 = 4;

const NO_ANSWER: &str = "no answer";
const NO_READ_CONNECTION: &str = "no read connection";

/// The time between the first two questions to a node that did not answer; each further one is twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The time of the nodes to be opened and to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectLimits {
    pub(crate) each: Duration,
    /// A primary that may answer later is waited for so long. `None`: it has no more time than the others, and one
    /// refusal is enough.
    pub(crate) primary: Option<Duration>,
}

/// A node that was opened, and whether the node answered.
pub(crate) struct Opened {
    pub(crate) member: Member,
    /// Why the member is down.
    pub(crate) failure: Option<Error>,
}

/// The proof that the first answer of a node must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstAnswer {
    /// None: the nodes are taken to be up until a probe or an operation fails.
    NotAsked,
    /// Only that the read-write pool works, as SeaORM's own `connect` does.
    Alone,
    /// Role, incarnation, and that the sessions for reads are read-only.
    Full,
}

/// The time of one node, for all its steps together: each step has the time that the steps before left.
#[derive(Clone, Copy)]
struct Deadline {
    at: Tick,
    timeout: Duration,
    clock: Clock,
    after_refusal: AfterRefusal,
    /// How long one question beside the pool may take.
    question: Duration,
}

/// What a refusal that may pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterRefusal {
    /// The node is asked again.
    Again,
    /// The node is down.
    End,
}

impl Deadline {
    /// The time of a node that has to answer at once.
    fn start(timeout: Duration, clock: Clock) -> Self {
        let at = clock.now().after(timeout);
        Self { at, timeout, clock, after_refusal: AfterRefusal::End, question: Duration::MAX }
    }

    /// The time of a node in a seat.
    fn of_seat(role: Role, limits: ConnectLimits, clock: Clock) -> Self {
        match limits.primary {
            Some(timeout) if role == Role::Primary => Self {
                after_refusal: AfterRefusal::Again,
                question: limits.each.min(timeout),
                ..Self::start(timeout, clock)
            },
            _ => Self::start(limits.each, clock),
        }
    }

    fn left(&self) -> Duration {
        self.at.since(self.clock.now())
    }

    /// The message about a step that did not end in time.
    fn missed(&self, what: &str) -> String {
        format!("{what} within {:?}", self.timeout)
    }
}

/// Opens all nodes at once. Each node has its time to be opened and to answer, with all the steps of that; a node that
/// does not becomes a member that is down.
///
/// # Cancel safety
/// Nothing is published here; dropping the future closes the opened pools.
pub(crate) async fn connect_all(
    plans: Vec<NodePlan>,
    first: FirstAnswer,
    limits: ConnectLimits,
    clock: Clock,
) -> Result<Vec<Opened>, Error> {
    join_all(plans.into_iter().map(|plan| connect_one(plan, first, limits, clock))).await.into_iter().collect()
}

async fn connect_one(plan: NodePlan, first: FirstAnswer, limits: ConnectLimits, clock: Clock) -> Result<Opened, Error> {
    let name = Arc::clone(&plan.name);
    let deadline = Deadline::of_seat(plan.role, limits, clock);
    // Opening is lazy, but a user's `after_connect` may ask the database.
    let open = async || {
        let late = || Error::unreachable(&*plan.name, deadline.missed("it was not opened"));
        let opened = match plan.opener {
            // Adopting needs no time, and the caller perhaps has no runtime with a timer.
            Opener::Adopted(_) | Opener::Scripted(_) => open_lanes(&plan).await,
            _ => time::timeout(deadline.left(), open_lanes(&plan)).await.map_err(|_| late())?,
        };
        opened.map_err(|error| Error::unreachable(&*plan.name, Error::shown(&error)))
    };
    let node = open().await?;
    take_seat(&node, plan.role, &plan);
    let mut member = Member::new(node, plan.member.clone());
    if first == FirstAnswer::NotAsked {
        return Ok(Opened { member, failure: None });
    }
    let answered = ask(&member.node, plan.role, first, deadline).await;
    if plan.member.positions == Positions::On && is_behind_detected_proxy(&member.node) {
        // A connection says nothing about the server that answers next.
        let settings = MemberSettings { positions: Positions::Off, ..plan.member.clone() };
        member = Member::new(member.node, settings);
    }
    let failure = match answered {
        Ok(observed) => {
            if let Some(observed) = observed {
                member.introduce(observed);
            }
            None
        }
        Err(unanswered) => {
            let error = match unanswered {
                Unanswered::Failed(why) => Error::unreachable(&*name, why),
                Unanswered::NotReadOnly => Error::new(Kind::NotReadOnly { node: name.to_string() }),
                Unanswered::WithoutCredentials(error) => error,
            };
            member.health = Health::Down;
            member.failed_probes = 1;
            member.last_failure = Some(error.to_string().into());
            Some(error)
        }
    };
    Ok(Opened { member, failure })
}

/// Refuses the primary's seat to a node that reports the role of a replica.
pub(crate) fn check_role(name: &str, role: Role, check: RoleCheck, observed: Option<&Observed>) -> Result<(), Error> {
    let says_replica = observed.is_some_and(|observed| observed.role == Role::Replica);
    if role == Role::Primary && check == RoleCheck::On && says_replica {
        return Err(Error::new(Kind::PromoteFirst { node: name.to_owned() }));
    }
    Ok(())
}

/// Bounds the reads of a node by the seat that it takes.
pub(super) fn take_seat(node: &Node, role: Role, plan: &NodePlan) {
    node.limit_reads(match role {
        Role::Primary => Some(plan.primary_reads),
        Role::Replica => plan.replica_reads,
    });
}

/// Asks a member that is to take another seat for its identity and position.
pub(super) async fn ask_present(
    node: &Node,
    role: Role,
    timeout: Duration,
    clock: Clock,
) -> Result<Option<Observed>, Error> {
    let why = match ask(node, role, FirstAnswer::Full, Deadline::start(timeout, clock)).await {
        Ok(observed) => return Ok(observed),
        Err(Unanswered::Failed(why)) => why,
        Err(Unanswered::NotReadOnly) => return Err(Error::new(Kind::NotReadOnly { node: node.name().to_owned() })),
        Err(Unanswered::WithoutCredentials(error)) => return Err(error),
    };
    Err(Error::unreachable(node.name(), why))
}

async fn open_lanes(plan: &NodePlan) -> Result<Arc<Node>, DbErr> {
    let backend = plan.opener.backend();
    let may_be_greeted = plan.member.positions == Positions::On && plan.pooling == Pooling::None;
    let connect_probe = probe::question(backend, Scope::Position).filter(|_| may_be_greeted).map(ConnectProbe::new);
    let sessions = Sessions::new(backend, plan.pooling);
    let name = Arc::clone(&plan.name);
    sessions.on_loss(move |how| telemetry::settings_lost(&name, how));
    let credentials = plan.credentials.as_ref();
    if let Some(credentials) = credentials {
        let name = Arc::clone(&plan.name);
        credentials.on_event(move |event| telemetry::credentials(&name, event));
    }
    let open =
        async |lane, access| plan.opener.open(lane, access, &sessions, credentials, connect_probe.as_ref()).await;
    let write = open(&plan.write, Access::Full).await?;
    // A database in the memory of one connection has no second pool.
    let read = if plan.in_memory { Arc::clone(&write) } else { open(&plan.read, Access::ReadOnly).await? };
    Ok(Arc::new(Node::new(Arc::clone(&plan.name), plan.identity.clone(), Lanes { write, read }, connect_probe)))
}

enum Unanswered {
    Failed(String),
    NotReadOnly,
    WithoutCredentials(Error),
}

impl From<DbErr> for Unanswered {
    fn from(error: DbErr) -> Self {
        match Error::from_db_err(&error) {
            Some(ours) if ours.is_credentials() => Self::WithoutCredentials(ours.clone()),
            _ => Self::Failed(Error::shown(&error)),
        }
    }
}

/// Whether a proxy in front of the node refused or ignored a setting.
pub(super) fn is_behind_detected_proxy(node: &Node) -> bool {
    node.driver(Lane::Read).sessions().is_some_and(|sessions| sessions.pooling() == Pooling::Detected)
}

async fn ask(
    node: &Node,
    configured: Role,
    first: FirstAnswer,
    deadline: Deadline,
) -> Result<Option<Observed>, Unanswered> {
    if first == FirstAnswer::Alone {
        return ask_alone(&*node.driver(Lane::Write), deadline).await.map(|()| None);
    }
    let driver = node.driver(Lane::Read);
    let asked = deadline.clock.stamp();
    let path = QuestionPath::first(&*driver);
    let refusal = Mutex::new(None);
    let asking = async {
        if probe::can_be_asked(&*driver) {
            ask_until_answered(&*driver, path, configured, deadline, &refusal).await.map(Some)
        } else {
            driver.ping().await.map(|()| None)
        }
    };
    let answer = match path {
        QuestionPath::Pool => with_reason(&*driver, asking, deadline, NO_READ_CONNECTION).await?,
        QuestionPath::Link => match time::timeout(deadline.left(), asking).await {
            Ok(answered) => answered?,
            Err(_) => match refusal.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(refusal) => return Err(DbErr::into(refusal)),
                None => return Err(Unanswered::Failed(deadline.missed(NO_ANSWER))),
            },
        },
    };
    if driver.is_read_only() {
        match time::timeout(deadline.left(), probe::is_read_only(&*driver)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(Unanswered::NotReadOnly),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Unanswered::Failed(deadline.missed(NO_READ_CONNECTION))),
        }
    }
    Ok(answer.map(|answer| Observed {
        role: answer.role,
        incarnation: answer.incarnation.into(),
        position: answer.position,
        round_trip: deadline.clock.now().since(asked.at),
        asked,
    }))
}

/// Asks until the server answers, or refuses for good. A question without an answer proves nothing: the machine may be busy,
/// and a pool may give up long before the time of the node is over. `refusal` is the last reason, if the server gave one.
async fn ask_until_answered(
    driver: &dyn Driver,
    path: QuestionPath,
    configured: Role,
    deadline: Deadline,
    refusal: &Mutex<Option<DbErr>>,
) -> Result<probe::Answer, DbErr> {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let mut link = None;
        let asking = prober::ask_server(driver, path, &mut link, configured, Scope::Position);
        let answered = match path {
            // The pool has a limit of its own, and a login that takes long on a busy server is not begun again.
            QuestionPath::Pool => asking.await,
            QuestionPath::Link => match time::timeout(deadline.question, asking).await {
                Ok(answered) => answered,
                Err(_) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
            },
        };
        match answered {
            Ok((answer, _)) => return Ok(answer),
            Err(error) if deadline.after_refusal == AfterRefusal::Again && Fault::may_pass(&error) => {
                *refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            Err(error) if !Fault::is_late(&error) => return Err(error),
            Err(_) => {}
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Pings the pool.
async fn ask_alone(driver: &dyn Driver, deadline: Deadline) -> Result<(), Unanswered> {
    with_reason(driver, driver.ping(), deadline, NO_ANSWER).await
}

/// Asks over the pool. The pool silently keeps trying a server that refuses connections, so in the last part of the time
/// one separate connection is opened, only to learn the reason. `pool_fails` is the reason where the server takes it.
async fn with_reason<T>(
    driver: &dyn Driver,
    asking: impl Future<Output = Result<T, DbErr>>,
    deadline: Deadline,
    pool_fails: &str,
) -> Result<T, Unanswered> {
    let mut asking = pin!(asking);
    let alone = deadline.left().saturating_sub(deadline.timeout / REASON_PART);
    if let Ok(answered) = time::timeout(alone, &mut asking).await {
        return Ok(answered?);
    }
    let mut reason = None;
    let telling = async {
        if let Some(connecting) = driver.open_probe() {
            reason = Some(connecting.await.err());
        }
        // Only the pool's own answer counts, and that answer may still come.
        pending::<Infallible>().await
    };
    let answered = match time::timeout(deadline.left(), select(asking, pin!(telling))).await {
        Ok(Either::Left((answered, _))) => Some(answered),
        Ok(Either::Right((never, _))) => match never {},
        Err(_) => None,
    };
    match (answered, reason) {
        // The pool gave up as the time was over.
        (Some(Err(error)), Some(Some(reason))) if Fault::is_late(&error) => Err(reason.into()),
        (Some(answered), _) => Ok(answered?),
        (None, Some(Some(reason))) => Err(reason.into()),
        (None, Some(None)) => Err(Unanswered::Failed(deadline.missed(pool_fails))),
        (None, None) => Err(Unanswered::Failed(deadline.missed(NO_ANSWER))),
    }
}
