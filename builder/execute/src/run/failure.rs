//! Why a command didn't run, or failed.

use kiln_graph::{Exec, Step};
use kiln_sandbox::{Exit, Finished, SandboxError};

use super::foreign::foreign;
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
        left: None,
    }))
}

/// What the end of a command comes to.
///
/// # Errors
/// When it failed, was killed or could not be executed.
pub(super) fn check(
    step: &Step,
    exec: &Exec,
    finished: &Finished,
    last_output: &str,
) -> Result<(), EngineError> {
    if let Exit::NotExecuted { reason, .. } = &finished.exit
        && reason.contains("xec format")
        && let Some(error) = foreign(step)
    {
        return Err(error);
    }
    let how = match &finished.exit {
        Exit::Code(0) => return Ok(()),
        Exit::Code(code) if exec.accept_status.contains(code) => return Ok(()),
        Exit::Code(127) => "exit code: 127 (a program it calls was not found)".to_owned(),
        Exit::Code(code) => format!("exit code: {code}"),
        Exit::Signal(signal) => format!("killed by signal {signal}"),
        Exit::OutOfMemory => "killed because memory ran out: raise --memory where that limits the step, else run fewer steps at once with --jobs, or give the machine more".to_owned(),
        Exit::NotExecuted { reason, code } => format!("{reason} (exit code: {code})"),
        Exit::Killed => return Err(EngineError::Cancelled),
    };
    let tail: String = {
        let lines: Vec<&str> = last_output.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    };
    Err(failure(step, exec, how, tail))
}
