//! The events of a simulation, for the reader of one that failed.

use std::{fmt, time::Duration};

use tokio::time::Instant;

/// The last events, oldest first. Kept as data, and made to text only when a reader asks.
pub(super) struct Trace {
    start: Instant,
    notes: Vec<(Duration, Show)>,
}

type Show = Box<dyn Fn(&mut fmt::Formatter<'_>) -> fmt::Result + Send>;

impl Trace {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), notes: Vec::new() }
    }

    /// Notes an event, at the cost of one allocation.
    pub(super) fn note(&mut self, show: impl Fn(&mut fmt::Formatter<'_>) -> fmt::Result + Send + 'static) {
        self.notes.push((self.start.elapsed(), Box::new(show)));
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.notes.len()).finish()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, show) in &self.notes {
            write!(f, "{:>9.3} ", at.as_secs_f64())?;
            show(f)?;
            writeln!(f)?;
        }
        Ok(())
    }
}
