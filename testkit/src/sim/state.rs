//! The cluster itself: its servers, its log, and their troubles. All of the state is behind one lock that is never
//! held across an `.await`.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Attempts, Dice, KEYS, ReadId, Shape, WriteId,
    log::{Layout, Lsn, Timeline, What},
    position::{self, Dialect, Kind},
    server::{Delay, Process, Server},
    trace::Trace,
};
use crate::scripted::Row;

/// A write that was committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    /// Commits count from 1, in the order in which they happened.
    pub(super) order: u64,
    pub(super) at: Instant,
    /// A failover or a crash lost it.
    pub(super) lost: bool,
}

/// A trouble that can make an operation fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) server: usize,
    pub(super) of_primary: bool,
    pub(super) from: Instant,
    /// `None` while the trouble lasts.
    pub(super) until: Option<Instant>,
    /// The server goes back in time, and keeps its incarnation.
    pub(super) goes_back: bool,
}

/// One or more servers, which connections to the address reach in turn.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) name: String,
    pub(super) servers: Vec<usize>,
    turn: usize,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) dice: Dice,
    pub(super) kind: Kind,
    /// Whether a commit waits until it is flushed.
    synchronous: bool,
    pub(super) servers: Vec<Server>,
    pub(super) addresses: Vec<Address>,
    timelines: Vec<Timeline>,
    /// The commits, by [`WriteId`].
    writes: Vec<Option<Commit>>,
    /// The writes of each key, in the order of their commits.
    of_key: [Vec<WriteId>; KEYS],
    commits: u64,
    /// What the attempts at each read met, by [`ReadId`].
    pub(super) reads: Vec<Attempts>,
    /// The writes that reached a server.
    pub(super) arrived_writes: Vec<WriteId>,
    /// What clients may never do and did.
    pub(super) offences: Vec<String>,
    /// How many attempts at reads were outrun by another one.
    pub(super) lost_races: u64,
    pub(super) troubles: Vec<Trouble>,
    /// When the members of a process were changed.
    pub(super) member_changes: Vec<(Instant, Option<Instant>)>,
    pub(super) trace: Trace,
    /// Whether the servers' answers to probers are part of the trace.
    pub(super) notes_probes: bool,
}

/// A physical connection to one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) server: usize,
    /// The epoch of the server in which the connection was opened.
    epoch: u64,
    /// The server's life, and the number of its stops in that life.
    life: u64,
}

impl State {
    pub(super) fn new(shape: &Shape, mut dice: Dice) -> Self {
        let now = Instant::now();
        let kind = Kind {
            dialect: shape.dialect,
            layout: Layout::random(&mut dice),
            system: 7_000_000_000_000_000_000 + dice.below(1_000_000_000),
            logs_replay: dice.percent(50),
        };
        let base = match dice.below(3) {
            0 => 0x0306_EE20,
            1 => 0xFFFF_E000, // the position crosses 32 bits soon
            _ => 0xA_1234_5678,
        };
        let mut state = Self {
            kind,
            synchronous: shape.dialect != Dialect::Postgres || dice.percent(60),
            servers: Vec::new(),
            addresses: Vec::new(),
            timelines: vec![Timeline::new(Lsn(base), 1)],
            writes: vec![None],
            of_key: Default::default(),
            commits: 0,
            reads: Vec::new(),
            arrived_writes: Vec::new(),
            offences: Vec::new(),
            lost_races: 0,
            troubles: Vec::new(),
            member_changes: Vec::new(),
            trace: Trace::new(),
            notes_probes: false,
            dice,
        };
        for (index, faces) in std::iter::once(&1).chain(&shape.replicas).enumerate() {
            let name = format!("n{index}");
            let servers = (0..*faces).map(|face| {
                let number = state.servers.len();
                let server_name = if *faces == 1 { name.clone() } else { format!("{name}/{face}") };
                #[expect(clippy::cast_possible_truncation, reason = "a handful of servers")]
                state.servers.push(Server::new(server_name, number as u32 + 1, index == 0, now));
                number
            });
            let servers = servers.collect();
            state.addresses.push(Address { name, servers, turn: 0 });
        }
        // A server without any transaction has no GTIDs.
        state.append(0, What::Commit(Vec::new()), now);
        for index in 0..state.servers.len() {
            state.move_to(index, 0, 1, Duration::ZERO);
        }
        state
    }

    // --- servers -------------------------------------------------------------------------------

    /// The server, after it replayed every record that is due.
    pub(super) fn server(&mut self, index: usize) -> &mut Server {
        let timeline = &self.timelines[self.servers[index].timeline];
        self.servers[index].settle(timeline, Instant::now());
        &mut self.servers[index]
    }

    pub(super) fn timeline(&self, server: usize) -> &Timeline {
        &self.timelines[self.servers[server].timeline]
    }

    /// The address with this name.
    ///
    /// # Panics
    /// The cluster has no such address.
    pub(super) fn address(&self, name: &str) -> usize {
        self.addresses.iter().position(|address| address.name == name).expect("the simulation has such an address")
    }

