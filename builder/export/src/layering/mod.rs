//! Which changes go into which layer: apart from steps and cache, so that changing the plan runs
//! no step again.

mod auto;
mod content;
mod history;
mod package;
mod split;

use std::collections::BTreeMap;
use std::ops::Range;

use kiln_execute::{EngineError, Snapshotter};
use kiln_graph::{Graph, History, LayerOrigin, Op, StepId, Target};
use kiln_solve::{EventSink, LayerRef, Snapshot, StepResult};

use crate::built::Built;
pub(crate) use content::{LayerContent, PlannedLayer, content_of};
pub use split::PathRule;

/// Which changes go into which layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LayerPlan {
    /// A layer for each step; steps under a layer's name (`# layer: NAME`) share one.
    #[default]
    Named,
    /// A layer for each step, whatever the names.
    PerStep,
    /// A layer for each stage.
    PerStage,
    /// The base image's layers, and one more with all changes.
    Squash,
    /// One layer in all.
    Flat,
    /// The base image's layers, then one for each rule with the paths it names, lowest first, and
    /// one with the rest.
    Paths(Vec<PathRule>),
    /// The base image's layers, then up to so many of packages and directories that change together.
    Auto(usize),
}

/// Plans the layers of images.
#[derive(Clone, Copy)]
pub(crate) struct LayerPlanner<'a> {
    pub(crate) trees: &'a Snapshotter,
    pub(crate) graph: &'a Graph,
    pub(crate) results: &'a BTreeMap<StepId, StepResult>,
}

impl<'a> LayerPlanner<'a> {
    pub(crate) fn of(built: Built<'a>) -> Self {
        Self {
            trees: built.trees,
            graph: &built.build.graph,
            results: &built.solution.results,
        }
    }

    /// The root of a target.
    pub(crate) fn snapshot(&self, target: &Target) -> Result<Snapshot, EngineError> {
        let result = self.results.get(&target.root);
        self.trees.snapshot_or_scratch(result)
    }

    /// What goes into each layer, and the history that fits.
    pub(crate) fn plan(
        &self,
        target: &Target,
        plan: &LayerPlan,
        events: &dyn EventSink,
    ) -> Result<(Vec<PlannedLayer>, Vec<History>), EngineError> {
        let snapshot = self.snapshot(target)?;
        let layers = snapshot.layers();
        let is_base = |layer: &&LayerRef| matches!(layer, LayerRef::Image { .. });
        let base = layers.iter().take_while(is_base).count();
        let groups = match plan {
            LayerPlan::Flat if layers.is_empty() => Vec::new(),
            #[expect(clippy::single_range_in_vec_init, reason = "one group of all layers")]
            LayerPlan::Flat => vec![0..layers.len()],
            LayerPlan::PerStep => (0..layers.len()).map(|n| n..n + 1).collect(),
            LayerPlan::Named => {
                self.labelled(target, layers.len(), base, |line| line.layer_name.clone())
            }
            LayerPlan::PerStage => self.labelled(target, layers.len(), base, |line| {
                Some(self.stage_of(line.layer))
            }),
            LayerPlan::Squash | LayerPlan::Paths(_) | LayerPlan::Auto(_) => {
                let rest = (base < layers.len()).then_some(base..layers.len());
                (0..base).map(|n| n..n + 1).chain(rest).collect()
            }
        };
        let count = |origin| self.count_of(origin);
        let mut history = history::of(target, layers.len(), &groups, &count);
        let stack = |group: &Range<usize>| PlannedLayer::Stack {
            layers: layers[group.clone()].to_vec(),
            over_base: group.start > 0 || base == 0 && *plan != LayerPlan::Flat,
        };
        let mut planned: Vec<PlannedLayer> = groups.iter().map(stack).collect();
        if let LayerPlan::Paths(_) | LayerPlan::Auto(_) = plan
            && base < layers.len()
            && let Some(rest) = planned.pop()
        {
            let parts = self.parts(target, &rest, plan, events)?;
            history::add_parts(&mut history, &parts);
            planned.extend(parts);
        }
        Ok((planned, history))
    }

    /// The pieces of what was added to the base.
    fn parts(
        &self,
        target: &Target,
        rest: &PlannedLayer,
        plan: &LayerPlan,
        events: &dyn EventSink,
    ) -> Result<Vec<PlannedLayer>, EngineError> {
        let content = content_of(self.trees, rest, events)?;
        match plan {
            LayerPlan::Paths(rules) => Ok(split::by_rules(&content, rules)),
            LayerPlan::Auto(most) => {
                auto::split_up(&self.trees.store, self.graph, target, &content, *most)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Neighbours with the same label share a layer; the base's layers, and those without a label,
    /// stay by themselves.
    fn labelled(
        &self,
        target: &Target,
        count: usize,
        base: usize,
        label: impl Fn(&kiln_graph::HistoryLine) -> Option<String>,
    ) -> Vec<Range<usize>> {
        let mut labels: Vec<Option<String>> = Vec::new();
        for line in &target.history {
            let added = self.count_of(line.layer);
            labels.extend(std::iter::repeat_n(label(line), added));
        }
        // Layers that no line speaks of come first.
        let unspoken = count.saturating_sub(labels.len());
        labels.splice(0..0, std::iter::repeat_n(None, unspoken));
        let mut groups: Vec<Range<usize>> = Vec::new();
        for at in 0..count {
            let joins = at > base && labels[at].is_some() && labels[at] == labels[at - 1];
            match groups.last_mut() {
                Some(last) if joins => last.end = at + 1,
                _ => groups.push(at..at + 1),
            }
        }
        groups
    }

    fn stage_of(&self, origin: LayerOrigin) -> String {
        match origin {
            LayerOrigin::Step(step) => self.graph.step(step).name.stage.clone(),
            LayerOrigin::Base | LayerOrigin::None => String::new(),
        }
    }

    /// How many layers a history line speaks of.
    pub(crate) fn count_of(&self, origin: LayerOrigin) -> usize {
        match origin {
            LayerOrigin::None => 0,
            LayerOrigin::Base => 1,
            LayerOrigin::Step(step) => self.layers_added(step),
        }
    }

    fn layers_added(&self, step: StepId) -> usize {
        let graph = self.graph;
        let base = match &graph.step(step).op {
            Op::Merge { layers } => layers.first().copied(),
            op => op.base(),
        };
        let count = |step: StepId| match self.results.get(&step) {
            Some(StepResult::Snapshot(snapshot)) => snapshot.layers().len(),
            Some(StepResult::Directory(_)) => 1,
            None => 0,
        };
        let below = base.map_or(0, |base| count(graph.input(step, base)));
        count(step).saturating_sub(below)
    }
}
