//! SeaORM's metric callback, for all pools of a connection.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use sea_orm::metric::Info;

type Callback = Arc<dyn Fn(&Info<'_>) + Send + Sync>;

/// The metric callback of one connection. Clones share it.
///
/// SeaORM keeps a callback in each handle. The handle of every pool gets one that calls this one, so that a callback
/// that is set later, or replaced, is told of the statements of all pools.
#[derive(Clone, Default)]
pub struct Metric(Arc<RwLock<Option<Callback>>>);

impl Metric {
    pub(crate) fn set(&self, callback: impl Fn(&Info<'_>) + Send + Sync + 'static) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(callback));
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn tell(&self, info: &Info<'_>) {
        // The lock is open again before the call: a callback may set another one.
        let callback = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(callback) = callback {
            callback(info);
        }
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metric").field(&self.is_set()).finish()
    }
}