    /// The server that the next connection to an address reaches.
    pub(super) fn next_server(&mut self, address: usize) -> usize {
        let address = &mut self.addresses[address];
        address.turn += 1;
        address.servers[address.turn % address.servers.len()]
    }

    pub(super) fn open(&self, server: usize) -> Connection {
        let Server { epoch, life, .. } = self.servers[server];
        Connection { server, epoch, life }
    }

    pub(super) fn is_broken(&self, connection: &Connection) -> bool {
        self.servers[connection.server].epoch != connection.epoch
    }

    /// Whether a statement that was sent over a connection can still run though the connection broke.
    pub(super) fn still_runs(&self, connection: &Connection) -> bool {
        let server = &self.servers[connection.server];
        server.life == connection.life && server.process == Process::Running && server.is_primary
    }

    /// The server's answer to the prober's question.
    pub(super) fn answer(&mut self, index: usize) -> Row {
        let now = Instant::now();
        self.server(index);
        let server = &self.servers[index];
        let timeline = self.timeline(index);
        let said = match server.says {
            Some((number, until)) if now < until => number,
            _ => timeline.number,
        };
        let row = position::answer(self.kind, server, timeline, said);
        if self.notes_probes {
            let (name, shown) = (server.name.clone(), row.clone());
            self.trace.note(move |f| write!(f, "{name} is asked: {shown:?}"));
        }
        row
    }

    // --- writes --------------------------------------------------------------------------------

    pub(super) fn new_write(&mut self) -> WriteId {
        self.writes.push(None);
        WriteId::try_from(self.writes.len() - 1).expect("a simulation has few writes")
    }

    pub(super) fn new_read(&mut self) -> ReadId {
        self.reads.push(Attempts::default());
        ReadId::try_from(self.reads.len() - 1).expect("a simulation has few reads")
    }

    pub(super) fn commit_of(&self, write: WriteId) -> Option<Commit> {
        self.writes[write as usize]
    }

    /// Makes writes visible on the primary, all at once.
    pub(super) fn commit(&mut self, server: usize, writes: &[(usize, WriteId)]) {
        let now = Instant::now();
        self.commits += 1;
        for (key, write) in writes {
            self.writes[*write as usize] = Some(Commit { order: self.commits, at: now, lost: false });
            self.of_key[*key].push(*write);
        }
        let flushed_at = if self.synchronous { now } else { now + self.dice.millis(0, 200) };
        self.append(server, What::Commit(writes.to_vec()), flushed_at);
        let (name, shown) = (self.servers[server].name.clone(), writes.to_vec());
        self.trace.note(move |f| write!(f, "{name} commits {shown:?}"));
    }

    /// Writes a record into the log that belongs to no commit, and that reaches the replicas later.
    pub(super) fn leave_tail(&mut self, server: usize) {
        let flushed_at = Instant::now() + self.dice.millis(0, 200);
        self.append(server, What::Other, flushed_at);
    }

    fn append(&mut self, server: usize, what: What, flushed_at: Instant) {
        let timeline = self.servers[server].timeline;
        let log = &mut self.timelines[timeline];
        // The log is flushed in its order.
        let flushed_at = log.records.last().map_or(flushed_at, |last| last.flushed_at.max(flushed_at));
        log.append(what, flushed_at, self.kind.layout, &mut self.dice);
        for replica in self.servers.iter_mut().filter(|server| server.timeline == timeline && !server.is_primary) {
            replica.receive(flushed_at, &mut self.dice);
        }
    }

    /// The newest write of a key that was committed before `instant` and is not lost.
    pub(super) fn newest_before(&self, key: usize, instant: Instant) -> Option<WriteId> {
        let is_before = |commit: Commit| commit.at < instant && !commit.lost;
        self.of_key[key].iter().rev().copied().find(|write| self.commit_of(*write).is_some_and(is_before))
    }

    // --- troubles of servers --------------------------------------------------------------------

    pub(super) fn begin_trouble(&mut self, server: usize, until: Option<Instant>) {
        let of_primary = self.servers[server].is_primary;
        self.troubles.push(Trouble { server, of_primary, from: Instant::now(), until, goes_back: false });
    }

    pub(super) fn end_troubles(&mut self, server: usize) {
        let now = Instant::now();
        for trouble in self.troubles.iter_mut().filter(|trouble| trouble.server == server && trouble.until.is_none()) {
            trouble.until = Some(now);
        }
    }

    /// Ends the troubles of the primaries: the present primary answers, and its predecessor concerns no operation
    /// any more.
    pub(super) fn end_troubles_of_primaries(&mut self) {
        let now = Instant::now();
        for trouble in self.troubles.iter_mut().filter(|trouble| trouble.of_primary && trouble.until.is_none()) {
            trouble.until = Some(now);
        }
    }

    pub(super) fn note(&mut self, server: usize, what: &'static str) {
        let name = self.servers[server].name.clone();
        self.trace.note(move |f| write!(f, "{name} {what}"));
    }

