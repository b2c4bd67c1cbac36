//! What it costs to read one's own writes, and what finding out costs the servers.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use sea_orm::ConnectionTrait;
use sea_orm_resolver::{Consistency, DatabaseConnection};
use tokio::time::{Instant, sleep};

use crate::{
    contender::{Contender, Urls, Warm},
    measure::{Plan, Race},
    print_table, reads,
};

const EVENTUAL: &str = "eventual reads";
const SESSION: &str = "session reads";
const EXPLICIT: &str = "reads of an explicit session";
const WRITES_PER_SECOND: u32 = 100;

/// Reads of tasks that did not write, while another task does.
pub(crate) async fn reading(urls: &Urls, plan: Plan) -> Result<String> {
    let Contender::Resolver(db) = Contender::resolver(&urls.0, Warm::Kept).await? else {
        unreachable!("it was asked for")
    };
    let contenders = [
        (EVENTUAL, Contender::Resolver(db.with_consistency(Consistency::Eventual))),
        (SESSION, Contender::Resolver(db.clone())),
        (EXPLICIT, Contender::Resolver(db.session())),
    ];
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(db.clone(), Arc::clone(&stop)));
    let mut summary = String::new();
    for tasks in [1, 16] {
        let race = Race::run(&contenders, tasks, plan).await?;
        println!("PostgreSQL, {tasks} task(s), and one that writes {WRITES_PER_SECOND} times a second");
        print_table(&race, EVENTUAL, "eventual ones");
        writeln!(
            summary,
            "{tasks} task(s): a session read has {:.3} of the throughput of an eventual one, one of an explicit session {:.3}",
            race.ratio(SESSION, EVENTUAL, reads).median,
            race.ratio(EXPLICIT, EVENTUAL, reads).median
        )?;
    }
    stop.store(true, Ordering::Relaxed);
    writer.await??;
    db.close().await?;
    Ok(summary.trim_end().to_owned())
}

async fn write(db: DatabaseConnection, stop: Arc<AtomicBool>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        db.execute_unprepared("UPDATE customers SET city = city WHERE id = 1").await?;
        sleep(Duration::from_secs(1) / WRITES_PER_SECOND).await;
    }
    Ok(())
}

/// Questions per second to each server.
pub(crate) async fn probing(urls: &Urls, period: Duration) -> Result<String> {
    let Contender::Resolver(db) = Contender::resolver(&urls.0, Warm::Kept).await? else {
        unreachable!("it was asked for")
    };
    sleep(Duration::from_millis(200)).await;
    let mut summary = format!("questions per second to each server, idle: {}", asked(&db, sleep(period)).await);

    let stop = Arc::new(AtomicBool::new(false));
    let cycles = Arc::new(AtomicU32::new(0));
    let sessions: Vec<_> =
        (0..16).map(|number| tokio::spawn(cycle(db.clone(), number, Arc::clone(&stop), Arc::clone(&cycles)))).collect();
    let rates = asked(&db, sleep(period)).await;
    stop.store(true, Ordering::Relaxed);
    for session in sessions {
        session.await??;
    }
    let writes = f64::from(cycles.load(Ordering::Relaxed)) / period.as_secs_f64();
    write!(summary, "; while 16 tasks write {writes:.0} times a second and read ten times after each: {rates}")?;
    println!("{summary}\n");
    db.close().await?;
    Ok(summary)
}

/// A task that writes, and reads ten times after each write.
async fn cycle(db: DatabaseConnection, number: u32, stop: Arc<AtomicBool>, cycles: Arc<AtomicU32>) -> Result<()> {
    let id = number + 1;
    while !stop.load(Ordering::Relaxed) {
        db.execute_unprepared(&format!("UPDATE customers SET city = city WHERE id = {id}")).await?;
        for _ in 0..10 {
            db.execute_unprepared(&format!("SELECT city FROM customers WHERE id = {id}")).await?;
        }
        cycles.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn asked(db: &DatabaseConnection, meanwhile: impl Future<Output = ()>) -> String {
    let count = || db.topology().members().map(|member| member.node().probes()).collect::<Vec<_>>();
    let (before, started) = (count(), Instant::now());
    meanwhile.await;
    let seconds = started.elapsed().as_secs_f64();
    let rates = count().into_iter().zip(before).map(|(after, before)| (after - before) as f64 / seconds);
    rates.map(|rate| format!("{rate:.1}")).collect::<Vec<_>>().join(", ")
}
