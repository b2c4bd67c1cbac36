//! What a client of a service can send costs the service little, and costs other clients nothing.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use http::header::COOKIE;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use sea_orm::{ActiveModelTrait, DbBackend};
use sea_orm_resolver::{CausalToken, DatabaseConnection, Role, tower::CausalLayer};
use testkit::scripted::{ScriptedNode, Step};
use tokio::time::sleep;
use tower_layer::Layer;

use crate::{
    item,
    secrets::record,
    servers::{Servers, on_each_database, served_reads},
    tower::{Client, HEADER, Handler, cookie_in, token_in},
};

#[path = "../../fuzz/token_checks.rs"]
mod token_checks;

const SYSTEM: u64 = 7;

/// Bodies of tokens, good and bad, for the properties that the fuzzer checks.
const SEEDS: &[&str] = &[
    "1t0.rs",
    "1p0.0",
    "1w0.0.7.1.1,1w0.0.7.1.zz,1w0.0.7.2.1",
    "1w3w5e11264sgsf.3w5e11264sgsf.3w5e11264sgsf.1z141z3.3w5e11264sgsf",
    "1w0.0.7.1.3w5e11264sgsg",
    "1d0.0.0-1-1,1d0.0.0-1-2.1-1-1,1d0.0.0-2-9,1d0.0.4294967295-4294967295-18446744073709551615",
    "1g0.0.3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,1g0.0.3e11fa47-71ca-11e1-9e33-c80aa9429562:7:foo:1-9223372036854775807",
    "2w0.0,1,~,1~~,;=\",;\"",
    "s1AAAA",
    "\u{feff}1t0.rs\t",
];

#[test]
fn whatever_a_client_sends_is_answered() {
    for seed in SEEDS {
        for end in 0..=seed.len() {
            token_checks::check(&seed.as_bytes()[..end]);
            token_checks::check(&seed.as_bytes()[end..]);
        }
        token_checks::check(seed.repeat(4_000).as_bytes());
    }
}

/// Parts of tokens and of lists, and the numbers at the ends of their types.
const PARTS: &str = "1 2 0 . , - : ~ w d g t p s1 ; = \" é :foo: 3w5e11264sgsf 3w5e11264sgsg 4294967295 4294967296 \
     9223372036854775807 18446744073709551615 3e11fa47-71ca-11e1-9e33-c80aa9429562";

