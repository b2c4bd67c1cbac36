//! Events about publications, and layers of `tracing` that call the connection they hear of.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use sea_orm_resolver::DatabaseConnection;
use tracing::{Event, Subscriber, field::Visit};
use tracing_subscriber::{Layer, layer::Context};

use super::Nodes;

/// Longer than a noisy machine needs for three calls without any I/O.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records the weights of which events tell, and changes a weight when an event tells of the weight 2.
#[derive(Clone, Default)]
struct Meddler {
    db: Arc<Mutex<Option<DatabaseConnection>>>,
    weights: Arc<Mutex<Vec<u64>>>,
}

#[derive(Default)]
struct Weight(Option<u64>);

impl Visit for Weight {
    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        if field.name() == "weight" {
            self.0 = Some(value);
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
}

impl<S: Subscriber> Layer<S> for Meddler {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut weight = Weight::default();
        event.record(&mut weight);
        let Some(weight) = weight.0 else { return };
        self.weights.lock().unwrap_or_else(PoisonError::into_inner).push(weight);
        if weight == 2 {
            let db = self.db.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let db = db.expect("set before the first weight");
            for weight in [3, 4] {
                db.set_weight("r1", weight).expect("a member and a weight");
            }
        }
    }
}

/// In a thread of its own: the event used to be emitted under the lock that `set_weight` takes.
#[test]
fn a_layer_that_changes_a_weight_when_it_hears_of_one_does_not_deadlock() {
    let (ended, ends) = mpsc::channel();
    thread::spawn(move || {
        let meddler = Meddler::default();
        let _guard = crate::listen::listen(meddler.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let db = runtime.block_on(Nodes::postgres(2).connect()).expect("scripted nodes answer");
        *meddler.db.lock().unwrap_or_else(PoisonError::into_inner) = Some(db.clone());
        db.set_weight("r1", 2).expect("a member and a weight");
        let weights = meddler.weights.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let weight = db.topology().member("r1").map(sea_orm_resolver::Member::weight);
        ended.send((weights, weight)).expect("the test waits");
    });
    let (weights, weight) = ends.recv_timeout(PATIENCE).expect("no deadlock");
    assert_eq!(weights, [2, 3, 4], "in the order of the publications");
    assert_eq!(weight, NonZeroU32::new(4));
}
