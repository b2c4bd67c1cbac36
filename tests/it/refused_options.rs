//! A proxy that refuses start-up options with a code of its choice, from a moment of its choice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use sea_orm::{ConnectOptions, EntityTrait, PaginatorTrait};
use sea_orm_resolver::{Database, DatabaseConnection, Health, NodeConfig};
use testkit::{PostgresCluster, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::{item, wait::wait_until};

/// Looks into the start-up packet, and passes all the rest on.
struct Picky {
    port: u16,
    answer: Arc<AtomicU32>,
}

/// What the proxy does with start-up options.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    PassOn,
    Refuse,
    /// The server never sees them.
    Drop,
}

/// `ErrorResponse` with a code.
fn refusal(code: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mcommand-line options are not supported here\0\0");
    let length = u32::try_from(fields.len() + 4).expect("it is short");
    [&b"E"[..], &length.to_be_bytes(), fields.as_bytes()].concat()
}

impl Picky {
    async fn start(server: &Server, code: &'static str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, target) = (listener.local_addr()?.port(), server.port());
        let answer = Arc::new(AtomicU32::new(Answer::Refuse as u32));
        let answering = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let answering = Arc::clone(&answering);
                // An error here is a connection that its client gave up.
                tokio::spawn(async move { serve(client, target, code, &answering).await });
            }
        });
        Ok(Self { port, answer })
    }

    fn will(&self, answer: Answer) {
        self.answer.store(answer as u32, SeqCst);
    }
}

async fn serve(mut client: TcpStream, target: u16, code: &str, answering: &AtomicU32) -> Result<()> {
    loop {
        let length = client.read_u32().await?;
        let mut packet = vec![0; usize::try_from(length)?.saturating_sub(4)];
        client.read_exact(&mut packet).await?;
        if packet.starts_with(&80_877_103_u32.to_be_bytes()) {
            client.write_all(b"N").await?;
            continue;
        }
        let name = b"\0options\0";
        let place = packet.windows(name.len()).position(|part| part == name);
        let answer = answering.load(SeqCst);
        if place.is_some() && answer == Answer::Refuse as u32 {
            client.write_all(&refusal(code)).await?;
            return Ok(());
        }
        if let Some(place) = place.filter(|_| answer == Answer::Drop as u32) {
            let value = place + name.len();
            let end = packet[value..].iter().position(|byte| *byte == 0).map_or(packet.len(), |end| value + end);
            packet.drain(place + 1..=end);
        }
        let mut server = TcpStream::connect(("127.0.0.1", target)).await?;
        server.write_all(&u32::try_from(packet.len() + 4)?.to_be_bytes()).await?;
        server.write_all(&packet).await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
}

async fn cluster() -> Result<PostgresCluster> {
    let cluster = PostgresCluster::start(1).await?;
    item::create_table(&sea_orm::Database::connect(cluster.primary().url()).await?).await?;
    cluster.wait_caught_up().await?;
    Ok(cluster)
}

#[tokio::test]
async fn whatever_the_code_of_a_refused_option_the_replica_serves_reads() -> Result<()> {
    let cluster = cluster().await?;
    for code in ["0A000", "08P01", "08004", "22023", "42704", "58000", "XX000"] {
        let proxy = Picky::start(cluster.replica(0), code).await?;
        let db = DatabaseConnection::builder()
            .primary(NodeConfig::new(cluster.primary().url()).name("primary"))
            .replica(NodeConfig::new(cluster.replica(0).url_at(proxy.port)).name("replica"))
            .primary_read_share(0.0)
            .connect()
            .await?;
        assert_eq!(db.topology().replicas()[0].health(), Health::Up, "{code}: {}", db.topology());
        assert_eq!(db.read().node().as_deref(), Some("replica"), "{code}");
        item::Entity::find().count(&db.read()).await?;
    }
    Ok(())
}

/// Behind the proxy are the primary and a standby; no session has the setting that it was opened with.
#[tokio::test]
async fn options_that_are_dropped_are_found_out_and_reads_refuse_writes() -> Result<()> {
    let cluster = cluster().await?;
    for (server, is_standby) in [(cluster.primary(), false), (cluster.replica(0), true)] {
        let proxy = Picky::start(server, "0A000").await?;
        proxy.will(Answer::Drop);
        let db = DatabaseConnection::builder()
            .primary(NodeConfig::new(cluster.primary().url()).name("primary"))
            .replica(NodeConfig::new(server.url_at(proxy.port)).name("behind-proxy").role_check(is_standby))
            .primary_read_share(0.0)
            .connect()
            .await?;
        let read = db.read();
        assert_eq!(read.node().as_deref(), Some("behind-proxy"));
        assert_eq!(db.topology().replicas()[0].pooler(), Some("detected"));
        let shown = async |setting| {
            let ask = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, format!("SHOW {setting}"));
            let row = sea_orm::ConnectionTrait::query_one_raw(&read, ask).await?;
            anyhow::Ok(row.map(|row| row.try_get_by_index::<String>(0)).transpose()?)
        };
        assert_eq!(shown("default_transaction_read_only").await?.as_deref(), Some("off"));
        assert_eq!(shown("transaction_read_only").await?.as_deref(), Some("on"));
        item::Entity::find().count(&read).await?;
    }
    Ok(())
}