/// Pieces of the seeds, parts and single bytes in a row.
fn sent() -> impl Strategy<Value = Vec<u8>> {
    let of_seed = (select(SEEDS), any::<Index>(), any::<Index>()).prop_map(|(seed, one, other)| {
        let (one, other) = (one.index(seed.len() + 1), other.index(seed.len() + 1));
        seed.as_bytes()[one.min(other)..one.max(other)].to_vec()
    });
    let part = select(PARTS.split(' ').collect::<Vec<_>>()).prop_map(|part| part.as_bytes().to_vec());
    let byte = any::<u8>().prop_map(|byte| vec![byte]);
    vec(prop_oneof![3 => of_seed, 3 => part, 1 => byte], 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// The fuzzer's property without the fuzzer; `PROPTEST_CASES=300000` plays some minutes.
    #[test]
    fn whatever_a_client_puts_together_is_answered(sent in sent()) {
        token_checks::check(&sent);
    }
}

/// The text with the checksum that the layer asks for: a client can compute it, too.
pub(crate) fn forged(body: &str) -> String {
    let crc = !body.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    format!("{body}~{:0>7}", base36(crc.into()))
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit((number % 36).try_into().expect("a digit"), 36));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

/// A token of the scripted cluster at this byte of its log.
fn at(lsn: u64) -> String {
    forged(&format!("1w0.0.{}.1.{}", base36(SYSTEM), base36(lsn)))
}

/// A primary and a replica of one cluster at byte 0x100, and a connection that knows both.
struct Cluster {
    primary: Arc<ScriptedNode>,
    replica: Arc<ScriptedNode>,
}

impl Cluster {
    fn new() -> Self {
        let node = |name: &str, role| {
            let node = ScriptedNode::new(name, role, DbBackend::Postgres);
            let row = [("id", 1.into()), ("name", name.into()), ("amount", 0.into())];
            node.set_rows([row.map(|(column, value)| (column.to_owned(), value)).into_iter().collect()]);
            node.set_wal(SYSTEM, 1, "0/100");
            node
        };
        Self { primary: node("p", Role::Primary), replica: node("r", Role::Replica) }
    }

    async fn connect(&self) -> Result<DatabaseConnection> {
        let builder = DatabaseConnection::builder().primary(self.primary.config()).replica(self.replica.config());
        let db = builder.primary_read_share(0.0).seed(7).connect().await?;
        sleep(Duration::from_secs(5)).await;
        Ok(db)
    }

    /// The questions to the primary within ten seconds of requests, of which each takes 5 ms, and the requests that the
    /// primary served.
    async fn flooded(&self, db: &DatabaseConnection, token: impl Fn(u64) -> String) -> Result<(usize, u64)> {
        self.primary.forget();
        let (began, mut by_the_primary) = (tokio::time::Instant::now(), 0);
        let mut n = 0;
        while began.elapsed() < Duration::from_secs(10) {
            let response = Client::of(db).sending(HEADER, &token(n)).ask("who").await?;
            by_the_primary += u64::from(response.body() == "p");
            n += 1;
            sleep(Duration::from_millis(5)).await;
        }
        Ok((self.primary.count(Step::ProbeAsk), by_the_primary))
    }
}

/// As many as without any token: one in a second.
const PROBES_ALONE: usize = 13;

#[tokio::test(start_paused = true)]
async fn a_flood_of_tokens_beyond_reach_costs_no_question_and_no_read_of_the_primary() -> Result<()> {
    let cluster = Cluster::new();
    let db = cluster.connect().await?;
    let alone = cluster.flooded(&db, |_| at(0x100)).await?;
    assert!(alone.0 <= PROBES_ALONE && alone.1 == 0, "{alone:?}");
    for token in [|_| at(u64::MAX), |n| at(u64::MAX - n), |n| at((n + 1) << 40)] {
        let (probes, by_the_primary) = cluster.flooded(&db, token).await?;
        assert!(probes <= PROBES_ALONE && by_the_primary == 0, "{probes} questions, {by_the_primary} reads");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_tokens_that_are_a_little_ahead_costs_two_questions_a_second() -> Result<()> {
    let cluster = Cluster::new();
    let db = cluster.connect().await?;
    let (probes, _) = cluster.flooded(&db, |n| at(0x1000 + n)).await?;
    assert!(probes <= PROBES_ALONE + 22, "{probes} questions in ten seconds");

    // One that is true is honoured meanwhile, and known within a second.
    cluster.primary.set_wal(SYSTEM, 1, "0/2000");
    let honest = db.session_after(&at(0x2000).parse()?);
    let mut client = Client::of(&db).sending(HEADER, &at(0x2000));
    assert_eq!(client.ask_quietly("who").await?, "p", "the replica does not have it");
    cluster.replica.set_wal(SYSTEM, 1, "0/2000");
    for _ in 0..1_100 {
        crate::tower::who(&honest).await?;
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(crate::tower::who(&honest).await?, "r");
    assert_eq!(client.ask_quietly("who").await?, "r");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_session_with_a_token_that_the_primary_does_not_show_leaves_the_primary() -> Result<()> {
    let cluster = Cluster::new();
    let db = cluster.connect().await?;
    let session = db.session_after(&at(0x200).parse()?);
    assert_eq!(crate::tower::who(&session).await?, "p", "this process has not asked the primary since");
    sleep(Duration::from_secs(2)).await;
    for _ in 0..50 {
        crate::tower::who(&session).await?;
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(crate::tower::who(&session).await?, "r", "the primary was asked and lacks the position");
    Ok(())
}

/// Requests that wrote nothing and are given another token.
#[tokio::test(start_paused = true)]
async fn a_flood_of_tokens_of_no_use_here_costs_ten_questions_a_second() -> Result<()> {
    let cluster = Cluster::new();
    let db = cluster.connect().await?;
    let of_another_cluster = |n: u64| forged(&format!("1w0.0.{}.1.1", base36(SYSTEM + 1 + n)));
    for token in [|_| forged("1p0.0"), of_another_cluster] {
        cluster.primary.forget();
        let ask = async |n: u64| Client::of(&db).sending(HEADER, &token(n)).ask("who").await;
        let began = tokio::time::Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            // Many at once are served by one question.
            for response in futures_util::future::try_join_all((0..50).map(ask)).await? {
                assert!(token_in(&response).is_some(), "a client is given a token that is of use");
            }
            sleep(Duration::from_millis(5)).await;
        }
        let probes = cluster.primary.count(Step::ProbeAsk);
        assert!(probes <= PROBES_ALONE + 105, "{probes} questions in ten seconds");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_bad_tokens_is_said_once_of_each_kind() -> Result<()> {
    let cluster = Cluster::new();
    let db = cluster.connect().await?;
    let (log, _guard) = record();
    let bad = |n: u64| {
        let many = (0..20).map(|server| forged(&format!("1d0.0.0-{}-1", server + 1 + n))).collect::<Vec<_>>().join(",");
        [
            format!("no token {n}"),
            format!("1w0.0.{n}~0000000"),
            "x".repeat(9_000),
            "x".repeat(90_000),
            forged(&format!("1w0.0.{}.1.1", base36(SYSTEM + 1 + n))),
            forged(&format!("1w0.0.{}.2.{}", base36(SYSTEM), base36(n))),
            forged(&format!("1d0.0.0-1-{}", n + 1)),
            forged("1p0.0"),
            at(u64::MAX - n),
            at(0x1000 + n),
            many,
        ]
    };
    let flood = async || {
        for n in 0..40 {
            for bad in bad(n) {
                Client::of(&db).sending(HEADER, &bad).ask("who").await?;
                Client::of(&db).sending(COOKIE, &format!("causal_token={bad}")).ask("who").await?;
            }
        }
        anyhow::Ok(log.take())
    };
    flood().await?;
    sleep(Duration::from_secs(600)).await;
    log.take();
    let said = flood().await?;
    let of_tokens: Vec<_> = said.lines().filter(|line| line.contains("token") && !line.starts_with("TRACE")).collect();
    for kind in ["no readable causal token", "cannot be compared", "beyond everything", "more causal tokens"] {
        let lines: Vec<_> = of_tokens.iter().filter(|line| line.contains(kind)).collect();
        let most = if kind.starts_with("no readable") { 2 } else { 1 };
        ensure!((1..=most).contains(&lines.len()), "{kind}: {lines:#?}");
        ensure!(lines.iter().all(|line| line.contains("suppressed=")), "{lines:#?}");
    }
    ensure!(of_tokens.len() <= 5, "{of_tokens:#?}");
    let numbers = of_tokens.iter().filter_map(|line| line.split("suppressed=").nth(1)?.split(' ').next());
    let suppressed = numbers.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    ensure!(suppressed > 300, "the flood before was counted: {of_tokens:#?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_sealed_layer_learns_nothing_and_forges_nothing() -> Result<()> {
    use sea_orm_resolver::tower::{SealKey, SealKeys};

    let cluster = Cluster::new();
    let db = cluster.connect().await?;
    let sealed = |keys: SealKeys| {
        let service = CausalLayer::new(&db).seal(keys).layer(Handler { db: db.clone() });
        Client { service, sends: http::HeaderMap::new() }
    };
    let [old, new] = ["o", "n"].map(|secret| SealKey::new(secret.repeat(64)));
    let (old, new) = (old?, new?);

    // A token that asks for the primary, and would be answered with the primary's position.
    for plain in [forged("1p0.0"), at(0x100), at(u64::MAX), forged("1w0.0.8.1.1")] {
        let mut client = sealed(old.clone().into()).sending(HEADER, &plain);
        assert_eq!(client.ask_quietly("who").await?, "r", "as none");
    }
    cluster.primary.set_wal(SYSTEM, 1, "0/200");
    let response = sealed(old.clone().into()).ask("execute").await?;
    let text = response.headers()[HEADER].to_str()?.to_owned();
    assert!(text.parse::<CausalToken>().is_err() && text.starts_with("s1"), "{text}");
    assert_eq!(cookie_in(&response), Some(format!("causal_token={text}")));

    // Another process of the service: its own writes say nothing.
    let elsewhere = cluster.connect().await?;
    for keys in [SealKeys::from(old.clone()), SealKeys::new(new.clone()).accepting(old)] {
        let service = CausalLayer::new(&elsewhere).seal(keys).layer(Handler { db: elsewhere.clone() });
        let mut client = Client { service, sends: http::HeaderMap::new() }.sending(HEADER, &text);
        assert_eq!(client.ask_quietly("who").await?, "p", "the replica does not have the write");
    }
    let service = CausalLayer::new(&elsewhere).seal(new).layer(Handler { db: elsewhere.clone() });
    let mut client = Client { service, sends: http::HeaderMap::new() }.sending(HEADER, &text);
    assert_eq!(client.ask_quietly("who").await?, "r", "a key that is not accepted any more");
    Ok(())
}

/// Far-future tokens on real servers: neither the questions nor the reads of the primary rise.
async fn a_flood_of_forged_tokens_costs_the_primary_nothing(servers: Servers) -> Result<()> {
    let db = servers.open(servers.builder().primary_read_share(0.0)).await?;
    let session = db.session();
    let id: &'static str = item::new("x", 1).insert(&session).await?.id.to_string().leak();
    let token = session.causal_token().await?.to_string();
    servers.wait_caught_up().await?;
    sleep(Duration::from_secs(2)).await;
    let body = token.split('~').next().context("a body")?;
    let (front, last) = body.rsplit_once(['.', '-', ':']).context("a position")?;
    let separator = &body[front.len()..body.len() - last.len()];
    let far = |n: u64| {
        let number = u64::MAX / 4 - n;
        let number = if body.starts_with("1w") { base36(number) } else { number.to_string() };
        forged(&format!("{front}{separator}{number}"))
    };
    let primary_probes = || db.topology().primary().node().probes();
    let (probes, reads) = (primary_probes(), served_reads(&db));
    let began = tokio::time::Instant::now();
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(5) {
        let text = far(asked);
        assert!(text.parse::<CausalToken>().is_ok(), "{text} is a token");
        assert_eq!(Client::of(&db).sending(HEADER, &text).ask(id).await?.body(), "true");
        asked += 1;
    }
    let now = served_reads(&db);
    let by_the_primary = now["primary"] - reads["primary"];
    let rate = f64::from(u32::try_from(primary_probes() - probes)?) / began.elapsed().as_secs_f64();
    println!(
        "{asked} requests with forged tokens: the primary was asked {rate:.1} times a second, and read {by_the_primary}"
    );
    ensure!(asked > 100 && by_the_primary == 0, "{by_the_primary} of {asked} on the primary; {}", db.topology());
    ensure!(rate < 4.0, "{rate} questions a second");
    Ok(())
}

on_each_database!(a_flood_of_forged_tokens_costs_the_primary_nothing, [postgres, mariadb]);
