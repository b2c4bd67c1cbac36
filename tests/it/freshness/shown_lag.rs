//! The lag that is shown is the lag.

use std::time::Duration;

use anyhow::Result;
use sea_orm::{ActiveModelTrait, ConnectionTrait, Statement};
use sea_orm_resolver::{Health, Member};
use tokio::time::{Instant, sleep};

use super::PATIENCE;
use crate::{
    item,
    servers::{Servers, on_each_database},
    wait::wait_until,
};

/// The lag of the replicas.
const LAG: Duration = Duration::from_millis(100);
/// The shown lag may differ so much from the real one.
const SLACK: Duration = Duration::from_millis(20);

/// The value below which this part of the values is.
fn quantile(values: &mut [Duration], part: f64) -> Duration {
    values.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "few")]
    let place = (values.len() as f64 * part) as usize;
    values[place]
}

async fn the_lag_of_late_replicas_is_shown_as_it_is(servers: Servers) -> Result<()> {
    let db = servers.connect().await?;
    let _lag = servers.lag(LAG).await?;
    let writer = db.write();
    let direct = sea_orm::Database::connect(servers.replica(0).url()).await?;
    let seen = |id: i32| {
        let direct = direct.clone();
        let sql = format!("SELECT id FROM item WHERE id = {id}");
        async move { direct.query_one_raw(Statement::from_string(direct.get_database_backend(), sql)).await }
    };
    let (mut shown, mut lags) = (Vec::new(), Vec::new());
    let began = Instant::now();
    // Five seconds for the first measurement, then 100 looks. The primary never rests.
    for write in 1.. {
        let written = Instant::now();
        let id = item::new("x", write).insert(&writer).await?.id;
        if write % 10 == 0 {
            while seen(id).await?.is_none() {
                sleep(Duration::from_millis(1)).await;
                item::new("y", write).insert(&writer).await?;
            }
            if began.elapsed() > Duration::from_secs(5) {
                lags.push(written.elapsed());
                shown.extend(db.topology().member("replica-0").and_then(Member::lag));
            }
        }
        if shown.len() >= 100 {
            break;
        }
        assert!(began.elapsed() < PATIENCE * 6, "{} looks", shown.len());
    }
    let (shown, slowest) = (quantile(&mut shown, 0.5), quantile(&mut lags, 0.75));
    println!("shown {shown:?}, a write took {:?}, the slowest quarter {slowest:?}", quantile(&mut lags, 0.5));
    // No replica is faster than its delay; on a busy machine it is slower, and the lag longer.
    assert!(shown >= LAG - SLACK, "{shown:?} are shown");
    assert!(shown <= slowest.max(LAG) + SLACK, "{shown:?} are shown; a quarter of the writes took {slowest:?}");

    servers.replica(0).kill().await?;
    let replica = || db.topology().member("replica-0").expect("a member").clone();
    wait_until("it is down", PATIENCE, async || Ok(replica().health() == Health::Down)).await?;
    assert_eq!(replica().lag(), None);
    Ok(())
}

on_each_database!(the_lag_of_late_replicas_is_shown_as_it_is, [postgres, mariadb]);
