//! Why a command didn't run, or failed.

use kiln_graph::{Exec, Step};
use kiln_sandbox::SandboxError;

use crate::EngineError;
use crate::error::{ChangedFiles, StepFailure};

pub(crate) fn unstarted(step: &Step, source: SandboxError) -> EngineError {
    EngineError::Sandbox {
        name: step.name.to_string(),
        location: step.location.clone(),
        source,
    }
}

pub(super) fn impossible(step: &Step, message: String) -> EngineError {
    EngineError::Impossible {
        message,
        location: step.location.clone(),
    }
}

/// The error of a command that ran and failed; what it changed is looked at later.
pub(super) fn failure(step: &Step, exec: &Exec, how: String, last_output: String) -> EngineError {
    EngineError::Step(Box::new(StepFailure {
        name: step.name.to_string(),
        command: exec.args.join(" "),
        how,
        location: step.location.clone(),
        last_output,
        changed: ChangedFiles::default(),
    }))
}
