//! The ailments of a server that goes on answering its probes, and the count of what they did to each read.

use std::time::Duration;

use sea_orm::DbErr;
use tokio::time::Instant;

use super::{Cluster, ReadId, state::State};
use crate::scripted::fault;

/// A trouble of a server that its probes do not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// The server refuses new connections; the open ones go on.
    Full,
    /// Each statement gets an internal error, with a code that no other server gives.
    FailsAlone,
    /// The server has not replayed the creation of the table yet. For replicas.
    LacksTable,
    /// Replay cancels each read. For replicas.
    CancelsReads,
    /// All connections of each pool are busy.
    Busy,
    /// The connection of each read breaks.
    Breaks,
}

/// The internal errors, one for each server.
const CODES: [&str; 6] = ["XX001", "XX002", "58030", "53100", "53200", "XX000"];

/// What the attempts at one read met.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    started: usize,
    answered: usize,
    /// The servers that gave an error which may be the statement's own.
    unsettled: Vec<usize>,
    lacked_table: bool,
    conflicts: usize,
}

impl Attempts {
    /// The attempts that ended without an answer of the server: the connection broke, or the node was taken for down.
    pub fn broken(&self) -> usize {
        self.started - self.answered - self.unsettled.len() - self.conflicts
    }

    /// Whether the read was attempted as often as a read may be.
    pub fn are_used_up(&self) -> bool {
        self.broken() + self.conflicts >= MOST_RUNS || self.unsettled.len() >= MOST_OPINIONS
    }

    /// Whether the primary alone may settle the read: the read met a conflict with replay or lacked a table.
    pub fn are_for_the_primary(&self) -> bool {
        self.conflicts > 0 || self.lacked_table
    }

    /// Whether another server than the first one was asked for its opinion.
    pub fn had_a_second_opinion(&self) -> bool {
        !self.unsettled.is_empty() && self.started > 1
    }
}

/// How often a read may run whose connections break.
const MOST_RUNS: usize = 3;

/// How many servers may say that an error is the statement's own.
const MOST_OPINIONS: usize = 2;

impl Cluster {
    /// Gives a server at an address an ailment for a while.
    ///
    /// # Panics
    /// The cluster has no such address.
    pub fn afflict(&self, address: &str, ailment: Ailment, duration: Duration) {
        let mut state = self.shared.state();
        let until = Instant::now() + duration;
        for server in state.addresses[state.address(address)].servers.clone() {
            state.servers[server].ailments.push((ailment, until));
            state.begin_trouble(server, Some(until));
            let name = state.servers[server].name.clone();
            state.trace.note(move |f| write!(f, "{name} has {ailment:?} for {duration:?}"));
        }
    }

    /// Whether a server at an address has an ailment now.
    ///
    /// # Panics
    /// The cluster has no such address.
    pub fn has(&self, address: &str, ailment: Ailment) -> bool {
        let state = self.shared.state();
        let servers = &state.addresses[state.address(address)].servers;
        servers.iter().any(|server| state.servers[*server].has(ailment))
    }

    /// What the attempts at a read met so far.
    pub fn attempts(&self, read: ReadId) -> Attempts {
        self.shared.state().reads[read as usize].clone()
    }

    /// How many attempts at reads were outrun by another one, and ended for that.
    pub fn lost_races(&self) -> u64 {
        self.shared.state().lost_races
    }

    /// Takes the list of what clients may never do and did: a write that ran twice, a read that ran without bound.
    pub fn take_offences(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().offences)
    }
}

impl State {
    fn offence(&mut self, what: String) {
        self.trace.note({
            let what = what.clone();
            move |f| write!(f, "OFFENCE: {what}")
        });
        self.offences.push(what);
    }

    /// An attempt at a read begins.
    pub(super) fn read_begins(&mut self, read: ReadId) {
        let attempts = &mut self.reads[read as usize];
        let runs = attempts.broken() + attempts.conflicts;
        attempts.started += 1;
        if runs >= MOST_RUNS {
            self.offence(format!("read {read} runs again after {runs} attempts without an answer"));
        }
    }

    /// An attempt at a read was answered with a row.
    pub(super) fn read_answered(&mut self, read: ReadId) {
        self.reads[read as usize].answered += 1;
    }

    /// A write reached a server.
    pub(super) fn write_arrives(&mut self, write: super::WriteId) {
        if self.arrived_writes.contains(&write) {
            self.offence(format!("write {write} runs a second time"));
        }
        self.arrived_writes.push(write);
    }

    /// Fails a statement as the server's ailments say.
    pub(super) fn try_statement(&mut self, server: usize, read: Option<ReadId>) -> Result<(), DbErr> {
        let has = |ailment| self.servers[server].has(ailment);
        let lacks_table = has(Ailment::LacksTable);
        if has(Ailment::FailsAlone) || lacks_table {
            let code = if lacks_table { "42P01" } else { CODES[server % CODES.len()] };
            if let Some(read) = read {
                let attempts = &mut self.reads[read as usize];
                attempts.lacked_table |= lacks_table;
                let is_asked_again = attempts.unsettled.contains(&server);
                attempts.unsettled.push(server);
                if is_asked_again || attempts.unsettled.len() > MOST_OPINIONS {
                    self.offence(format!("read {read} was sent once more to a server that had failed it"));
                }
            }
            self.note(server, "fails a statement");
            return Err(fault::server(code));
        }
        let Some(read) = read else { return Ok(()) };
        if has(Ailment::CancelsReads) {
            self.reads[read as usize].conflicts += 1;
            self.note(server, "cancels a read");
            return Err(fault::server("40001"));
        }
        if has(Ailment::Breaks) {
            self.note(server, "breaks a read's connection");
            return Err(fault::reset());
        }
        Ok(())
    }
}
