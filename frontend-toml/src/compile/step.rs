//! Steps: files are copied, then a command is run.

use kiln_graph::{
    Export, HistoryLine, ImagePath, LayerOrigin, Op, Platform, Reuse, StepId, StepName,
};

use super::compiler::{Compiler, Made, New, View, unfilled};
use super::worker;
use crate::condition;
use crate::error::Wrong;
use crate::model::Step;
use crate::text::{Name, Text};
use crate::time;

/// A step while it is compiled.
pub(super) struct Work<'a, 'v> {
    /// Its name, with the values of its matrix.
    pub(super) name: String,
    pub(super) own: &'a Name,
    pub(super) step: &'a Step,
    pub(super) view: &'v View<'v>,
    /// What must be done before.
    pub(super) needed: Vec<StepId>,
    pub(super) made: Made,
    number: u32,
    of: u32,
}

impl Work<'_, '_> {
    /// The working directory: of the copies' destinations, and of the command.
    pub(super) fn directory(&self) -> Result<ImagePath, Wrong> {
        let base = ImagePath::new(&self.made.config.config.working_dir);
        match &self.step.workdir {
            Some(text) => Ok(base.resolve(self.view.fill(text)?)),
            None => Ok(base),
        }
    }

    /// The command's user, if it isn't root.
    pub(super) fn user(&self) -> Result<Option<String>, Wrong> {
        let base = &self.made.config.config.user;
        let own = self.view.fill_some(self.step.user.as_ref())?;
        Ok(own.or_else(|| (!base.is_empty()).then(|| base.clone())))
    }

    fn next_name(&mut self, text: &str) -> StepName {
        self.number += 1;
        StepName {
            stage: self.name.clone(),
            number: self.number,
            of: self.of,
            text: text.to_owned(),
        }
    }
}

impl<'a> Compiler<'a> {
    /// Compiles a step whose inputs are done. One that needs a value which isn't known yet is
    /// stood for by nothing at all.
    pub(super) fn step(
        &mut self,
        name: &str,
        own: &'a Name,
        step: &'a Step,
        view: &View<'_>,
    ) -> Result<Made, Wrong> {
        self.met_waiting = false;
        match self.known_step(name, own, step, view) {
            Err(wrong) if wrong.waits => {
                let platform = &view.platform;
                let nothing = self.plain(own.text(), name, Op::Scratch, platform, platform)?;
                Ok(Made {
                    waits: true,
                    ..nothing
                })
            }
            made => made.map(|made| Made {
                waits: self.met_waiting,
                ..made
            }),
        }
    }

    fn known_step(
        &mut self,
        name: &str,
        own: &'a Name,
        step: &'a Step,
        view: &View<'_>,
    ) -> Result<Made, Wrong> {
        check_keys(own, step)?;
        let made = self.base(own, step, view)?;
        if !is_wanted(step, view)? {
            return Ok(made);
        }
        let mut needed = Vec::new();
        for other in &step.needs {
            for variant in self.variants(other, view)? {
                needed.push(self.named(&variant, view)?.step);
            }
        }
        let parts = [
            !step.copy.is_empty(),
            (step.has_command() || step.copy.is_empty()) && step.workdir.is_some(),
            step.has_command(),
        ];
        let mut work = Work {
            name: name.to_owned(),
            own,
            step,
            view,
            needed,
            made,
            number: 0,
            of: parts.map(u32::from).iter().sum(),
        };
        if !step.copy.is_empty() {
            self.copies(&mut work)?;
        }
        if step.has_command() {
            self.command(&mut work)?;
        } else if let (Some(text), true) = (&step.workdir, step.copy.is_empty()) {
            let directory = work.directory()?;
            self.make_directory(&mut work, &directory, text)?;
        }
        self.exports(&work)?;
        Ok(work.made)
    }

    /// Notes what can be taken out of a step.
    fn exports(&mut self, work: &Work<'_, '_>) -> Result<(), Wrong> {
        for export in &work.step.exports {
            let variant = work.name.split_once('@').map(|(_, values)| values);
            let name = &export.name.value;
            self.exports.push(Export {
                name: variant.map_or_else(|| name.clone(), |values| format!("{name}@{values}")),
                step: work.made.step,
                path: work.directory()?.resolve(work.view.fill(&export.path)?),
            });
        }
        Ok(())
    }

    /// What a step starts from.
    fn base(&mut self, own: &Name, step: &Step, view: &View<'_>) -> Result<Made, Wrong> {
        let from = step.from.as_ref().ok_or_else(|| {
            let what = "give from = \"STEP\", an image's name, or from = \"scratch\"";
            let message = format!("the step '{own}' doesn't say what it starts from: {what}");
            Wrong::at(own.span(), message)
        })?;
        let Some(text) = &step.platform else {
            return self.named(from, view);
        };
        let wanted = self.platform(text, view)?;
        let made = self.named_on(from, view, &wanted)?;
        if made.platform == wanted {
            return Ok(made);
        }
        let message = format!(
            "'{}' is for {}: give the platform there, where the image is named",
            from.value, made.platform
        );
        Err(Wrong::at(&text.span, message))
    }

    /// When a step's stored result is used.
    fn reuse(&self, work: &Work<'_, '_>) -> Result<Reuse, Wrong> {
        let filtered = &self.options.no_cache_filter;
        let is_own = |name: &String| *name == work.name || name == work.own.as_str();
        match &work.step.cache {
            _ if filtered.iter().any(is_own) => Ok(Reuse::Never),
            Some(text) => time::reuse(text),
            None => Ok(Reuse::Always),
        }
    }

    fn platform(&self, text: &Text, view: &View<'_>) -> Result<Platform, Wrong> {
        match view.fill(text)?.as_str() {
            "build" => Ok(self.options.build_platform.clone()),
            other => other
                .parse()
                .map_err(|error: kiln_graph::BadPlatform| Wrong::at(&text.span, error.to_string())),
        }
    }

    /// Adds the next part of a step.
    pub(super) fn advance(
        &mut self,
        work: &mut Work<'_, '_>,
        op: Op,
        inputs: Vec<StepId>,
        text: &str,
        at: &Text,
    ) -> Result<(), Wrong> {
        let name = work.next_name(text);
        let (stage, number) = (name.stage.clone(), name.number);
        let step = self.add(New {
            op,
            inputs,
            name,
            reuse: self.reuse(work)?,
            remote: worker::properties_of(work)?,
            platform: &work.made.platform,
            at: &at.span,
        })?;
        self.note(&stage, number, step);
        work.made.step = step;
        let line = HistoryLine {
            created_by: format!("{stage}: {text}"),
            comment: "kiln.toml".to_owned(),
            author: String::new(),
            layer: LayerOrigin::Step(step),
            created: None,
            layer_name: None,
        };
        work.made.history = self.line(work.made.history, line);
        Ok(())
    }
}

/// Whether a step's condition holds.
pub(super) fn is_wanted(step: &Step, view: &View<'_>) -> Result<bool, Wrong> {
    let Some(text) = &step.condition else {
        return Ok(true);
    };
    let holds = condition::holds(&text.value, &view.scope);
    holds.map_err(|error| unfilled(text, error))
}

/// Keys that would do nothing are mistakes.
fn check_keys(own: &Name, step: &Step) -> Result<(), Wrong> {
    let useless = step.keys_without_command().next();
    useless.map_or(Ok(()), |key| {
        let what = "is for a command: add run or script, or leave it out";
        let message = format!("the step '{own}' runs nothing, but {key} {what}");
        Err(Wrong::at(own.span(), message))
    })
}
