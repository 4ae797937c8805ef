//! Images: a step's files, a configuration, and the tests that must pass.

use kiln_graph::{HistoryLine, ImageConfig, Input, Op, Platform, RootFs, StepId, StepName, Target};

use super::compiler::{Compiler, New, View};
use super::{Options, Policy};
use crate::error::{NOWHERE, Wrong};
use crate::group;
use crate::model::{BuildFile, Image};
use crate::suggest::did_you_mean;
use crate::text::{Name, Text};

impl<'a> Compiler<'a> {
    /// The image wanted, for one platform; a step's name stands for an image of its files.
    pub(super) fn target(&mut self, platform: &Platform) -> Result<Target, Wrong> {
        let view = self.view(platform);
        let target = target(self.file, self.options)?;
        if let Some((name, image)) = self.file.images.get_key_value(target.as_str()) {
            return self.whole_image(name, image, &view);
        }
        let name = Text {
            value: target,
            span: NOWHERE,
        };
        let made = self.named(&name, &view)?;
        let history = self.history(made.history);
        Ok(self.finish(made.step, (*made.config).clone(), history, platform))
    }

    pub(super) fn whole_image(
        &mut self,
        name: &Name,
        image: &'a Image,
        view: &View<'_>,
    ) -> Result<Target, Wrong> {
        let from = image.from.as_ref().ok_or_else(|| {
            let what = "give from = \"STEP\"";
            let message = format!("the image '{name}' doesn't say whose files it has: {what}");
            Wrong::at(name.span(), message)
        })?;
        let made = self.named(from, view)?;
        self.note_settings(name, image, view)?;
        let config = super::config::configure(image, (*made.config).clone(), view)?;
        let mut history = self.history(made.history);
        self.layers = self.layer_rules(image, view, &mut history)?;
        let policy = image.policy.as_ref();
        self.policy = policy.map(|policy| Policy::of(policy, view)).transpose()?;
        let tests = self.tests(image, view)?;
        let root = match tests.is_empty() {
            true => made.step,
            false => self.after_tests(name, made.step, tests, &view.platform)?,
        };
        Ok(self.finish(root, config, history, &view.platform))
    }

    fn tests(&mut self, image: &Image, view: &View<'_>) -> Result<Vec<StepId>, Wrong> {
        let file = self.file;
        let wanted: Vec<&Text> = match &image.tests {
            Some(tests) => tests.iter().collect(),
            None => file.tests.keys().map(Name::text).collect(),
        };
        let mut steps = Vec::new();
        for test in wanted {
            for variant in self.variants(test, view)? {
                let name = variant.value.as_str();
                let base = name.split('@').next().unwrap_or(name);
                if !file.tests.contains_key(base) {
                    let hint = did_you_mean(base, file.tests.keys().map(Name::as_str));
                    let message = format!("there is no test '{base}'{hint}");
                    return Err(Wrong::at(&test.span, message));
                }
                steps.push(self.named(&variant, view)?.step);
            }
        }
        Ok(steps)
    }

    /// The image's files, which are there only once the tests have passed.
    fn after_tests(
        &mut self,
        name: &Name,
        root: StepId,
        tests: Vec<StepId>,
        platform: &Platform,
    ) -> Result<StepId, Wrong> {
        let own = StepName {
            stage: name.to_string(),
            number: 0,
            of: 0,
            text: "tests passed".to_owned(),
        };
        self.add(New {
            op: Op::Merge {
                layers: vec![Input(0)],
            },
            inputs: std::iter::once(root).chain(tests).collect(),
            name: own,
            reuse: kiln_graph::Reuse::Always,
            remote: kiln_graph::WorkerProperties::none(),
            platform,
            at: name.span(),
        })
    }

    fn finish(
        &self,
        root: StepId,
        mut config: ImageConfig,
        history: Vec<HistoryLine>,
        platform: &Platform,
    ) -> Target {
        let labels = self.options.labels.clone();
        config.config.labels.extend(labels);
        config.created = None;
        config.history.clear();
        config.rootfs = RootFs::default();
        config.set_platform(platform);
        Target {
            platform: platform.clone(),
            root,
            config,
            history,
        }
    }
}

/// The image that is asked for, or the only one; or the step.
pub(super) fn target(file: &BuildFile, options: &Options) -> Result<String, Wrong> {
    let mut members = group::members(file, options.target.as_deref())?;
    match (members.pop(), members.is_empty()) {
        (Some(only), true) => known_target(file, only),
        (Some(last), false) => {
            let place = file.images.get_key_value(last.as_str());
            let place = place.map_or(NOWHERE, |(name, _)| name.span().clone());
            members.push(last);
            let what = match &options.target {
                Some(group) => format!("'{group}' is a group of several"),
                None => "there are several images".to_owned(),
            };
            let names = members.join(", ");
            Err(Wrong::at(
                &place,
                format!("{what}: choose one with --target: {names}"),
            ))
        }
        (None, _) => Err(Wrong::at(
            &file.version.span,
            "there is no [images.NAME]: add one, or name a step with --target",
        )),
    }
}

fn known_target(file: &BuildFile, name: String) -> Result<String, Wrong> {
    let base = name.split('@').next().unwrap_or(&name);
    let is_step = file.steps.contains_key(base) || file.tests.contains_key(base);
    if is_step || file.images.contains_key(name.as_str()) {
        return Ok(name);
    }
    if file.templates.contains_key(base) {
        return Err(Wrong::whole(group::template_message(base)));
    }
    let known = group::target_names(file);
    let hint = did_you_mean(base, known.iter().copied());
    let known = known.join(", ");
    let message = format!("there is no image or step '{name}'{hint}; there are {known}");
    Err(Wrong::whole(message))
}
