use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use testkit::{ChaosProxy, Cluster};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::on_each_database;

const SHORT: Duration = Duration::from_millis(200);

async fn one_connection(url: String) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options.min_connections(1).max_connections(1).test_before_acquire(false).acquire_timeout(Duration::from_secs(2));
    Ok(Database::connect(options).await?)
}

async fn the_proxy_misbehaves_on_demand(cluster: &Cluster) -> anyhow::Result<()> {
    let server = cluster.primary();
    let proxy = ChaosProxy::start(server.port()).await?;
    let db = one_connection(proxy.url(server)).await?;
    assert_eq!(proxy.connections(), 1);

    proxy.set_latency(SHORT);
    let asked = Instant::now();
    db.execute_unprepared("SELECT 1").await?;
    assert!(asked.elapsed() >= SHORT, "{:?}", asked.elapsed());
    proxy.set_latency(Duration::ZERO);
    let asked = Instant::now();
    db.execute_unprepared("SELECT 1").await?;
    assert!(asked.elapsed() < SHORT, "{:?}", asked.elapsed());

    proxy.hold();
    let mut held = Box::pin(db.execute_unprepared("SELECT 1"));
    timeout(SHORT, &mut held).await.expect_err("nothing passes");
    let newcomer = one_connection(proxy.url(server));
    assert!(timeout(SHORT, newcomer).await.is_err(), "and a new connection hangs");
    proxy.restore();
    held.await?;

    proxy.cut();
    db.execute_unprepared("SELECT 1").await.expect_err("the connection is closed");
    one_connection(proxy.url(server)).await.expect_err("and new ones are closed at once");
    proxy.restore();
    db.execute_unprepared("SELECT 1").await?;
    assert!(proxy.connections() >= 3);
    Ok(())
}

on_each_database!(the_proxy_misbehaves_on_demand, [postgres, mariadb], replicas = 0);

async fn open_connections_can_be_abandoned_or_torn(cluster: &Cluster) -> anyhow::Result<()> {
    let server = cluster.primary();
    let proxy = ChaosProxy::start(server.port()).await?;
    let silent = one_connection(proxy.url(server)).await?;
    proxy.abandon();
    timeout(SHORT, silent.execute_unprepared("SELECT 1")).await.expect_err("nothing passes");
    let torn = one_connection(proxy.url(server)).await?;
    torn.execute_unprepared("SELECT 1").await?;
    proxy.restore();
    timeout(SHORT, silent.execute_unprepared("SELECT 1")).await.expect_err("nothing passes ever");
    proxy.tear();
    torn.execute_unprepared("SELECT 1").await.expect_err("half of the answer is missing");
    torn.execute_unprepared("SELECT 1").await?; // on a new connection
    Ok(())
}

on_each_database!(open_connections_can_be_abandoned_or_torn, [postgres, mariadb], replicas = 0);

/// A server that answers every byte with the same byte.
async fn echo() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Ok(port)
}

#[tokio::test]
async fn order_and_content_survive_changing_weather() -> anyhow::Result<()> {
    let proxy = ChaosProxy::start(echo().await?).await?;
    let (mut from, mut to) = TcpStream::connect(("127.0.0.1", proxy.port())).await?.into_split();
    let sent: Vec<u8> = (0..400_000_u32).map(|n| u8::try_from(n % 251).expect("below 251")).collect();
    let expected = sent.clone();
    let writing = tokio::spawn(async move { to.write_all(&sent).await.map(|()| to) });
    for round in 0..20_u64 {
        proxy.set_latency(Duration::from_millis((20 - round) * 2)); // later chunks are due earlier
        if round % 4 == 0 {
            proxy.hold();
        } else {
            proxy.restore();
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    proxy.restore();
    let mut received = vec![0; expected.len()];
    timeout(Duration::from_secs(10), from.read_exact(&mut received)).await??;
    assert!(received == expected, "bytes were lost or swapped");

    drop(writing.await??); // the client says goodbye, and the proxy tells both ends
    assert_eq!(timeout(Duration::from_secs(2), from.read(&mut [0])).await??, 0);
    Ok(())
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_connections_and_its_port() -> anyhow::Result<()> {
    let proxy = ChaosProxy::start(echo().await?).await?;
    let port = proxy.port();
    let mut client = TcpStream::connect(("127.0.0.1", port)).await?;
    client.write_all(b"x").await?;
    client.read_exact(&mut [0]).await?;
    drop(proxy);
    let end = timeout(Duration::from_secs(2), client.read(&mut [0])).await?;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    TcpStream::connect(("127.0.0.1", port)).await.expect_err("nobody listens");
    Ok(())
}

/// A client of the echo, through the proxy.
struct Caller(TcpStream);

impl Caller {
    async fn new(proxy: &ChaosProxy) -> anyhow::Result<Self> {
        Ok(Self(TcpStream::connect(("127.0.0.1", proxy.port())).await?))
    }

    async fn says(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.0.write_all(text.as_bytes()).await?)
    }

    async fn hears(&mut self, text: &str) -> anyhow::Result<()> {
        let mut heard = vec![0; text.len()];
        timeout(PATIENCE, self.0.read_exact(&mut heard)).await??;
        assert_eq!(std::str::from_utf8(&heard)?, text);
        Ok(())
    }

    async fn hears_nothing(&mut self) {
        timeout(SHORT, self.0.read(&mut [0])).await.expect_err("it is held, and open");
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

/// An echo that also says what it was told.
async fn witness() -> anyhow::Result<(u16, tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let (sender, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    sender.send(buffer[..length].to_vec())?;
                    stream.write_all(&buffer[..length]).await?;
                }
                anyhow::Ok(())
            });
        }
    });
    Ok((port, told))
}

