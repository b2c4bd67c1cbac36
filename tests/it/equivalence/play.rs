//! Plays scenarios with SeaORM alone and with our handles, and compares.

use std::{fmt::Write, ops::Sub, time::Duration};

use anyhow::{Result, ensure};
use sea_orm::{ConnectionTrait, DbErr, Statement};
use sea_orm_resolver::DatabaseConnection;

use super::{
    pages,
    scenario::{Conn, Scenario},
    stage::{Alone, Stage, state},
};

/// SeaORM's own result of a scenario.
struct Expected {
    seen: String,
    /// Statements that ended without an error.
    statements: u64,
}

/// The answers of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) replica_reads: u64,
    pub(super) replica_writes: u64,
    pub(super) primary_reads: u64,
    pub(super) primary_writes: u64,
}

impl Served {
    const NOTHING: Self = Self { replica_reads: 0, replica_writes: 0, primary_reads: 0, primary_writes: 0 };

    pub(super) fn by(db: &DatabaseConnection) -> Self {
        let topology = db.topology();
        let primary = topology.primary().node();
        Self {
            replica_reads: topology.replicas().iter().map(|replica| replica.node().served_reads()).sum(),
            replica_writes: topology.replicas().iter().map(|replica| replica.node().served_writes()).sum(),
            primary_reads: primary.served_reads(),
            primary_writes: primary.served_writes(),
        }
    }
}

impl Sub for Served {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            replica_reads: self.replica_reads - before.replica_reads,
            replica_writes: self.replica_writes - before.replica_writes,
            primary_reads: self.primary_reads - before.primary_reads,
            primary_writes: self.primary_writes - before.primary_writes,
        }
    }
}

/// Plays the reads: what is seen is what SeaORM alone sees, and every statement runs where the
/// handle sends it.
pub(super) async fn reads(stage: &Stage) -> Result<()> {
    stage.reset().await?;
    let alone = stage.alone().await?;
    let expected = expected(&alone, &super::reads()).await?;
    let db = stage.resolver().await?;
    let mut differences = Vec::new();
    let on_replicas = |statements| Served { replica_reads: statements, ..Served::NOTHING };
    let on_primary = |statements| Served { primary_writes: statements, ..Served::NOTHING };
    // A task is a session of its own, so each of these is one that has not written.
    each("&db", &db, &expected, on_replicas, || db.clone(), &mut differences).await?;
    each("db.session()", &db, &expected, on_replicas, || db.session(), &mut differences).await?;
    each("db.read()", &db, &expected, on_replicas, || db.read(), &mut differences).await?;
    each("db.write()", &db, &expected, on_primary, || db.write(), &mut differences).await?;
    for pages in [pages::stream_of_pages(&db).await?, pages::stream_of_pages(&db.read()).await?] {
        ensure!(pages == pages::stream_of_pages(&alone.db).await?);
    }
    none(&differences)
}

/// The outcome of a write: its result, and the content of the tables afterwards.
struct Done {
    name: &'static str,
    seen: Result<String, DbErr>,
    state: String,
}

/// Plays the writes one after the other, as one session would: each sees what the ones before it
/// left. No replica replays anything meanwhile, so a read that goes to one misses every write.
pub(super) async fn writes(stage: &Stage) -> Result<()> {
    stage.reset().await?;
    let alone = stage.plain().await?;
    let expected = write(alone.clone(), &alone).await?;
    none(&expected.iter().filter_map(Done::failure).collect::<Vec<_>>())?;
    let mut differences = Vec::new();
    differences.extend(through(stage, "&db", &expected, DatabaseConnection::clone).await?);
    differences.extend(through(stage, "db.session()", &expected, DatabaseConnection::session).await?);
    differences.extend(through(stage, "db.write()", &expected, DatabaseConnection::write).await?);
    alone.close().await?;
    none(&differences)
}

/// Plays the writes through one handle.
async fn through<C: Conn + Send + Sync + 'static>(
    stage: &Stage,
    handle: &str,
    expected: &[Done],
    make: impl Fn(&DatabaseConnection) -> C,
) -> Result<Vec<String>> {
    stage.reset().await?;
    let db = stage.resolver().await?;
    stage.pause().await?;
    let plain = stage.plain().await?;
    let done = write(make(&db), &plain).await?;
    let served = Served::by(&db);
    db.close().await?;
    plain.close().await?;
    stage.resume().await?;

    let mut differences = Vec::new();
    for (expected, done) in expected.iter().zip(&done) {
        let name = expected.name;
        if let Some(failure) = done.failure() {
            differences.push(format!("through {handle}: {failure}"));
        } else if let (Ok(expected), Ok(seen)) = (&expected.seen, &done.seen)
            && expected != seen
        {
            differences.push(format!("{name} through {handle}:\n{}", first_difference(expected, seen)));
        }
        if expected.state != done.state {
            let difference = first_difference(&expected.state, &done.state);
            differences.push(format!("{name} through {handle} left something else:\n{difference}"));
        }
    }
    // Every pool of one file shows all writes; elsewhere the replicas stand still here.
    let elsewhere = if stage.is_one_file() { 0 } else { served.replica_reads };
    if elsewhere + served.replica_writes > 0 || served.primary_writes == 0 {
        differences.push(format!("the writes through {handle} were served by {served:?}"));
    }
    Ok(differences)
}

