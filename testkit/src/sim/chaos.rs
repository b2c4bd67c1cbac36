//! What a test lets befall the servers of a cluster.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Cluster,
    server::{Delay, Process},
    state::State,
};

/// Which operations may fail, judging by what befell the servers while they ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Something befell the primary.
    pub on_primary: bool,
    /// How often something befell a server.
    pub troubles: usize,
}

/// How a replica is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The server, which is another incarnation from then on.
    Server,
    /// Its processes only: it keeps its name, and yet goes back in time.
    Processes,
}

impl Cluster {
    /// Does something to a server, and has everybody look again who waits for one.
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

    /// How many servers stand behind an address.
    ///
    /// # Panics
    /// When there is no such address.
    pub fn faces(&self, address: &str) -> usize {
        let state = self.shared.state();
        state.addresses[state.address(address)].servers.len()
    }

    /// The address of the server with a number, as reads return it.
    ///
    /// # Panics
    /// When no server has this number.
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

    /// From now on a replica takes from, and up to, so many milliseconds to replay a record.
    pub fn set_delay(&self, address: &str, from: u64, to: u64) {
        let server = self.server(address);
        self.change(|state| {
            state.servers[server].delay = Delay(from, to);
            let name = state.servers[server].name.clone();
            state.trace.note(move |f| write!(f, "{name} replays after {from}..{to} ms"));
        });
    }

    /// A replica replays nothing for a while.
    pub fn pause_replay(&self, address: &str, duration: Duration) {
        let server = self.server(address);
        self.change(|state| {
            state.server(server).hold(Instant::now() + duration);
            let name = state.servers[server].name.clone();
            state.trace.note(move |f| write!(f, "{name} replays nothing for {duration:?}"));
        });
    }

    /// The primary writes something that belongs to no commit.
    pub fn leave_tail(&self) {
        self.change(|state| {
            let primary = state.primary();
            if state.servers[primary].process == Process::Running {
                state.leave_tail(primary);
            }
        });
    }

    /// A server is alive, and silent, until it is [thawed](Self::thaw).
    pub fn freeze(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.server(server).process = Process::Frozen;
            state.begin_trouble(server, None);
            state.note(server, "is frozen");
        });
    }

    /// A frozen server goes on.
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

    /// Every connection to a server breaks, and it does not care.
    pub fn cut(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.cut(server);
            state.begin_trouble(server, Some(Instant::now()));
            state.note(server, "loses its connections");
        });
    }

    /// A replica is started again, and goes back in time for a while.
    pub fn restart_replica(&self, address: &str, how: Restart) {
        let server = self.server(address);
        self.change(|state| {
            state.go_back(server, how == Restart::Processes);
            state.note(server, if how == Restart::Processes { "crashes in its processes" } else { "restarts" });
        });
    }

    /// A server goes down. What a primary has not flushed is lost.
    pub fn stop(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.begin_trouble(server, None);
            state.stop(server);
            state.note(server, "is stopped");
        });
    }

    /// A stopped server comes back as another incarnation, in the role it had.
    pub fn start(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.start(server);
            state.end_troubles(server);
            state.note(server, "is started");
        });
    }

    /// A replica becomes the primary, on a timeline of its own: what it has not replayed is lost. The
    /// primary there was has to be stopped. Until [`failover_is_over`](Self::failover_is_over), the
    /// primary counts as in trouble.
    pub fn promote(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.promote(server);
            state.begin_trouble(server, None);
        });
    }

    /// Everybody knows the new primary.
    pub fn failover_is_over(&self) {
        self.change(State::end_troubles_of_primaries);
    }

    /// A replica goes on with the log of the present primary; when it has something that the primary has
    /// not, it is started again without it.
    pub fn follow(&self, address: &str) {
        let server = self.server(address);
        self.change(|state| {
            state.follow(server);
            state.note(server, "goes on with the primary's log");
        });
    }

    /// A stopped server, a former primary for example, comes back as a replica.
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

    /// Every frozen server goes on, and replay is fast everywhere.
    pub fn calm(&self) {
        for address in self.addresses() {
            self.thaw(&address);
        }
        self.change(State::calm);
    }

    /// Whether, since `from`, a server at an address went back in time without saying so.
    pub fn went_back_silently(&self, address: &str, from: Instant) -> bool {
        let state = self.shared.state();
        let servers = &state.addresses[state.address(address)].servers;
        state
            .troubles
            .iter()
            .any(|trouble| trouble.goes_back && trouble.from >= from && servers.contains(&trouble.server))
    }

    /// What befell servers between two instants, or lasts until then.
    pub fn weather(&self, from: Instant, to: Instant) -> Weather {
        let state = self.shared.state();
        let between = state
            .troubles
            .iter()
            .filter(|trouble| trouble.from <= to && trouble.until.is_none_or(|until| until >= from));
        between.fold(Weather::default(), |weather, trouble| Weather {
            on_primary: weather.on_primary || trouble.of_primary,
            troubles: weather.troubles + 1,
        })
    }
}
