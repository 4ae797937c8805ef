//! Images: a step's files, a configuration, and the tests that must pass.

use kiln_graph::{Empty, ImageConfig, Input, Op, Platform, RootFs, StepId, StepName, Target};

use super::{Compiler, LayerRule, Made, Stop};
use crate::TomlError;
use crate::error::Wrong;
use crate::model::Image;
use crate::suggest::did_you_mean;
use crate::template::Scope;
use crate::text::Text;

impl<'a> Compiler<'a> {
    /// The image wanted, for one platform; a step's name stands for an image of its files.
    pub(super) fn target(&mut self, platform: &Platform) -> Result<Target, Stop> {
        let scope = self.scope(platform);
        if let Some((name, image)) = self.image()? {
            return self.whole_image(name, image, &scope, platform);
        }
        let name = self.options.target.clone().unwrap_or_default();
        let made = self.named(&no_place(&name), &scope, platform)?;
        Ok(self.finish(made.step, made.config, made.history, platform))
    }

    /// The image that is asked for, or the only one.
    fn image(&self) -> Result<Option<(&'a str, &'a Image)>, Stop> {
        let images = &self.file.images;
        let names: Vec<&str> = images.keys().map(String::as_str).collect();
        let fail = |text: String| Stop::Error(Box::new(TomlError::whole(text)));
        match &self.options.target {
            Some(name) => {
                let base = name.split('@').next().unwrap_or(name);
                if let Some((name, image)) = images.get_key_value(name) {
                    return Ok(Some((name, image)));
                }
                if self.file.steps.contains_key(base) || self.file.tests.contains_key(base) {
                    return Ok(None);
                }
                let known = names
                    .iter()
                    .copied()
                    .chain(self.file.steps.keys().map(String::as_str));
                let hint = did_you_mean(name, known);
                Err(fail(format!("there is no image or step '{name}'{hint}")))
            }
            None => match images.iter().next() {
                Some((name, image)) if images.len() == 1 => Ok(Some((name, image))),
                Some(_) => Err(fail(format!(
                    "there are several images: choose one with --target: {}",
                    names.join(", ")
                ))),
                None => Err(fail(
                    "there is no [images.NAME]: add one, or name a step with --target".to_owned(),
                )),
            },
        }
    }

    pub(super) fn layer_rules(&self) -> Vec<LayerRule> {
        let image = self.image().ok().flatten();
        let layers = image
            .map(|(_, image)| image.layers.as_slice())
            .unwrap_or_default();
        let rule = |layer: &crate::model::Layer| LayerRule {
            name: layer.name.clone(),
            paths: layer.paths.clone(),
        };
        layers.iter().map(rule).collect()
    }

    fn whole_image(
        &mut self,
        name: &str,
        image: &'a Image,
        scope: &Scope,
        platform: &Platform,
    ) -> Result<Target, Stop> {
        let from = image.from.as_ref().ok_or_else(|| {
            let text =
                format!("the image '{name}' doesn't say whose files it has: give from = \"STEP\"");
            Stop::Error(Box::new(TomlError::whole(text)))
        })?;
        let made = self.named(from, scope, platform)?;
        let config = self.configure(image, &made, scope)?;
        let tests = self.tests(image, scope, platform)?;
        let root = match tests.is_empty() {
            true => made.step,
            false => self.after_tests(name, made.step, tests, platform)?,
        };
        Ok(self.finish(root, config, made.history, platform))
    }

    fn tests(
        &mut self,
        image: &'a Image,
        scope: &Scope,
        platform: &Platform,
    ) -> Result<Vec<StepId>, Stop> {
        let wanted: Vec<Text> = match &image.tests {
            Some(tests) => tests.clone(),
            None => self.file.tests.keys().map(|name| no_place(name)).collect(),
        };
        let mut steps = Vec::new();
        for test in &wanted {
            if !self.file.tests.contains_key(&test.value) {
                let hint = did_you_mean(&test.value, self.file.tests.keys().map(String::as_str));
                return Err(
                    Wrong::at(test, format!("there is no test '{}'{hint}", test.value)).into(),
                );
            }
            steps.push(self.named(test, scope, platform)?.step);
        }
        Ok(steps)
    }

    /// The image's files, which are there only once the tests have passed.
    fn after_tests(
        &mut self,
        name: &str,
        root: StepId,
        tests: Vec<StepId>,
        platform: &Platform,
    ) -> Result<StepId, Stop> {
        let op = Op::Merge {
            layers: vec![Input(0)],
        };
        let name = StepName {
            stage: name.to_owned(),
            number: 0,
            of: 0,
            text: "tests passed".to_owned(),
        };
        let inputs = std::iter::once(root).chain(tests).collect();
        self.add(op, inputs, name, false, platform)
    }

    fn configure(&self, image: &Image, made: &Made, scope: &Scope) -> Result<ImageConfig, Stop> {
        let mut whole = made.config.clone();
        let config = &mut whole.config;
        for (name, value) in &image.env {
            let start = format!("{name}=");
            config.env.retain(|pair| !pair.starts_with(&start));
            config.env.push(start + &self.fill(value, scope)?);
        }
        for (name, value) in &image.labels {
            config.labels.insert(name.clone(), self.fill(value, scope)?);
        }
        config.labels.extend(self.options.labels.clone());
        if let Some(words) = &image.entrypoint {
            config.entrypoint = Some(self.fill_all(words, scope)?);
            config.cmd = None;
        }
        if let Some(words) = &image.cmd {
            config.cmd = Some(self.fill_all(words, scope)?);
        }
        let texts = [
            (&image.user, &mut config.user),
            (&image.workdir, &mut config.working_dir),
            (&image.stop_signal, &mut config.stop_signal),
        ];
        for (text, field) in texts {
            if let Some(text) = text {
                *field = self.fill(text, scope)?;
            }
        }
        for port in &image.expose {
            let port = self.fill(port, scope)?;
            let whole = if port.contains('/') {
                port
            } else {
                format!("{port}/tcp")
            };
            config.exposed_ports.insert(whole, Empty {});
        }
        for volume in &image.volumes {
            config.volumes.insert(self.fill(volume, scope)?, Empty {});
        }
        Ok(whole)
    }

    fn finish(
        &self,
        root: StepId,
        mut config: ImageConfig,
        history: Vec<kiln_graph::HistoryLine>,
        platform: &Platform,
    ) -> Target {
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

/// A name that the command line gave, or the compiler itself.
fn no_place(name: &str) -> Text {
    Text {
        value: name.to_owned(),
        span: 0..0,
    }
}
