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

use anyhow::{Context, Result};
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

use crate::server::Server;

/// Stands between a client and a server on 127.0.0.1. Dropping it closes every connection.
#[derive(Debug)]
pub struct ChaosProxy {
    port: u16,
    weather: watch::Sender<Weather>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    mode: Mode,
    latency: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Forward,
    Hold,
    Cut,
}

impl ChaosProxy {
    /// Starts forwarding a port of its own to `target_port`, on the running tokio runtime.
    pub async fn start(target_port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for the proxy")?;
        let port = listener.local_addr()?.port();
        let (weather, seen) = watch::channel(Weather::default());
        let accepted = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, target_port, seen, Arc::clone(&accepted)));
        Ok(Self { port, weather, accepted, task })
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
        self.set_mode(Mode::Cut);
    }

    /// Forwards nothing more, but closes nothing either; new connections are accepted and hang.
    pub fn hold(&self) {
        self.set_mode(Mode::Hold);
    }

    /// Forwards again, beginning with what was held. The latency stays as it is.
    pub fn restore(&self) {
        self.set_mode(Mode::Forward);
    }

    /// How many connections were ever accepted, those cut at once included.
    pub fn connections(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    fn set_mode(&self, mode: Mode) {
        self.weather.send_modify(|weather| weather.mode = mode);
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.task.abort(); // and with it the set of its connections
    }
}

async fn accept(listener: TcpListener, target: u16, weather: watch::Receiver<Weather>, accepted: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        // An error here is one connection that went away, or a lack of descriptors that may pass.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        accepted.fetch_add(1, Ordering::AcqRel);
        connections.spawn(serve(client, target, weather.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, until an end closes it or the proxy cuts it.
async fn serve(client: TcpStream, target: u16, weather: watch::Receiver<Weather>) {
    let mut cut = weather.clone();
    tokio::select! {
        biased;
        _ = cut.wait_for(|weather| weather.mode == Mode::Cut) => {}
        // An error is an end that went away: dropping both streams tells the other one.
        _ = forward(client, target, weather) => {}
    }
}

async fn forward(client: TcpStream, target: u16, mut weather: watch::Receiver<Weather>) -> io::Result<()> {
    pass(&mut weather).await?;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = upstream(from_client, to_server, weather.clone());
    let answers = downstream(from_server, to_client, weather);
    tokio::pin!(requests, answers);
    tokio::select! {
        end = &mut answers => end,
        end = &mut requests => {
            end?;
            answers.await // the client is done asking; what it asked is still answered
        }
    }
}

/// Waits until the proxy forwards.
async fn pass(weather: &mut watch::Receiver<Weather>) -> io::Result<()> {
    weather
        .wait_for(|weather| weather.mode == Mode::Forward)
        .await
        .map(drop)
        .map_err(|_proxy_gone| io::ErrorKind::ConnectionAborted.into())
}

async fn upstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        pass(&mut weather).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Reading goes on while earlier chunks wait, so that each is late by the latency and not by a sum.
async fn downstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    const IN_FLIGHT: usize = 1_024;
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let seen = weather.clone();
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            // A broken connection ends the stream of chunks as a closed one does.
            let length = from.read(&mut buffer).await.unwrap_or(0);
            let due = Instant::now() + seen.borrow().latency;
            if length == 0 || sender.send((due, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            pass(&mut weather).await?;
            to.write_all(&chunk).await?;
        }
        pass(&mut weather).await?;
        to.shutdown().await
    };
    let ((), end) = tokio::join!(read, write);
    end
}
