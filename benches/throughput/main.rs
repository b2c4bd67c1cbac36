//! What the resolver costs and what it brings, on real databases, as ratios:
//!
//! ```text
//! cargo bench --bench throughput              # about six minutes
//! cargo bench --bench throughput -- --quick   # a smoke test of the program; the numbers mean little
//! cargo bench --bench throughput -- writes    # only plain reads while other tasks write, under a minute
//! ```
//!
//! Point reads per second and this process's CPU time per read of SeaORM as it is, without its ping
//! before each use, and with the resolver's rule for it; of the resolver in front of one node; of a
//! 10/90 split written by hand, without ping and with that rule; and of the resolver, with a ping each time
//! a connection is given back as sqlx has it, and as it is. And what the split and the resolver keep when
//! one replica becomes 20 ms slower. Then what reading one's own writes costs, how often the
//! servers are asked where they are, and what plain reads pay for the writes of other tasks. All pools have the same size. On SQLite the CPU time is that of the
//! database too.

mod contender;
mod freshness;
mod measure;
mod writes;

use std::time::Duration;

use anyhow::Result;
use testkit::{ChaosProxy, PostgresCluster};

use crate::{
    contender::{Contender, Ping, Urls, Warm},
    measure::{Plan, ROWS, Race, Sample, Spread},
    writes::Slices,
};

const TASKS: [usize; 2] = [1, 16];
const SLOWER: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> Result<()> {
    // `cargo test --benches` runs this without `--bench`, and wants to know only that it runs.
    let quick = std::env::args().any(|argument| argument == "--quick")
        || !std::env::args().any(|argument| argument == "--bench");
    let plan = |rounds, millis| {
        if quick {
            Plan { rounds: 3, slice: Duration::from_millis(40) }
        } else {
            Plan { rounds, slice: Duration::from_millis(millis) }
        }
    };
    if std::env::args().any(|argument| argument == "writes") {
        let cluster = PostgresCluster::start_with(2, &[("max_connections", "200")]).await?;
        println!("{}", writes::table(&postgres(&cluster).await?, slices(quick)).await?);
        return Ok(());
    }
    let mut summary = Vec::new();

    let folder = tempfile::tempdir()?;
    let urls = sqlite(&folder.path().join("shop.db").display().to_string()).await?;
    summary.push(compare("SQLite", &urls, plan(200, 40)).await?);

    let cluster = PostgresCluster::start_with(2, &[("max_connections", "200")]).await?;
    let urls = postgres(&cluster).await?;
    summary.push(compare("PostgreSQL", &urls, plan(200, 40)).await?);
    summary.push(slow_replica(&cluster, &urls, plan(30, 200)).await?);

    summary.push(freshness::reading(&urls, plan(200, 40)).await?);
    summary.push(freshness::probing(&urls, if quick { SLOWER } else { Duration::from_secs(10) }).await?);
    summary.push(writes::table(&urls, slices(quick)).await?);

    println!("For the README:\n{}", summary.join("\n"));
    Ok(())
}

fn slices(quick: bool) -> Slices {
    let (rounds, millis) = if quick { (1, 100) } else { (3, 900) };
    Slices { rounds, warm_up: Duration::from_millis(millis / 5), measured: Duration::from_millis(millis) }
}

/// One file in WAL mode; the replicas are further pools on it.
async fn sqlite(path: &str) -> Result<Urls> {
    let url = format!("sqlite://{path}?mode=rwc");
    let db = sea_orm::Database::connect(&url).await?;
    sea_orm::ConnectionTrait::execute_unprepared(&db, "PRAGMA journal_mode = WAL").await?;
    fill(&db).await?;
    Ok(Urls(vec![url; 3]))
}

async fn postgres(cluster: &PostgresCluster) -> Result<Urls> {
    fill(&sea_orm::Database::connect(cluster.primary().url()).await?).await?;
    cluster.wait_caught_up().await?;
    Ok(Urls(cluster.servers().iter().map(testkit::Server::url).collect()))
}

async fn fill(db: &sea_orm::DatabaseConnection) -> Result<()> {
    entity::create_schema(db).await?;
    entity::seed(db, ROWS.unsigned_abs() as usize).await?;
    Ok(())
}

