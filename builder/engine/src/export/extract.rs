//! Files out of a step's result, or out of what a failed step left behind.

use std::collections::BTreeMap;

use kiln_graph::{Entry, ImagePath, Node, Op, StepId};
use kiln_tree::TreePath;

use crate::engine::{Engine, Request};
use crate::execute::snapshotter::view_of;
use crate::execute::view::View;
use crate::export::output::OutputEntry;
use crate::solve::scheduler::Solved;
use crate::solve::snapshot::{LayerRef, Snapshot, StepResult};
use crate::solve::step::Shared;
use crate::{EngineError, EventSink, Moment};

impl Engine {
    /// The same as [`Solved::files_at`] for some steps of a build that failed. Steps that have run
    /// are not run again.
    ///
    /// # Errors
    /// When a step's state can't be had or read.
    pub fn extract(
        &self,
        request: &Request,
        wanted: &[(StepId, Moment, ImagePath)],
    ) -> Result<Vec<Option<Vec<OutputEntry>>>, EngineError> {
        let graph = &request.build.graph;
        let mut targets: Vec<StepId> = Vec::new();
        for (step, moment, _) in wanted {
            match moment {
                Moment::After => targets.push(*step),
                Moment::Before | Moment::Failed => targets.extend(graph.inputs(*step)),
            }
        }
        let request = Request {
            any_age: true,
            ..request.clone()
        };
        let (answers, _session) = self.solve_steps(&request, &targets)?;
        let shared = Shared::new(self, &request)?;
        let files = wanted.iter().map(|(step, moment, path)| {
            let state = shared.state(*step, *moment, &answers.results)?;
            let trees = self.trees(&state, &*request.events)?;
            Ok(files_at(&view_of(&trees)?, path))
        });
        files.collect()
    }
}

impl Solved {
    /// The files at a path of a step's result: what a folder holds, or a file by its name; links
    /// on the way are followed. Nothing where there is nothing.
    ///
    /// # Errors
    /// When layers can't be fetched or read.
    pub fn files_at(
        &self,
        step: StepId,
        path: &ImagePath,
        events: &dyn EventSink,
    ) -> Result<Option<Vec<OutputEntry>>, EngineError> {
        let trees = self.engine.trees(&self.snapshot(step)?, events)?;
        Ok(files_at(&view_of(&trees)?, path))
    }
}

impl Shared<'_> {
    /// The files of a step at a moment, with the results of the steps that they are made of.
    pub(crate) fn state(
        &self,
        step: StepId,
        moment: Moment,
        results: &BTreeMap<StepId, StepResult>,
    ) -> Result<Snapshot, EngineError> {
        let graph = self.graph();
        if let (Moment::After, Some(result)) = (moment, results.get(&step)) {
            return self.snapshot(result);
        }
        let base = match &graph.step(step).op {
            Op::Exec(exec) => Some(exec.root),
            Op::Files(files) => files.base,
            _ => None,
        };
        let base = base.and_then(|input| results.get(&graph.input(step, input)));
        let root = base.map_or_else(|| Ok(Snapshot::scratch()), |base| self.snapshot(base))?;
        if moment != Moment::Failed {
            return Ok(root);
        }
        let tree = self.engine.failed_tree(self.request, step)?;
        let tree = tree.ok_or_else(|| EngineError::Missing {
            message: "what the failed step left behind is no longer there: build again".to_owned(),
            location: graph.step(step).location.clone(),
        })?;
        Ok(root.with(&[LayerRef::Tree(tree)], self.empty))
    }
}

fn files_at(view: &View, path: &ImagePath) -> Option<Vec<(Entry, TreePath)>> {
    let path = view.resolve(path, true);
    let found = view.get(&path)?;
    let base = match found.entry.is_directory() {
        true => path.clone(),
        false => path.parent().unwrap_or_default(),
    };
    let all = view.one_tree_below(&path).into_iter();
    Some(
        all.map(|(entry, host)| (below(&base, entry), host))
            .collect(),
    )
}

/// An entry with its path from a folder on.
fn below(folder: &ImagePath, mut entry: Entry) -> Entry {
    let moved = |path: &ImagePath| match path.strip_prefix(folder) {
        Some(rest) => ImagePath::new(rest),
        None => path.clone(),
    };
    entry.path = moved(&entry.path);
    if let Node::HardLink { to } = &mut entry.node {
        *to = moved(to);
    }
    entry
}
