//! Images: a step's files, a configuration, and the tests that must pass.

use kiln_graph::{HistoryLine, ImageConfig, Input, Op, Platform, RootFs, StepId, StepName, Target};

use super::Policy;
use super::compiler::{Compiler, New, View};
use crate::error::{NOWHERE, Wrong};
use crate::model::Image;
use crate::suggest::did_you_mean;
use crate::text::{Name, Text};

impl<'a> Compiler<'a> {
    /// The image wanted, for one platform; a step's name stands for an image of its files.
    pub(super) fn target(&mut self, platform: &Platform) -> Result<Target, Wrong> {
        let view = self.view(platform);
        if let Some((name, image)) = self.image()? {
            return self.whole_image(name, image, &view);
        }
        let name = Text {
            value: self.options.target.clone().unwrap_or_default(),
            span: NOWHERE,
        };
        let made = self.named(&name, &view)?;
        let history = self.history(made.history);
        Ok(self.finish(made.step, (*made.config).clone(), history, platform))
    }

    /// The image that is asked for, or the only one; nothing if a step is asked for.
    fn image(&self) -> Result<Option<(&'a Name, &'a Image)>, Wrong> {
        let images = &self.file.images;
        let Some(name) = &self.options.target else {
            return self.only_image().map(Some);
        };
        if let Some(image) = images.get_key_value(name.as_str()) {
            return Ok(Some(image));
        }
        let base = name.split('@').next().unwrap_or(name);
        if self.step_called(base).is_some() {
            return Ok(None);
        }
        let steps = self.file.steps.keys().chain(self.file.tests.keys());
        let known: Vec<&str> = images.keys().chain(steps).map(Name::as_str).collect();
        let hint = did_you_mean(name, known.iter().copied());
        let known = known.join(", ");
        let message = format!("there is no image or step '{name}'{hint}; there are {known}");
        Err(Wrong::whole(message))
    }

    fn only_image(&self) -> Result<(&'a Name, &'a Image), Wrong> {
        let mut images = self.file.images.iter();
        match (images.next(), images.next()) {
            (Some(image), None) => Ok(image),
            (Some(_), Some((second, _))) => {
                let names: Vec<&str> = self.file.images.keys().map(Name::as_str).collect();
                let names = names.join(", ");
                let message =
                    format!("there are several images: choose one with --target: {names}");
                Err(Wrong::at(second.span(), message))
            }
            _ => Err(Wrong::at(
                &self.file.version.span,
                "there is no [images.NAME]: add one, or name a step with --target",
            )),
        }
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
