//! How long `connect` waits for a primary that may come yet, to the tick.

use std::time::Duration;

use sea_orm::DbErr;
use sea_orm_resolver::Error;
use testkit::scripted::{Behaviour, Step, fault};
use tokio::time::{self, Instant};

use super::{Nodes, who, write};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn connect_waits_for_a_primary_that_refuses_starts_or_is_silent() -> Result<(), DbErr> {
    for behaviour in [
        Behaviour::Fail(fault::refused()),
        Behaviour::Fail(fault::not_connected("57P03")),
        Behaviour::Fail(fault::not_connected("53300")),
        Behaviour::Never,
    ] {
        let nodes = Nodes::postgres(2);
        nodes.primary.on(Step::ProbeConnect, behaviour.clone());
        let builder = nodes.builder().primary_connect_timeout(LIMIT);
        let recovering = async {
            time::sleep(LIMIT / 2).await;
            nodes.primary.recover();
        };
        let (db, ()) = tokio::join!(nodes.connected(builder), recovering);
        let db = db?;
        write(&db).await?;
        assert_ne!(who(&db).await?, "", "{behaviour:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_over_the_error_names_the_primary_and_the_last_reason() {
    for (behaviour, said) in [
        (Behaviour::Fail(fault::refused()), "refused"),
        (Behaviour::Fail(fault::not_connected("57P03")), "57P03"),
        (Behaviour::Never, "no answer within 20s"),
    ] {
        let nodes = Nodes::postgres(1);
        nodes.primary.on(Step::ProbeConnect, behaviour);
        let started = Instant::now();
        let connecting = nodes.builder().primary_connect_timeout(LIMIT).connect();
        let error = connecting.await.expect_err("the primary does not come");
        assert_eq!(started.elapsed(), LIMIT);
        let ours = Error::from_db_err(&error).expect("ours");
        assert!(ours.is_unreachable() && ours.node() == Some("p"), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_waiting_does_not_mend_ends_connect_at_once() {
    for code in ["28P01", "3D000"] {
        let nodes = Nodes::postgres(1);
        nodes.primary.on(Step::ProbeConnect, Behaviour::Fail(fault::not_connected(code)));
        let started = Instant::now();
        let error = nodes.builder().connect().await.expect_err("the login is refused");
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert!(Error::from_db_err(&error).is_some_and(|error| error.node() == Some("p")), "{error}");
    }
}
