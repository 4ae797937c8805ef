//! What steps gave before it was their turn, in the action of a step before them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kiln_graph::{ContentDigest, DefinitionDigest, ImagePath};
use kiln_solve::{Job, StepResult};

use crate::outputs::Given;
use crate::report::StepReport;

/// What one step gave.
#[derive(Clone, Debug)]
pub(crate) struct Early {
    pub(crate) definition: DefinitionDigest,
    /// What it was made from.
    pub(crate) inputs: Vec<ContentDigest>,
    pub(crate) given: Given,
    pub(crate) report: StepReport,
    /// How many bytes of its output were shown.
    pub(crate) shown: u64,
}

/// All of a build, until their turn.
#[derive(Debug, Default)]
pub(crate) struct EarlyResults(Mutex<BTreeMap<DefinitionDigest, Early>>);

impl EarlyResults {
    pub(crate) fn add(&self, results: Vec<Early>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(results.into_iter().map(|early| (early.definition, early)));
    }

    /// Whether there is something of a step.
    pub(crate) fn has(&self, job: &Job<'_>) -> bool {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.contains_key(&job.definition)
    }

    /// What a step gave, if it is made from the same now.
    pub(crate) fn take(&self, job: &Job<'_>) -> Option<Early> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let early = waiting.remove(&job.definition)?;
        let inputs = job.inputs.iter().map(content_of);
        early.inputs.iter().copied().eq(inputs).then_some(early)
    }
}

/// Why steps can't be run by the cluster's workers.
#[derive(Debug, Default)]
pub(crate) struct Unable(Mutex<BTreeMap<DefinitionDigest, String>>);

impl Unable {
    pub(crate) fn note(&self, definition: DefinitionDigest, reason: String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        _ = known.insert(definition, reason);
    }

    pub(crate) fn reason(&self, definition: &DefinitionDigest) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(definition).cloned()
    }
}

/// What a result contains.
pub(crate) fn content_of(result: &StepResult) -> ContentDigest {
    match result {
        StepResult::Snapshot(snapshot) => snapshot.content(),
        StepResult::Directory(directory) => directory.content(&ImagePath::root()),
    }
}
