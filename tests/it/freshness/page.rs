//! Commits that end where a page of the log does. The primary then reports a position behind the header of the next
//! page, which no replica reaches before the next record.

use anyhow::{Context, Result, bail, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use sea_orm_resolver::DatabaseConnection;

use super::{PATIENCE, comes_back_to_a_replica};
use crate::{item, servers::Servers, wait::wait_until};

/// `wal_block_size`, and the segment size of the kit's clusters.
const PAGE: u64 = 8_192;
const SEGMENT: u64 = 1 << 20;

/// The length of a page header, and of the first page's header in a segment.
const HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

/// A message has to be so long that its length takes as many bytes as that of the others.
const SHORTEST: u64 = 400;

/// Something else may write a record in the wrong moment: a checkpoint, a list of running transactions.
const ATTEMPTS: usize = 4;

const INSERT_POSITION: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
const REPLAY_POSITION: &str = "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint";

async fn position(of: &impl ConnectionTrait) -> Result<u64> {
    let row = of.query_one_raw(Statement::from_string(DbBackend::Postgres, INSERT_POSITION)).await?;
    let position: i64 = row.context("one row")?.try_get_by_index(0)?;
    Ok(position.try_into()?)
}

/// Bytes that the log carries and no reader reads.
async fn emit(length: u64, to: &impl ConnectionTrait) -> Result<()> {
    let sql = format!("SELECT pg_logical_emit_message(false, 'p', repeat('x', {length}))");
    to.execute_unprepared(&sql).await?;
    Ok(())
}

/// Raises an amount through `session` in a transaction that also emits a message, of which `length` is
/// given the position of its begin in the log. Returns that position, and the end that the primary reports.
async fn write(
    session: &DatabaseConnection,
    plain: &impl ConnectionTrait,
    length: impl Fn(u64) -> u64,
) -> Result<(u64, u64)> {
    let transaction = session.begin().await?;
    transaction.execute_unprepared("UPDATE item SET amount = amount + 1").await?;
    let begins = position(&transaction).await?;
    emit(length(begins), &transaction).await?;
    transaction.commit().await?;
    Ok((begins, position(plain).await?))
}

/// Two pages before the next end of a page, or of a segment, the log is filled up to here.
async fn fill_up_to(place: u64, plain: &impl ConnectionTrait) -> Result<()> {
    loop {
        let now = position(plain).await?;
        if now + PAGE > place {
            return Ok(());
        }
        emit((place - now).min(16 * PAGE).saturating_sub(PAGE / 2).max(SHORTEST), plain).await?;
    }
}

/// A write whose commit ends with the page, or fails when something else wrote meanwhile.
async fn write_to_the_end_of(unit: u64, session: &DatabaseConnection, plain: &impl ConnectionTrait) -> Result<u64> {
    // The first one after a checkpoint logs a whole page; what the second one needs the others will, too.
    write(session, plain, |_| SHORTEST).await?;
    let now = position(plain).await?;
    let mut end = now.next_multiple_of(unit);
    if end < now + 4 * PAGE {
        end += if unit == PAGE { 5 * PAGE } else { unit };
    }
    fill_up_to(end - 3 * PAGE, plain).await?;
    let mut needed = None;
    while needed.is_none() {
        let (begins, ends) = write(session, plain, |_| SHORTEST).await?;
        ensure!(ends + SHORTEST < end, "no page was left");
        needed = (begins / PAGE == ends / PAGE).then(|| ends - begins - SHORTEST);
    }
    let needed = needed.expect("just measured");
    let (_, ends) = write(session, plain, |begins| {
        let headers = (end - 1) / PAGE - begins / PAGE;
        (end - begins).saturating_sub(needed + headers * HEADER)
    })
    .await?;
    let header = if unit == SEGMENT { LONG_HEADER } else { HEADER };
    ensure!(ends == end + header, "wanted {end}, and it ended at {ends}");
    Ok(ends)
}

async fn replayed(servers: &Servers) -> Result<Vec<u64>> {
    let mut replayed = Vec::new();
    for replica in servers.replicas() {
        replayed.push(replica.query_scalar(REPLAY_POSITION).await?.parse()?);
    }
    Ok(replayed)
}

/// Whether a comparison of positions says that no replica has the primary's position.
async fn is_stalled(at: u64, servers: &Servers, plain: &impl ConnectionTrait) -> Result<bool> {
    Ok(position(plain).await? == at && replayed(servers).await?.iter().all(|&replayed| replayed < at))
}

async fn a_stall(
    unit: u64,
    servers: &Servers,
    db: &DatabaseConnection,
    plain: &sea_orm::DatabaseConnection,
) -> Result<()> {
    let session = db.session();
    let at = write_to_the_end_of(unit, &session, plain).await?;
    let header = if unit == SEGMENT { LONG_HEADER } else { HEADER };
    let everything = at - header;
    wait_until("the replicas have replayed all there is", PATIENCE, async || {
        Ok(replayed(servers).await?.iter().all(|&replayed| replayed >= everything))
    })
    .await?;
    ensure!(is_stalled(at, servers, plain).await?, "something else was written");
    comes_back_to_a_replica(&session, &servers.who()).await?;
    ensure!(is_stalled(at, servers, plain).await?, "the stall did not last as long as the test");
    Ok(())
}

async fn is_no_stall_with_us(unit: u64) -> Result<()> {
    let servers = Servers::postgres().await?;
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    let plain = servers.plain().await?;
    sea_orm::ActiveModelTrait::insert(item::new("x", 1), &plain).await?;
    let mut failures = Vec::new();
    for _ in 0..ATTEMPTS {
        match a_stall(unit, &servers, &db, &plain).await {
            Ok(()) => return Ok(()),
            Err(failure) => failures.push(format!("{failure:#}")),
        }
    }
    bail!("no attempt of {ATTEMPTS} ended well: {failures:#?}")
}

#[tokio::test]
async fn postgres_a_commit_at_the_end_of_a_page_keeps_no_session_from_the_replicas() -> Result<()> {
    is_no_stall_with_us(PAGE).await
}

#[tokio::test]
async fn postgres_a_commit_at_the_end_of_a_segment_keeps_no_session_from_the_replicas() -> Result<()> {
    is_no_stall_with_us(SEGMENT).await
}
