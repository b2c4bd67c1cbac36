//! Measuring on a machine that others use too: everybody runs for a moment in turn, over and over,
//! and only what was measured in the same round is compared.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rustix::time::{ClockId, clock_gettime};

use crate::contender::Contender;

/// Rows that are read, by keys from 1 on.
pub(crate) const ROWS: i32 = 1_000;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
}

/// What one contender did in one slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) reads_per_second: f64,
    /// User and system time of this process for one read.
    pub(crate) cpu_micros: f64,
}

/// The samples of each contender, one per round.
#[derive(Debug)]
pub(crate) struct Race {
    names: Vec<&'static str>,
    rounds: Vec<Vec<Sample>>,
}

/// Median, smallest and largest of the rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Race {
    /// Lets the contenders run, each round in the opposite order of the one before.
    pub(crate) async fn run(contenders: &[(&'static str, Contender)], tasks: usize, plan: Plan) -> Result<Self> {
        for (_, contender) in contenders {
            slice(contender, tasks, plan.slice).await?; // opens the connections, prepares the statement
        }
        let mut rounds = Vec::with_capacity(plan.rounds);
        for round in 0..plan.rounds {
            let mut samples = vec![None; contenders.len()];
            for turn in 0..contenders.len() {
                let index = if round.is_multiple_of(2) { turn } else { contenders.len() - 1 - turn };
                samples[index] = Some(slice(&contenders[index].1, tasks, plan.slice).await?);
            }
            rounds.push(samples.into_iter().map(|sample| sample.expect("everybody had a turn")).collect());
        }
        Ok(Self { names: contenders.iter().map(|(name, _)| *name).collect(), rounds })
    }

    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// A value of one contender over the rounds.
    pub(crate) fn spread(&self, name: &str, value: impl Fn(Sample) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(|samples| value(samples[self.place(name)])))
    }

    /// A value of one contender, divided by another's in the same round.
    pub(crate) fn ratio(&self, name: &str, to: &str, value: impl Fn(Sample) -> f64) -> Spread {
        let (one, other) = (self.place(name), self.place(to));
        Spread::of(self.rounds.iter().map(|samples| value(samples[one]) / value(samples[other])))
    }

    fn place(&self, name: &str) -> usize {
        self.names.iter().position(|known| *known == name).expect("it took part")
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }
}

/// Lets `tasks` tasks read for a while, one read after the other each.
async fn slice(contender: &Contender, tasks: usize, duration: Duration) -> Result<Sample> {
    let cpu_before = cpu_time();
    let readers: Vec<_> =
        (0..tasks).map(|task| tokio::spawn(reader(contender.clone(), task as u64, duration))).collect();
    let (mut reads, mut reads_per_second) = (0, 0.0);
    for reader in readers {
        let (count, elapsed) = reader.await??;
        reads += count;
        reads_per_second += f64::from(count) / elapsed.as_secs_f64();
    }
    let cpu = cpu_time() - cpu_before;
    Ok(Sample { reads_per_second, cpu_micros: cpu.as_secs_f64() * 1e6 / f64::from(reads) })
}

/// How many reads one task did, and in which time: its last read may end late.
async fn reader(contender: Contender, seed: u64, duration: Duration) -> Result<(u32, Duration)> {
    let mut random = SmallRng::seed_from_u64(seed);
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < duration {
        let id = random.random_range(1..=ROWS);
        contender.read(id, &mut random).await?.context("a row is missing")?;
        count += 1;
    }
    Ok((count, started.elapsed()))
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("less than a second"))
}
