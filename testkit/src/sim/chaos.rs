//! The troubles that a test gives the servers of a cluster.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Cluster,
    server::{Delay, Process},
    state::{State, Trouble},
};

/// The operations that may fail, judging by the servers' troubles while they ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Whether the primary had a trouble.
    pub on_primary: bool,
    /// The number of troubles of any server.
    pub troubles: usize,
    /// Whether a process had its members changed.
    pub members_changed: bool,
}

/// The ways in which a replica is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The server restarts and has another incarnation from then on.
    Server,
    /// Only the processes of the server restart: its incarnation stays, and yet it goes back in time.
    Processes,
}

impl Cluster {
    /// Changes a server, and wakes every task that waits for a change.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.shared.state());
        self.shared.changed.notify_waiters();
        changed
    }

    fn server(&self, address: &str) -> usize {
        let state = self.shared.state();
        state.addresses[state.address(address)].servers[0]
    }

    /// The addresses, the first primary's first.
    pub fn addresses(&self) -> Vec<String> {
        self.shared.state().addresses.iter().map(|address| address.name.clone()).collect()
    }

    /// The number of servers behind an address.
    ///
    /// # Panics
    /// The cluster has no such address.
    pub fn faces(&self, address: &str) -> usize {
        let state = self.shared.state();
        state.addresses[state.address(address)].servers.len()
    }

    /// The address of the server with a number, as reads return it.
    ///
    /// # Panics
    /// No server has this number.
    pub fn address_of(&self, number: i64) -> String {
        let state = self.shared.state();
        let is_it = |server: &usize| i64::from(state.servers[*server].number) == number;
        let found = state.addresses.iter().find(|address| address.servers.iter().any(is_it));
        found.expect("reads come from servers that exist").name.clone()
    }

    /// The address of the server that takes writes.
    pub fn primary(&self) -> String {
        let number = {
            let state = self.shared.state();
            i64::from(state.servers[state.primary()].number)
        };
        self.address_of(number)
    }

    /// Sets the time, between `from` and `to` milliseconds, that a replica takes to replay a record from now on.
    pub fn set_delay(&self, address: &str, from: u64, to: u64) {
        let server = self.server(address);
        self.change(|state| {
            state.servers[server].delay = Delay(from, to);
            let name = state.servers[server].name.clone();
            state.trace.note(move |f| write!(f, "{name} replays after {from}..{to} ms"));
        });
    }

    /// Pauses a replica's replay for a while.
    pub fn pause_replay(&self, address: &str, duration: Duration) {
        let server = self.server(address);
        self.change(|state| {
            state.server(server).hold(Instant::now() + duration);
            let name = state.servers[server].name.clone();
            state.trace.note(move |f| write!(f, "{name} replays nothing for {duration:?}"));
        });
    }

    /// Lets the primary write a record that belongs to no commit.
    pub fn leave_tail(&self) {
        self.change(|state| {
            let primary = state.primary();
            if state.servers[primary].process == Process::Running {
                state.leave_tail(primary);
            }
        });
    }

    /// Freezes a server, which lives and answers nothing until it is [thawed](Self::thaw).
    pub fn freeze(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.server(server).process = Process::Frozen;
            state.begin_trouble(server, None);
            state.note(server, "is frozen");
        });
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            if state.servers[server].process == Process::Frozen {
                state.servers[server].process = Process::Running;
                let soon = Instant::now() + state.dice.millis(0, 300);
                state.servers[server].hold(soon);
                state.end_troubles(server);
                state.note(server, "goes on");
            }
        });
    }

    /// Breaks every connection to a server, which keeps running.
    pub fn cut(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.cut(server);
            state.begin_trouble(server, Some(Instant::now()));
            state.note(server, "loses its connections");
        });
    }

    /// Restarts a replica, which goes back in time for a while.
    pub fn restart_replica(&self, address: &str, how: Restart) {
        let server = self.server(address);
        self.change(|state| {
            state.go_back(server, how == Restart::Processes);
            state.note(server, if how == Restart::Processes { "crashes in its processes" } else { "restarts" });
        });
    }

    /// Stops a server. Records that a primary has not flushed are lost.
    pub fn stop(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.begin_trouble(server, None);
            state.stop(server);
            state.note(server, "is stopped");
        });
    }

    /// Starts a stopped server as another incarnation, in its former role.
    pub fn start(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.start(server);
            state.end_troubles(server);
            state.note(server, "is started");
        });
    }

    /// Makes a replica the primary, on a timeline of its own: records that it has not replayed are lost. The former
    /// primary has to be stopped. Until [`failover_is_over`](Self::failover_is_over), the primary counts as in
    /// trouble.
    pub fn promote(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.promote(server);
            state.begin_trouble(server, None);
        });
    }

    /// Declares that every process knows the new primary.
    pub fn failover_is_over(&self) {
        self.change(State::end_troubles_of_primaries);
    }

    /// Lets a replica go on with the log of the present primary. A replica with records that the primary lacks is
    /// started again without them.
    pub fn follow(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.follow(server);
            state.note(server, "goes on with the primary's log");
        });
    }

    /// Lets a stopped server, for example a former primary, come back as a replica.
    pub fn rejoin(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.start(server);
            state.follow(server);
            state.end_troubles(server);
            state.note(server, "is back as a replica");
        });
    }

    /// Whether a server answers.
    pub fn is_running(&self, address: &str) -> bool {
        let server = self.server(address);
        self.shared.state().servers[server].process == Process::Running
    }

    /// Whether a server answers, and has the log of the present primary.
    pub fn is_with_primary(&self, address: &str) -> bool {
        let server = self.server(address);
        let mut state = self.shared.state();
        let primary = state.primary();
        let timeline = state.servers[primary].timeline;
        let server = state.server(server);
        server.process == Process::Running && server.timeline == timeline
    }

    /// Thaws every frozen server, and makes replay fast everywhere.
    pub fn calm(&self) {
        for address in self.addresses() {
            self.thaw(&address);
        }
        self.change(State::calm);
    }

    /// Whether, since `from`, a server at an address went back in time and kept its incarnation.
    pub fn went_back_silently(&self, address: &str, from: Instant) -> bool {
        let state = self.shared.state();
        let servers = &state.addresses[state.address(address)].servers;
        state
            .troubles
            .iter()
            .any(|trouble| trouble.goes_back && trouble.from >= from && servers.contains(&trouble.server))
    }

    /// The troubles of servers between two instants, or that last until then.
    pub fn weather(&self, from: Instant, to: Instant) -> Weather {
        let state = self.shared.state();
        let between = state
            .troubles
            .iter()
            .filter(|trouble| trouble.from <= to && trouble.until.is_none_or(|until| until >= from));
        let members_changed =
            state.member_changes.iter().any(|(begin, end)| *begin <= to && end.is_none_or(|end| end >= from));
        between.fold(Weather { members_changed, ..Weather::default() }, |weather, trouble| Weather {
            on_primary: weather.on_primary || trouble.of_primary,
            troubles: weather.troubles + 1,
            ..weather
        })
    }

    /// Declares that a process is going to have other members until [`members_changed`](Self::members_changed).
    pub fn members_change(&self) {
        self.shared.state().member_changes.push((Instant::now(), None));
    }

    /// Declares the end of a change of members.
    pub fn members_changed(&self) {
        if let Some(change) = self.shared.state().member_changes.last_mut() {
            change.1 = Some(Instant::now());
        }
    }

    /// Whether a server at an address had a trouble between two instants, or has one now.
    ///
    /// # Panics
    /// The cluster has no such address.
    pub fn was_well(&self, address: &str, from: Instant, to: Instant) -> bool {
        let state = self.shared.state();
        let servers = &state.addresses[state.address(address)].servers;
        let is_between = |trouble: &Trouble| trouble.from <= to && trouble.until.is_none_or(|until| until >= from);
        servers.iter().all(|server| state.servers[*server].process == Process::Running)
            && !state.troubles.iter().any(|trouble| servers.contains(&trouble.server) && is_between(trouble))
    }
}
