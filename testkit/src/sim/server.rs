//! One model server: the records that it has replayed, and whether it answers.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    Ailment, Dice, KEYS, WriteId,
    log::{Timeline, What},
};

/// Whether a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    Running,
    /// The process lives and answers nothing.
    Frozen,
    /// No process listens.
    Stopped,
}

/// The time that a replica takes to replay a record, between so many milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay(pub(super) u64, pub(super) u64);

#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) number: u32,
    /// The incarnation names the life.
    pub(super) life: u64,
    /// Connections of an earlier epoch are broken.
    pub(super) epoch: u64,
    pub(super) process: Process,
    pub(super) is_primary: bool,
    /// The index of the server's timeline.
    pub(super) timeline: usize,
    /// The number of the timeline's records that are replayed.
    pub(super) applied: usize,
    /// For each key the write that a read sees.
    pub(super) visible: [WriteId; KEYS],
    /// The instant at which each of the records after those is replayed, if nothing delays it.
    due: VecDeque<Instant>,
    /// Replay is paused until then.
    held_until: Instant,
    pub(super) delay: Delay,
    /// The server reports this timeline until then, though it is on a later one.
    pub(super) says: Option<(u32, Instant)>,
    /// The ailments, each until an instant.
    pub(super) ailments: Vec<(Ailment, Instant)>,
}

impl Server {
    pub(super) fn new(name: String, number: u32, is_primary: bool, now: Instant) -> Self {
        Self {
            name,
            number,
            life: 1,
            epoch: 0,
            process: Process::Running,
            is_primary,
            timeline: 0,
            applied: 0,
            visible: [0; KEYS],
            due: VecDeque::new(),
            held_until: now,
            delay: Delay(0, 5),
            says: None,
            ailments: Vec::new(),
        }
    }

    /// Names this life of this server.
    pub(super) fn incarnation(&self) -> String {
        format!("{}@{}", self.number, self.life)
    }

    /// Whether the server has an ailment now.
    pub(super) fn has(&self, ailment: Ailment) -> bool {
        self.ailments.iter().any(|(has, until)| *has == ailment && Instant::now() < *until)
    }

    /// Receives a record that was appended to the server's timeline, when the record is flushed.
    pub(super) fn receive(&mut self, flushed_at: Instant, dice: &mut Dice) {
        let due = flushed_at + dice.millis(self.delay.0, self.delay.1.max(self.delay.0 + 1));
        self.due.push_back(due);
    }

    /// Replays the records that are due.
    pub(super) fn settle(&mut self, timeline: &Timeline, now: Instant) {
        if self.is_primary {
            self.replay_to(timeline, timeline.records.len());
            return;
        }
        if self.process != Process::Running || now < self.held_until {
            return;
        }
        let due = self.due.iter().take_while(|due| **due <= now).count();
        self.due.drain(..due);
        self.replay_to(timeline, self.applied + due);
    }

    fn replay_to(&mut self, timeline: &Timeline, applied: usize) {
        for record in &timeline.records[self.applied..applied] {
            if let What::Commit(writes) = &record.what {
                for (key, write) in writes {
                    self.visible[*key] = *write;
                }
            }
        }
        self.applied = applied;
    }

    /// Pauses replay until `until`.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(until);
    }

    /// Ends every pause of replay.
    pub(super) fn release(&mut self, now: Instant) {
        self.held_until = now;
    }

    /// Puts the server at the place after the first `applied` records of a timeline. From there the server replays
    /// the rest, one record after the other, after the time `after`.
    pub(super) fn put(&mut self, timeline: &Timeline, applied: usize, after: Duration, now: Instant) {
        self.applied = 0;
        self.visible = [0; KEYS];
        self.replay_to(timeline, applied);
        let mut at = now + after;
        self.due.clear();
        for (index, record) in timeline.records[applied..].iter().enumerate() {
            if index % 4 == 3 {
                at += Duration::from_millis(1);
            }
            self.due.push_back(at.max(record.flushed_at));
        }
    }

    /// Forgets the records after the first `kept` of the server's timeline.
    pub(super) fn forget_after(&mut self, kept: usize) {
        self.due.truncate(kept - self.applied);
    }
}
