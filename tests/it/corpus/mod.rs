//! The corpus of the classifier, run on real servers: they are the arbiters.
//!
//! A statement that is classified as a read runs on a primary, in a read-write session, and must leave nothing there;
//! then the statement runs in a read-only session of a replica, which must not refuse it. A statement that is
//! classified as a write runs on the replica only: where the replica runs a write that leaves nothing, the classifier
//! was over-cautious, which a case of the spec must allow, with the reason.

mod engine;
mod link;
mod mariadb;
mod over_cautious;
mod postgres;
mod session;
mod statements;
mod trial;
mod words;

#[path = "../../classify/generated.rs"]
mod generated;
#[path = "../../classify/support.rs"]
mod support;

use anyhow::Result;
use sea_orm::DbBackend;
use sea_orm_resolver::classify;
use testkit::{Cluster, MariaDbCluster, PostgresCluster};

pub(crate) use engine::Engine;
pub(crate) use link::Link;
pub(crate) use mariadb::MARIADB;
pub(crate) use postgres::POSTGRES;
pub(crate) use session::{Outcome, Session};
pub(crate) use trial::Trial;

/// The numbers of statements that a test must really have tried, so that a mistake in the test cannot hide.
struct AtLeast {
    reads: usize,
    refused_writes: usize,
    effective_writes: usize,
}

async fn agrees(cluster: &Cluster, backend: DbBackend, engine: Engine, at_least: AtLeast) -> Result<()> {
    let mut trial = Trial::prepare(cluster, backend, engine).await?;
    trial.run(&statements::of(backend)).await?;
    let verdicts = &trial.verdicts;
    println!(
        "{} reads, {} refused, {} with an effect, {} over-cautious as the spec says, {} not valid here",
        verdicts.reads,
        verdicts.refused_writes,
        verdicts.effective_writes,
        verdicts.known_over_cautious,
        verdicts.invalid.len(),
    );
    // Shows which statements are not valid, because the tables of the corpus lack something.
    if std::env::var_os("CORPUS_SHOW_INVALID").is_some() {
        println!("{}", verdicts.invalid.join("\n"));
    }
    assert!(verdicts.wrong.is_empty(), "{} disagreements:\n{}", verdicts.wrong.len(), verdicts.wrong.join("\n"));
    assert_eq!(trial.rightly_cautious(), Vec::<&str>::new(), "marked as over-cautious in the spec");
    let seen = [verdicts.reads, verdicts.refused_writes, verdicts.effective_writes];
    let wanted = [at_least.reads, at_least.refused_writes, at_least.effective_writes];
    assert!(seen.iter().zip(wanted).all(|(seen, wanted)| *seen >= wanted), "only {seen:?} were tried, not {wanted:?}");
    Ok(())
}

#[tokio::test]
async fn postgres_agrees_with_every_classification() -> Result<()> {
    let cluster = PostgresCluster::start(1).await?;
    let at_least = AtLeast { reads: 900, refused_writes: 1_300, effective_writes: 300 };
    agrees(&cluster, DbBackend::Postgres, POSTGRES, at_least).await
}

#[tokio::test]
async fn mariadb_agrees_with_every_classification() -> Result<()> {
    let cluster = MariaDbCluster::start(1).await?;
    let at_least = AtLeast { reads: 750, refused_writes: 450, effective_writes: 150 };
    agrees(&cluster, DbBackend::MySql, MARIADB, at_least).await
}

/// A read by the classifier leaves nothing either where the settings of the server choose other rules for literals.
async fn is_safe_under_other_rules(cluster: &Cluster, backend: DbBackend, engine: Engine, reads: usize) -> Result<()> {
    let mut trial = Trial::prepare(cluster, backend, engine).await?;
    let statements = statements::of(backend).into_iter().filter(|sql| sql.contains(['\\', '"']));
    let taken_for_reads = statements.filter(|sql| classify(sql, backend).intent.is_read()).collect::<Vec<_>>();
    trial.run(&taken_for_reads).await?;
    let verdicts = &trial.verdicts;
    println!("{} reads, {} not valid under these rules", verdicts.reads, verdicts.invalid.len());
    assert!(verdicts.wrong.is_empty(), "{} disagreements:\n{}", verdicts.wrong.len(), verdicts.wrong.join("\n"));
    assert!(verdicts.reads >= reads, "only {} reads of {}", verdicts.reads, taken_for_reads.len());
    Ok(())
}

#[tokio::test]
async fn a_read_is_one_on_postgres_too_where_a_backslash_escapes() -> Result<()> {
    let cluster = PostgresCluster::start(1).await?;
    is_safe_under_other_rules(&cluster, DbBackend::Postgres, postgres::UNDER_OTHER_RULES, 100).await
}

#[tokio::test]
async fn a_read_is_one_on_mariadb_too_under_every_rule_for_literals() -> Result<()> {
    for engine in mariadb::UNDER_OTHER_RULES {
        let cluster = MariaDbCluster::start(1).await?;
        is_safe_under_other_rules(&cluster, DbBackend::MySql, engine, 50).await?;
    }
    Ok(())
}

/// The premise of the tests above: the questions see an effect of every kind.
async fn each_leaves_something(cluster: &Cluster, backend: DbBackend, engine: Engine, effects: &[&str]) -> Result<()> {
    drop(Trial::prepare(cluster, backend, engine).await?);
    let enter = &(engine.scripts)()[0].enter;
    let mut session = Session::open(&cluster.primary().admin_url(), enter, engine.questions).await?;
    for sql in effects {
        match session.attempt(sql).await? {
            Outcome::Ran(left) => assert!(!left.is_empty(), "nothing is seen of {sql}"),
            Outcome::Refused(refusal) => panic!("{sql}: {refusal}"),
        }
        // When a session has gone, the server drops its temporary objects some time later, in a transaction of its own.
        let mut left = Vec::new();
        for _ in 0..5 {
            match session.attempt("SELECT a FROM t").await? {
                Outcome::Ran(seen) => left = seen,
                Outcome::Refused(refusal) => panic!("after {sql}: {refusal}"),
            }
            if left.is_empty() {
                break;
            }
        }
        assert_eq!(left, Vec::<String>::new(), "after {sql}");
    }
    Ok(())
}

#[tokio::test]
async fn every_kind_of_effect_is_seen_on_postgres() -> Result<()> {
    let cluster = PostgresCluster::start(1).await?;
    each_leaves_something(&cluster, DbBackend::Postgres, POSTGRES, postgres::EFFECTS).await
}

#[tokio::test]
async fn every_kind_of_effect_is_seen_on_mariadb() -> Result<()> {
    let cluster = MariaDbCluster::start(1).await?;
    each_leaves_something(&cluster, DbBackend::MySql, MARIADB, mariadb::EFFECTS).await
}
