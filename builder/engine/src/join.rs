//! Results of several builds as one.

use std::collections::BTreeMap;

use kiln_execute::EngineError;
use kiln_export::Exports;
use kiln_graph::{Build, Graph, HistoryLine, ImageConfig, LayerOrigin, Platform, StepId, Target};
use kiln_solve::Solution;

use crate::solved::Solved;

/// A target of a build, as one of several.
#[derive(Clone, Debug)]
pub struct Joined<'a> {
    /// The build.
    pub solved: &'a Solved,
    /// Which of its targets.
    pub target: usize,
    /// What it is said to run on.
    pub platform: Platform,
    /// How its image is configured; as the build says, when nothing else is said.
    pub config: Option<ImageConfig>,
}

impl Solved {
    /// The targets of several builds as those of one, in their order.
    ///
    /// # Errors
    /// When there are none, or the store can't be used.
    pub fn join(targets: &[Joined<'_>]) -> Result<Self, EngineError> {
        let nothing = || EngineError::Defect("no results to be joined".to_owned());
        let first = targets.first().ok_or_else(nothing)?.solved;
        let session = first.store().session()?;
        let trees = first.trees.for_build();
        let mut whole = Whole::default();
        for joined in targets {
            trees.distant.extend(&joined.solved.trees.distant);
            whole.add(joined)?;
        }
        let builds = targets.iter().map(|joined| joined.solved);
        let volume_keys = builds.clone().flat_map(|solved| solved.volume_keys.clone());
        Ok(Self {
            trees,
            selection: first.selection.clone(),
            build: whole.build,
            volume_keys: volume_keys.collect(),
            solution: whole.solution,
            started: builds
                .map(|solved| solved.started)
                .min()
                .unwrap_or(first.started),
            exports: Exports::default(),
            _session: session,
        })
    }
}

/// What has been joined so far.
#[derive(Default)]
struct Whole {
    build: Build,
    solution: Solution,
}

impl Whole {
    fn add(&mut self, joined: &Joined<'_>) -> Result<(), EngineError> {
        let Solved {
            build, solution, ..
        } = joined.solved;
        let target = build.targets.get(joined.target);
        let target = target.ok_or_else(|| EngineError::Defect("no such target".to_owned()))?;
        let places = copy(&build.graph, target, &mut self.build.graph)?;
        take(&solution.results, &places, &mut self.solution.results);
        take(&solution.keys, &places, &mut self.solution.keys);
        take(&solution.created, &places, &mut self.solution.created);
        take(&solution.parts, &places, &mut self.solution.parts);
        take(&solution.outputs, &places, &mut self.solution.outputs);
        take(&solution.revisions, &places, &mut self.solution.revisions);
        let history = target.history.iter().map(|line| moved(line, &places));
        let mut config = joined
            .config
            .clone()
            .unwrap_or_else(|| target.config.clone());
        config.set_platform(&joined.platform);
        self.build.targets.push(Target {
            platform: joined.platform.clone(),
            root: places[&target.root],
            config,
            history: history.collect(),
        });
        Ok(())
    }
}

/// Copies what a target needs; gives the places of its steps among the others.
fn copy(
    from: &Graph,
    target: &Target,
    to: &mut Graph,
) -> Result<BTreeMap<StepId, StepId>, EngineError> {
    let steps = target.history.iter().filter_map(|line| match line.layer {
        LayerOrigin::Step(step) => Some(step),
        LayerOrigin::None | LayerOrigin::Base => None,
    });
    let wanted: Vec<StepId> = steps.chain([target.root]).collect();
    let mut places = BTreeMap::new();
    for id in from.needed_for(&wanted) {
        let inputs = from.inputs(id).iter().map(|input| places[input]).collect();
        let added = to.add(from.step(id).clone(), inputs);
        let added = added.map_err(|error| EngineError::Defect(error.to_string()))?;
        places.insert(id, added);
    }
    Ok(places)
}

fn take<T: Clone>(
    from: &BTreeMap<StepId, T>,
    places: &BTreeMap<StepId, StepId>,
    to: &mut BTreeMap<StepId, T>,
) {
    let found = places
        .iter()
        .filter_map(|(old, new)| Some((*new, from.get(old)?.clone())));
    to.extend(found);
}

fn moved(line: &HistoryLine, places: &BTreeMap<StepId, StepId>) -> HistoryLine {
    let layer = match line.layer {
        LayerOrigin::Step(step) => LayerOrigin::Step(places[&step]),
        other => other,
    };
    HistoryLine {
        layer,
        ..line.clone()
    }
}