#[tokio::test]
async fn held_requests_arrive_in_order_when_they_are_released() -> anyhow::Result<()> {
    let (port, mut told) = witness().await?;
    let proxy = ChaosProxy::start(port).await?;
    let mut caller = Caller::new(&proxy).await?;
    caller.says("one").await?;
    caller.hears("one").await?;
    assert_eq!(told.recv().await.as_deref(), Some(&b"one"[..]));

    proxy.hold_requests();
    caller.says("two").await?;
    caller.hears_nothing().await;
    caller.says("three").await?;
    let mut newcomer = Caller::new(&proxy).await?;
    newcomer.says("other").await?;
    newcomer.hears_nothing().await;
    assert!(told.try_recv().is_err(), "the server hears of nothing");
    proxy.restore();
    caller.hears("twothree").await?;
    newcomer.hears("other").await
}

#[tokio::test]
async fn held_answers_are_to_requests_that_arrived() -> anyhow::Result<()> {
    let (port, mut told) = witness().await?;
    let proxy = ChaosProxy::start(port).await?;
    let mut caller = Caller::new(&proxy).await?;
    for (text, is_again) in [("once", false), ("more", true)] {
        proxy.hold_answers();
        caller.says(text).await?;
        assert_eq!(timeout(PATIENCE, told.recv()).await?.as_deref(), Some(text.as_bytes()));
        caller.hears_nothing().await;
        if is_again {
            proxy.hold_requests(); // the last call counts
        } else {
            proxy.restore();
        }
        caller.hears(text).await?;
    }
    Ok(())
}

#[tokio::test]
async fn only_the_connection_that_says_it_is_held() -> anyhow::Result<()> {
    let (port, mut told) = witness().await?;
    let proxy = ChaosProxy::start(port).await?;
    let (mut caller, mut other) = (Caller::new(&proxy).await?, Caller::new(&proxy).await?);
    for is_heard in [false, true] {
        let caught = proxy.caught();
        let hold = if is_heard { ChaosProxy::hold_answers_from } else { ChaosProxy::hold_requests_from };
        hold(&proxy, "COMMIT");
        caller.says("begin").await?;
        caller.hears("begin").await?;
        caller.says("a COMMIT;").await?;
        caller.hears_nothing().await;
        caller.says("and more").await?;
        other.says("connect_probe").await?;
        other.hears("connect_probe").await?;
        let mut heard = String::new();
        if is_heard {
            while !heard.contains("COMMIT;and more") {
                let text = timeout(PATIENCE, told.recv()).await?.expect("it lives as long as the echo");
                heard.push_str(str::from_utf8(&text)?);
            }
        } else {
            while let Ok(text) = told.try_recv() {
                heard.push_str(str::from_utf8(&text)?);
            }
            assert!(!heard.contains("COMMIT") && !heard.contains("more"), "the server heard {heard}");
        }
        assert_eq!(proxy.caught(), caught + 1);
        caller.hears_nothing().await;
        proxy.restore();
        caller.hears("a COMMIT;and more").await?;
        while told.try_recv().is_ok() {}
    }
    proxy.hold_requests_from("COMMIT");
    caller.says("connect_probe").await?;
    caller.hears("connect_probe").await // to be held once is not to be held again
}

#[tokio::test]
async fn what_a_client_sent_before_it_left_arrives_late() -> anyhow::Result<()> {
    let (port, mut told) = witness().await?;
    let proxy = ChaosProxy::start(port).await?;
    let mut caller = Caller::new(&proxy).await?;
    proxy.hold_requests_from("COMMIT");
    caller.says("COMMIT").await?;
    caller.hears_nothing().await;
    drop(caller);
    assert!(told.try_recv().is_err());
    proxy.restore();
    assert_eq!(timeout(PATIENCE, told.recv()).await?.as_deref(), Some(&b"COMMIT"[..]));
    Ok(())
}
