//! A replica becomes the primary, and not all that was written comes along.

use anyhow::Result;
use sea_orm::ActiveModelTrait;
use sea_orm_resolver::{CausalToken, Consistency, DatabaseConnection, SwapOptions};
use testkit::ChaosProxy;

use super::{PATIENCE, comes_back_to_a_replica, finds_until_served_by};
use crate::{item, servers::Servers, wait::wait_until};

const READS: usize = 40;

/// The tokens and handles that an application holds after a promotion.
struct Aftermath {
    db: DatabaseConnection,
    /// Of a write that every server has.
    kept: CausalToken,
    /// Of a write that only the lost primary had.
    lost: CausalToken,
}

/// The primary dies with a write that no replica received; `replica-0` takes over and writes more.
async fn promote_with_a_loss(servers: &Servers) -> Result<Aftermath> {
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    let mut receivers = Vec::new();
    for replica in servers.replicas() {
        let proxy = ChaosProxy::start(servers.primary().port()).await?;
        replica.follow_through(&proxy).await?;
        receivers.push(proxy);
    }
    let session = db.session();
    item::new("kept", 1).insert(&session).await?;
    let kept = session.causal_token().await?;
    servers.wait_caught_up().await?;
    comes_back_to_a_replica(&session, &servers.who()).await?;

    receivers.iter().for_each(ChaosProxy::cut);
    item::new("lost", 1).insert(&session).await?;
    let lost = session.causal_token().await?;
    servers.primary().kill().await?;
    servers.promote(0).await?;
    let refusal = db.swap_primary(servers.replica_node(0)).await.expect_err("a write is lost");
    assert!(refusal.is_lost_writes() && refusal.node() == Some("replica-0"), "{refusal}");
    let accepted = SwapOptions { accept_lost_writes: true, ..SwapOptions::default() };
    db.swap_primary_with(servers.replica_node(0), accepted).await?;
    for n in 0..20 {
        // The new primary goes further than the old one came.
        item::new("after", n).insert(&db.session()).await?;
    }
    servers.wait_caught_up().await?;
    Ok(Aftermath { db, kept, lost })
}

/// A session that comes with the token reads from the primary, and is told why.
async fn is_not_believed(token: &CausalToken, db: &DatabaseConnection, servers: &Servers) -> Result<()> {
    let who = servers.who();
    for _ in 0..READS {
        let session = db.session_after(token);
        assert_eq!(who.answers(&session).await?, "replica-0", "it is the primary now; {}", db.topology());
        assert_eq!(who.answers(&session.read()).await?, "replica-0");
    }
    let decision = db.session_after(token).explain(&who.raw());
    assert_eq!(decision.node(), Some("replica-0"), "{decision}");
    println!("{decision}");
    assert!(decision.to_string().contains("token"), "it does not say why: {decision}");
    Ok(())
}

async fn comes_back_to_the_follower(db: &DatabaseConnection) -> Result<()> {
    let session = db.session();
    let id = item::new("x", 1).insert(&session).await?.id;
    finds_until_served_by(&session, id, "replica-1").await?;
    let session = db.session_after(&session.causal_token().await?);
    finds_until_served_by(&session, id, "replica-1").await
}

#[tokio::test]
async fn postgres_a_token_of_the_old_timeline_is_not_believed() -> Result<()> {
    let servers = Servers::postgres().await?;
    let Servers::Postgres(cluster) = &servers else { unreachable!("just made") };
    cluster.grant_stats().await?;
    let Aftermath { db, kept, lost } = promote_with_a_loss(&servers).await?;
    // By now the follower may serve sessions, so only the token keeps its session from the follower.
    comes_back_to_the_follower(&db).await?;
    is_not_believed(&lost, &db, &servers).await?;
    is_not_believed(&kept, &db, &servers).await?;
    // A write on the new timeline says nothing of the writes on the old one.
    let both = lost.merge(&session_token(&db).await?);
    is_not_believed(&both, &db, &servers).await
}

async fn session_token(db: &DatabaseConnection) -> Result<CausalToken> {
    let session = db.session();
    item::new("x", 1).insert(&session).await?;
    Ok(session.causal_token().await?)
}

#[tokio::test]
async fn mariadb_a_token_of_a_lost_write_is_not_believed() -> Result<()> {
    let servers = Servers::mariadb().await?;
    let Aftermath { db, lost, .. } = promote_with_a_loss(&servers).await?;
    comes_back_to_the_follower(&db).await?;
    is_not_believed(&lost, &db, &servers).await
}

/// A follower tells its timeline to users that may see its receiver; otherwise its control file tells it, after its
/// next restart point.
#[tokio::test]
async fn postgres_a_follower_of_unknown_timeline_serves_what_may_be_stale_only() -> Result<()> {
    let servers = Servers::postgres().await?;
    let Aftermath { db, .. } = promote_with_a_loss(&servers).await?;
    let who = servers.who();
    let session = db.session();
    let id = item::new("x", 1).insert(&session).await?.id;
    servers.wait_caught_up().await?;
    let on_the_follower = "SELECT timeline_id FROM pg_control_checkpoint()";
    // A restart point comes after minutes, unless a user asks for one.
    for _ in 0..READS {
        assert_eq!(who.answers(&session).await?, "replica-0");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(servers.replica(1).query_scalar(on_the_follower).await?, "1", "the restart point came too soon");
    assert_eq!(who.answers(&db.with_consistency(Consistency::Eventual)).await?, "replica-1");

    servers.primary().query_scalar("CHECKPOINT").await?;
    servers.wait_caught_up().await?;
    servers.replica(1).query_scalar("CHECKPOINT").await?;
    wait_until("the restart point", PATIENCE, async || {
        Ok(servers.replica(1).query_scalar(on_the_follower).await? == "2")
    })
    .await?;
    finds_until_served_by(&session, id, "replica-1").await
}
