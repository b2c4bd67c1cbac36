//! A loopback TCP proxy that misbehaves on demand.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    server::Server,
    weather::{Mode, Sky, Way, Ways, Weather},
};

/// A proxy between a client and a server on 127.0.0.1. Dropping the proxy closes every connection.
///
/// The proxy forwards until it is told to [`cut`](Self::cut) or to hold, and again from [`restore`](Self::restore)
/// on; the last call counts. Held bytes are kept in order and released by `restore`, not lost: connections stay
/// open meanwhile, and the other direction works.
///
/// ```no_run
/// # async fn example(server: &testkit::Server) -> anyhow::Result<()> {
/// let proxy = testkit::ChaosProxy::start(server.port()).await?;
/// let url = proxy.url(server); // a client connects here
/// proxy.hold_requests_from("COMMIT"); // a COMMIT never arrives, though its client has sent it,
/// proxy.hold_answers_from("COMMIT"); // or it happens and nobody hears of it,
/// proxy.restore(); // until now
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ChaosProxy {
    port: u16,
    weather: watch::Sender<Weather>,
    accepted: Arc<AtomicU64>,
    caught: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl ChaosProxy {
    /// Starts forwarding a port of its own to `target_port`, on the running tokio runtime.
    pub async fn start(target_port: u16) -> Result<Self> {
        Self::start_in_turn(&[target_port]).await
    }

    /// Starts forwarding a port of its own to several, each new connection to the next one: an address
    /// behind which more than one server answers.
    pub async fn start_in_turn(target_ports: &[u16]) -> Result<Self> {
        ensure!(!target_ports.is_empty(), "a proxy needs a port to forward to");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for the proxy")?;
        let port = listener.local_addr()?.port();
        let (weather, seen) = watch::channel(Weather::default());
        let (accepted, caught) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let sky = Sky::new(seen, Arc::clone(&caught));
        let task = tokio::spawn(accept(listener, target_ports.to_vec(), sky, Arc::clone(&accepted)));
        Ok(Self { port, weather, accepted, caught, task })
    }

    /// The proxy's own port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's application URL, through the proxy.
    pub fn url(&self, of: &Server) -> String {
        of.url_at(self.port)
    }

    /// Delays each chunk from the server to the client by this much; the order is kept.
    pub fn set_latency(&self, latency: Duration) {
        self.weather.send_modify(|weather| weather.latency = latency);
    }

    /// Closes every connection now and each new one at once.
    pub fn cut(&self) {
        self.turn(Mode::Cut);
    }

    /// Forwards nothing more, but closes no connection either; new connections are accepted and hang.
    pub fn hold(&self) {
        self.turn(Mode::Hold { ways: Ways::Both, from: None });
    }

    /// Holds the clients' bytes: the server receives none of them, and its own bytes arrive.
    pub fn hold_requests(&self) {
        self.turn(Mode::Hold { ways: Ways::Requests, from: None });
    }

    /// Holds the server's answers: the server executes requests, and no client learns of it.
    pub fn hold_answers(&self) {
        self.turn(Mode::Hold { ways: Ways::Answers, from: None });
    }

    /// [`hold_requests`](Self::hold_requests) for each connection on which a client sends `text`, from the chunk
    /// with the text on; the other connections go on. A statement of a few bytes always comes in one chunk.
    pub fn hold_requests_from(&self, text: &str) {
        self.turn(Mode::Hold { ways: Ways::Requests, from: Some(text.as_bytes().into()) });
    }

    /// [`hold_answers`](Self::hold_answers) for each connection on which a client sends `text`, from the answer to
    /// that text on; the other connections go on.
    pub fn hold_answers_from(&self, text: &str) {
        self.turn(Mode::Hold { ways: Ways::Answers, from: Some(text.as_bytes().into()) });
    }

    /// Forwards nothing more on the connections that are open now, and never again: their clients and servers hear
    /// nothing, as after a firewall has forgotten them. New connections are forwarded.
    pub fn abandon(&self) {
        let before = self.connections();
        self.weather.send_modify(|weather| weather.abandoned_before = before);
    }

    /// Ends each connection that is open now in the middle of its next answer. New connections are forwarded.
    pub fn tear(&self) {
        let before = self.connections();
        self.weather.send_modify(|weather| weather.torn_before = before);
    }

    /// The number of connections that were ever held because of their client's bytes.
    pub fn caught(&self) -> u64 {
        self.caught.load(Ordering::Acquire)
    }

    /// Forwards again, beginning with the held bytes. The latency stays as it is.
    pub fn restore(&self) {
        self.turn(Mode::Forward);
    }

    /// The number of connections that were ever accepted, those cut at once included.
    pub fn connections(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    fn turn(&self, mode: Mode) {
        self.weather.send_modify(|weather| weather.turn(mode));
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.task.abort(); // and with it the tasks of its connections
    }
}

async fn accept(listener: TcpListener, targets: Vec<u16>, sky: Sky, accepted: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    let mut targets = targets.into_iter().cycle();
    loop {
        // An error concerns one connection that went away, or a lack of descriptors that may pass.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let number = accepted.fetch_add(1, Ordering::AcqRel);
        let target = targets.next().expect("there is one, and they come again");
        connections.spawn(serve(client, target, sky.of_connection(number)));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, until an end closes it or the proxy cuts it.
async fn serve(client: TcpStream, target: u16, sky: Sky) {
    let mut cut = sky.clone();
    tokio::select! {
        biased;
        () = cut.is_cut() => {}
        // An error is an end that went away: dropping both streams tells the other end.
        _ = forward(client, target, sky) => {}
    }
}

async fn forward(client: TcpStream, target: u16, mut sky: Sky) -> io::Result<()> {
    sky.admits().await?;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = upstream(from_client, to_server, sky.clone());
    let answers = downstream(from_server, to_client, sky);
    tokio::pin!(requests, answers);
    tokio::select! {
        end = &mut answers => end,
        end = &mut requests => {
            end?;
            answers.await // the client asks no more; its requests are still answered
        }
    }
}

async fn upstream(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut sky: Sky) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        sky.sees(&buffer[..length]);
        sky.opens(Way::Request).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Reading goes on while earlier chunks wait, so that each chunk is late by the latency and not by a sum.
async fn downstream(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut sky: Sky) -> io::Result<()> {
    const IN_FLIGHT: usize = 1_024;
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let seen = sky.clone();
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            // A broken connection ends the stream of chunks as a closed one does.
            let length = from.read(&mut buffer).await.unwrap_or(0);
            let due = Instant::now() + seen.latency();
            if length == 0 || sender.send((due, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            sky.opens(Way::Answer).await?;
            if sky.tears() {
                to.write_all(&chunk[..chunk.len() / 2]).await?;
                to.flush().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            to.write_all(&chunk).await?;
        }
        sky.opens(Way::Answer).await?;
        to.shutdown().await
    };
    let ((), end) = tokio::join!(read, write);
    end
}