/// All against each other, in peace.
async fn compare(database: &str, urls: &Urls, plan: Plan) -> Result<String> {
    let contenders = Contender::all(urls).await?;
    let mut summary = Vec::new();
    for tasks in TASKS {
        let race = Race::run(&contenders, tasks, plan).await?;
        println!(
            "{database}, {} task{}, {} rounds of {:?} each",
            tasks,
            if tasks == 1 { "" } else { "s" },
            plan.rounds,
            plan.slice
        );
        print_table(&race, Contender::SPLIT, "split by hand");
        let of = |other| race.ratio(Contender::RESOLVER, other, reads).median;
        let cold = race.ratio(Contender::COLD, Contender::SPLIT_SAME_PING, reads).median;
        let alone = race.ratio(Contender::ALONE, Contender::SAME_PING, reads).median;
        summary.push(format!(
            "{database}, {tasks} task(s): {:.2} of a split by hand without ping, {:.2} with the same ping, {:.2} times \
             SeaORM's defaults; without warm connections {cold:.2} of the split with the same ping; one node {alone:.2} \
             of SeaORM with the same ping",
            of(Contender::SPLIT),
            of(Contender::SPLIT_SAME_PING),
            of(Contender::DEFAULTS)
        ));
    }
    Ok(summary.join("\n"))
}

/// What is left of the throughput when one of the two replicas answers 20 ms later.
async fn slow_replica(cluster: &PostgresCluster, urls: &Urls, plan: Plan) -> Result<String> {
    const SLOW_SPLIT: &str = "split by hand, a slow replica";
    const SLOW_RESOLVER: &str = "sea-orm-resolver, a slow replica";

    let proxy = ChaosProxy::start(cluster.replica(1).port()).await?;
    proxy.set_latency(SLOWER);
    let slow = Urls(vec![urls.0[0].clone(), urls.0[1].clone(), proxy.url(cluster.replica(1))]);
    let contenders = [
        (Contender::SPLIT, Contender::split(urls, Ping::Never).await?),
        (SLOW_SPLIT, Contender::split(&slow, Ping::Never).await?),
        (Contender::RESOLVER, Contender::resolver(&urls.0, Warm::Kept).await?),
        (SLOW_RESOLVER, Contender::resolver(&slow.0, Warm::Kept).await?),
    ];
    let race = Race::run(&contenders, 16, plan).await?;
    println!("PostgreSQL, 16 tasks, one replica {SLOWER:?} slower, {} rounds of {:?} each", plan.rounds, plan.slice);
    print_table(&race, Contender::SPLIT, "split by hand");
    let split = race.ratio(SLOW_SPLIT, Contender::SPLIT, reads).median;
    let resolver = race.ratio(SLOW_RESOLVER, Contender::RESOLVER, reads).median;
    println!("Kept with the slow replica: split by hand {:.1} %, resolver {:.1} %\n", 100.0 * split, 100.0 * resolver);
    Ok(format!(
        "with one of two replicas {SLOWER:?} slower the resolver keeps {:.0} % of its reads, the split {:.0} %",
        100.0 * resolver,
        100.0 * split
    ))
}

fn print_table(race: &Race, base: &str, base_name: &str) {
    println!(
        "  {:34}{:>9}  {:>24}{:>12}  {:>24}",
        "",
        "reads/s",
        format!("of the {base_name}"),
        "CPU/read",
        format!("of the {base_name}")
    );
    for name in race.names() {
        println!(
            "  {name:34}{:>9.0}  {:>24}{:>9.1} µs  {:>24}",
            race.spread(name, reads).median,
            ratio(race.ratio(name, base, reads)),
            race.spread(name, cpu).median,
            ratio(race.ratio(name, base, cpu)),
        );
    }
    println!();
}

fn reads(sample: Sample) -> f64 {
    sample.reads_per_second
}

fn cpu(sample: Sample) -> f64 {
    sample.cpu_micros
}

fn ratio(spread: Spread) -> String {
    format!("{:.3} ({:.2}–{:.2})", spread.median, spread.min, spread.max)
}
