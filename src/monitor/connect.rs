//! Opens nodes and asks each for a first answer, all at the same time.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use sea_orm::{DbErr, RuntimeErr, sqlx};
use tokio::time;

use super::{
    probe::{self, Scope},
    prober,
};
use crate::{
    Error,
    clock::Clock,
    config::NodePlan,
    driver::{Access, Driver, Hello, Opener},
    error::Kind,
    telemetry,
    topology::{Health, Lane, Lanes, Member, MemberSettings, Node, Observed, Positions, Role},
};

/// A node that was opened, and whether it answered.
pub(crate) struct Opened {
    pub(crate) member: Member,
    /// Why the member is down.
    pub(crate) failure: Option<Error>,
}

/// What the first answer of a node has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstAnswer {
    /// Nothing: the nodes are taken to be up until somebody learns otherwise.
    NotAsked,
    /// Only that the read-write pool works, as SeaORM's own `connect` does.
    Alone,
    /// Role, incarnation, and that the sessions for reads are read-only.
    Full,
}

/// Opens all nodes at once. Each has until `timeout` to answer; one that does not is a member
/// that is down.
///
/// # Cancel safety
/// Nothing is published here; dropping the future closes what was opened.
pub(crate) async fn connect_all(
    plans: Vec<NodePlan>,
    first: FirstAnswer,
    timeout: Duration,
    clock: Clock,
) -> Result<Vec<Opened>, Error> {
    join_all(plans.into_iter().map(|plan| connect_one(plan, first, timeout, clock))).await.into_iter().collect()
}

async fn connect_one(plan: NodePlan, first: FirstAnswer, timeout: Duration, clock: Clock) -> Result<Opened, Error> {
    let name = Arc::clone(&plan.name);
    // Opening is lazy, but a user's `after_connect` may ask the database.
    let open = async |access| {
        let late = || Error::unreachable(&*plan.name, format!("it was not opened within {timeout:?}"));
        let opened = match plan.opener {
            // Needs no time, and perhaps has no runtime to measure it.
            Opener::Adopted(_) | Opener::Scripted(_) => open_lanes(&plan, access).await,
            _ => time::timeout(timeout, open_lanes(&plan, access)).await.map_err(|_| late())?,
        };
        opened.map_err(|error| Error::unreachable(&*plan.name, error))
    };
    let node = open(Access::ReadOnly).await?;
    let mut member = Member::new(node, plan.member.clone());
    if first == FirstAnswer::NotAsked {
        return Ok(Opened { member, failure: None });
    }
    let mut answered = ask(&member.node, plan.role, first, timeout, clock).await;
    if let Err(Unanswered::OptionRefused) = answered {
        telemetry::read_only_by_statement(&name);
        let node = open(Access::ReadOnlyByStatement).await?;
        // Behind a pooling proxy a connection says nothing about the server that answers next.
        member = Member::new(node, MemberSettings { positions: Positions::Off, ..plan.member.clone() });
        answered = ask(&member.node, plan.role, first, timeout, clock).await;
    }
    let failure = match answered {
        Ok(observed) => {
            member.observed = observed;
            None
        }
        Err(unanswered) => {
            let error = match unanswered {
                Unanswered::Failed(why) => Error::unreachable(&*name, why),
                Unanswered::NotReadOnly => Error::new(Kind::NotReadOnly { node: name.to_string() }),
                Unanswered::OptionRefused => Error::unreachable(&*name, "it refuses read-only sessions"),
            };
            member.health = Health::Down;
            member.failed_probes = 1;
            member.last_failure = Some(error.to_string().into());
            Some(error)
        }
    };
    Ok(Opened { member, failure })
}

async fn open_lanes(plan: &NodePlan, access: Access) -> Result<Arc<Node>, DbErr> {
    let write = plan.opener.open(&plan.write, Access::Full, None).await?;
    let may_be_greeted = plan.member.positions == Positions::On && access != Access::ReadOnlyByStatement;
    let hello = probe::question(plan.opener.backend(), Scope::Position).filter(|_| may_be_greeted).map(Hello::new);
    // What lives in one connection's memory has no second pool.
    let read =
        if plan.in_memory { Arc::clone(&write) } else { plan.opener.open(&plan.read, access, hello.as_ref()).await? };
    Ok(Arc::new(Node::new(Arc::clone(&plan.name), plan.identity.clone(), Lanes { write, read }, hello)))
}

enum Unanswered {
    Failed(String),
    NotReadOnly,
    /// A pooling proxy does not know the start-up option that makes sessions read-only.
    OptionRefused,
}

async fn ask(
    node: &Node,
    configured: Role,
    first: FirstAnswer,
    timeout: Duration,
    clock: Clock,
) -> Result<Option<Observed>, Unanswered> {
    if first == FirstAnswer::Alone {
        let driver = node.driver(Lane::Write);
        return match time::timeout(timeout, driver.ping()).await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(error)) => Err(Unanswered::Failed(error.to_string())),
            // The pool keeps trying a server that refuses; ask once more, for the reason only.
            Err(_) => Err(Unanswered::Failed(reason(&*driver, timeout).await)),
        };
    }
    let driver = node.driver(Lane::Read);
    let asked = clock.stamp();
    let asking = async {
        if !probe::can_be_asked(&*driver) {
            driver.ping().await?;
            return Ok(None);
        }
        prober::ask_server(&*driver, &mut None, configured, Scope::Position).await.map(|(answer, _)| Some(answer))
    };
    let answer = match time::timeout(timeout, asking).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if is_refused_option(&error) => return Err(Unanswered::OptionRefused),
        Ok(Err(error)) => return Err(Unanswered::Failed(error.to_string())),
        Err(_) => return Err(Unanswered::Failed(format!("no answer within {timeout:?}"))),
    };
    if driver.is_read_only() {
        match time::timeout(timeout, probe::is_read_only(&*driver)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(Unanswered::NotReadOnly),
            Ok(Err(error)) => return Err(Unanswered::Failed(error.to_string())),
            Err(_) => return Err(Unanswered::Failed(format!("no read connection within {timeout:?}"))),
        }
    }
    Ok(answer.map(|answer| Observed {
        role: answer.role,
        incarnation: answer.incarnation.into(),
        position: answer.position,
        round_trip: clock.now().since(asked.at),
        asked,
    }))
}

async fn reason(driver: &dyn Driver, timeout: Duration) -> String {
    let late = || format!("no answer within {timeout:?}");
    let Some(connecting) = driver.connect_probe() else { return late() };
    match time::timeout(timeout, connecting).await {
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(_)) | Err(_) => late(),
    }
}

/// PgBouncer answers a start-up option it does not know with `protocol_violation`.
fn is_refused_option(error: &DbErr) -> bool {
    let DbErr::Conn(RuntimeErr::SqlxError(error)) = error else { return false };
    match error.as_ref() {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "08P01"),
        _ => false,
    }
}
