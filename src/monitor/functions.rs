//! Has the primary list the user functions of the database, so that a call of one that only reads can
//! run on a replica.

use std::time::Duration;

use tokio::time;

use super::{Writer, probe};
use crate::{driver::ProbeLink, telemetry, topology::Tick};

/// How soon the list is asked for again when a function is called that it does not have. Doubles while
/// that brings nothing new.
const SOONEST: Duration = Duration::from_secs(10);
/// How long a list is used: functions can be replaced by others of the same name.
const LONGEST: Duration = Duration::from_secs(600);

/// When the list was asked for, and when it may be asked for again.
#[derive(Debug)]
pub(super) struct Functions {
    asked: Option<Tick>,
    pause: Duration,
}

impl Functions {
    pub(super) fn new() -> Self {
        Self { asked: None, pause: SOONEST }
    }

    /// Whether the list should be asked for now. The caller asks the primary only.
    pub(super) fn are_due(&self, writer: &Writer, now: Tick) -> bool {
        let Some(asked) = self.asked else { return true };
        let age = now.since(asked);
        age >= LONGEST || (age >= self.pause && writer.judge.take_missed())
    }

    /// Asks for the list. `false` when there was no answer: the connection cannot be used again then.
    pub(super) async fn ask(&mut self, link: &mut dyn ProbeLink, question: &'static str, writer: &Writer) -> bool {
        self.asked = Some(writer.clock.now());
        // A list that brings nothing new, or does not come, is asked for half as often.
        let next_pause = self.pause.saturating_mul(2).min(LONGEST);
        let within = writer.settings.connect_timeout;
        let listing = match time::timeout(within, link.ask(question)).await {
            Ok(answer) => answer.and_then(|row| probe::read_functions(&row)).map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {within:?}")),
        };
        match listing {
            Ok(listing) if writer.judge.learn(&listing) => {
                telemetry::functions_listed(listing.lines().count());
                self.pause = SOONEST;
                true
            }
            Ok(_) => {
                self.pause = next_pause;
                true
            }
            Err(error) => {
                telemetry::functions_not_listed(error);
                self.pause = next_pause;
                false
            }
        }
    }
}
