//! Statement after statement, on the primary and on the replica.

use std::time::Duration;

use anyhow::{Result, ensure};
use sea_orm::DbBackend;
use sea_orm_resolver::{Intent, classify};
use testkit::Cluster;

use super::{
    engine::{Engine, Script},
    link::Link,
    over_cautious::{OverCautious, signature},
    session::{Outcome, Session},
};

const FORMER_SESSION_ENDS: Duration = Duration::from_secs(1);

/// One set of tables, by the type of their columns, on the primary and on the replica.
#[derive(Debug)]
struct World {
    primary: Session,
    replica: Session,
    privileged_replica: Session,
}

/// The trial of all statements of one backend.
#[derive(Debug)]
pub(crate) struct Trial<'cluster> {
    backend: DbBackend,
    engine: Engine,
    cluster: &'cluster Cluster,
    worlds: Vec<World>,
    over_cautious: OverCautious,
    pub(crate) verdicts: Verdicts,
}

/// The outcomes of the statements.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// Statements that ran on both nodes, and left nothing.
    pub(crate) reads: usize,
    /// Writes that the replica refused.
    pub(crate) refused_writes: usize,
    /// Writes that the replica ran, and that left a trace.
    pub(crate) effective_writes: usize,
    /// Writes that the replica ran, that left no trace, and for which the spec has the reason.
    pub(crate) known_over_cautious: usize,
    /// Statements that a server of this kind and version refuses as not valid, or not with these tables.
    pub(crate) invalid: Vec<String>,
    /// Statements about which the server does not agree.
    pub(crate) wrong: Vec<String>,
}

impl World {
    async fn open(cluster: &Cluster, engine: Engine, script: &Script) -> Result<Self> {
        let (primary, replica) = (cluster.primary(), cluster.replica(0));
        let read_only = format!("{}; {}", engine.read_only, script.enter);
        Ok(Self {
            primary: Session::open(&primary.admin_url(), &script.enter, engine.questions).await?,
            replica: Session::open(&replica.url(), &read_only, engine.questions).await?,
            privileged_replica: Session::open(&replica.admin_url(), &read_only, engine.questions).await?,
        })
    }

    /// Runs a statement on the replica, with every privilege if the usual ones do not suffice.
    async fn replica(&mut self, sql: &str, engine: Engine) -> Result<Outcome> {
        match self.replica.attempt(sql).await? {
            Outcome::Refused(refusal) if engine.not_allowed.contains(&refusal.code.as_str()) => {
                self.privileged_replica.attempt(sql).await
            }
            outcome => Ok(outcome),
        }
    }
}

impl<'cluster> Trial<'cluster> {
    /// Makes the tables, everywhere, and opens the sessions.
    pub(crate) async fn prepare(cluster: &'cluster Cluster, backend: DbBackend, engine: Engine) -> Result<Self> {
        let scripts = (engine.scripts)();
        for server in cluster.servers() {
            Link::open(&server.admin_url()).await?.must(engine.on_every_node).await?;
        }
        let mut admin = Link::open(&cluster.primary().admin_url()).await?;
        for script in &scripts {
            admin.must(&script.make).await?;
        }
        admin.must(engine.grants).await?;
        cluster.wait_caught_up().await?;
        let mut worlds = Vec::new();
        for script in &scripts {
            worlds.push(World::open(cluster, engine, script).await?);
        }
        let over_cautious = OverCautious::on(backend);
        Ok(Self { backend, engine, cluster, worlds, over_cautious, verdicts: Verdicts::default() })
    }

    /// Tries all statements, and compares the contents of the primary before and after.
    pub(crate) async fn run(&mut self, statements: &[String]) -> Result<()> {
        let before = self.contents().await?;
        for sql in statements {
            match classify(sql, self.backend).intent {
                Intent::Read => self.read(sql).await?,
                _ => self.write(sql).await?,
            }
        }
        if before != self.contents().await? {
            self.verdicts.wrong.push("the contents of the primary are not what they were".to_owned());
        }
        self.cluster.wait_caught_up().await
    }

    /// Runs a read in the first world where it is valid.
    async fn read(&mut self, sql: &str) -> Result<()> {
        let mut why = String::new();
        for world in &mut self.worlds {
            let left = match world.primary.attempt(sql).await? {
                Outcome::Ran(left) => left,
                Outcome::Refused(refusal) => {
                    why = refusal.to_string();
                    if refusal.code == self.engine.syntax_error {
                        break;
                    }
                    continue;
                }
            };
            let wrong = match world.replica(sql, self.engine).await? {
                _ if !left.is_empty() => format!("leaves on the primary: {}", left.join(", ")),
                Outcome::Refused(refusal) => format!("is refused by the replica: {refusal}"),
                Outcome::Ran(left) if !left.is_empty() => format!("leaves on the replica: {}", left.join(", ")),
                Outcome::Ran(_) => {
                    self.verdicts.reads += 1;
                    return Ok(());
                }
            };
            self.verdicts.wrong.push(format!("a read by the classifier, and it {wrong}\n    {sql:?}"));
            return Ok(());
        }
        self.verdicts.invalid.push(format!("{sql:?} {why}"));
        Ok(())
    }

    /// Runs a write on the replica: the replica must refuse the write, the write must leave a change, or the case
    /// must be known as over-cautious.
    async fn write(&mut self, sql: &str) -> Result<()> {
        let mut why = String::new();
        for world in &mut self.worlds {
            let mut outcome = world.replica.attempt(sql).await?;
            if matches!(&outcome, Outcome::Ran(left) if left.is_empty()) && !self.over_cautious.admits(sql) {
                // A server that is busy ends a session some time after its connection: until then a lock that the session
                // before had taken is not to be had.
                tokio::time::sleep(FORMER_SESSION_ENDS).await;
                outcome = world.replica.attempt(sql).await?;
            }
            match outcome {
                Outcome::Refused(refusal) if self.engine.writes.contains(&refusal.code.as_str()) => {
                    self.verdicts.refused_writes += 1;
                    return Ok(());
                }
                Outcome::Refused(refusal) => {
                    why = refusal.to_string();
                    if refusal.code == self.engine.syntax_error {
                        break;
                    }
                }
                Outcome::Ran(left) if !left.is_empty() => {
                    self.verdicts.effective_writes += 1;
                    return Ok(());
                }
                Outcome::Ran(_) => {
                    match self.over_cautious.admits(sql) {
                        true => self.verdicts.known_over_cautious += 1,
                        false => {
                            let by = signature(sql, self.backend);
                            let wrong =
                                format!("a write by {by:?}, and the replica runs it and keeps nothing\n    {sql:?}");
                            self.verdicts.wrong.push(wrong);
                        }
                    }
                    return Ok(());
                }
            }
        }
        self.verdicts.invalid.push(format!("{sql:?} {why}"));
        Ok(())
    }

    /// The cases that the spec marks as over-cautious, although the replica refused them or they left a trace.
    pub(crate) fn rightly_cautious(&self) -> Vec<&str> {
        self.over_cautious.rightly_cautious()
    }

    async fn contents(&self) -> Result<Vec<String>> {
        let mut link = Link::open(&self.cluster.primary().admin_url()).await?;
        let mut all = link.texts(self.engine.contents).await?;
        // When the first answer is another question.
        if self.engine.contents_are_asked_for {
            all = link.texts(&all.concat()).await?;
        }
        ensure!(all.len() > 5, "the contents are not seen: {all:?}");
        Ok(all)
    }
}
