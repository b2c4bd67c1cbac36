//! Decides whether a server may take the place of the primary: the server has the data that the sessions of this
//! process may have written or read, or the caller accepts the loss.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{SwapOptions, probe};
use crate::{
    Error,
    error::Kind,
    telemetry,
    topology::{Lane, Lsn, Member, Position, Positions, Reported},
};

/// Compares a new primary with the positions of the present one.
///
/// # Errors
/// The new primary belongs to another cluster, or is known to lack data, and the caller does not accept that.
pub(super) async fn check(
    new: &Member,
    must_have: &[Arc<Position>],
    options: SwapOptions,
    timeout: Duration,
) -> Result<(), Error> {
    if new.settings.positions == Positions::Off || must_have.is_empty() {
        return Ok(());
    }
    let Some(Reported::At(position)) = new.observed.as_ref().map(|observed| &observed.position) else {
        telemetry::primary_not_compared(new.name());
        return Ok(());
    };
    let node = || new.name().to_owned();
    if let Some(ours) = of_another_cluster(position, must_have) {
        if options.accept_other_cluster {
            return Ok(());
        }
        return Err(Error::new(Kind::OtherCluster { node: node(), theirs: position.history(), ours: ours.history() }));
    }
    let mut recovered_to = None;
    if must_have.iter().any(|target| position.has(target, None).is_none()) {
        recovered_to = end_of_recovery(new, timeout).await;
    }
    let verdicts = || must_have.iter().map(|target| (target, position.has(target, recovered_to)));
    if let Some((target, _)) = verdicts().find(|(_, has)| *has == Some(false)) {
        let missing = missing(position, target, recovered_to);
        if !options.accept_lost_writes {
            return Err(Error::new(Kind::WouldLose { node: node(), missing }));
        }
        telemetry::writes_given_up(new.name(), missing);
    } else if verdicts().any(|(_, has)| has.is_none()) {
        telemetry::primary_not_compared(new.name());
    }
    Ok(())
}

/// One of our positions, if the new primary at `position` belongs to another cluster. Our positions are of one cluster, and
/// those of MariaDB replicas lack the history, so one that shares a transaction with the new primary is enough.
fn of_another_cluster<'a>(position: &Position, ours: &'a [Arc<Position>]) -> Option<&'a Arc<Position>> {
    ours.first().filter(|_| ours.iter().all(|ours| position.is_foreign_to(ours)))
}

/// The end of a promoted server's last recovery: until that position the server has the log of the earlier primary.
/// `None` where the server does not tell the end, as after a restart.
async fn end_of_recovery(new: &Member, timeout: Duration) -> Option<Lsn> {
    let driver = new.node.driver(Lane::Read);
    let question = probe::recovery_question(driver.backend())?;
    let asking = async { driver.open_probe()?.await.ok()?.ask(question).await.ok() };
    let row = time::timeout(timeout, asking).await.ok()??;
    probe::read_recovery(&row)
}

/// Describes the part of the position that a server lacks.
fn missing(at: &Position, target: &Position, recovered_to: Option<Lsn>) -> String {
    let (has, target_shown) = (at.shown(), target.shown());
    match (at, target, recovered_to) {
        (Position::Wal(at), Position::Wal(target), Some(end)) if at.timeline > target.timeline => format!(
            "{} bytes of log, because it was promoted at {end} and the primary was at {target_shown}",
            target.lsn.0.saturating_sub(end.0)
        ),
        (Position::Wal(at), Position::Wal(target), _) => format!(
            "{} bytes of log, because it is at {has} and the primary was at {target_shown}",
            target.lsn.0.saturating_sub(at.lsn.0)
        ),
        _ => format!("it is at {has}, and the primary was at {target_shown}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::DomainPositions;

    fn domains(last: &str, history: &str) -> Arc<Position> {
        let last: DomainPositions = last.parse().expect("a list");
        Arc::new(Position::Domains(last.with_history(history).expect("a history")))
    }

    #[test]
    fn a_replica_without_its_history_makes_no_server_foreign() {
        // After a failover from server 1 to server 2; the new primary has nothing of server 2 yet.
        let behind = domains("0-1-1", "0-1-1");
        let (primary, replica) = (domains("0-2-10", "0-1-7,0-2-10"), domains("0-2-10", ""));
        let foreign = |ours: &[Arc<Position>]| of_another_cluster(&behind, ours).is_some();
        assert!(!foreign(&[Arc::clone(&primary), Arc::clone(&replica)]));
        assert!(!foreign(&[]));
        let other = domains("0-9-10", "0-9-10");
        assert!(foreign(&[Arc::clone(&other), other]));
    }
}