/// Plays the writes in one task, which is one session.
async fn write<C: Conn + Send + Sync + 'static>(conn: C, plain: &sea_orm::DatabaseConnection) -> Result<Vec<Done>> {
    let plain = plain.clone();
    tokio::spawn(async move {
        let mut all = Vec::new();
        for Scenario { name, run, .. } in super::writes::<C>() {
            let seen = run(&conn).await;
            all.push(Done { name, seen, state: state(&plain).await? });
        }
        Ok(all)
    })
    .await?
}

impl Done {
    fn failure(&self) -> Option<String> {
        self.seen.as_ref().err().map(|error| format!("{} failed: {error}", self.name))
    }
}

async fn expected(alone: &Alone, scenarios: &[Scenario<sea_orm::DatabaseConnection>]) -> Result<Vec<Expected>> {
    let mut all = Vec::with_capacity(scenarios.len());
    let mut failures = Vec::new();
    for Scenario { name, run, unprepared } in scenarios {
        let before = alone.statements();
        let seen = run(&alone.db).await.unwrap_or_else(|error| {
            failures.push(format!("{name} with SeaORM alone: {error}"));
            String::new()
        });
        all.push(Expected { seen, statements: alone.statements() - before + unprepared });
    }
    none(&failures)?;
    Ok(all)
}

/// Plays every scenario in a task of its own.
async fn each<C: Conn + Send + Sync + 'static>(
    handle: &str,
    db: &DatabaseConnection,
    expected: &[Expected],
    where_to: impl Fn(u64) -> Served,
    make: impl Fn() -> C,
    differences: &mut Vec<String>,
) -> Result<()> {
    let scenarios = super::reads::<C>();
    ensure!(scenarios.len() == expected.len());
    for (Scenario { name, run, .. }, expected) in scenarios.into_iter().zip(expected) {
        until_trusted(db).await?;
        let before = Served::by(db);
        let conn = make();
        let seen = tokio::spawn(async move { run(&conn).await }).await?;
        let seen = seen.unwrap_or_else(|error| format!("error: {error}"));
        if seen != expected.seen {
            differences.push(format!("{name} through {handle}:\n{}", first_difference(&expected.seen, &seen)));
        }
        let (served, due) = (Served::by(db) - before, where_to(expected.statements));
        // Once a replica has said that it lacks a table, the primary is asked, too.
        let confirmed = Served { primary_reads: due.primary_reads + 1, ..due };
        if served != due && !(name.ends_with("that_fail") && served == confirmed) {
            differences.push(format!("{name} through {handle} was served by {served:?} instead of {due:?}"));
        }
    }
    Ok(())
}

/// Some scenarios send what breaks a connection; a session that has read something then keeps to the primary until
/// the node has answered a probe.
async fn until_trusted(db: &DatabaseConnection) -> Result<()> {
    let nothing = || Statement::from_string(db.get_database_backend(), "SELECT 1");
    loop {
        let session = db.session();
        session.query_one_raw(nothing()).await?;
        if session.explain(&nothing()).replica_probability() > 0.99 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn none(differences: &[String]) -> Result<()> {
    ensure!(differences.is_empty(), "{} differences\n\n{}", differences.len(), differences.join("\n\n"));
    Ok(())
}

/// The first lines that differ, with the lines before them.
fn first_difference(expected: &str, seen: &str) -> String {
    let (expected, seen): (Vec<_>, Vec<_>) = (expected.lines().collect(), seen.lines().collect());
    let same = expected.iter().zip(&seen).take_while(|(expected, seen)| expected == seen).count();
    let mut text = String::new();
    for line in &expected[same.saturating_sub(3)..same] {
        let _ = writeln!(text, "    {line}");
    }
    for line in expected[same..].iter().take(6) {
        let _ = writeln!(text, "  - {line}");
    }
    for line in seen[same..].iter().take(6) {
        let _ = writeln!(text, "  + {line}");
    }
    text
}
