//! A step that failed, as a result.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_execute::{EngineError, LeftBehind, now, state_left};
use kiln_graph::{ImageConfig, StepId, Target};
use kiln_solve::StepResult;

use crate::engine::Engine;
use crate::request::Request;
use crate::solved::Solved;

impl Engine {
    /// A step that failed, as if it hadn't: what it left behind is the result of the first target, and what it
    /// was made from that of the others, in the order of its inputs. Steps that have run are not run again.
    ///
    /// # Errors
    /// When what it left behind is gone, or what it was made from can't be had.
    pub fn failed(&self, request: &Request, left: &LeftBehind) -> Result<Solved, EngineError> {
        let step = left.step;
        let started = now();
        let graph = &request.build.graph;
        let inputs = graph.inputs(step).to_vec();
        let quiet = Request {
            any_age: true,
            no_cache: false,
            fresh: BTreeSet::new(),
            cache_to: Vec::new(),
            events: Arc::new(|_| {}),
            ..request.clone()
        };
        let mut ran = self.with_names(&quiet, &inputs)?;
        let results = &mut ran.solution.results;
        let left = state_left(&ran.trees, graph, left, results)?;
        results.insert(step, StepResult::Snapshot(left));
        let mut build = request.build.clone();
        let target = |step: StepId| {
            let platform = &graph.step(step).platform;
            Target {
                platform: platform.clone(),
                root: step,
                config: ImageConfig::scratch(platform),
                history: Vec::new(),
            }
        };
        build.targets = std::iter::once(step).chain(inputs).map(target).collect();
        Ok(Solved {
            trees: ran.trees,
            selection: self.selection().clone(),
            build,
            volume_keys: quiet.volume_keys,
            solution: ran.solution,
            started,
            exports: ran.exports,
            _session: ran.session,
        })
    }
}