#[tokio::test]
async fn options_that_are_refused_later_cost_no_read() -> Result<()> {
    let cluster = cluster().await?;
    let proxy = Picky::start(cluster.replica(0), "0A000").await?;
    proxy.will(Answer::PassOn);
    let db = DatabaseConnection::builder()
        .primary(NodeConfig::new(cluster.primary().url()).name("primary"))
        .replica(NodeConfig::new(cluster.replica(0).url_at(proxy.port)).name("replica"))
        .primary_read_share(0.0)
        .probe_interval(Duration::from_millis(100))
        .connect()
        .await?;
    item::Entity::find().count(&db.read()).await?;
    proxy.will(Answer::Refuse);
    cluster.replica(0).restart().await?;
    let before = served(&db);
    wait_until("the replica serves reads", Duration::from_secs(20), async || {
        item::Entity::find().count(&db.read()).await?;
        Ok(served(&db) > before + 5)
    })
    .await
    .with_context(|| format!("{}", db.topology()))
}

fn served(db: &DatabaseConnection) -> u64 {
    db.topology().replicas()[0].node().served_reads()
}

#[tokio::test]
async fn options_that_are_refused_under_connect_lazy_cost_no_read() -> Result<()> {
    let cluster = cluster().await?;
    let (primary, replica) =
        (Picky::start(cluster.primary(), "0A000").await?, Picky::start(cluster.replica(0), "0A000").await?);
    let db = DatabaseConnection::builder()
        .primary(NodeConfig::new(cluster.primary().url_at(primary.port)).name("primary"))
        .replica(NodeConfig::new(cluster.replica(0).url_at(replica.port)).name("replica"))
        .connect_lazy(true)
        .primary_read_share(0.5)
        .connect()
        .await?;
    for _ in 0..20 {
        item::Entity::find().count(&db).await?;
        item::Entity::find().count(&db.read()).await?;
    }
    Ok(())
}

/// One URL has no monitor: the pool itself finds out.
#[tokio::test]
async fn read_connections_of_one_url_work_though_options_are_refused() -> Result<()> {
    let cluster = cluster().await?;
    let proxy = Picky::start(cluster.primary(), "0A000").await?;
    let url = cluster.primary().url_at(proxy.port);
    for node in [NodeConfig::new(url.clone()), NodeConfig::new(ConnectOptions::new(url.clone()))] {
        let db = Database::connect(node.statement_timeout(Duration::from_secs(20))).await?;
        item::Entity::find().count(&db).await?;
        item::Entity::find().count(&db.read()).await?;
        let mode = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, "SHOW transaction_read_only");
        let row = sea_orm::ConnectionTrait::query_one_raw(&db.read(), mode).await?;
        assert_eq!(row.map(|row| row.try_get_by_index::<String>(0)).transpose()?.as_deref(), Some("on"));
    }
    Ok(())
}
