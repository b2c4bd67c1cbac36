use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use testkit::{ChaosProxy, MariaDbCluster, PostgresCluster};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const SHORT: Duration = Duration::from_millis(200);

async fn one_connection(url: String) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options.min_connections(1).max_connections(1).test_before_acquire(false).acquire_timeout(Duration::from_secs(2));
    Ok(Database::connect(options).await?)
}

async fn the_proxy_misbehaves_on_demand(server: &testkit::Server) -> anyhow::Result<()> {
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

#[tokio::test]
async fn a_proxy_before_postgres_misbehaves_on_demand() -> anyhow::Result<()> {
    the_proxy_misbehaves_on_demand(PostgresCluster::start(0).await?.primary()).await
}

#[tokio::test]
async fn a_proxy_before_mariadb_misbehaves_on_demand() -> anyhow::Result<()> {
    the_proxy_misbehaves_on_demand(MariaDbCluster::start(0).await?.primary()).await
}

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
