//! `[[images.NAME.layers]]`: by path, which is a plan for the engine, or by step, which is a name
//! for the lines of the history.

use kiln_graph::{HistoryLine, LayerOrigin};

use super::LayerRule;
use super::compiler::{Compiler, View};
use super::source::patterns;
use crate::error::Wrong;
use crate::model::{Image, Layer};
use crate::text::Text;

impl Compiler<'_> {
    /// The layers by path. Those by step are written into the history.
    pub(super) fn layer_rules(
        &self,
        image: &Image,
        view: &View<'_>,
        history: &mut [HistoryLine],
    ) -> Result<Vec<LayerRule>, Wrong> {
        check(&image.layers)?;
        let mut rules = Vec::new();
        for layer in &image.layers {
            for step in &layer.steps {
                self.name_lines(layer, step, view, history)?;
            }
            self.check_neighbours(layer, history)?;
            if layer.steps.is_empty() {
                rules.push(LayerRule {
                    name: layer.name.value.clone(),
                    paths: patterns(&layer.paths, view)?,
                });
            }
        }
        Ok(rules)
    }

    /// Puts what a step changes into a layer.
    fn name_lines(
        &self,
        layer: &Layer,
        step: &Text,
        view: &View<'_>,
        history: &mut [HistoryLine],
    ) -> Result<(), Wrong> {
        let wanted = view.fill(step)?;
        let mut found = false;
        for line in history.iter_mut() {
            let Some(stage) = self.stage(line) else {
                continue;
            };
            if stage == wanted || stage.split('@').next() == Some(&wanted) {
                found = true;
                if let Some(other) = line.layer_name.replace(layer.name.value.clone()) {
                    let message = format!("'{wanted}' is in the layer '{other}' already");
                    return Err(Wrong::at(&step.span, message));
                }
            }
        }
        // A step whose condition doesn't hold has no changes.
        let known = self.step_called(wanted.split('@').next().unwrap_or_default());
        if found || known.is_some_and(|(_, step)| step.condition.is_some()) {
            return Ok(());
        }
        let mut own: Vec<&str> = history.iter().filter_map(|line| self.stage(line)).collect();
        own.dedup();
        let own = own.join(", ");
        let message = format!("the image isn't made from the step '{wanted}', but from {own}");
        Err(Wrong::at(&step.span, message))
    }

    /// The step that a line is of.
    fn stage(&self, line: &HistoryLine) -> Option<&str> {
        match line.layer {
            LayerOrigin::Step(step) => Some(&self.graph.step(step).name.stage),
            LayerOrigin::Base | LayerOrigin::None => None,
        }
    }

    /// A layer is one stretch of the image's changes.
    fn check_neighbours(&self, layer: &Layer, history: &[HistoryLine]) -> Result<(), Wrong> {
        let lines = history.iter().filter(|line| self.stage(line).is_some());
        let mut own = lines.map(|line| line.layer_name.as_ref() == Some(&layer.name.value));
        let inside = own.by_ref().skip_while(|own| !own);
        // The rest after the first one that is in the layer, and after those that follow it.
        let apart = inside.skip_while(|own| *own).any(|own| own);
        match apart {
            false => Ok(()),
            true => {
                let message = "the layer's steps don't follow each other: add those between them";
                Err(Wrong::at(&layer.name.span, message))
            }
        }
    }
}

/// Each layer has a name of its own, and all are of one kind.
fn check(layers: &[Layer]) -> Result<(), Wrong> {
    for (number, layer) in layers.iter().enumerate() {
        let name = &layer.name;
        let wrong = |message: String| Err(Wrong::at(&name.span, message));
        if layer.steps.is_empty() == layer.paths.is_empty() {
            let message = format!("the layer '{}' needs either steps or paths", name.value);
            return wrong(message);
        }
        if layers[..number]
            .iter()
            .any(|other| other.name.value == name.value)
        {
            return wrong(format!("there is a layer '{}' already", name.value));
        }
        if layers[0].steps.is_empty() != layer.steps.is_empty() {
            let message = "an image's layers are all by step or all by path: this one differs";
            return wrong(message.to_owned());
        }
    }
    Ok(())
}
