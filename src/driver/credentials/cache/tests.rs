//! The rules of asking, on a paused clock.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use tokio::time::advance;

use super::*;

const WITHIN: Duration = Duration::from_secs(3);

/// A source that counts its calls and gives a password that its test sets.
#[derive(Default)]
struct Vault {
    calls: AtomicUsize,
    password: Mutex<String>,
    life: Mutex<Option<Duration>>,
    takes: Mutex<Duration>,
    fails: AtomicBool,
    panics: AtomicBool,
}

impl Vault {
    fn with(password: &str) -> Arc<Self> {
        let vault = Self::default();
        *vault.password.lock().expect("no panic") = password.to_owned();
        Arc::new(vault)
    }

    fn store(&self, password: &str) {
        *self.password.lock().expect("no panic") = password.to_owned();
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn cache(self: &Arc<Self>) -> Arc<CredentialsCache> {
        let vault = Arc::clone(self);
        let hook: super::super::CredentialsHook = Arc::new(move || {
            let vault = Arc::clone(&vault);
            async move {
                vault.calls.fetch_add(1, SeqCst);
                let takes = *vault.takes.lock().expect("no panic");
                sleep(takes).await;
                assert!(!vault.panics.load(SeqCst), "hunter2");
                if vault.fails.load(SeqCst) {
                    return Err(io::Error::other("hunter2").into());
                }
                let given = Credentials::password_only(vault.password.lock().expect("no panic").clone());
                let life = *vault.life.lock().expect("no panic");
                Ok(life.into_iter().fold(given, Credentials::expires_in))
            }
            .boxed()
        });
        CredentialsCache::new("db-1".into(), Some(CredentialsSource::Hook(hook)), WITHIN)
    }
}

fn password(cache: &CredentialsCache) -> String {
    let held = cache.held().expect("credentials");
    held.password.as_deref().expect("a password").to_owned()
}

/// Lets the tasks run that are due.
async fn pass(time: Duration) {
    advance(time).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_that_wait_ask_once() {
    let vault = Vault::with("a");
    *vault.takes.lock().expect("no panic") = Duration::from_secs(1);
    let cache = vault.cache();
    let ready = futures_util::future::join_all((0..100).map(|_| cache.ready())).await;
    assert!(ready.iter().all(Result::is_ok));
    assert_eq!((vault.calls(), cache.version(), &*password(&cache)), (1, 1, "a"));
    vault.store("b");
    let renewed = futures_util::future::join_all((0..100).map(|_| cache.renewed_since(1))).await;
    assert!(renewed.iter().all(|renewed| *renewed));
    assert_eq!((vault.calls(), cache.version(), &*password(&cache)), (2, 2, "b"));
    assert!(cache.renewed_since(1).await, "a login of before the change");
    cache.ready().await.expect("they do not expire");
    assert_eq!(vault.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_question_ends_although_those_who_wait_are_gone() {
    let vault = Vault::with("a");
    *vault.takes.lock().expect("no panic") = Duration::from_secs(1);
    let cache = vault.cache();
    assert!(timeout(Duration::from_millis(1), cache.ready()).await.is_err());
    pass(Duration::from_secs(1)).await;
    assert_eq!(password(&cache), "a");
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_before_they_expire() {
    let vault = Vault::with("a");
    *vault.life.lock().expect("no panic") = Some(Duration::from_secs(100));
    let cache = vault.cache();
    cache.ready().await.expect("given");
    pass(Duration::from_secs(59)).await;
    assert_eq!(vault.calls(), 1);
    vault.store("b");
    pass(Duration::from_secs(22)).await;
    assert_eq!((vault.calls(), &*password(&cache)), (2, "b"));
}

#[tokio::test(start_paused = true)]
async fn valid_credentials_outlive_a_source_that_fails_and_expired_ones_do_not() {
    let vault = Vault::with("a");
    *vault.life.lock().expect("no panic") = Some(Duration::from_secs(100));
    let cache = vault.cache();
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    cache.on_event(move |event| heard.lock().expect("no panic").push(format!("{event:?}")));
    cache.ready().await.expect("given");
    vault.fails.store(true, SeqCst);
    pass(Duration::from_secs(81)).await;
    for _ in 0..18 {
        pass(Duration::from_secs(1)).await;
        cache.ready().await.expect("still valid");
    }
    let calls = vault.calls();
    assert!((4..=7).contains(&calls), "after 1, 2, 4, 8 s: {calls}");
    pass(Duration::from_secs(2)).await;
    let error = cache.ready().await.expect_err("expired");
    assert!(error.is_credentials() && error.node() == Some("db-1"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    let source = std::error::Error::source(&error).expect("the hook's own");
    assert_eq!(source.to_string(), "hunter2");
    vault.fails.store(false, SeqCst);
    pass(Duration::from_secs(11)).await;
    cache.ready().await.expect("the source was asked again");
    let said = events.lock().expect("no panic").clone();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0] == "Changed" && said[1].starts_with("Failed") && said[2] == "Recovered", "{said:?}");
    assert!(!said[1].contains("hunter2"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_helps_nothing_is_asked_ever_more_seldom() {
    let vault = Vault::with("wrong");
    let cache = vault.cache();
    cache.ready().await.expect("given");
    for second in 0..31 {
        assert!(!cache.renewed_since(1).await, "in second {second}");
        pass(Duration::from_secs(1)).await;
    }
    // At 0, 2, 6, 14, 24 s.
    assert_eq!(vault.calls(), 6);
    vault.store("right");
    pass(Duration::from_secs(10)).await;
    assert!(cache.renewed_since(1).await);
    // What helped once may be asked a second later.
    assert!(!cache.renewed_since(2).await);
    vault.store("another");
    pass(Duration::from_secs(1)).await;
    assert!(cache.renewed_since(2).await);
}

#[tokio::test(start_paused = true)]
async fn no_answer_and_a_panic_are_failures_too() {
    let vault = Vault::with("a");
    *vault.takes.lock().expect("no panic") = Duration::from_secs(60);
    let cache = vault.cache();
    let error = cache.ready().await.expect_err("too late");
    assert!(error.is_credentials() && error.to_string().contains("no answer within 3s"), "{error}");
    assert!(cache.ready().await.is_err(), "the failure of a moment ago");
    assert_eq!(vault.calls(), 1);
    *vault.takes.lock().expect("no panic") = Duration::ZERO;
    vault.panics.store(true, SeqCst);
    pass(Duration::from_secs(1)).await;
    let error = cache.ready().await.expect_err("it panics");
    assert!(error.to_string().contains("the hook panicked"), "{error}");
    vault.panics.store(false, SeqCst);
    pass(Duration::from_secs(2)).await;
    cache.ready().await.expect("the source was asked again");
}

#[tokio::test(start_paused = true)]
async fn credentials_given_by_hand_hold_until_they_are_refused() {
    let vault = Vault::with("a");
    *vault.life.lock().expect("no panic") = Some(Duration::from_secs(100));
    let cache = vault.cache();
    cache.ready().await.expect("given");
    *vault.takes.lock().expect("no panic") = Duration::from_secs(1);
    vault.store("b");
    // A question is on its way.
    let (renewed, ()) = tokio::join!(cache.renewed_since(1), async { cache.set(Credentials::new("u", "by hand")) });
    assert!(renewed);
    pass(Duration::from_secs(200)).await;
    assert_eq!((&*password(&cache), cache.version(), vault.calls()), ("by hand", 2, 2));
    assert!(cache.renewed_since(2).await);
    assert_eq!((&*password(&cache), cache.version(), vault.calls()), ("b", 3, 3));
}

#[tokio::test(start_paused = true)]
async fn without_a_source_only_a_hand_changes_the_credentials() {
    let cache = CredentialsCache::new("db-1".into(), None, WITHIN);
    cache.ready().await.expect("the URL has them");
    assert!(!cache.renewed_since(0).await && cache.held().is_none());
    cache.set(Credentials::password_only("a"));
    assert!(cache.renewed_since(0).await && !cache.renewed_since(1).await);
    cache.set(Credentials::password_only("a"));
    assert_eq!(cache.version(), 1, "the same");
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_closed_or_dropped_asks_no_more() {
    let vault = Vault::with("a");
    *vault.life.lock().expect("no panic") = Some(Duration::from_secs(10));
    let [closed, dropped] = [vault.cache(), vault.cache()];
    closed.ready().await.expect("given");
    dropped.ready().await.expect("given");
    closed.close();
    drop(dropped);
    pass(Duration::from_secs(100)).await;
    assert_eq!(vault.calls(), 2);
    assert_eq!(Arc::strong_count(&vault), 2, "the hook of the dropped one is dropped");
}

#[test]
fn the_jitter_is_between_zero_and_one_and_differs() {
    let drawn: Vec<f64> = (0..100).map(|_| random_unit()).collect();
    assert!(drawn.iter().all(|unit| (0.0..=1.0).contains(unit)));
    let (low, high) =
        (drawn.iter().filter(|unit| **unit < 0.5).count(), drawn.iter().filter(|unit| **unit >= 0.5).count());
    assert!(low > 10 && high > 10, "{low} {high}");
}
