//! Has the primary list the user functions of the database, so that a call of a function that only reads can
//! run on a replica.

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;
use tokio::time;

use super::{Writer, probe};
use crate::{
    driver::Driver,
    telemetry,
    topology::{Lane, NodeId, Tick, Topology},
};

/// How soon the list is asked for again when a function is called that the list lacks. Doubles while the answer brings
/// nothing new.
const SOONEST: Duration = Duration::from_secs(10);
/// How long a list is used: functions can be replaced by others of the same name.
const LONGEST: Duration = Duration::from_secs(600);

/// The time of the last question for the list, and the pause before the next.
#[derive(Debug)]
struct Functions {
    /// The primary that was asked, and the life of its server.
    asked: Option<(Tick, Life)>,
    pause: Duration,
}

type Life = (NodeId, Option<Arc<str>>);

/// Keeps the list for as long as the future is polled. The question takes time on a large catalogue, so it has a
/// connection of its own: on the prober's connection reads would wait for it.
pub(super) async fn keep(writer: &Writer) {
    let mut functions = Functions { asked: None, pause: SOONEST };
    let mut changes = writer.cell().changes();
    loop {
        changes.mark_unchanged();
        let topology = writer.cell().load_full();
        if functions.are_due(writer, &topology) {
            functions.ask(writer, &topology).await;
        }
        let _ = time::timeout(writer.settings.probe_interval.min(SOONEST), changes.changed()).await;
    }
}

fn life(topology: &Topology) -> Life {
    let primary = &topology.primary;
    (primary.node.id(), primary.observed.as_ref().map(|observed| Arc::clone(&observed.incarnation)))
}

impl Functions {
    fn are_due(&self, writer: &Writer, topology: &Topology) -> bool {
        let life = life(topology);
        if topology.is_single() || life.1.is_none() {
            return false;
        }
        match &self.asked {
            // A promoted or restored server can have other functions.
            Some((at, of)) if *of == life => {
                let age = writer.clock.now().since(*at);
                age >= LONGEST || (age >= self.pause && writer.router.take_missed())
            }
            _ => true,
        }
    }

    async fn ask(&mut self, writer: &Writer, topology: &Topology) {
        let driver = topology.primary.node.driver(Lane::Read);
        let Some(question) = probe::functions_question(driver.backend()) else { return };
        let life = life(topology);
        if self.asked.as_ref().is_none_or(|(_, of)| *of != life) {
            self.pause = SOONEST;
        }
        self.asked = Some((writer.clock.now(), life));
        // A list that brings nothing new, or does not come, is asked for half as often.
        let next_pause = self.pause.saturating_mul(2).min(LONGEST);
        let within = writer.settings.connect_timeout;
        let listing = match time::timeout(within, list(&*driver, question)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {within:?}")),
        };
        match listing {
            Ok(listing) if writer.router.learn(&listing) => {
                telemetry::functions_listed(listing.lines().count());
                self.pause = SOONEST;
            }
            Ok(_) => self.pause = next_pause,
            Err(error) => {
                telemetry::functions_not_listed(error);
                self.pause = next_pause;
            }
        }
    }
}

async fn list(driver: &dyn Driver, question: &'static str) -> Result<String, DbErr> {
    let row = if driver.keeps_first_connection() {
        driver.ask(question).await?
    } else {
        let Some(connecting) = driver.open_probe() else { return Ok(String::new()) };
        Some(connecting.await?.ask(question).await?)
    };
    row.map_or_else(|| Ok(String::new()), |row| probe::read_functions(&row))
}
