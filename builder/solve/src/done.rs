//! What came of a step.

use crate::backend::{Filed, Part};
use crate::event::Outcome;
use crate::snapshot::StepResult;

/// A finished step.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) result: StepResult,
    pub(crate) outcome: Outcome,
    /// For steps whose results have keys.
    pub(crate) filed: Option<Filed>,
    /// The parts of other results that its key is made of.
    pub(crate) parts: Vec<Part>,
    /// What the name of a source turned out to stand for.
    pub(crate) revision: Option<String>,
}

impl Done {
    /// Of a step that is never run.
    pub(crate) fn ready(result: StepResult) -> Self {
        Self {
            result,
            outcome: Outcome::Cached,
            filed: None,
            parts: Vec::new(),
            revision: None,
        }
    }
}
