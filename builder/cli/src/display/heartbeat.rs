//! A line every few seconds, while nothing else is written: what runs, and how far transfers are.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Nothing is silent for longer.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often a look is taken.
const LOOK: Duration = Duration::from_millis(250);

/// What can say how far it is.
pub(super) trait Alive: Send + 'static {
    /// When something was written last.
    fn last_written(&self) -> Instant;

    /// What runs now, to be written; empty when nothing does.
    fn still(&mut self) -> Vec<u8>;
}

/// Writes the line for as long as the state is there.
pub(super) fn start<S: Alive>(state: &Arc<Mutex<S>>) {
    let state = Arc::downgrade(state);
    std::thread::spawn(move || while beat(&state) {});
}

fn beat<S: Alive>(state: &Weak<Mutex<S>>) -> bool {
    std::thread::sleep(LOOK);
    let Some(state) = state.upgrade() else {
        return false;
    };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if state.last_written().elapsed() >= INTERVAL {
        let text = state.still();
        if !text.is_empty() {
            _ = std::io::stderr().lock().write_all(&text);
        }
    }
    true
}
