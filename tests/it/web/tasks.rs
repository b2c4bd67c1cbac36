//! Code that runs outside of the task that wrote: other tasks, blocking threads, other runtimes.

use std::{future::Future, thread};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter};
use sea_orm_resolver::DatabaseConnection;
use tokio::{
    runtime::{self, Handle},
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    CONTROL_EVERY, Tally, by_role, eventual, finds, late_replicas, pause_before_late_read,
    replicas_serve_when_it_is_quiet, rounds,
};
use crate::{
    item,
    servers::{Servers, on_each_database},
};

/// Where code runs that is not in the task of the test.
#[derive(Debug)]
enum Place {
    /// A task that is spawned for it.
    Task,
    /// A blocking thread that enters the runtime again: `spawn_blocking` and `Handle::block_on`.
    BlockingThread,
    /// A runtime of another thread.
    Runtime(OtherRuntime),
}

/// A thread with a runtime of its own, which lives as long as the value: connections that were opened there need it.
#[derive(Debug)]
struct OtherRuntime {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl OtherRuntime {
    async fn start() -> Result<Self> {
        let (ready, handle) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            let _ = ready.send(runtime.handle().clone());
            let _ = runtime.block_on(stopped);
        });
        Ok(Self { handle: handle.await.context("the thread starts")?, _stop: stop })
    }
}

impl Place {
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        match self {
            Self::Task => tokio::spawn(work).await?,
            Self::BlockingThread => {
                let handle = Handle::current();
                tokio::task::spawn_blocking(move || handle.block_on(work)).await?
            }
            Self::Runtime(other) => other.handle.spawn(work).await?,
        }
    }

    async fn finds(&self, db: &DatabaseConnection, id: i32) -> Result<bool> {
        let db = db.clone();
        self.run(async move { finds(&db, id).await }).await
    }

    async fn writes(&self, db: &DatabaseConnection) -> Result<i32> {
        let db = db.clone();
        self.run(async move { write(&db).await }).await
    }
}

async fn write(db: &DatabaseConnection) -> Result<i32> {
    Ok(item::new("task", 1).insert(db).await?.id)
}

async fn every_place_of_the_process_sees_what_another_place_wrote(servers: Servers) -> Result<()> {
    let _lag = late_replicas(&servers).await?;
    let places = [Place::Task, Place::BlockingThread, Place::Runtime(OtherRuntime::start().await?)];
    try_join_all(places.iter().map(|place| one_place(&servers, place))).await?;
    Ok(())
}

/// Writes here and reads at the place, and the other way round, by turns.
async fn one_place(servers: &Servers, place: &Place) -> Result<()> {
    let (db, mut tally, mut last) = (servers.builder().connect().await?, Tally::default(), 0);
    let any_replica = eventual(&db);
    for round in 0..rounds() {
        let is_written_here = round % 2 == 0;
        let id = if is_written_here { write(&db).await? } else { place.writes(&db).await? };
        let read = async || if is_written_here { place.finds(&db, id).await } else { finds(&db, id).await };
        tally.read(read().await?);
        if round % CONTROL_EVERY == 0 {
            tally.control(place.finds(&any_replica, id).await?);
        }
        if let Some(pause) = pause_before_late_read(round) {
            sleep(pause).await;
            let before = by_role(&db);
            let found = place.finds(&db, id).await?;
            tally.late_read(found, by_role(&db).1 - before.1);
        }
        last = id;
    }
    let name = match place {
        Place::Task => "a spawned task",
        Place::BlockingThread => "spawn_blocking and block_on",
        Place::Runtime(_) => "another runtime",
    };
    tally.proves(name)?;
    replicas_serve_when_it_is_quiet(name, &db, async || place.finds(&db, last).await).await?;
    db.close().await?;
    Ok(())
}

on_each_database!(every_place_of_the_process_sees_what_another_place_wrote, [postgres, mariadb], worker_threads = 2);

/// Looks rows up for others, as the data loaders of GraphQL servers do: in a task of its own, which began before the
/// writes, and several keys in one statement.
#[derive(Debug)]
struct Loader {
    keys: mpsc::Sender<(i32, oneshot::Sender<bool>)>,
}

impl Loader {
    fn start(db: DatabaseConnection) -> Self {
        const MOST: usize = 64;
        let (keys, mut asked) = mpsc::channel::<(i32, oneshot::Sender<bool>)>(MOST);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(MOST);
            while asked.recv_many(&mut batch, MOST).await > 0 {
                let wanted = batch.iter().map(|(id, _)| *id);
                let rows = item::Entity::find().filter(item::Column::Id.is_in(wanted)).all(&db).await;
                let rows = rows.expect("the rows are looked up");
                for (id, answer) in batch.drain(..) {
                    let _ = answer.send(rows.iter().any(|row| row.id == id));
                }
            }
        });
        Self { keys }
    }

    async fn finds(&self, id: i32) -> Result<bool> {
        let (answer, answered) = oneshot::channel();
        self.keys.send((id, answer)).await.context("the loader runs")?;
        answered.await.context("the loader answers")
    }
}

/// Each round writes two rows and asks for both at the same time.
async fn a_loader_in_a_task_of_its_own_sees_what_its_callers_wrote(servers: Servers) -> Result<()> {
    let _lag = late_replicas(&servers).await?;
    let db = servers.builder().connect().await?;
    let (loader, control, mut tally) = (Loader::start(db.clone()), Loader::start(eventual(&db)), Tally::default());
    let mut last = 0;
    for round in 0..rounds() / 2 {
        let (one, other) = tokio::try_join!(write(&db), write(&db))?;
        let (found_one, found_other) = tokio::try_join!(loader.finds(one), loader.finds(other))?;
        tally.read(found_one);
        tally.read(found_other);
        if round % CONTROL_EVERY == 0 {
            tally.control(control.finds(one).await?);
        }
        if let Some(pause) = pause_before_late_read(round) {
            sleep(pause).await;
            let before = by_role(&db);
            let found = loader.finds(other).await?;
            tally.late_read(found, by_role(&db).1 - before.1);
        }
        last = one;
    }
    tally.proves("a loader")?;
    replicas_serve_when_it_is_quiet("a loader", &db, async || loader.finds(last).await).await?;
    db.close().await?;
    Ok(())
}

on_each_database!(a_loader_in_a_task_of_its_own_sees_what_its_callers_wrote, [postgres, mariadb], worker_threads = 2);
