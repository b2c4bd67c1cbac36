//! LEARN: the one writer of the topology, and the one task that probes the nodes.

mod connect;
mod demand;
mod drain;
mod functions;
mod greeting;
mod membership;
mod probe;
mod prober;
mod question_budget;
mod rhythm;
mod succession;
mod writer;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use sea_orm::DbErr;
use tokio::task::JoinHandle;

pub(crate) use connect::{ConnectLimits, FirstAnswer, check_role, connect_all};
pub use membership::{MembershipChange, SwapOptions, SwapReport};
pub(crate) use writer::Writer;

use probe::Scope;

use crate::{
    driver::Fault,
    telemetry,
    topology::{Lane, Position, Reported, Role},
};

/// Keeps the topology up to date for as long as it exists: dropping it, with the last handle of a
/// connection, ends the task.
pub(crate) struct Monitor {
    writer: Arc<Writer>,
    /// One change of the membership at a time; health may change meanwhile.
    membership: tokio::sync::Mutex<()>,
    running: Arc<AtomicBool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Monitor {
    pub(crate) fn new(writer: Arc<Writer>) -> Self {
        Self {
            writer,
            membership: tokio::sync::Mutex::new(()),
            running: Arc::new(AtomicBool::new(false)),
            task: Mutex::new(None),
        }
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Starts the task, or starts it again on the caller's runtime when its own is gone. Costs one
    /// relaxed load while it runs.
    pub(crate) fn ensure_running(&self) {
        if !self.running.load(Ordering::Relaxed) {
            self.start();
        }
    }

    /// Ends the task for good.
    pub(crate) fn stop(&self) {
        self.writer.stop();
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }

    /// The primary's position, asked for over the primary's own pool; `None` where the primary has none. For a
    /// connection whose nodes are not probed.
    pub(crate) async fn ask_position(&self) -> Result<Option<Position>, DbErr> {
        let driver = self.writer.cell().load().primary.node.driver(Lane::Write);
        let Some(question) = probe::question(driver.backend(), Scope::Position) else { return Ok(None) };
        match driver.ask(question).await {
            Ok(row) => {
                let answer = row.and_then(|row| probe::read_answer(driver.backend(), Role::Primary, &row).ok());
                Ok(match answer.map(|answer| answer.position) {
                    Some(Reported::At(position)) => Some((*position).clone()),
                    _ => None,
                })
            }
            Err(error) if Fault::is_not_understood(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[cold]
    fn start(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if self.writer.is_stopped() || self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        if task.is_some() {
            // The runtime of the task before is gone, and every open connection with the runtime.
            for node in self.writer.cell().load_full().nodes() {
                self.writer.invalidate(node);
            }
        }
        let alive = Alive(Arc::clone(&self.running));
        *task = Some(runtime.spawn(supervise(Arc::clone(&self.writer), alive)));
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("running", &self.running).finish_non_exhaustive()
    }
}

/// Records that the task is gone, in whatever way: ended, aborted, or lost with its runtime.
struct Alive(Arc<AtomicBool>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

async fn supervise(writer: Arc<Writer>, _alive: Alive) {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        // The panic drops all state of the watch; the knowledge of the watch is in the published topology.
        let both = async { tokio::join!(prober::watch(&writer), functions::keep(&writer)) };
        if AssertUnwindSafe(both).catch_unwind().await.is_ok() {
            return;
        }
        telemetry::monitor_panicked();
        tokio::time::sleep(PAUSE).await;
    }
}
