//! The one choice of how a shared pointer is swapped under its readers.

use arc_swap::ArcSwapAny;

/// arc-swap's own strategy has an open soundness report on weakly ordered CPUs (its issue 210). On those CPUs the
/// slower strategy, which takes a lock, is used instead.
#[cfg(target_arch = "x86_64")]
type Strategy = arc_swap::DefaultStrategy;
#[cfg(not(target_arch = "x86_64"))]
type Strategy = std::sync::RwLock<()>;

/// Holds an `Arc<_>`, or an `Option<Arc<_>>`, that readers load without waiting.
pub(crate) type Swap<T> = ArcSwapAny<T, Strategy>;
/// The result of a load. Must not live across an `.await`: a guard can hold up a writer.
pub(crate) type Guard<T> = arc_swap::Guard<T, Strategy>;
