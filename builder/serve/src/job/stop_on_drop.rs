//! Builds end with whoever waits for them.

use std::sync::Arc;

use super::Job;

/// Stops a build when a client that waits for it goes away.
pub(crate) struct StopOnDrop(Option<Arc<Job>>);

impl StopOnDrop {
    /// For a call that begins to wait.
    pub(crate) fn new(job: Arc<Job>) -> Self {
        Self(Some(job))
    }

    /// The call has its answer.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(job) = self.0.take()
            && !job.cancelled.is_cancelled()
        {
            job.stop();
        }
    }
}
