//! The state of a proxy at a moment, and the part of that state that concerns one of its connections.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

/// The state that a proxy was put into.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) mode: Mode,
    /// How late each chunk from the server to the client is.
    pub(crate) latency: Duration,
    /// Connections with smaller numbers are silent for good.
    pub(crate) abandoned_before: u64,
    /// Connections with smaller numbers end in the middle of their next answer.
    pub(crate) torn_before: u64,
    /// Counts the changes of the mode: a connection caught by one is not caught by the next.
    era: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Forward,
    Cut,
    /// Holds the bytes in these directions: of every connection, or only of those on which the client sends the
    /// given bytes, from these on.
    Hold {
        ways: Ways,
        from: Option<Arc<[u8]>>,
    },
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Request,
    Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ways {
    Requests,
    Answers,
    Both,
}

impl Ways {
    fn include(self, way: Way) -> bool {
        match self {
            Self::Requests => way == Way::Request,
            Self::Answers => way == Way::Answer,
            Self::Both => true,
        }
    }
}

impl Weather {
    pub(crate) fn turn(&mut self, mode: Mode) {
        self.mode = mode;
        self.era += 1;
    }
}

/// The view of one connection on the proxy's state.
#[derive(Clone, Debug)]
pub(crate) struct Sky {
    weather: watch::Receiver<Weather>,
    /// The number of the connection, counted from 0.
    number: u64,
    /// The era in which the client sent the bytes that the proxy waits for.
    caught_in: Arc<AtomicU64>,
    /// The number of held connections of the whole proxy.
    caught: Arc<AtomicU64>,
}

impl Sky {
    pub(crate) fn new(weather: watch::Receiver<Weather>, caught: Arc<AtomicU64>) -> Self {
        Self { weather, number: 0, caught_in: Arc::default(), caught }
    }

    /// The view of another connection of the proxy.
    pub(crate) fn of_connection(&self, number: u64) -> Self {
        Self { number, ..Self::new(self.weather.clone(), Arc::clone(&self.caught)) }
    }

    /// Whether the connection ends in the middle of the present answer.
    pub(crate) fn tears(&self) -> bool {
        self.number < self.weather.borrow().torn_before
    }

    pub(crate) fn latency(&self) -> Duration {
        self.weather.borrow().latency
    }

    /// Waits until connections are cut.
    pub(crate) async fn is_cut(&mut self) {
        let _gone = self.weather.wait_for(|weather| weather.mode == Mode::Cut).await;
    }

    /// Waits until a new connection may reach the server: the connection hangs only where everything is held.
    pub(crate) async fn admits(&mut self) -> io::Result<()> {
        let everything = Mode::Hold { ways: Ways::Both, from: None };
        self.until(|weather| weather.mode != everything).await
    }

    /// Looks at a client's bytes: they may be those that the proxy waits for.
    pub(crate) fn sees(&self, request: &[u8]) {
        let weather = self.weather.borrow();
        let Mode::Hold { from: Some(from), .. } = &weather.mode else { return };
        let is_it = !from.is_empty() && request.windows(from.len()).any(|window| window == &**from);
        if is_it && self.caught_in.swap(weather.era, Ordering::AcqRel) != weather.era {
            self.caught.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Waits until the connection's bytes may go this way.
    pub(crate) async fn opens(&mut self, way: Way) -> io::Result<()> {
        let (caught_in, number) = (Arc::clone(&self.caught_in), self.number);
        self.until(move |weather| match &weather.mode {
            _ if number < weather.abandoned_before => false,
            Mode::Forward => true,
            Mode::Cut => false,
            Mode::Hold { ways, from } => {
                !ways.include(way) || (from.is_some() && caught_in.load(Ordering::Acquire) != weather.era)
            }
        })
        .await
    }

    async fn until(&mut self, is_so: impl FnMut(&Weather) -> bool) -> io::Result<()> {
        self.weather.wait_for(is_so).await.map(drop).map_err(|_proxy_gone| io::ErrorKind::ConnectionAborted.into())
    }
}
