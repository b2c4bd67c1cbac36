//! Who is told of every statement: SeaORM's metric callback, for all pools of a connection.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use sea_orm::metric::Info;

type Callback = Arc<dyn Fn(&Info<'_>) + Send + Sync>;

/// The metric callback of one connection. Clones are the same one.
///
/// SeaORM keeps a callback in each handle. Every pool's handle is given one that looks in here, so
/// that a callback that is set later, or replaced, is heard from all of them.
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
        // Out of the lock before the call: a callback may set another one.
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
