//! Passwords never appear, however they were given: not in `Debug` and `Display`, not in errors, not in the log down to TRACE.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use futures_util::TryStreamExt;
use sea_orm::{ActiveModelTrait, ConnectOptions, DbBackend, EntityTrait, StreamTrait, TransactionTrait};
use sea_orm_resolver::{Config, Credentials, Database, DatabaseConnection, Error, Health, NodeConfig};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::{
    item,
    listen::listen,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

/// Of the test kit's users.
const PASSWORD: &str = "s3cret-shop";

/// Everything that was recorded, as text.
#[derive(Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<String>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing into a string cannot fail.
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Recorded {
    fn line(&self, metadata: &Metadata<'_>, what: impl FnOnce(&mut Fields<'_>)) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = write!(text, "{} {} {}", metadata.level(), metadata.target(), metadata.name());
        what(&mut Fields(&mut text));
        text.push('\n');
    }

    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorded {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        self.line(attributes.metadata(), |fields| attributes.record(fields));
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            self.line(span.metadata(), |fields| values.record(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let within = context.event_span(event).map(|span| span.name());
        self.line(event.metadata(), |fields| {
            event.record(fields);
            if let Some(name) = within {
                fields.0.push_str(" within=");
                fields.0.push_str(name);
            }
        });
    }
}

/// Records all of this thread.
pub(crate) fn record() -> (Recorded, tracing::subscriber::DefaultGuard) {
    let recorded = Recorded::default();
    (recorded.clone(), listen(recorded))
}

fn assert_hidden(what: &str, text: &str) {
    let place = text.find(PASSWORD).map(|at| text[..at].lines().last().unwrap_or_default().to_owned());
    assert!(place.is_none(), "{what} has the password after: {place:?}");
}

/// A life of a connection: reads, writes, changes of the membership, a lost replica, a wrong password.
async fn live(servers: &Servers, node: &dyn Fn(&str) -> NodeConfig) -> Result<Vec<String>> {
    let url = |index: usize| servers.servers()[index].url();
    let mut said = Vec::new();
    let config = Config::new(node(&url(0)).name("primary")).replica(node(&url(1)).name("replica-0"));
    said.push(format!("{config:?} {config:#?}"));
    said.push(serde_json::to_string(&config)?);
    let builder = DatabaseConnection::builder().config(config).probe_interval(Duration::from_millis(100));
    said.push(format!("{builder:?}"));
    let db = builder.connect().await?;
    let inserted = item::new("x", 1).insert(&db).await?;
    item::Entity::find_by_id(inserted.id).one(&db).await?;
    item::Entity::find().all(&db.read()).await?;
    db.session().stream(&sea_orm::QueryTrait::into_query(item::Entity::find())).await?.try_collect::<Vec<_>>().await?;
    let transaction = db.begin().await?;
    item::new("y", 2).insert(&transaction).await?;
    said.push(format!("{transaction:?}"));
    transaction.commit().await?;
    said.push(format!(
        "{:?}",
        db.swap_replicas([node(&url(1)).name("replica-0"), node(&url(2)).name("replica-1")]).await?
    ));
    said.push(format!("{:?} {:#?}", db, db.topology()));
    said.push(format!("{} {}", db.topology(), serde_json::to_string(&*db.topology())?));
    said.push(format!("{:?} {:?} {:?}", db.read(), db.write(), db.session()));

    let wrong = format!("{PASSWORD}-wrong");
    let wrong_password = url(2).replace(PASSWORD, &wrong);
    servers.replica(1).kill().await?;
    wait_until("it is down", Duration::from_secs(10), async || {
        Ok(db.topology().member("replica-1").is_some_and(|member| member.health() == Health::Down))
    })
    .await?;
    for _ in 0..20 {
        item::Entity::find().all(&db).await?;
    }
    said.push(format!("{:#?} {}", db.topology(), serde_json::to_string(&*db.topology())?));
    for failed in [
        db.add_replica(node(&wrong_password).name("wrong")).await,
        db.add_replica(node(&url(2)).name("gone")).await,
        db.swap_primary(node(&url(1)).name("no primary")).await,
        db.swap_replicas([node(&wrong_password)]).await,
        db.add_replica(node(&url(1)).name("replica-0")).await,
    ] {
        let error = failed.expect_err("it cannot work");
        said.push(format!("{error} {error:?} {error:#?}"));
    }
    for failed in [
        Database::connect(node(&url(0).replace(PASSWORD, &wrong))).await,
        Database::connect(node(&url(2))).await,
        Database::connect(node(&format!("{}0000", url(0)).replace("127.0.0.1:", "127.0.0.1:99999"))).await,
        Database::connect(node(&url(0).replacen("://", ":", 1))).await,
        Database::connect(node(&url(0).replace("postgres:", "oracle:").replace("mysql:", "oracle:"))).await,
    ] {
        let error = failed.expect_err("it cannot work");
        said.push(format!("{error} {error:?} {error:#?} {:?}", Error::from_db_err(&error)));
        assert!(Error::from_db_err(&error).is_some(), "{error}");
    }
    let error = item::new("z", 1).insert(&db.read()).await.expect_err("refused");
    said.push(format!("{error} {error:?}"));
    servers.replica(1).start().await?;
    db.remove_replica("replica-1").await?;
    db.close().await?;
    Ok(said)
}

async fn a_life_shows_no_password(servers: Servers, node: &dyn Fn(&str) -> NodeConfig) -> Result<()> {
    let plain = servers.plain().await?;
    item::create_table(&plain).await?;
    servers.wait_caught_up().await?;
    let (recorded, guard) = record();
    // The control: SeaORM alone logs the password in the same place, and the recorder sees it.
    let alone = sea_orm::Database::connect(servers.primary().url()).await?;
    assert!(recorded.take().contains(PASSWORD), "SeaORM does not leak any more: simplify the resolver");
    drop(alone);

    let said = live(&servers, node).await?;
    drop(guard);
    for said in said {
        assert_hidden("what was printed", &said);
    }
    let logged = recorded.take();
    assert_hidden("what was logged", &logged);
    for heard in ["sea_orm_resolver.route", "member joined", "member left", "node is down", "sqlx::query", "TRACE"] {
        assert!(logged.contains(heard), "the recorder did not hear {heard:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_operators_change_is_told_once() -> Result<()> {
    let files = crate::files::NamedFiles::new().await?;
    let db = files.builder().connect().await?;
    let (recorded, _guard) = record();
    let told = || {
        let logged = recorded.take();
        let lines = logged.lines().filter(|line| line.starts_with("INFO sea_orm_resolver::topology "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    db.set_weight("replica-0", 3)?;
    let weight = told();
    assert_eq!(weight.len(), 1, "{weight:?}");
    for part in ["weight changed", "node=\"replica-0\"", "weight=3"] {
        assert!(weight[0].contains(part), "{part} is missing: {weight:?}");
    }
    db.set_primary_read_share(0.5)?;
    let share = told();
    assert_eq!(share.len(), 1, "{share:?}");
    for part in ["primary's share of the reads changed", "share=0.5"] {
        assert!(share[0].contains(part), "{part} is missing: {share:?}");
    }
    // A setting that stays as it is, is no news.
    db.set_weight("replica-0", 3)?;
    db.set_primary_read_share(0.5)?;
    assert_eq!(told(), Vec::<String>::new());
    Ok(())
}

async fn a_life_from_urls_shows_no_password(servers: Servers) -> Result<()> {
    a_life_shows_no_password(servers, &|url| url.into()).await
}

on_each_database!(a_life_from_urls_shows_no_password, [postgres, mariadb]);

async fn a_life_from_connect_options_shows_no_password(servers: Servers) -> Result<()> {
    a_life_shows_no_password(servers, &|url| ConnectOptions::new(url).into()).await
}

on_each_database!(a_life_from_connect_options_shows_no_password, [postgres, mariadb]);

/// The URL without its password, and the password.
fn apart(url: &str) -> (String, String) {
    let is_wrong = url.contains(&format!("{PASSWORD}-wrong"));
    let password = if is_wrong { format!("{PASSWORD}-wrong") } else { PASSWORD.to_owned() };
    (url.replacen(&format!(":{password}@"), "@", 1), password)
}

async fn a_life_with_a_hook_shows_no_password(servers: Servers) -> Result<()> {
    a_life_shows_no_password(servers, &|url| {
        let (url, password) = apart(url);
        NodeConfig::new(url).credentials(move || {
            let given = Credentials::password_only(&password).expires_in(Duration::from_secs(5));
            async move { Ok::<_, std::io::Error>(given) }
        })
    })
    .await
}

on_each_database!(a_life_with_a_hook_shows_no_password, [postgres, mariadb]);

async fn a_life_with_a_file_shows_no_password(servers: Servers) -> Result<()> {
    let folder = tempfile::tempdir()?;
    a_life_shows_no_password(servers, &|url| {
        let (url, password) = apart(url);
        let path = folder.path().join(if password == PASSWORD { "right" } else { "bad" });
        std::fs::write(&path, password).expect("written");
        NodeConfig::new(url).password_file(path)
    })
    .await
}

on_each_database!(a_life_with_a_file_shows_no_password, [postgres, mariadb]);

/// The setter, hooks that fail with a secret in their error, and files with secrets on too many lines.
async fn credentials_that_change_show_no_secret(servers: Servers) -> Result<()> {
    let (recorded, guard) = record();
    let mut said = Vec::new();
    let url = apart(&servers.primary().url()).0;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    std::fs::write(&file, format!("{SECRET}\n{SECRET}\n"))?;
    let failing = async || Err::<Credentials, _>(std::io::Error::other(SECRET));
    let refused = async || Ok::<_, std::io::Error>(Credentials::password_only(SECRET));
    let panicking = || -> std::future::Ready<Result<Credentials, std::io::Error>> { panic!("{SECRET}") };
    for node in [
        NodeConfig::new(&url).credentials(failing),
        NodeConfig::new(&url).credentials(panicking),
        NodeConfig::new(&url).password_file(&file),
        NodeConfig::new(&url).credentials(refused),
    ] {
        let config = Config::new(node.clone());
        said.push(format!("{node:?} {config:#?}"));
        said.push(serde_json::to_string(&config)? + &toml::to_string(&config)?);
        let error = Database::connect(config).await.map(drop).expect_err("no login");
        said.push(format!("{error} {error:?} {:?}", Error::from_db_err(&error)));
        let lazy = DatabaseConnection::builder()
            .primary(servers.primary_node())
            .replica(node.name("replica"))
            .probe_interval(Duration::from_millis(50))
            .connect()
            .await?;
        said.push(format!("{lazy:?} {:?}", lazy.topology().member("replica").map(|member| member.name().to_owned())));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let db = DatabaseConnection::builder().primary(servers.primary_node()).connect().await?;
    let secret = Credentials::new("shop", SECRET).expires_in(Duration::from_secs(60));
    said.push(format!("{secret:?} {secret:#?}"));
    let error = db.set_credentials("nobody", secret.clone()).expect_err("no such member");
    said.push(format!("{error} {error:?}"));
    db.set_credentials("primary", secret)?;
    said.push(format!("{db:?} {:#?} {}", db.topology(), db.topology()));
    drop(guard);
    let logged = recorded.take();
    assert!(logged.contains("the source of the credentials gave none"), "{logged}");
    said.push(logged);
    said.iter().for_each(|said| assert_no_secret(said));
    Ok(())
}

on_each_database!(credentials_that_change_show_no_secret, [postgres, mariadb]);

#[tokio::test]
async fn an_adopted_connection_shows_no_password() -> Result<()> {
    for servers in [Servers::postgres().await?, Servers::mariadb().await?] {
        let plain = servers.plain().await?;
        let (recorded, guard) = record();
        let node = NodeConfig::new(&plain);
        let config = Config::new(node.clone());
        assert_hidden("a node", &format!("{node:?} {config:?} {}", serde_json::to_string(&config)?));
        let db = DatabaseConnection::builder().primary(node).replica(servers.replica_node(0)).connect().await?;
        item::create_table(&db).await?;
        item::Entity::find().all(&db).await?;
        assert_hidden("a connection", &format!("{db:?} {:?} {}", db.topology(), db.topology()));
        drop(guard);
        let logged = recorded.take();
        assert!(logged.contains("TRACE"), "{logged}");
        assert_hidden("what was logged", &logged);
    }
    Ok(())
}

/// In no text, number or name of these tests but in the place of a secret.
const SECRET: &str = "hunter2";

fn assert_no_secret(said: &str) {
    let place = said.lines().find(|line| line.contains(SECRET));
    assert!(place.is_none(), "{place:?}");
}

/// Everything that is said about a configuration: by the format that reads it, when it is printed, and when it is used.
async fn said_of(text: &str) -> Vec<String> {
    let read = [toml::from_str::<Config>(text).map_err(|error| error.to_string()), as_json(text)];
    let mut said = Vec::new();
    for read in read {
        let config = match read {
            Ok(config) => config,
            Err(error) => {
                said.push(error);
                continue;
            }
        };
        said.push(format!("{config:?} {config:#?}"));
        said.extend(serde_json::to_string(&config));
        said.extend(toml::to_string(&config));
        said.push(format!("{:?}", config.check()));
        let builder = DatabaseConnection::builder()
            .config(config.clone())
            .connect_timeout(Duration::from_millis(200))
            .primary_connect_timeout(Duration::from_millis(200));
        said.push(format!("{builder:?}"));
        match builder.connect().await {
            Ok(db) => said.push(format!("{db:?} {}", db.topology())),
            Err(error) => said.push(format!("{error} {error:?} {:?}", Error::from_db_err(&error))),
        }
    }
    said
}

/// The same document as JSON.
fn as_json(text: &str) -> Result<Config, String> {
    let value: serde_json::Value = toml::from_str(text).map_err(|_| "no TOML".to_owned())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// The kinds of mistakes that a file can have beside a URL, on one line and on several.
#[tokio::test]
async fn no_mistake_in_a_file_shows_what_stands_beside_it() -> Result<()> {
    let (recorded, guard) = record();
    let url = format!("postgres://shop:{SECRET}@127.0.0.1:1/shop");
    for text in [
        format!("primary = {{ url = '{url}', wieght = 2 }}"),
        format!("primary = {{ url = '{url}', weight = 'two' }}"),
        format!("primary = {{ url = '{url}', weight = -1 }}"),
        format!("primary = {{ url = '{url}', weight = '{url}' }}"),
        format!("primary = {{ url = '{url}', '{url}' = 1 }}"),
        format!("primary = {{ url = '{url}', ping = '{SECRET}!' }}"),
        format!("primary = {{ url = '{url}', acquire_timeout = '{SECRET}!' }}"),
        format!("primary = {{ url = '{url}', on_connect = 'PRAGMA key=\"{SECRET}\"' }}"),
        format!("primary = {{ uri = '{url}' }}"),
        format!("primary = {{ url = ['{url}'] }}"),
        format!("primary = {{ url = {{ url = '{url}' }} }}"),
        format!("primary = ['{url}']"),
        format!("primary = [['{url}', 1]]"),
        format!("prmary = '{url}'"),
        format!("'{url}' = '{url}'"),
        format!("primary = '{url}'\nreplicas = '{url}'"),
        format!("primary = '{url}'\nreplicas = {{ url = '{url}' }}"),
        format!("primary = '{url}'\nreplicas = ['{url}', {{ url = '{url}', x = 1 }}]"),
        format!("primary = '{url}'\nreplicas = [5, '{url}']"),
        format!("primary_read_share = '{url}'\nprimary = '{url}'"),
        format!("policy = '{url}'\nprimary = '{url}'"),
        format!("consistency = '{url}'\nprimary = '{url}'"),
        format!("max_lag = '{url}'\nprimary = '{url}'"),
        format!("statements = [{{ shape = '{url}', route = '{url}' }}]\nprimary = '{url}'"),
        format!("[primary]\nurl = '{url}'\nwieght = 2"),
        format!("[primary]\nname = '{SECRET}'\n"),
        format!("[primary]\nurl = '{url}'\nurl2 = '{url}'"),
    ] {
        for said in said_of(&text).await {
            assert!(!said.contains(SECRET) || text.contains("name ="), "{text}\nsays\n{said}");
        }
    }
    drop(guard);
    let logged = recorded.take();
    assert!(!logged.contains(SECRET), "{logged}");
    Ok(())
}

/// All spellings of a URL with a password in it, right and wrong.
#[tokio::test]
async fn no_spelling_of_a_url_shows_its_password() -> Result<()> {
    let (recorded, guard) = record();
    for url in [
        "postgres://shop:hunter2@127.0.0.1:1/shop",
        "postgresql://shop:hunter2@127.0.0.1:1/shop",
        "mysql://shop:hunter2@127.0.0.1:1/shop",
        "mariadb://shop:hunter2@127.0.0.1:1/shop",
        "POSTGRES://shop:hunter2@127.0.0.1:1/shop",
        " postgres://shop:hunter2@127.0.0.1:1/shop ",
        "postgres://shop:hunter%32@127.0.0.1:1/shop?x=hunter2",
        "postgres://shop:p%40hunter2@127.0.0.1:1/shop",
        "postgres://shop:p@hunter2@127.0.0.1:1/shop",
        "postgres://shop:p@ss/w:hunter2@127.0.0.1:1/shop",
        "postgres://shop:p/hunter2@127.0.0.1:1/shop",
        "postgres://shop:1/hunter2@127.0.0.1:1/shop",
        "postgres://shop:1?hunter2@127.0.0.1:1/shop",
        "postgres://shop:1?sslmode=hunter2@127.0.0.1:1/shop",
        "postgres://shop:1#hunter2@127.0.0.1:1/shop",
        "postgres://:hunter2@127.0.0.1:1/shop",
        "postgres://127.0.0.1:1/shop?user=shop&password=hunter2",
        "postgres://127.0.0.1:1/shop?user=shop&Password=hunter2",
        "postgres://127.0.0.1:1/shop?user=shop&sslpassword=hunter2",
        "mysql://shop@127.0.0.1:1/shop?password=hunter2",
        "mysql://shop@127.0.0.1:1/shop?pwd=hunter2",
        "postgres:/shop:hunter2@127.0.0.1:1/shop",
        "postgres:shop:hunter2@127.0.0.1:1/shop",
        "shop:hunter2@127.0.0.1:1/shop",
        "hunter2:shop@127.0.0.1:1/shop",
        "hunter2",
        "redis://shop:hunter2@127.0.0.1:1/0",
        "jdbc:postgresql://127.0.0.1:1/shop?password=hunter2",
        "postgres://shop:hunter2@127.0.0.1:99999/shop",
        "sqlite://hunter2.db?mode=ro&key=hunter2",
    ] {
        let hidden = |said: &str| {
            !said.replace("hunter2.db", "").contains("hunter2")
                || url.starts_with("sqlite") && !said.contains("key=hunter2")
        };
        let options = std::panic::catch_unwind(|| ConnectOptions::new(url)).ok();
        for node in std::iter::once(NodeConfig::new(url)).chain(options.map(NodeConfig::new)) {
            let config = Config::new(node.clone()).replica(node.clone());
            let mut said = vec![format!("{node:?} {config:#?} {:?}", config.check())];
            said.push(serde_json::to_string(&config)? + &toml::to_string(&config)?);
            let builder = DatabaseConnection::builder()
                .config(config)
                .connect_timeout(Duration::from_millis(200))
                .primary_connect_timeout(Duration::from_millis(200));
            match builder.connect().await {
                Ok(db) => said.push(format!("{db:?} {} {}", db.topology(), serde_json::to_string(&*db.topology())?)),
                Err(error) => said.push(format!("{error} {error:?} {:?}", Error::from_db_err(&error))),
            }
            for said in said {
                assert!(hidden(&said), "{url} says\n{said}");
            }
        }
        drop(db_of_lazy(url).await);
        let logged = recorded.take();
        assert!(hidden(&logged), "{url} logs\n{logged}");
    }
    drop(guard);
    Ok(())
}

/// A connection that waits for no node.
async fn db_of_lazy(url: &str) -> Option<DatabaseConnection> {
    DatabaseConnection::builder().primary(url).replica(url).connect_lazy(true).connect().await.ok()
}

/// A statement for new connections may hold a key.
#[tokio::test]
async fn a_hook_shows_no_secret() -> Result<()> {
    let file = crate::files::SharedFile::new().await?;
    let (recorded, guard) = record();
    let mut said = Vec::new();
    for hook in ["PRAGMA key = 'hunter2'", "SELECT 'hunter2'", "SELECT x AS hunter2 'y'"] {
        let node = NodeConfig::new(file.url()).on_connect(hook);
        let config = Config::new(node.clone());
        said.push(format!("{node:?} {config:#?}"));
        said.push(serde_json::to_string(&config)? + &toml::to_string(&config)?);
        match DatabaseConnection::builder()
            .config(config)
            .connect_timeout(Duration::from_secs(1))
            .primary_connect_timeout(Duration::from_secs(1))
            .connect()
            .await
        {
            Ok(db) => {
                sea_orm::ConnectionTrait::execute_unprepared(&db, "SELECT 1").await?;
                said.push(format!("{db:?}"));
            }
            Err(error) => said.push(format!("{error} {error:?} {:?}", Error::from_db_err(&error))),
        }
    }
    for servers in [Servers::postgres().await?, Servers::mariadb().await?] {
        for hook in ["SELECT 'hunter2'", "SELECT 'x' hunter2 hunter2"] {
            let node =
                NodeConfig::new(servers.primary().url()).on_connect(hook).acquire_timeout(Duration::from_millis(500));
            match DatabaseConnection::builder()
                .primary(node)
                .connect_timeout(Duration::from_millis(500))
                .primary_connect_timeout(Duration::from_millis(500))
                .connect()
                .await
            {
                Ok(db) => {
                    sea_orm::ConnectionTrait::execute_unprepared(&db, "SELECT 1").await?;
                    said.push(format!("{db:?}"));
                }
                Err(error) => said.push(format!("{error} {error:?} {:?}", Error::from_db_err(&error))),
            }
        }
    }
    drop(guard);
    said.push(recorded.take());
    said.iter().for_each(|said| assert_no_secret(said));
    Ok(())
}

/// sqlx logs a statement when its future is dropped, too.
async fn a_hook_that_is_cut_off_shows_no_secret(servers: Servers) -> Result<()> {
    let (asleep, processes) = match servers.backend() {
        DbBackend::Postgres => ("SELECT pg_sleep(60), 'hunter2'", "pg_stat_activity WHERE query"),
        _ => ("SELECT SLEEP(60), 'hunter2'", "information_schema.processlist WHERE info"),
    };
    let running = format!("SELECT CAST(COUNT(*) AS CHAR(9)) FROM {processes} LIKE '{}%'", &asleep[..16]);
    let (recorded, guard) = record();
    let node = NodeConfig::new(servers.primary().url()).name("primary").on_connect(asleep);
    let connecting = tokio::spawn(DatabaseConnection::builder().primary(node).connect());
    wait_until("the statement runs", Duration::from_secs(10), async || {
        Ok(servers.primary().query_scalar(&running).await?.trim() == "1")
    })
    .await?;
    connecting.abort();
    assert!(connecting.await.is_err_and(|error| error.is_cancelled()));
    drop(guard);
    assert_no_secret(&recorded.take());
    Ok(())
}

on_each_database!(a_hook_that_is_cut_off_shows_no_secret, [postgres, mariadb, mysql]);

/// A document for clients has no host, user or error text of a driver; that of operators does.
async fn a_topology_for_clients_names_no_host(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().probe_interval(Duration::from_millis(100))).await?;
    servers.replica(0).kill().await?;
    wait_until("it is down", Duration::from_secs(10), async || {
        Ok(db.topology().member("replica-0").is_some_and(|member| member.health() == Health::Down))
    })
    .await?;
    let topology = db.topology();
    let (clients, operators) = (serde_json::to_string(&*topology)?, serde_json::to_value(topology.for_operators())?);
    for private in ["127.0.0.1", "localhost", "refused", "shop", "error"] {
        assert!(!clients.to_lowercase().contains(private), "{private}: {clients}");
    }
    assert!(operators["members"][1]["last_failure"].is_string(), "{operators}");
    assert_eq!(operators["members"][1]["state"], "down");
    assert_eq!(operators["generation"], topology.generation());
    Ok(())
}

on_each_database!(a_topology_for_clients_names_no_host, [postgres, mariadb]);
