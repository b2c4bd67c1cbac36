//! Passwords never appear: not in `Debug` and `Display`, not in errors, not in the log down to TRACE.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use futures_util::TryStreamExt;
use sea_orm::{ActiveModelTrait, ConnectOptions, EntityTrait, StreamTrait, TransactionTrait};
use sea_orm_resolver::{Config, Database, DatabaseConnection, Error, Health, NodeConfig};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt, registry::LookupSpan};

use crate::{
    item,
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

/// Records all of this thread, on which a current-thread runtime runs all of its tasks.
pub(crate) fn record() -> (Recorded, tracing::subscriber::DefaultGuard) {
    let recorded = Recorded::default();
    let subscriber = tracing_subscriber::registry().with(recorded.clone());
    (recorded, tracing::subscriber::set_default(subscriber))
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
