//! Builds a Dockerfile without running its commands: an executor that says what it would run, and
//! leaves everything as it was. One that runs them elsewhere looks the same.

use std::io::Write as _;
use std::sync::Arc;

use kiln::graph::Op;
use kiln::solve::{Executed, Executor, Job, empty_tree};
use kiln::{DockerfileRequest, EngineError};

struct SaysOnly;

impl Executor<EngineError> for SaysOnly {
    fn execute(&self, job: &Job<'_>) -> Result<Executed, EngineError> {
        if let Op::Exec(command) = &job.step.op {
            _ = writeln!(std::io::stdout().lock(), "{}", command.args.join(" "));
        }
        Ok(Executed {
            tree: empty_tree(),
            stdout: None,
            took: None,
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kiln::run_if_helper();
    let engine = kiln::open(|_| {})?.with_executor(Arc::new(SaysOnly));
    // The tree of a step that changes nothing must be there.
    _ = engine.store().empty_tree()?;
    let request = DockerfileRequest::default();
    kiln::build_dockerfile(&engine, &request, |_| {})?;
    Ok(())
}
