//! The stages of a file, before they are compiled.

use std::collections::BTreeMap;
use std::rc::Rc;

use kiln_graph::{Platform, Stage, StageStep};

use super::stage::StageState;
use crate::ast::{Dockerfile, From, Instruction, Kind};

/// A stage of the file.
pub(crate) struct StageSource<'a> {
    pub(crate) from: &'a From,
    pub(crate) head: &'a Instruction,
    pub(crate) body: &'a [Instruction],
}

/// What the names of stages without one begin with.
pub(super) const UNNAMED: &str = "stage-";

/// What a stage without a name is called: as in BuildKit, `stage-` and its number from zero.
pub(crate) fn unnamed_stage(index: usize) -> String {
    format!("{UNNAMED}{index}")
}

/// The stages of a file, in order.
pub(super) fn split_stages(file: &Dockerfile) -> Vec<StageSource<'_>> {
    let starts: Vec<usize> = file
        .instructions
        .iter()
        .enumerate()
        .filter(|(_, instruction)| matches!(instruction.kind, Kind::From(_)))
        .map(|(at, _)| at)
        .collect();
    let ends = starts
        .iter()
        .skip(1)
        .copied()
        .chain([file.instructions.len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|(start, end)| {
            let head = &file.instructions[*start];
            let Kind::From(from) = &head.kind else {
                return None;
            };
            Some(StageSource {
                from,
                head,
                body: &file.instructions[start + 1..end],
            })
        })
        .collect()
}

/// The stages of a build, with the steps of those that were compiled: first for the platforms that are wanted.
pub(super) fn stage_list(
    stages: &[StageSource<'_>],
    compiled: &BTreeMap<(usize, Platform), Rc<StageState>>,
    platforms: &[Platform],
) -> Vec<Stage> {
    let stage = |(index, source): (usize, &StageSource<'_>)| {
        let states = platforms
            .iter()
            .filter_map(|platform| compiled.get(&(index, platform.clone())));
        let other = compiled
            .iter()
            .filter(|((at, _), _)| *at == index)
            .map(|(_, state)| state);
        let mut steps: Vec<StageStep> = Vec::new();
        for step in states.chain(other).flat_map(|state| &state.steps) {
            if !steps.contains(step) {
                steps.push(*step);
            }
        }
        let name = source.from.name.clone();
        Stage {
            name: name.unwrap_or_else(|| unnamed_stage(index)),
            steps,
        }
    };
    stages.iter().enumerate().map(stage).collect()
}
