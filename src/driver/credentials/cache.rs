//! The present credentials of one node, shared by all its pools.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hasher},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::{Credentials, CredentialsSource, NotGiven, rules};
use crate::Error;

/// News of the credentials of a node, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CredentialsEvent<'a> {
    /// The next connections are opened with others than before.
    Changed,
    /// The source gave nothing, for the first time in a row.
    Failed(&'a Error),
    /// The source gives credentials again.
    Recovered,
}

type Listener = Box<dyn Fn(CredentialsEvent<'_>) + Send + Sync>;

/// A pool that opens its connections with the credentials.
pub(in crate::driver) trait LoginPool: Send + Sync {
    /// Gives the pool the present credentials for its next connections.
    fn take_credentials(&self);
}

/// One question to the source, shared by all that wait for the answer.
type Fetch = Shared<BoxFuture<'static, Result<(), Error>>>;

/// The credentials of a node: those that its source gave last, or that were given by hand.
///
/// The source is asked by one task at a time: before the first connection is opened, shortly before the credentials expire,
/// and when a login was refused. A task of its own asks, so that the question ends although each operation that waits for it
/// may be dropped. The pools are told of each change, so that connections that SeaORM or sqlx open by themselves have the
/// present credentials too.
pub(crate) struct CredentialsCache {
    node: Arc<str>,
    source: Option<CredentialsSource>,
    /// How long the source may take.
    within: Duration,
    state: Mutex<State>,
    /// Rises with each change. Zero: the node is opened as its URL says.
    version: AtomicU64,
    pools: Mutex<Vec<Weak<dyn LoginPool>>>,
    listener: OnceLock<Listener>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    running: Option<Fetch>,
    /// Rises when credentials are given by hand: the answer to a question of before is not used.
    by_hand: u64,
    /// The failures in a row, and the last of them.
    failures: u32,
    failure: Option<(Error, Instant)>,
    /// The last question that a refused login caused.
    asked_for_refusal: Option<Instant>,
    is_for_refusal: bool,
    /// How many answers in a row did not help a refused login.
    fruitless: u32,
    timer: Option<AbortHandle>,
    is_closed: bool,
}

struct Held {
    credentials: Credentials,
    expires_at: Option<Instant>,
}

impl Held {
    fn new(credentials: Credentials) -> Self {
        // A life that no clock can hold is no limit.
        let expires_at = credentials.expires_in.and_then(|life| Instant::now().checked_add(life));
        Self { credentials, expires_at }
    }

    fn is_valid(&self) -> bool {
        self.expires_at.is_none_or(|end| Instant::now() < end)
    }
}

/// What follows from a refused login.
enum AfterRefusal {
    /// Other credentials are there already.
    Changed,
    /// The source was asked for another reason; its answer may be from before the change on the server.
    AskedBefore(Fetch),
    Asked(Fetch),
    /// The source was asked a moment ago for the same reason.
    Paused,
}

impl CredentialsCache {
    /// The cache of a node. Without a source, credentials are only given by hand.
    pub(crate) fn new(node: Arc<str>, source: Option<CredentialsSource>, within: Duration) -> Arc<Self> {
        Arc::new(Self {
            node,
            source,
            within,
            state: Mutex::default(),
            version: AtomicU64::new(0),
            pools: Mutex::default(),
            listener: OnceLock::new(),
        })
    }

    /// Calls `listener` with each event. Only the first listener is kept.
    pub(crate) fn on_event(&self, listener: impl Fn(CredentialsEvent<'_>) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// Has a pool told of each change, as long as it lives.
    pub(in crate::driver) fn tell(&self, pool: Weak<dyn LoginPool>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// Whether a source gives the credentials, so that no connection may be opened before.
    pub(in crate::driver) fn has_source(&self) -> bool {
        self.source.is_some()
    }

    pub(in crate::driver) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The credentials that replace those of the URL, if there are any.
    pub(in crate::driver) fn held(&self) -> Option<Credentials> {
        self.state().held.as_ref().map(|held| held.credentials.clone())
    }

    /// Makes `credentials` those of the next connections. The source is asked again when they expire or are refused.
    pub(in crate::driver) fn set(self: &Arc<Self>, credentials: Credentials) {
        let mut state = self.state();
        state.by_hand += 1;
        (state.running, state.asked_for_refusal, state.is_for_refusal) = (None, None, false);
        let is_new = self.hold(&mut state, credentials);
        drop(state);
        self.publish(is_new, None);
    }

    /// Asks the source no more by itself: the pools of the node are closed.
    pub(in crate::driver) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.stop_timer();
    }

    /// Makes sure that a connection can be opened: asks the source where nothing valid is held.
    ///
    /// # Errors
    /// The source gives nothing. A failure of a moment ago is given again, so that a source that fails is not stormed.
    ///
    /// # Cancel safety
    /// The question goes on when the future is dropped.
    pub(in crate::driver) async fn ready(self: &Arc<Self>) -> Result<(), Error> {
        let Some(source) = &self.source else { return Ok(()) };
        let fetch = {
            let mut state = self.state();
            if state.held.as_ref().is_some_and(Held::is_valid) {
                return Ok(());
            }
            let pause = rules::pause_after(state.failures.saturating_sub(1));
            match &state.failure {
                Some((failure, at)) if at.elapsed() < pause => return Err(failure.clone()),
                _ => self.ask(&mut state, source),
            }
        };
        fetch.await
    }

    /// After a login with the credentials of version `used` was refused: whether there are others now. Asks the source,
    /// but not again within a second, or up to ten seconds while its answers bring nothing new.
    ///
    /// # Cancel safety
    /// As [`ready`](Self::ready).
    pub(in crate::driver) async fn renewed_since(self: &Arc<Self>, used: u64) -> bool {
        loop {
            match self.after_refusal(used) {
                AfterRefusal::Changed => {
                    // The task that brought the change may not have told the pools yet.
                    self.tell_pools();
                    return true;
                }
                AfterRefusal::Paused => return false,
                AfterRefusal::AskedBefore(fetch) => drop(fetch.await),
                AfterRefusal::Asked(fetch) => {
                    drop(fetch.await);
                    return self.version() != used;
                }
            }
        }
    }

    fn after_refusal(self: &Arc<Self>, used: u64) -> AfterRefusal {
        let mut state = self.state();
        if self.version() != used {
            return AfterRefusal::Changed;
        }
        let Some(source) = &self.source else { return AfterRefusal::Paused };
        if let Some(running) = state.running() {
            return if state.is_for_refusal {
                AfterRefusal::Asked(running)
            } else {
                AfterRefusal::AskedBefore(running)
            };
        }
        let pause = rules::pause_after(state.fruitless);
        if state.asked_for_refusal.is_some_and(|at| at.elapsed() < pause) {
            return AfterRefusal::Paused;
        }
        state.asked_for_refusal = Some(Instant::now());
        state.is_for_refusal = true;
        AfterRefusal::Asked(self.ask(&mut state, source))
    }

    /// The question that is on its way, or another one.
    fn ask(self: &Arc<Self>, state: &mut State, source: &CredentialsSource) -> Fetch {
        if let Some(running) = state.running() {
            return running;
        }
        let (cache, source) = (Arc::clone(self), source.clone());
        let (held, by_hand) = (state.held.as_ref().map(|held| held.credentials.clone()), state.by_hand);
        let task = tokio::spawn(async move {
            let asking = AssertUnwindSafe(async { source.fetch(held).await }).catch_unwind();
            let given = match timeout(cache.within, asking).await {
                Ok(Ok(given)) => given,
                Ok(Err(_)) => Err("the hook panicked".to_owned().into()),
                Err(_) => Err(format!("no answer within {:?}", cache.within).into()),
            };
            cache.arrived(given, by_hand)
        });
        let node = Arc::clone(&self.node);
        let lost = move |_| Err(Error::credentials(&*node, "the runtime ended", None));
        let fetch = task.map(|ended| ended.unwrap_or_else(lost)).boxed().shared();
        state.running = Some(fetch.clone());
        fetch
    }

    fn arrived(self: &Arc<Self>, given: Result<Credentials, NotGiven>, by_hand: u64) -> Result<(), Error> {
        let mut state = self.state();
        if state.by_hand != by_hand {
            return Ok(()); // the credentials that were given by hand meanwhile hold
        }
        state.running = None;
        let is_for_refusal = std::mem::take(&mut state.is_for_refusal);
        match given {
            Ok(credentials) => {
                let recovered = (state.failures > 0).then_some(CredentialsEvent::Recovered);
                let is_new = self.hold(&mut state, credentials);
                state.fruitless = state.fruitless.saturating_add(u32::from(is_for_refusal && !is_new));
                drop(state);
                self.publish(is_new, recovered);
                Ok(())
            }
            Err(NotGiven { problem, source }) => {
                let failure = Error::credentials(&*self.node, problem, source);
                state.failures = state.failures.saturating_add(1);
                state.failure = Some((failure.clone(), Instant::now()));
                state.fruitless = state.fruitless.saturating_add(u32::from(is_for_refusal));
                let (is_first, pause) = (state.failures == 1, rules::pause_after(state.failures - 1));
                self.ask_after(&mut state, pause);
                drop(state);
                self.publish(false, is_first.then_some(CredentialsEvent::Failed(&failure)));
                Err(failure)
            }
        }
    }

    /// Keeps the credentials, and plans the next question. Returns whether they are others than before.
    fn hold(self: &Arc<Self>, state: &mut State, credentials: Credentials) -> bool {
        let is_new = state.held.as_ref().is_none_or(|held| !held.credentials.is_same_login(&credentials));
        let renewal = credentials.expires_in.map(|life| rules::renew_after(life, random_unit()));
        state.held = Some(Held::new(credentials));
        (state.failures, state.failure) = (0, None);
        if is_new {
            state.fruitless = 0;
            self.version.fetch_add(1, Ordering::AcqRel);
        }
        let poll = self.source.as_ref().and_then(CredentialsSource::asked_every);
        match renewal.into_iter().chain(poll).min() {
            Some(pause) => self.ask_after(state, pause),
            None => state.stop_timer(),
        }
        is_new
    }

    /// Asks the source after a pause, unless the plan changes. A timer that is lost with its runtime is no loss: the next
    /// refused login asks.
    fn ask_after(self: &Arc<Self>, state: &mut State, pause: Duration) {
        state.stop_timer();
        let (Some(_), Ok(runtime)) = (&self.source, tokio::runtime::Handle::try_current()) else { return };
        if state.is_closed {
            return;
        }
        let cache = Arc::downgrade(self);
        let timer = runtime.spawn(async move {
            sleep(pause).await;
            if let Some(cache) = cache.upgrade()
                && let Some(source) = &cache.source
            {
                // The answer is kept by its own task.
                drop(cache.ask(&mut cache.state(), source));
            }
        });
        state.timer = Some(timer.abort_handle());
    }

    /// Gives the pools the present credentials.
    fn tell_pools(&self) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pools.iter().filter_map(Weak::upgrade).for_each(|pool| pool.take_credentials());
    }

    /// Tells the pools and the log.
    fn publish(&self, is_new: bool, event: Option<CredentialsEvent<'_>>) {
        if is_new {
            self.tell_pools();
        }
        let Some(listener) = self.listener.get() else { return };
        event.into_iter().chain(is_new.then_some(CredentialsEvent::Changed)).for_each(listener);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The question that has no answer yet.
    fn running(&self) -> Option<Fetch> {
        self.running.as_ref().filter(|running| running.peek().is_none()).cloned()
    }

    fn stop_timer(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.stop_timer();
    }
}

impl fmt::Debug for CredentialsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsCache").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// A number between 0 and 1 from the keys that the standard library draws for each hash map.
fn random_unit() -> f64 {
    f64::from(u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