    /// Breaks every connection to a server.
    pub(super) fn cut(&mut self, server: usize) {
        self.servers[server].epoch += 1;
    }

    /// Stops a server and breaks its connections. Records that were not flushed are lost.
    pub(super) fn stop(&mut self, index: usize) {
        self.server(index);
        self.servers[index].process = Process::Stopped;
        self.cut(index);
        if self.servers[index].is_primary {
            self.lose_what_is_not_flushed(index);
        }
    }

    fn lose_what_is_not_flushed(&mut self, index: usize) {
        let timeline = self.servers[index].timeline;
        let before = self.timelines[timeline].records.clone();
        let kept = self.timelines[timeline].crash(Instant::now());
        for record in &before[kept..] {
            self.lose(&record.what);
        }
        self.move_to(index, timeline, kept, Duration::ZERO);
        for replica in self.servers.iter_mut().filter(|server| server.timeline == timeline && !server.is_primary) {
            replica.forget_after(kept);
        }
    }

    fn lose(&mut self, what: &What) {
        let What::Commit(writes) = what else { return };
        for (_, write) in writes {
            if let Some(commit) = &mut self.writes[*write as usize] {
                commit.lost = true;
            }
            let write = *write;
            self.trace.note(move |f| write!(f, "write {write} is lost"));
        }
    }

    /// Starts a stopped server as another life, in its former role.
    pub(super) fn start(&mut self, index: usize) {
        self.servers[index].process = Process::Running;
        self.servers[index].life += 1;
    }

    /// Sets a replica back to a restart point, from which it replays after a while. `same_life` says whether its
    /// incarnation stays the same.
    pub(super) fn go_back(&mut self, index: usize, same_life: bool) {
        self.server(index);
        self.cut(index);
        let now = Instant::now();
        self.troubles.push(Trouble {
            server: index,
            of_primary: false,
            from: now,
            until: Some(now),
            goes_back: same_life,
        });
        let back = usize::try_from(self.dice.between(1, 16)).unwrap_or(1);
        let after = self.dice.millis(50, 1_500);
        let server = &mut self.servers[index];
        if !same_life {
            server.life += 1;
        }
        let (timeline, applied) = (server.timeline, server.applied.saturating_sub(back).max(1));
        self.move_to(index, timeline, applied, after);
    }

    fn move_to(&mut self, index: usize, timeline: usize, applied: usize, after: Duration) {
        let server = &mut self.servers[index];
        server.timeline = timeline;
        server.put(&self.timelines[timeline], applied, after, Instant::now());
    }

    /// Makes a replica the primary of a timeline of its own, without the records that it had not replayed.
    pub(super) fn promote(&mut self, index: usize) {
        self.server(index);
        let Server { timeline: old, applied, .. } = self.servers[index];
        let lost = self.timelines[old].records[applied..].to_vec();
        for record in &lost {
            self.lose(&record.what);
        }
        let highest = self.timelines.iter().map(|timeline| timeline.number).max().unwrap_or(1);
        // No server gives a number twice, not even one that was the primary before.
        let fork = self.timelines[old].fork(applied, highest + 1, highest + 1);
        self.timelines.push(fork);
        let timeline = self.timelines.len() - 1;
        for server in &mut self.servers {
            server.is_primary = false;
        }
        self.servers[index].is_primary = true;
        self.servers[index].says = None;
        self.servers[index].ailments.clear();
        self.move_to(index, timeline, applied, Duration::ZERO);
        self.append(index, What::Other, Instant::now());
        self.note(index, "is promoted");
    }

    /// Lets a replica go on with the log of the present primary. A replica that has records of its own loses them
    /// and becomes another life.
    pub(super) fn follow(&mut self, index: usize) {
        self.server(index);
        let primary = self.primary();
        let timeline = self.servers[primary].timeline;
        let own = &self.timelines[self.servers[index].timeline];
        let said = (own.number, Instant::now() + self.dice.millis(0, 3_000));
        let common = own.common(&self.timelines[timeline]);
        let server = &mut self.servers[index];
        let applied = server.applied;
        if applied > common {
            server.life += 1;
            self.cut(index);
        } else if server.timeline != timeline {
            server.says = Some(said);
        }
        let after = self.dice.millis(0, 50);
        self.move_to(index, timeline, applied.min(common), after);
    }

    /// The server that takes writes now.
    pub(super) fn primary(&self) -> usize {
        self.servers.iter().position(|server| server.is_primary).expect("a cluster has a primary")
    }

    /// Ends every delay of replicas of the present timeline.
    pub(super) fn calm(&mut self) {
        let now = Instant::now();
        for trouble in self.troubles.iter_mut().filter(|trouble| trouble.until.is_some_and(|until| until > now)) {
            trouble.until = Some(now);
        }
        for index in 0..self.servers.len() {
            self.server(index);
            let server = &mut self.servers[index];
            server.delay = Delay(0, 5);
            server.ailments.clear();
            server.release(now);
        }
    }
}
