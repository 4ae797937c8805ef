//! Which steps people mean: a stage's name, `STAGE:N`, `N` in the target stage, or `@LINE`.

use std::collections::BTreeSet;

use kiln_graph::{Build, Graph, Location, Stage, StageStep, StepId};

use crate::Error;

/// The steps that a selector names.
///
/// # Errors
/// When it names none; the message lists what there is.
pub fn select(build: &Build, target: Option<&str>, selector: &str) -> Result<Vec<StepId>, Error> {
    let found = match selector.strip_prefix('@') {
        Some(line) => at_line(build, selector, line)?,
        None => in_stage(build, target, selector)?,
    };
    if found.is_empty() {
        return Err(unknown(build, selector));
    }
    Ok(found)
}

/// What selects the step at a location: its line, or its stage and number when it is in an
/// included file.
#[must_use]
pub fn selector(build: &Build, location: &Location) -> String {
    let stages = build.stages.iter();
    let mut steps = stages.flat_map(|stage| stage.steps.iter().map(move |step| (stage, step)));
    let is_it = |step: &StageStep| build.graph.step(step.step).location.as_ref() == Some(location);
    match steps.find(|(_, step)| step.line == 0 && is_it(step)) {
        Some((stage, step)) => format!("{}:{}", stage.name, step.number),
        None => format!("@{}", location.line),
    }
}

/// Steps, and all that are made from them.
#[must_use]
pub fn with_consumers(graph: &Graph, steps: &[StepId]) -> BTreeSet<StepId> {
    graph.made_from(steps).into_iter().collect()
}

/// The step on a line; for an instruction that makes none, the next one of its stage.
fn at_line(build: &Build, selector: &str, line: &str) -> Result<Vec<StepId>, Error> {
    let line: u32 = line
        .parse()
        .map_err(|_| Error::Usage(format!("{selector}: a line number is needed after @")))?;
    let steps = build.stages.iter().flat_map(|stage| &stage.steps);
    let exact = steps.clone().filter(|step| covers(step, line));
    let mut found: Vec<StepId> = exact.map(|step| step.step).collect();
    if found.is_empty() {
        let next = steps
            .filter(|step| step.line > line)
            .min_by_key(|step| step.line);
        found.extend(next.map(|step| step.step));
    }
    Ok(found)
}

fn covers(step: &StageStep, line: u32) -> bool {
    (step.line..=step.end_line).contains(&line)
}

fn in_stage(build: &Build, target: Option<&str>, selector: &str) -> Result<Vec<StepId>, Error> {
    let is_number = selector.parse::<u32>().is_ok();
    if let Some(stage) = stage(build, selector).filter(|_| !is_number) {
        return Ok(stage.steps.iter().map(|step| step.step).collect());
    }
    let (stage, number) = match selector.rsplit_once(':') {
        Some((name, number)) => (stage(build, name), number),
        None => (target_stage(build, target), selector),
    };
    let (Some(stage), Ok(number)) = (stage, number.parse::<u32>()) else {
        return Err(unknown(build, selector));
    };
    // An instruction that makes no step stands for the next one that does.
    let next = stage.steps.iter().filter(|step| step.number >= number);
    let number = next.clone().map(|step| step.number).min();
    Ok(next
        .filter(|step| Some(step.number) == number)
        .map(|step| step.step)
        .collect())
}

fn stage<'a>(build: &'a Build, name: &str) -> Option<&'a Stage> {
    let unnamed = format!("stage-{name}");
    let is_number = name.bytes().all(|b| b.is_ascii_digit());
    let is_named = |stage: &&Stage| {
        stage.name.eq_ignore_ascii_case(name) || is_number && stage.name == unnamed
    };
    build.stages.iter().rev().find(is_named)
}

fn target_stage<'a>(build: &'a Build, target: Option<&str>) -> Option<&'a Stage> {
    match target {
        Some(name) => stage(build, name),
        None => build.stages.last(),
    }
}

fn unknown(build: &Build, selector: &str) -> Error {
    let stages = build.stages.iter();
    Error::NoSuchStep {
        selector: selector.to_owned(),
        stages: stages.map(|stage| stage.name.clone()).collect(),
    }
}
