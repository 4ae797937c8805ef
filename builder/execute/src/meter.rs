//! Transfers that end when the process is to end.

use kiln_cache::Store;
use kiln_solve::{EventSink, Meter};

/// Begins a transfer that ends when the store is stopped.
#[must_use]
pub fn meter<'a>(
    store: &Store,
    events: &'a dyn EventSink,
    name: impl Into<String>,
    total: Option<u64>,
) -> Meter<'a> {
    let store = store.clone();
    Meter::new(events, name, total).until(move || store.is_stopped())
}
