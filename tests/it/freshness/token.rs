//! A session that goes on in another process: a second copy of this test binary.

use std::{env, process::Stdio};

use anyhow::{Context, Result, ensure};
use sea_orm::ActiveModelTrait;
use sea_orm_resolver::{Config, Consistency, Database, Draw};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{PATIENCE, finds};
use crate::{
    item,
    servers::{Servers, on_each_database},
    who::Who,
};

const ROUNDS: i32 = 60;
const READS: usize = 5;
/// A prefix of each answer, which tells answers from the output of the test harness.
const ANSWER: &str = "answer:";
/// Set for the second process, which reads as its standard input says.
const IS_READER: &str = "FRESHNESS_TEST_READER";

/// The second process. Without the variable that it is started with this is an empty test.
#[tokio::test]
async fn reader_process() -> Result<()> {
    if env::var_os(IS_READER).is_none() {
        return Ok(());
    }
    let db = Database::connect(Config::from_env()?).await?;
    let who = Who::by_port(db.get_database_backend(), [].into());
    while let Some(order) = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?.transpose()? {
        let answer = match order.split(' ').collect::<Vec<_>>()[..] {
            ["ready"] => "yes".to_owned(),
            ["eventual", id] => finds(&db.with_consistency(Consistency::Eventual), id.parse()?).await?.to_string(),
            // How many of some reads of the session find the row.
            ["find", id, token] => {
                let session = db.session_after(&token.parse()?);
                let mut found = 0;
                for _ in 0..READS {
                    found += usize::from(finds(&session, id.parse()?).await?);
                }
                found.to_string()
            }
            ["where", token] => who.answers(&db.session_after(&token.parse()?)).await?,
            _ => anyhow::bail!("an order of another kind: {order}"),
        };
        println!("\n{ANSWER}{answer}");
    }
    Ok(())
}

/// The second process, as the first one sees it. Dropping the value kills the process.
struct Reader {
    _process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    async fn start(servers: &Servers) -> Result<Self> {
        let replicas: Vec<_> = servers.replicas().iter().map(testkit::Server::url).collect();
        let mut process = Command::new(env::current_exe()?)
            .args(["--exact", "freshness::token::reader_process", "--nocapture"])
            .env(IS_READER, "1")
            .env("DATABASE_URL", servers.primary().url())
            .env("DATABASE_REPLICA_URLS", replicas.join(","))
            .env("DATABASE_PRIMARY_READ_SHARE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = process.stdin.take().context("it was piped")?;
        let answers = BufReader::new(process.stdout.take().context("it was piped")?).lines();
        let mut reader = Self { _process: process, orders, answers };
        ensure!(reader.asked("ready").await? == "yes");
        Ok(reader)
    }

    async fn asked(&mut self, order: &str) -> Result<String> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await?;
        let answer = async {
            while let Some(line) = self.answers.next_line().await? {
                if let Some(answer) = line.strip_prefix(ANSWER) {
                    return Ok(answer.to_owned());
                }
            }
            anyhow::bail!("the reader ended at: {order}")
        };
        timeout(PATIENCE, answer).await.with_context(|| order.to_owned())?
    }
}

async fn another_process_reads_the_writes_of_this_one(servers: Servers) -> Result<()> {
    // A server that nothing was ever written to has no GTID, and tokens without a position are another matter.
    servers.primary().execute("CREATE TABLE early (id int)").await?;
    servers.wait_caught_up().await?;
    let db = servers.connect().await?;
    let mut reader = Reader::start(&servers).await?;
    let mut draw = Draw::seeded(4);
    let (mut is_paused, mut missed) = (false, 0);
    for n in 0..ROUNDS {
        if draw.below(3) == 0 {
            for replica in servers.replicas() {
                if is_paused {
                    replica.resume_replay().await?;
                } else {
                    replica.pause_replay().await?;
                }
            }
            is_paused = !is_paused;
        }
        let session = db.session();
        let id = item::new("x", n).insert(&session).await?.id;
        let token = session.causal_token().await?;
        let found = reader.asked(&format!("find {id} {token}")).await?;
        assert_eq!(found, READS.to_string(), "round {n}, replay paused: {is_paused}");
        missed += u32::from(reader.asked(&format!("eventual {id}")).await? == "false");
    }
    assert!(missed > 0, "the replicas were never behind: this test would see nothing");
    if is_paused {
        for replica in servers.replicas() {
            replica.resume_replay().await?;
        }
    }

    // And the replicas serve the reads, once they have the row.
    let session = db.session();
    item::new("x", ROUNDS).insert(&session).await?;
    let token = session.causal_token().await?;
    let primary = servers.primary().port().to_string();
    let started = tokio::time::Instant::now();
    while reader.asked(&format!("where {token}")).await? == primary {
        ensure!(started.elapsed() < PATIENCE, "the other process never reads from a replica");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Ok(())
}

on_each_database!(another_process_reads_the_writes_of_this_one, [postgres, mariadb]);
