//! Takes over what came of steps that ran on a cluster.

use std::time::Duration;

use kiln_execute::{Around, ChangedFiles, Distant, EngineError, LeftBehind, StepFailure};
use kiln_graph::{Op, TreeId};
use kiln_share::{CacheSource, RemoteTree};
use kiln_solve::{Event, Executed, Job};

use crate::connection::Connection;
use crate::early::Unable;
use crate::failure::Failure;
use crate::known::KnownTrees;
use crate::outputs::{Given, printable};
use crate::report::{FailedStep, MAX_STDOUT, StepEnd, StepReport};

/// How many warnings of a worker about one step are shown.
const MAX_WARNINGS: usize = 8;

/// Takes over what came of one step.
#[derive(Clone, Copy)]
pub(crate) struct Results<'a> {
    pub(crate) server: &'a str,
    pub(crate) connection: &'a Connection,
    /// The cluster, as what trees are fetched from.
    pub(crate) source: &'a CacheSource,
    pub(crate) known: &'a KnownTrees,
    pub(crate) unable: &'a Unable,
    /// Whether files are brought here that nobody here needs yet.
    pub(crate) brings_all: bool,
    pub(crate) job: &'a Job<'a>,
    pub(crate) around: &'a Around<'a>,
    /// Who gave it.
    pub(crate) given: &'a Given,
}

impl Results<'_> {
    /// Takes what came of a step, of whose output so many bytes were shown.
    pub(crate) fn take(&self, step: StepReport, shown: u64) -> Result<Executed, Failure> {
        self.tell(&step, shown)?;
        match step.end {
            StepEnd::Unable { reason } => {
                let error = self.given.unable_step(printable(&reason));
                self.unable.note(self.job.definition, error.to_string());
                Err(error.into())
            }
            StepEnd::Ran { tree, stdout } => {
                if stdout.as_ref().is_some_and(|text| text.len() > MAX_STDOUT) {
                    let reason = "its report has too much output";
                    return Err(self.given.wrong(reason).into());
                }
                Ok(Executed {
                    tree: self.accept(tree)?,
                    stdout: stdout.filter(|_| self.job.keep_output),
                    took: Some(Duration::from_millis(step.took)),
                })
            }
            StepEnd::Failed(failed) => Err(Failure::Step(self.failed(failed))),
        }
    }

    /// Tells what a step wrote and used.
    fn tell(&self, step: &StepReport, shown: u64) -> Result<(), Failure> {
        let id = self.job.id.into();
        if let Some(log) = &step.log {
            let read = self.given.log(&self.connection.storage, log);
            let records = self.connection.wait(self.job.cancel, read)?;
            for (stream, bytes) in unseen(records, shown) {
                self.job.events.event(Event::Output {
                    step: id,
                    stream,
                    bytes,
                });
            }
        }
        for message in step.warnings.iter().take(MAX_WARNINGS) {
            let message = format!("{}: {message}", self.server);
            self.job.events.event(Event::Warning { message });
        }
        self.job.events.event(Event::Used {
            step: id,
            cpu: Duration::from_millis(step.cpu),
            memory: step.memory,
        });
        Ok(())
    }

    /// Brings the tree of a step's changes here, or its manifest only: its files stay in the cluster until
    /// somebody needs them.
    fn accept(&self, tree: RemoteTree) -> Result<TreeId, Failure> {
        let distant = Distant::new(tree.clone(), self.source);
        let (trees, events) = (self.around.trees, self.job.events);
        let brought = match self.brings_all {
            true => trees.fetch_tree(&distant, events).map(drop),
            false => trees.fetch_manifest(&distant, events).map(drop),
        };
        match brought {
            Ok(()) => {}
            Err(EngineError::RemoteCache { source, .. }) => {
                return Err(self.given.wrong(&source.to_string()).into());
            }
            Err(error) => return Err(error.into()),
        }
        let id = tree.tree;
        self.around.trees.distant.add(tree.clone(), self.source);
        self.known.add(tree);
        Ok(id)
    }

    fn failed(&self, failed: FailedStep) -> EngineError {
        let left = failed.tree.and_then(|tree| self.keep_failed(tree));
        EngineError::Step(Box::new(StepFailure {
            name: self.job.step.name.to_string(),
            command: command_of(&self.job.step.op),
            how: failed.how,
            location: self.job.step.location.clone(),
            last_output: failed.last_output,
            changed: ChangedFiles {
                some: failed.changed,
                all: failed.changed_in_all,
            },
            left,
        }))
    }

    /// What a failed step left behind can be looked at here. It is no loss if it can't.
    fn keep_failed(&self, tree: RemoteTree) -> Option<LeftBehind> {
        let distant = Distant::new(tree, self.source);
        let trees = self.around.trees;
        let tree = trees.fetch_tree(&distant, self.job.events).ok()?;
        let definition = &self.job.definition.0;
        _ = kiln_execute::keep_failed(&trees.store, definition, &tree);
        Some(LeftBehind {
            step: self.job.id,
            tree: tree.id(),
        })
    }
}

fn command_of(op: &Op) -> String {
    match op {
        Op::Exec(exec) => exec.args.join(" "),
        _ => String::new(),
    }
}

/// What remains of records whose first bytes were shown.
fn unseen<S>(records: Vec<(S, Vec<u8>)>, shown: u64) -> Vec<(S, Vec<u8>)> {
    let mut left = usize::try_from(shown).unwrap_or(usize::MAX);
    let rest = records.into_iter().map(|(stream, mut bytes)| {
        let seen = left.min(bytes.len());
        left -= seen;
        (stream, bytes.split_off(seen))
    });
    rest.filter(|(_, bytes)| !bytes.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_is_not_shown_again() {
        let records = || vec![(1, b"ab".to_vec()), (2, b"cd".to_vec()), (1, b"e".to_vec())];
        let rest = |shown| {
            let rest = unseen(records(), shown).into_iter();
            let rest = rest.map(|(stream, bytes)| (stream, String::from_utf8(bytes).unwrap()));
            rest.collect::<Vec<_>>()
        };
        assert_eq!(rest(0).len(), 3);
        assert_eq!(rest(3), [(2, "d".to_owned()), (1, "e".to_owned())]);
        assert_eq!(rest(5), []);
        assert_eq!(rest(u64::MAX), []);
    }
}
