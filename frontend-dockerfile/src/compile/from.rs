//! FROM: the root and the configuration that a stage starts with.

use kiln_graph::{HistoryLine, ImageConfig, ImageRequest, LayerOrigin, Op, Platform, StepId};

use super::args::{PLATFORM_ARGS, fault};
use super::stage::StageState;
use super::{Compiler, ContextKind, StageSource, Stop};
use crate::DockerfileError;
use crate::expand::Expander;
use crate::lint::Suspect;

/// What programs find other programs by, unless the image says otherwise.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What FROM stands for.
struct Base {
    root: StepId,
    config: ImageConfig,
    history: Vec<HistoryLine>,
    /// Whether the base is a stage of this file, whose shown history is its own.
    platform: Platform,
}

impl Compiler<'_> {
    /// Starts a stage.
    pub(crate) fn from(&mut self, index: usize, target: &Platform) -> Result<StageState, Stop> {
        let StageSource { from, head, body } = &self.stages[index];
        let (from, head, of) = (*from, *head, body.len() + 1);
        self.at = Some(head.location.clone());
        let image = self.expand_from(index, target, &from.image)?;
        self.lint_default_args(index, target, &from.image);
        if image.is_empty() {
            let text = format!("base name ({}) should not be blank", from.image);
            return Err(fault(head, &text).into());
        }
        let platform = match &from.platform {
            None => target.clone(),
            Some(text) => {
                self.lint.platform_flag(head, text);
                let text = self.expand_from(index, target, text)?;
                let parsed: Result<Platform, _> = text.parse();
                parsed
                    .map_err(|error| fault(head, &format!("failed to parse platform: {error}")))?
            }
        };
        let base = self.base(index, &image, platform)?;
        let env = base.config.config.env.iter().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        });
        let name = from
            .name
            .clone()
            .map_or_else(|| index.to_string(), |name| name.to_lowercase());
        let absolute_workdir = base.config.config.working_dir.len() > 1;
        let mut state = StageState {
            index,
            name,
            platform: base.platform,
            root: base.root,
            env: env.collect(),
            config: base.config,
            history: base.history,
            args: Vec::new(),
            steps: Vec::new(),
            cmd_set: false,
            number: 0,
            of: u32::try_from(of).unwrap_or(u32::MAX),
            layer_name: None,
            absolute_workdir,
        };
        state.begin(head);
        state.advance(state.root, &head.location);
        Ok(state)
    }

    fn expand_from(&mut self, index: usize, target: &Platform, text: &str) -> Result<String, Stop> {
        let head = self.stages[index].head;
        let lookup = |name: &str| self.global(name, target);
        let expander = Expander::new(self.file.escape, &lookup);
        let word = expander
            .word(text)
            .map_err(|message| fault(head, &message))?;
        for name in expander.take_unset() {
            if !self.global_args.contains_key(&name) {
                let known = self.global_args.keys().map(String::as_str);
                let known = known.chain(PLATFORM_ARGS.iter().copied()).collect();
                self.lint.undeclared(head, &Suspect { name: &name, known });
            }
        }
        Ok(word)
    }

    /// Warns when FROM names no image unless arguments are given.
    fn lint_default_args(&mut self, index: usize, target: &Platform, text: &str) {
        if !text.contains('$') {
            return;
        }
        let defaults = self.default_args(target);
        let lookup = |name: &str| match defaults.get(name) {
            Some(value) => value.clone(),
            None => self.platform_arg(name, target),
        };
        let image = Expander::new(self.file.escape, &lookup).word(text);
        let is_name = image.is_ok_and(|image| is_image_name(&image));
        if !is_name {
            self.lint.bad_default(self.stages[index].head, text);
        }
    }

    fn base(&mut self, index: usize, image: &str, platform: Platform) -> Result<Base, Stop> {
        if let Some(kind) = self.options.contexts.get(image).cloned() {
            return self.base_context(image, &kind, platform);
        }
        if let Some(stage) = self.find_stage(image, index) {
            return self.base_stage(stage, &platform);
        }
        if image.eq_ignore_ascii_case("scratch") {
            return self.base_scratch(platform);
        }
        self.base_image(image, &platform)
    }

    fn base_stage(&mut self, stage: usize, platform: &Platform) -> Result<Base, Stop> {
        let state = self.stage(stage, platform)?;
        let StageState {
            root,
            config,
            history,
            platform,
            ..
        } = state;
        Ok(Base {
            root,
            config,
            history,
            platform,
        })
    }

    fn base_scratch(&mut self, platform: Platform) -> Result<Base, Stop> {
        let root = self.source("scratch".to_owned(), Op::Scratch, &platform)?;
        let mut config = ImageConfig::scratch(&platform);
        config.config.env = vec![format!("PATH={DEFAULT_PATH}")];
        config.config.working_dir = "/".to_owned();
        Ok(Base {
            root,
            config,
            history: Vec::new(),
            platform,
        })
    }

    fn base_context(
        &mut self,
        name: &str,
        kind: &ContextKind,
        platform: Platform,
    ) -> Result<Base, Stop> {
        match kind {
            ContextKind::Image(image) => self.base_image(image, &platform),
            ContextKind::Target(stage) => {
                let index = self.find_stage(stage, self.stages.len()).ok_or_else(|| {
                    DockerfileError::whole(format!("context {name}: there is no stage {stage}"))
                })?;
                self.base_stage(index, &platform)
            }
            ContextKind::Local => {
                let root = self.context(name)?;
                Ok(Base {
                    root,
                    ..self.base_scratch(platform)?
                })
            }
        }
    }

    fn base_image(&mut self, image: &str, platform: &Platform) -> Result<Base, Stop> {
        let (root, config) = self.image(image, platform)?;
        let mut history = Vec::new();
        for line in &config.history {
            history.push(HistoryLine {
                created_by: line.created_by.clone(),
                comment: line.comment.clone(),
                author: line.author.clone(),
                layer: if line.empty_layer {
                    LayerOrigin::None
                } else {
                    LayerOrigin::Base
                },
                created: line.created.clone(),
                layer_name: None,
            });
        }
        let mut config = config;
        if config.architecture.is_empty() {
            config.set_platform(platform);
        }
        let platform = config.platform();
        Ok(Base {
            root,
            config,
            history,
            platform,
        })
    }

    /// An image's files and configuration, or a note that it must be known.
    pub(crate) fn image(
        &mut self,
        name: &str,
        platform: &Platform,
    ) -> Result<(StepId, ImageConfig), Stop> {
        let request = ImageRequest {
            name: name.to_owned(),
            platform: platform.clone(),
        };
        let Some(image) = self.images.get(&request) else {
            self.needs.insert(request, self.at.clone());
            return Err(Stop::Needs);
        };
        let (source, config) = (image.source.clone(), image.config.clone());
        let id = self.source(format!("image {name}"), Op::Image(source), platform)?;
        Ok((id, config))
    }
}

/// Whether a text has the form of an image's name, as far as a pure look can tell.
fn is_image_name(text: &str) -> bool {
    let (name, digest) = text.split_once('@').unwrap_or((text, "sha256:0"));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name, "latest"),
    };
    let part = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        ends(part.chars().next()) && ends(part.chars().next_back())
    };
    let valid_tag = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let starts = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    digest.contains(':') && path.split('/').all(part) && starts && tag.chars().all(valid_tag)
}

#[cfg(test)]
mod tests {
    use super::is_image_name;

    #[test]
    fn names_of_images() {
        let good = [
            "a",
            "a:1",
            "r.example:5000/a/b:v1.2",
            "a@sha256:00",
            "scratch",
        ];
        let bad = ["", "a:", ":1", "a//b", "a:-x", "/a", "a/"];
        assert!(good.iter().all(|name| is_image_name(name)));
        assert!(!bad.iter().any(|name| is_image_name(name)));
    }
}
