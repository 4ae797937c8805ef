//! The store's records as the solver sees them.

use std::any::Any;

use kiln_cache::{KeyParts, Record, Store};
use kiln_graph::StepKey;
use kiln_solve::{Filed, GivenContent, Origin, ResultStore};

use crate::EngineError;
use crate::redacted_op;

/// Results of steps in a store.
#[derive(Debug)]
pub struct Records<'a>(pub &'a Store);

impl ResultStore<EngineError> for Records<'_> {
    fn result(&self, key: &StepKey) -> Result<Option<Filed>, EngineError> {
        let record = self.0.records().get(key)?;
        Ok(record.map(|record| Filed {
            key: record.key,
            added: record.output,
            took: record.duration,
            created: record.created,
            stdout: record.stdout,
        }))
    }

    fn file(&self, filed: &Filed, origin: Origin<'_>) -> Result<(), EngineError> {
        let input = |input: GivenContent| kiln_cache::KeyInput {
            name: input.name,
            content: input.content,
        };
        let record = Record {
            key: filed.key,
            output: filed.added.clone(),
            parts: KeyParts {
                definition: origin.definition,
                operation: redacted_op::operation(self.0, &origin.step.op)?,
                inputs: origin.inputs.into_iter().map(input).collect(),
            },
            name: origin.step.name.to_string(),
            location: origin.step.location.clone(),
            duration: filed.took,
            created: filed.created,
            stdout: filed.stdout.clone(),
        };
        Ok(self.0.records().put(&record)?)
    }

    fn lock(&self, key: &StepKey, stop: &dyn Fn() -> bool) -> Result<Box<dyn Any>, EngineError> {
        Ok(Box::new(self.0.lock_step(key, stop)?))
    }
}
