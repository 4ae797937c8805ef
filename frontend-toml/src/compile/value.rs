//! Steps whose output is named in texts: they are run before the file can be compiled to its end.

use std::collections::BTreeSet;

use kiln_graph::{Build, ImageConfig, Op, StepId, Target};

use super::compiler::Compiler;
use super::{RequiredSignature, ValueSteps};
use crate::error::{NOWHERE, Wrong};
use crate::text::Text;
use crate::value::ValueRequest;

impl Compiler<'_> {
    /// The steps whose output is asked for and isn't known, as far as they can run now.
    pub(super) fn value_steps(&mut self) -> Result<Vec<(ValueRequest, StepId)>, Wrong> {
        let mut ready = Vec::new();
        let mut seen = BTreeSet::new();
        loop {
            let asked = self.values.asked();
            let open: Vec<ValueRequest> = asked.difference(&seen).cloned().collect();
            if open.is_empty() {
                break;
            }
            for request in open {
                ready.extend(self.value_step(&request)?);
                seen.insert(request);
            }
        }
        match seen.first() {
            Some(first) if ready.is_empty() => Err(self.circle(first)),
            _ => Ok(ready),
        }
    }

    /// The step that gives a value, unless it waits for others itself.
    fn value_step(
        &mut self,
        request: &ValueRequest,
    ) -> Result<Option<(ValueRequest, StepId)>, Wrong> {
        let name = Text {
            value: request.step.clone(),
            span: NOWHERE,
        };
        let view = self.view(&request.platform);
        let made = self.named(&name, &view)?;
        if made.waits {
            return Ok(None);
        }
        let step = self.graph.step(made.step);
        if !matches!(step.op, Op::Exec(_)) || step.name.stage != request.step {
            return Err(self.about(
                request,
                "is left out, for its condition doesn't hold, but what it writes is used",
            ));
        }
        Ok(Some((request.clone(), made.step)))
    }

    fn circle(&self, request: &ValueRequest) -> Wrong {
        self.about(request, "needs what itself, or a step after it, writes")
    }

    fn about(&self, request: &ValueRequest, what: &str) -> Wrong {
        let base = request.step.split('@').next().unwrap_or_default();
        let message = format!("the step '{}' {what}", request.step);
        match self.step_called(base) {
            Some((own, _)) => Wrong::at(own.span(), message),
            None => Wrong::whole(message),
        }
    }

    /// A build of these steps.
    pub(super) fn into_value_steps(
        self,
        wanted: Vec<(ValueRequest, StepId)>,
        signatures: Vec<RequiredSignature>,
    ) -> ValueSteps {
        let target = |(request, step): &(ValueRequest, StepId)| Target {
            platform: request.platform.clone(),
            root: *step,
            config: ImageConfig::scratch(&request.platform),
            history: Vec::new(),
        };
        ValueSteps {
            build: Build {
                targets: wanted.iter().map(target).collect(),
                graph: self.graph,
                stages: self.stages,
                volume_files: self.volume_files,
                exports: Vec::new(),
            },
            wanted,
            directories: self.directories,
            signatures,
        }
    }
}
