//! Remembers what became of each step, for the provenance of a build.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_engine::{Event, EventSink, StepRef};

use super::facts::StepResult;
use crate::millis::{millis, now};

/// Notes what steps end with, and passes events on.
pub(crate) struct Recorder {
    next: Arc<dyn EventSink>,
    /// When it began, in milliseconds since 1970.
    pub(crate) started: u64,
    steps: Mutex<BTreeMap<StepRef, StepResult>>,
}

impl Recorder {
    pub(crate) fn new(next: Arc<dyn EventSink>) -> Self {
        Self {
            next,
            started: now(),
            steps: Mutex::default(),
        }
    }

    /// What identifies the build.
    pub(crate) fn invocation(&self) -> String {
        crate::build_id(self.started)
    }

    /// What is known so far.
    pub(crate) fn steps(&self) -> BTreeMap<StepRef, StepResult> {
        let steps = self.steps.lock();
        steps.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EventSink for Recorder {
    fn event(&self, event: Event) {
        if let Event::Finished {
            step,
            outcome,
            duration,
            key,
            ..
        } = &event
        {
            let result = StepResult {
                outcome: Some(*outcome),
                key: *key,
                took: millis(*duration),
            };
            let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
            steps.insert(*step, result);
        }
        self.next.event(event);
    }
}
