//! One client sends as many tokens as a server lets in; another one asks for a row. A measurement, and no test:
//! `cargo test --release --test it web::attack -- --ignored --nocapture`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sea_orm::ActiveModelTrait;

use super::service::{Service, Setup};
use crate::{files::SharedFile, item};

const MEASURED: Duration = Duration::from_secs(3);

/// A list of domains that is as long as a token may be, and then short tokens, 300 KB in all.
fn attack() -> String {
    let list = |list: String| super::super::hostile::forged(&format!("1d0.0.{list}"));
    let long = list((0..800).map(|domain| format!("{domain}-1-1")).collect::<Vec<_>>().join("."));
    let short = (0..15_000).map(|server| list(format!("0-{server}-1"))).collect::<Vec<_>>().join(",");
    format!("x-causal-token: {long},{short}\r\n")
}

/// Asks once and returns when the answer is there.
fn ask(stream: &mut TcpStream, headers: &str, id: i32) -> Result<()> {
    stream.write_all(format!("GET /items/{id} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    // The name of the row ends the answer.
    while !answer.ends_with(b"web") {
        let length = stream.read(&mut part)?;
        ensure!(length > 0, "the service ended the connection: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..length]);
    }
    Ok(())
}

/// The median time of the victim's requests, and the number of the attacker's.
fn victim(at: SocketAddr, id: i32, headers: Option<String>) -> Result<(Duration, u64)> {
    let (ends, attacks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let attacker = headers.map(|headers| {
        let (ends, attacks) = (Arc::clone(&ends), Arc::clone(&attacks));
        thread::spawn(move || -> Result<()> {
            let mut stream = TcpStream::connect(at)?;
            while !ends.load(Relaxed) {
                ask(&mut stream, &headers, id)?;
                attacks.fetch_add(1, Relaxed);
            }
            Ok(())
        })
    });
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < MEASURED {
        let asked = Instant::now();
        ask(&mut stream, "", id)?;
        times.push(asked.elapsed());
        thread::sleep(Duration::from_millis(1));
    }
    ends.store(true, Relaxed);
    if let Some(attacker) = attacker {
        attacker.join().expect("it does not panic")?;
    }
    times.sort_unstable();
    Ok((*times.get(times.len() / 2).context("an answer")?, attacks.load(Relaxed)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_victim_beside_an_attacker() -> Result<()> {
    let file = SharedFile::new().await?;
    let db = file.builder().connect().await?;
    let id = item::new("web", 1).insert(&db).await?.id;
    for setup in [Setup::Plain, Setup::Layer] {
        let service = Service::start(&db, setup).await?;
        let at = service.address;
        let measure = async |headers| tokio::task::spawn_blocking(move || victim(at, id, headers)).await?;
        let (alone, _) = measure(None).await?;
        let (beside, attacks) = measure(Some(attack())).await?;
        println!(
            "{setup:?}: median alone {alone:?}, beside an attacker {beside:?} ({:.2} times), {attacks} attacks in {MEASURED:?}",
            beside.as_secs_f64() / alone.as_secs_f64(),
        );
    }
    Ok(())
}
