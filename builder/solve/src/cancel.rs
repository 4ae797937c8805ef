//! Stopping a build: at the first failure, or when the user asks for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Hook = Box<dyn Fn() + Send>;

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    overtaken: AtomicBool,
    hooks: Mutex<Vec<(u64, Hook)>>,
}

/// Asks everything that holds a clone of it to stop. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cancel(Arc<State>);

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

impl Cancel {
    /// One that nobody has asked to stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops everything; the hooks run on the caller's thread.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        for (_, hook) in self.hooks().iter() {
            hook();
        }
    }

    /// The same, because somebody else has done the work: a result that comes all the same is not kept.
    pub fn overtake(&self) {
        self.0.overtaken.store(true, Ordering::SeqCst);
        self.cancel();
    }

    /// Whether [`Cancel::overtake`] was called.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        self.0.overtaken.load(Ordering::SeqCst)
    }

    /// Whether [`Cancel::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Runs `hook` on cancellation, at once when that was before, until the guard is dropped.
    #[must_use = "the hook is registered until this is dropped"]
    pub fn on_cancel(&self, hook: impl Fn() + Send + 'static) -> CancelHook {
        let mut hooks = self.hooks();
        if self.is_cancelled() {
            hook();
        }
        let id = hooks.last().map_or(0, |(id, _)| id + 1);
        hooks.push((id, Box::new(hook)));
        CancelHook {
            cancel: self.clone(),
            id,
        }
    }

    /// One of its own that is cancelled when this one is, until the guard is dropped.
    #[must_use]
    pub fn child(&self) -> (Self, CancelHook) {
        let child = Self::new();
        let own = child.clone();
        let following = self.on_cancel(move || own.cancel());
        (child, following)
    }

    fn hooks(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Hook)>> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a hook registered.
#[derive(Debug)]
pub struct CancelHook {
    cancel: Cancel,
    id: u64,
}

impl Drop for CancelHook {
    fn drop(&mut self) {
        self.cancel.hooks().retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn hooks_run_once_each_while_registered() {
        let count = Arc::new(AtomicU32::new(0));
        let add = |n: u32| {
            let count = count.clone();
            move || _ = count.fetch_add(n, Ordering::SeqCst)
        };
        let cancel = Cancel::new();
        let _kept = cancel.on_cancel(add(1));
        drop(cancel.on_cancel(add(10)));
        cancel.cancel();
        let _late = cancel.on_cancel(add(100));
        assert_eq!(count.load(Ordering::SeqCst), 101);
    }
}
