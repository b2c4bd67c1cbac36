//! Replicas that fall behind `max_lag`, to the probe.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use sea_orm::{DbBackend, DbErr};
use sea_orm_resolver::{DatabaseConnection, Health};
use testkit::scripted::{Behaviour, ScriptedNode, Step};
use tokio::{
    task::AbortHandle,
    time::{self, Instant},
};

use super::{Nodes, health, select, who};

const MAX_LAG: Duration = Duration::from_secs(10);
/// The longest time between two probes: the interval and a fifth.
const INTERVAL: Duration = Duration::from_millis(1_200);
/// How often the primary writes, and a test looks.
const STEP: Duration = Duration::from_millis(10);

const NEVER: u64 = u64::MAX;

/// A primary that writes all the time, and one replica that has the primary's writes of some time ago.
struct World {
    nodes: Nodes,
    db: DatabaseConnection,
    /// In milliseconds.
    delay: Arc<AtomicU64>,
    writing: AbortHandle,
}

impl World {
    async fn speaking(backend: DbBackend) -> Result<Self, DbErr> {
        let nodes = Nodes::speaking(backend, 1);
        let place = move |node: &ScriptedNode, millis: u64| match backend {
            DbBackend::MySql => node.set_gtid_executed(&format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{millis}")),
            _ => node.set_wal(7, 1, &format!("0/{millis:X}")),
        };
        let (primary, replica) = (Arc::clone(&nodes.primary), Arc::clone(&nodes.replicas[0]));
        let delay = Arc::new(AtomicU64::new(0));
        // A replica does not lose the writes that it has.
        let (delayed, mut has) = (Arc::clone(&delay), 1_000);
        place(&primary, has);
        place(&replica, has);
        let began = Instant::now();
        let writing = tokio::spawn(async move {
            loop {
                time::sleep(STEP).await;
                let wrote = 1_000 + u64::try_from(began.elapsed().as_millis()).unwrap_or(NEVER);
                has = wrote.saturating_sub(delayed.load(Relaxed)).max(has);
                place(&primary, wrote);
                place(&replica, has);
            }
        });
        let db = nodes.connected(nodes.builder().max_lag(Some(MAX_LAG))).await?;
        Ok(Self { nodes, db, delay, writing: writing.abort_handle() })
    }

    fn replica(&self) -> &ScriptedNode {
        &self.nodes.replicas[0]
    }

    /// The replica has the primary's writes of so long ago; `None`: it receives none of the primary's next writes.
    fn follows_after(&self, delay: Option<Duration>) {
        self.delay.store(delay.map_or(NEVER, |delay| u64::try_from(delay.as_millis()).unwrap_or(NEVER)), Relaxed);
    }

    /// The reason why the replica takes no reads, if it takes none.
    fn why_out(&self) -> Option<String> {
        let said = self.db.explain(&select(&self.db));
        assert_eq!(said.node(), Some(if said.rejected().is_empty() { "r1" } else { "p" }), "{said}");
        said.rejected().first().map(|rejected| rejected.why.clone())
    }

    fn lag(&self) -> Duration {
        self.db.topology().member("r1").and_then(sea_orm_resolver::Member::lag).expect("it is known")
    }

    /// Lets time pass until the replica takes no reads, or takes them again. Says how long that took.
    async fn until_out(&self, is_out: bool) -> Duration {
        let began = Instant::now();
        while self.why_out().is_some() != is_out {
            assert!(began.elapsed() < Duration::from_secs(120), "it changes nothing:\n{}", self.db.topology());
            time::sleep(STEP).await;
        }
        began.elapsed()
    }

    /// The number of the replica's answers until it takes reads again.
    async fn answers_until_back(&self) -> usize {
        self.replica().forget();
        self.until_out(false).await;
        self.replica().count(Step::ProbeAsk)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stands_still_is_out_within_two_probes_of_the_limit_and_its_lag_is_said() -> Result<(), DbErr> {
    for backend in [DbBackend::Postgres, DbBackend::MySql] {
        let world = World::speaking(backend).await?;
        time::sleep(INTERVAL * 5).await;
        assert_eq!(who(&world.db).await?, "r1");
        world.follows_after(None);
        let stood_still = Instant::now();
        let mut longest = Duration::ZERO;
        while world.why_out().is_none() {
            let said = world.db.explain(&select(&world.db));
            assert_eq!(said.lag(), Some(world.lag()), "{said}");
            longest = longest.max(world.lag());
            time::sleep(STEP).await;
            assert!(stood_still.elapsed() <= MAX_LAG + INTERVAL * 2, "{}", world.db.topology());
        }
        // The replica's data were known by the sample before it stood still.
        assert!(stood_still.elapsed() >= MAX_LAG - INTERVAL, "{:?}", stood_still.elapsed());
        assert!(longest > MAX_LAG - INTERVAL * 2 && longest <= MAX_LAG, "{longest:?}");
        let why = world.why_out().unwrap_or_default();
        assert!(why.starts_with("it is further behind than `max_lag` (1"), "{why}");
        assert!(why.contains(&format!("({:?} behind)", world.lag())) && world.lag() > MAX_LAG, "{why}");
        assert_eq!(world.db.explain(&select(&world.db)).lag(), None, "the primary has none");
        assert_eq!(who(&world.db).await?, "p");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_replica_comes_back_when_it_was_below_half_of_the_limit_at_three_probes_in_a_row() -> Result<(), DbErr> {
    for backend in [DbBackend::Postgres, DbBackend::MySql] {
        let world = World::speaking(backend).await?;
        world.follows_after(None);
        world.until_out(true).await;
        // Below the limit, and not below half of it.
        world.follows_after(Some(Duration::from_secs(7)));
        for _ in 0..60 {
            time::sleep(Duration::from_secs(1)).await;
            assert!(world.why_out().is_some(), "{}", world.db.topology());
        }
        assert!(world.lag() > MAX_LAG / 2 && world.lag() < MAX_LAG, "{:?}", world.lag());
        world.follows_after(Some(Duration::from_secs(1)));
        assert_eq!(world.answers_until_back().await, 3);
        assert!(world.lag() < MAX_LAG / 2, "{:?}", world.lag());

        // Twice is not enough, and does not count when it was further behind since.
        world.follows_after(None);
        world.until_out(true).await;
        world.follows_after(Some(Duration::ZERO));
        world.replica().forget();
        world.replica().reached(Step::ProbeAsk, 2).await;
        time::sleep(Duration::from_millis(1)).await;
        // The replica does not answer for a while, and its primary moves on.
        world.replica().on(Step::ProbeAsk, Behaviour::Never);
        time::sleep(MAX_LAG / 2 + INTERVAL * 2).await;
        world.replica().recover();
        assert_eq!(world.answers_until_back().await, 3);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stops_answering_is_out_and_comes_back_as_one_that_fell_behind() -> Result<(), DbErr> {
    for silence in [Behaviour::Never, Behaviour::Fail(testkit::scripted::fault::reset())] {
        let world = World::speaking(DbBackend::Postgres).await?;
        time::sleep(INTERVAL * 5).await;
        for step in [Step::ProbeAsk, Step::ProbeConnect] {
            world.replica().on(step, silence.clone());
        }
        let took = world.until_out(true).await;
        assert!(took <= MAX_LAG + INTERVAL * 2, "{took:?}");
        assert_eq!(world.why_out().as_deref(), Some("down"));
        let replica = || world.db.topology().replicas()[0].clone();
        assert_eq!((replica().lag(), replica().lag_bytes()), (None, None), "the lag of a lost server is not known");
        // The replica is not asked, and is known to fall behind all the same.
        time::sleep(MAX_LAG + INTERVAL * 2).await;
        world.replica().recover();
        assert_eq!(world.answers_until_back().await, 3);
        assert_eq!(health(&world.db, "r1"), Health::Up);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_out_stays_out_when_another_is_made_the_primary() -> Result<(), DbErr> {
    let world = World::speaking(DbBackend::Postgres).await?;
    world.follows_after(None);
    world.until_out(true).await;
    let promoted = super::node("q", sea_orm_resolver::Role::Primary, DbBackend::Postgres);
    promoted.set_wal(7, 2, "0/10000000");
    world.db.swap_primary(promoted.config()).await?;
    for _ in 0..300 {
        assert_eq!(who(&world.db).await?, "q", "{}", world.db.topology());
        time::sleep(Duration::from_millis(100)).await;
    }
    world.writing.abort();
    time::sleep(STEP).await;
    world.replica().set_wal(7, 2, "0/10000000");
    world.replica().forget();
    while who(&world.db).await? != "r1" {
        time::sleep(STEP).await;
    }
    assert_eq!(world.replica().count(Step::ProbeAsk), 3, "it follows");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_never_follows_another_primary_does_not_stay_for_good() -> Result<(), DbErr> {
    let world = World::speaking(DbBackend::Postgres).await?;
    time::sleep(INTERVAL * 5).await;
    world.follows_after(None);
    let promoted = super::node("q", sea_orm_resolver::Role::Primary, DbBackend::Postgres);
    promoted.set_wal(7, 2, "0/10000000");
    world.db.swap_primary(promoted.config()).await?;
    assert_eq!(who(&world.db).await?, "r1", "it may follow");
    let began = Instant::now();
    while who(&world.db).await? == "r1" {
        time::sleep(STEP).await;
        assert!(began.elapsed() <= MAX_LAG + INTERVAL * 2, "{}", world.db.topology());
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_lag_that_is_shown_is_the_lag_for_two_questions_an_interval() -> Result<(), DbErr> {
    for backend in [DbBackend::Postgres, DbBackend::MySql] {
        for millis in [0_u64, 40, 100, 300, 900] {
            let (world, delay) = (World::speaking(backend).await?, Duration::from_millis(millis));
            world.follows_after(Some(delay));
            time::sleep(INTERVAL * 10).await;
            world.nodes.each(ScriptedNode::forget);
            for _ in 0..2_000 {
                // The primary writes every 10 ms, so a write that is lacking is up to so much older than its sample.
                let (off, most) = (world.lag().abs_diff(delay), STEP + (delay / 8).max(STEP));
                assert!(off <= most, "{} of {delay:?}\n{}", world.lag().as_millis(), world.db.topology());
                time::sleep(STEP).await;
            }
            // 20 s: 17 to 25 probes of each.
            let (asked, of_primary) =
                (world.replica().count(Step::ProbeAsk), world.nodes.primary.count(Step::ProbeAsk));
            assert!((17..=25).contains(&of_primary), "{of_primary} questions to the primary");
            assert!((17..=75).contains(&asked), "{asked} questions to the replica at {delay:?}");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lag_that_changes_is_shown_again_and_an_idle_primary_leaves_no_lag() -> Result<(), DbErr> {
    let world = World::speaking(DbBackend::Postgres).await?;
    for millis in [100_u64, 700, 30, 100] {
        let delay = Duration::from_millis(millis);
        world.follows_after(Some(delay));
        time::sleep(INTERVAL * 10).await;
        assert!(world.lag().abs_diff(delay) <= STEP + (delay / 8).max(STEP), "{:?} of {delay:?}", world.lag());
    }
    world.writing.abort();
    world.replica().set_wal(7, 1, "0/10000000");
    world.nodes.primary.set_wal(7, 1, "0/10000000");
    time::sleep(INTERVAL * 3).await;
    assert_eq!(world.lag(), Duration::ZERO);
    world.nodes.each(ScriptedNode::forget);
    time::sleep(Duration::from_secs(20)).await;
    let asked = world.replica().count(Step::ProbeAsk);
    assert!((17..=25).contains(&asked), "only its probes: {asked}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_numbers_of_each_member_are_told_after_each_probe() -> Result<(), DbErr> {
    let world = World::speaking(DbBackend::Postgres).await?;
    let (log, _guard) = crate::secrets::record();
    world.follows_after(None);
    time::sleep(Duration::from_secs(6)).await;
    let said = log.take();
    let of = |name: &str| said.lines().rev().find(|line| line.contains("::metrics") && line.contains(name));
    let (primary, replica) = (of("node=\"p\"").unwrap_or_default(), of("node=\"r1\"").unwrap_or_default());
    for line in [primary, replica] {
        assert!(line.contains(" gauge.sea_orm_resolver_up=1 gauge.sea_orm_resolver_in_flight=0"), "{line}");
    }
    let lag = replica.split_once("gauge.sea_orm_resolver_lag_ms=").map(|(_, rest)| rest.split(' ').next());
    let millis: Option<u64> = lag.flatten().and_then(|millis| millis.parse().ok());
    assert!(millis.is_some_and(|millis| (3_000..=6_000).contains(&millis)), "{replica}");
    assert!(replica.contains("gauge.sea_orm_resolver_lag_bytes="), "{replica}");
    Ok(())
}
