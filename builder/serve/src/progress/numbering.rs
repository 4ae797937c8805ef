//! The numbers of a stage's steps as BuildKit counts them: what changes the file system, and the base
//! when it is an image. Other instructions have no number.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kiln_graph::{Build, Op, Platform, Step, StepId};

/// A stage of one platform.
type Stage = (String, Platform);

/// The numbers of a build's steps.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    /// The instructions of each stage that have steps.
    stages: BTreeMap<Stage, Numbers>,
    /// The stage that each image is shown with: the first one that begins with it.
    bases: HashMap<StepId, Stage>,
}

#[derive(Debug, Default)]
struct Numbers {
    instructions: BTreeSet<u32>,
    has_image: bool,
}

impl Numbers {
    fn of(&self) -> usize {
        self.instructions.len() + usize::from(self.has_image)
    }
}

fn stage_of(step: &Step) -> Option<Stage> {
    let is_step = step.name.number > 0 && !matches!(step.op, Op::Image(_));
    is_step.then(|| (step.name.stage.clone(), step.platform.clone()))
}

/// The step whose files a step begins with.
fn base_of(build: &Build, id: StepId) -> Option<StepId> {
    let input = match &build.graph.step(id).op {
        Op::Exec(exec) => exec.root,
        Op::Files(files) => files.base?,
        _ => return None,
    };
    Some(build.graph.input(id, input))
}

impl Numbering {
    /// Counts the steps of a build.
    pub(super) fn of(build: &Build) -> Self {
        let mut all = Self::default();
        for id in build.graph.ids() {
            let Some(stage) = stage_of(build.graph.step(id)) else {
                continue;
            };
            let base = base_of(build, id);
            let base = base.filter(|base| matches!(build.graph.step(*base).op, Op::Image(_)));
            let numbers = all.stages.entry(stage.clone()).or_default();
            numbers
                .instructions
                .insert(build.graph.step(id).name.number);
            if let Some(image) = base {
                numbers.has_image = true;
                all.bases.entry(image).or_insert(stage);
            }
        }
        all
    }

    /// A step's number, and of how many.
    pub(super) fn step(&self, step: &Step) -> Option<(usize, usize)> {
        let numbers = self.stages.get(&stage_of(step)?)?;
        let before = numbers.instructions.range(..step.name.number).count();
        Some((before + 1 + usize::from(numbers.has_image), numbers.of()))
    }

    /// The stage that begins with an image, and how many steps it has.
    pub(super) fn base(&self, image: StepId) -> Option<(&str, usize)> {
        let stage = self.bases.get(&image)?;
        Some((&stage.0, self.stages.get(stage)?.of()))
    }
}
