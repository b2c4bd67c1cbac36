//! Rotations under load: connections are opened all the time, with the login that the servers accept now.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use sea_orm::{ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, Statement, TransactionTrait};
use sea_orm_resolver::{DatabaseConnection, NodeConfig};
use tokio::task::JoinSet;

use super::vault::{Login, PATIENCE, Vault, builder};
use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

/// Every kind of operation, on and on.
struct Load {
    tasks: JoinSet<Vec<DbErr>>,
    done: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

async fn operate(db: &DatabaseConnection, kind: usize) -> Result<(), DbErr> {
    match kind % 5 {
        0 => item::Entity::find().count(db).await.map(drop),
        1 => item::Entity::find().count(&db.read()).await.map(drop),
        2 => item::Entity::find().count(&db.session()).await.map(drop),
        3 => item::new("x", 1).insert(db).await.map(drop),
        _ => {
            let transaction = db.begin().await?;
            item::new("y", 2).insert(&transaction).await?;
            transaction.commit().await
        }
    }
}

impl Load {
    fn start(db: &DatabaseConnection) -> Self {
        let (done, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        for kind in 0..5 {
            let (db, done, is_over) = (db.clone(), Arc::clone(&done), Arc::clone(&is_over));
            tasks.spawn(async move {
                let mut failures = Vec::new();
                while !is_over.load(SeqCst) {
                    failures.extend(operate(&db, kind).await.err());
                    done.fetch_add(1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                failures
            });
        }
        Self { tasks, done, is_over }
    }

    async fn goes_on(&self) -> Result<()> {
        let before = self.done.load(SeqCst);
        wait_until("the load goes on", PATIENCE, async || Ok(self.done.load(SeqCst) > before + 200)).await
    }

    async fn end(self) -> Vec<DbErr> {
        self.is_over.store(true, SeqCst);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

/// The control: without a hook the new connections are refused.
async fn without_a_hook_a_rotation_fails_what_has_to_log_in(servers: Servers) -> Result<()> {
    let first = Login::first(&servers);
    let db = servers.open(builder(&servers, |server| NodeConfig::new(server.url()))).await?;
    let load = Load::start(&db);
    load.goes_on().await?;
    first.replace_by(&first.next(), &servers).await?;
    load.goes_on().await?;
    let failures = load.end().await;
    let is_refused =
        |error: &&DbErr| ["28P01", "1045", "password", "denied"].iter().any(|part| error.to_string().contains(part));
    ensure!(failures.iter().filter(is_refused).count() > 20, "the rotation did not bite: {failures:?}");
    Ok(())
}

// Without TLS, sqlx ends a login on MySQL that is not in the server's cache by an error of its own: the server is not
// asked, and tells no refusal.
on_each_database!(without_a_hook_a_rotation_fails_what_has_to_log_in, [postgres, mariadb]);

async fn with_a_hook_a_rotation_fails_nothing(servers: Servers) -> Result<()> {
    let mut login = Login::first(&servers);
    let vault = Vault::of(&login);
    let db = servers.open(builder(&servers, |server| vault.node(server))).await?;
    ensure!(vault.calls() == 3, "each node asks once: {}", vault.calls());
    let load = Load::start(&db);
    for rotation in 1..=2 {
        load.goes_on().await?;
        let next = login.next();
        vault.store(&next);
        login.replace_by(&next, &servers).await?;
        let asked = async || Ok(vault.calls() >= 3 * (rotation + 1));
        if let Err(error) = wait_until("each node has asked", PATIENCE, asked).await {
            bail!("{error}, in rotation {rotation}: {:?}", load.end().await);
        }
        login = next;
        // Between two rotations is more than the pause of the hook.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    load.goes_on().await?;
    let failures = load.end().await;
    ensure!(failures.is_empty(), "{} failed: {failures:?}", failures.len());
    // Once at the start and once a rotation, for each node, however many connections were refused.
    ensure!(vault.calls() == 9, "{} calls", vault.calls());
    Ok(())
}

// MySQL 9 asks an unknown user without TLS for an exchange that sqlx refuses by itself (`Configuration`), so no login is
// refused by the server there.
on_each_database!(with_a_hook_a_rotation_fails_nothing, [postgres, mariadb]);

/// The rotation of a careful operator: sessions of the old login are ended, while they lie in the pools.
async fn sessions_that_end_with_a_rotation_fail_nothing(servers: Servers) -> Result<()> {
    let first = Login::first(&servers);
    let vault = Vault::of(&first);
    let node = |server, name: &str| vault.node(server).name(name);
    let db = DatabaseConnection::builder()
        .primary(node(servers.primary(), "primary"))
        .replica(node(servers.replica(0), "replica-0"))
        .probe_timeout(PATIENCE)
        .connect_timeout(PATIENCE);
    let db = servers.open(db).await?;
    let lent = db.primary();
    for kind in 0..5 {
        operate(&db, kind).await?;
    }
    // The connections are given back to the pools.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let next = first.next();
    vault.store(&next);
    first.replace_by(&next, &servers).await?;
    for server in servers.servers() {
        end_sessions(&servers, server, &first.user).await?;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    // BEGIN comes first: SeaORM opens its connection.
    for kind in (0..5).rev() {
        operate(&db, kind).await?;
    }
    lent.execute_unprepared("SELECT 1").await?;
    Ok(())
}

on_each_database!(sessions_that_end_with_a_rotation_fail_nothing, [postgres, mariadb]);

async fn end_sessions(servers: &Servers, server: &testkit::Server, user: &str) -> Result<()> {
    match servers {
        Servers::Postgres(_) => {
            let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{user}'");
            server.query_scalar(&sql).await?;
        }
        Servers::MariaDb(_) | Servers::MySql(_) => {
            let sql = format!("SELECT group_concat(id) FROM information_schema.processlist WHERE user = '{user}'");
            for id in server.query_scalar(&sql).await?.split(',').filter(|id| !id.is_empty()) {
                // A session that has ended by itself is no failure.
                drop(server.query_scalar(&format!("KILL {id}")).await);
            }
        }
    }
    Ok(())
}

/// The user of each new connection, by the server's own word.
async fn user_of(db: &impl ConnectionTrait) -> Result<String> {
    let backend = db.get_database_backend();
    let sql = if backend == sea_orm::DbBackend::Postgres {
        "SELECT current_user::text AS who"
    } else {
        "SELECT substring_index(user(), '@', 1) AS who"
    };
    let row = db.query_one_raw(Statement::from_string(backend, sql)).await?;
    Ok(row.expect("one row").try_get("", "who")?)
}

/// The hook is asked before the credentials expire, so that no login is refused.
async fn credentials_that_expire_are_renewed_before_a_server_refuses_them(servers: Servers) -> Result<()> {
    let first = Login::first(&servers);
    let second = Login { user: "shop_b".to_owned(), ..first.clone() };
    let created = match &second.password {
        Some(password) if matches!(servers, Servers::Postgres(_)) => {
            format!("CREATE ROLE shop_b LOGIN PASSWORD '{password}' IN ROLE shop")
        }
        Some(password) => format!("CREATE USER shop_b IDENTIFIED BY '{password}'"),
        None => "CREATE USER shop_b".to_owned(),
    };
    servers.primary().query_scalar(&created).await?;
    if !matches!(servers, Servers::Postgres(_)) {
        servers.primary().query_scalar("GRANT SELECT, INSERT ON shop.* TO shop_b").await?;
    }
    servers.wait_caught_up().await?;
    let vault = Vault::of(&first);
    vault.expires_in(Duration::from_secs(5));
    let db = builder(&servers, |server| vault.node(server)).connect().await?;
    let lent = db.primary();
    ensure!(user_of(&db.read()).await? == "shop" && user_of(&lent).await? == "shop");
    let calls = vault.calls();
    vault.store(&second);
    // No connection is opened meanwhile: the pools are told of the change.
    wait_until("each node has asked", PATIENCE, async || Ok(vault.calls() >= calls + 3)).await?;
    // The server refuses the first login from now on.
    match servers {
        Servers::Postgres(_) => servers.primary().query_scalar("ALTER ROLE shop NOLOGIN").await?,
        _ => servers.primary().query_scalar("ALTER USER shop ACCOUNT LOCK").await?,
    };
    servers.wait_caught_up().await?;
    wait_until("the connections of before are too old", PATIENCE, async || Ok(user_of(&lent).await? == "shop_b"))
        .await?;
    for _ in 0..10 {
        ensure!(user_of(&db.read()).await? == "shop_b" && user_of(&db.write()).await? == "shop_b");
        tokio::time::sleep(super::vault::SHORT_LIVED * 2).await;
    }
    for server in servers.servers() {
        let log = server.log_tail();
        ensure!(!log.contains("authentication failed") && !log.contains("not permitted to log in"), "{log}");
    }
    Ok(())
}

on_each_database!(credentials_that_expire_are_renewed_before_a_server_refuses_them, [postgres, mariadb, mysql]);
