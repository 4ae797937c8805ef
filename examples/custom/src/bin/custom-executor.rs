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
        let refused = |reason: &str| EngineError::Impossible {
            message: format!("{} {reason}", job.step.name),
            location: job.step.location.clone(),
        };
        let Op::Exec(command) = &job.step.op else {
            return Err(refused("is no command"));
        };
        if !command.mounts.is_empty() {
            return Err(refused("has mounts, which change what a command does"));
        }
        _ = writeln!(std::io::stdout().lock(), "{}", command.args.join(" "));
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
    _ = engine.store().trees().empty()?;
    let request = DockerfileRequest::default();
    kiln::build_dockerfile(&engine, &request, |_| {})?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kiln::conformance::{ExecutorTrial, executor};
    use kiln::graph::{ImagePath, Input, Mount, MountKind, Step};
    use kiln::solve::{Snapshot, StepResult};
    use kiln::{GraphBuilder, Platform};
    use kiln_cache::{Options, Store};

    use super::SaysOnly;

    #[test]
    fn it_keeps_what_an_executor_keeps() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Options::default()).unwrap();
        _ = store.trees().empty().unwrap();
        let mut graph = GraphBuilder::new(Platform::host());
        let empty = graph.scratch().unwrap();
        let run = graph.run(empty, ["make", "all"]).unwrap();
        let write = graph.write(run, "/file", "content").unwrap();
        let graph = graph.build(write).graph;
        let mut mounted: Step = graph.step(run).clone();
        if let kiln::graph::Op::Exec(command) = &mut mounted.op {
            command.mounts.push(Mount {
                target: "/mnt".into(),
                kind: MountKind::Bind {
                    from: Input(0),
                    source: ImagePath::root(),
                    writable: false,
                },
            });
        }
        executor(&ExecutorTrial {
            executor: &SaysOnly,
            store: &store,
            inputs: &[StepResult::Snapshot(Snapshot::scratch())],
            works: graph.step(run),
            says: "",
            fails: &mounted,
            foreign: graph.step(write),
            long: None,
        })
        .unwrap();
    }
}
