//! Steps that go as one action: one that is to be run, and those that follow it without a fork. What
//! they cost beside their own work is paid once, and their inputs never leave the worker.

use std::time::Duration;

use kiln_execute::{Around, EngineError};
use kiln_graph::{DefinitionDigest, Node, Op, Step, StepId, TreeId, WorkerProperties};
use kiln_solve::{Following, FollowingInput, Job, Snapshot, StepResult};

use crate::early::{Early, content_of};
use crate::order::{OrderedInput, OrderedStep, for_worker};
use crate::outputs::Given;
use crate::report::{StepEnd, StepReport};

/// A longer chain goes in parts: what fails late is lost with all that ran before it in its part.
pub(crate) const MAX_STEPS: usize = 64;
/// A larger directory of the user's ends a chain, in bytes and entries: all of it would be sent,
/// where a step of its own sends what it copied.
const MAX_DIRECTORY: (u64, usize) = (32 << 20, 5000);
/// What a step may take besides its own timeout: fetching inputs, unpacking, packing.
const OVERHEAD: Duration = Duration::from_secs(600);

/// Steps that are each built on the one before.
pub(crate) struct Chain<'a> {
    links: Vec<Link<'a>>,
}

struct Link<'a> {
    id: StepId,
    definition: DefinitionDigest,
    step: &'a Step,
    inputs: Vec<LinkInput>,
    keep_output: bool,
}

enum LinkInput {
    /// The result of the link before.
    Before,
    Result(StepResult),
}

impl<'a> Chain<'a> {
    /// A step, and those after it that may go with it.
    pub(crate) fn of(job: &Job<'a>, may_join: &dyn Fn(&Step) -> bool) -> Self {
        let first = Link {
            id: job.id,
            definition: job.definition,
            step: job.step,
            inputs: job.inputs.iter().cloned().map(LinkInput::Result).collect(),
            keep_output: job.keep_output,
        };
        let following = job.ahead.map_or_else(Vec::new, |ahead| ahead.chain(job.id));
        let joining = following.into_iter().take_while(|following| {
            following.step.platform == job.step.platform
                && goes_with(following.step, job.step)
                && following.inputs.iter().all(is_small_input)
                && may_join(following.step)
        });
        let links = std::iter::once(first).chain(joining.map(Link::of));
        Self {
            links: links.take(MAX_STEPS).collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Its steps.
    pub(crate) fn steps(&self) -> impl Iterator<Item = StepId> + '_ {
        self.links.iter().map(|link| link.id)
    }

    fn first(&self) -> &Link<'a> {
        &self.links[0]
    }

    pub(crate) fn architecture(&self) -> &str {
        &self.first().step.platform.architecture
    }

    /// What its steps ask of a worker.
    pub(crate) fn properties(&self) -> &WorkerProperties {
        &self.first().step.remote
    }

    /// How long the action may take; nothing when a step may take as long as it likes.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let commands = self.links.iter().filter_map(|link| match &link.step.op {
            Op::Exec(exec) => Some(exec),
            _ => None,
        });
        let times = commands.map(|exec| {
            let tries = exec.retries.saturating_add(1);
            exec.timeout.map(|each| each.saturating_mul(tries))
        });
        let sum: Option<Duration> = times.sum();
        sum.map(|sum| sum.saturating_add(OVERHEAD))
    }

    /// The steps as a worker gets them. `bring` makes a root filesystem of a result that the worker
    /// is to be given.
    pub(crate) fn ordered(
        &self,
        bring: &mut dyn FnMut(&StepResult) -> Result<Snapshot, EngineError>,
    ) -> Result<Vec<OrderedStep>, EngineError> {
        let mut steps = Vec::new();
        for (at, link) in self.links.iter().enumerate() {
            let mut inputs = Vec::new();
            for input in &link.inputs {
                inputs.push(match input {
                    LinkInput::Before => OrderedInput::Step(at.saturating_sub(1)),
                    LinkInput::Result(result) => OrderedInput::of_snapshot(&bring(result)?),
                });
            }
            steps.push(OrderedStep {
                step: for_worker(link.step),
                inputs,
                keep_output: link.keep_output,
            });
        }
        Ok(steps)
    }

    /// What the steps after the first gave, which changed `tree`: each with how many bytes of its
    /// output were shown.
    pub(crate) fn early(
        &self,
        around: &Around<'_>,
        tree: &TreeId,
        given: &Given,
        reports: Vec<(StepReport, u64)>,
    ) -> Result<Vec<Early>, EngineError> {
        let base = self.first().base();
        let base = base.map_or_else(
            || Ok(Snapshot::scratch()),
            |base| around.trees.snapshot(base),
        );
        let mut before = base?.with(&[*tree]);
        let mut all = Vec::new();
        for (link, (report, shown)) in self.links[1..].iter().zip(reports) {
            let inputs = link.inputs.iter().map(|input| match input {
                LinkInput::Before => before.content(),
                LinkInput::Result(result) => content_of(result),
            });
            let inputs = inputs.collect();
            let added = match &report.end {
                StepEnd::Ran { tree, .. } => Some(tree.tree),
                StepEnd::Unable { .. } | StepEnd::Failed(_) => None,
            };
            all.push(Early {
                definition: link.definition,
                inputs,
                given: given.clone(),
                report,
                shown,
            });
            let Some(added) = added else {
                break;
            };
            before = before.with(&[added]);
        }
        Ok(all)
    }
}

impl<'a> Link<'a> {
    fn of(following: Following<'a>) -> Self {
        let input = |input: FollowingInput| match input {
            FollowingInput::Before => LinkInput::Before,
            FollowingInput::Result(result) => LinkInput::Result(result),
        };
        Self {
            id: following.id,
            definition: following.definition,
            step: following.step,
            inputs: following.inputs.into_iter().map(input).collect(),
            keep_output: following.keep_output,
        }
    }

    /// The result that it is built on, where that is none of the chain's.
    fn base(&self) -> Option<&StepResult> {
        match &self.inputs[self.step.op.base()?.index()] {
            LinkInput::Result(result) => Some(result),
            LinkInput::Before => None,
        }
    }
}

/// Whether a worker for one step serves another: file operations run on any.
fn goes_with(step: &Step, first: &Step) -> bool {
    matches!(step.op, Op::Files(_)) || step.remote == first.remote
}

/// Whether an input may go with a chain. What is no file, link or directory can't be sent.
fn is_small_input(input: &FollowingInput) -> bool {
    match input {
        FollowingInput::Result(result) => is_small(result),
        FollowingInput::Before => true,
    }
}

/// The same of what a chain begins with.
pub(crate) fn is_small(result: &StepResult) -> bool {
    let StepResult::Directory(directory) = result else {
        return true;
    };
    let (bytes, entries) = MAX_DIRECTORY;
    let manifest = &directory.manifest;
    let plain = |node: &Node| {
        matches!(
            node,
            Node::File { .. }
                | Node::Symlink { .. }
                | Node::Directory { .. }
                | Node::HardLink { .. }
        )
    };
    manifest.entries().len() <= entries
        && manifest.size() <= bytes
        && manifest.entries().iter().all(|entry| plain(&entry.node))
}
