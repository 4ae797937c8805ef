//! FROM: the root and the configuration that a stage starts with.

use indexmap::IndexMap;
use kiln_graph::{HistoryLine, ImageConfig, ImageRequest, LayerOrigin, Op, Platform, StepId};

use super::heads::{BaseKind, captured};
use super::stage::{StageState, Start};
use super::{Compiler, ContextKind, Stop};
use crate::error::fault;
use crate::limits::MAX_TRIGGERS;
use crate::lint::At;
use crate::{DockerfileError, Rule};

/// What programs find other programs by, unless the image says otherwise.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Compiler<'_> {
    /// Starts a stage; the triggers that its base has for it.
    pub(crate) fn from(&mut self, index: usize) -> Result<(StageState, Vec<String>), Stop> {
        let (from, at) = (self.stages[index].from, self.stages[index].head);
        self.at = Some(at.location.clone());
        let head = self.heads[index].clone();
        let mut start = self.start(index, &head.base)?;
        let triggers = std::mem::take(&mut start.triggers);
        if triggers.len() > MAX_TRIGGERS {
            let text = format!("the base image has more than {MAX_TRIGGERS} ONBUILD triggers");
            return Err(fault(at, &text).into());
        }
        let name = from
            .stage_name()
            .unwrap_or_else(|| super::unnamed_stage(index));
        let captured = captured(&self.heads, &self.globals.declared, index);
        let mut state = StageState::new(index, name, start, captured);
        let count = self.stages[index].body.len() + 1;
        state.of = u32::try_from(count).unwrap_or(u32::MAX);
        state.set_base_env();
        state.begin(at);
        state.advance(state.root, &at.location);
        Ok((state, triggers))
    }

    fn start(&mut self, index: usize, base: &BaseKind) -> Result<Start, Stop> {
        let target = self.target.clone();
        let wanted = self.heads[index].platform.clone();
        match base {
            BaseKind::Stage(stage) => {
                let state = self.stage(*stage)?;
                self.budget.add(state.size())?;
                Ok(Start::on(&state))
            }
            BaseKind::Scratch => self.scratch(target),
            BaseKind::Image => {
                let image = self.heads[index].image.clone();
                let platform = wanted.unwrap_or(target);
                let start = self.base_image(&image, &platform)?;
                self.lint_base_platform(index, &image, &platform, &start);
                Ok(start)
            }
            BaseKind::Context(name, kind) | BaseKind::Replaced(name, kind) => {
                self.base_context(name, kind, wanted.unwrap_or(target))
            }
        }
    }

    /// An image for another machine than was asked for.
    fn lint_base_platform(&mut self, index: usize, image: &str, wanted: &Platform, start: &Start) {
        let own = start.config.platform();
        if own.os != wanted.os || own.architecture != wanted.architecture {
            let message = format!(
                "Base image {image} was pulled with platform \"{own}\", expected \"{wanted}\" for current build"
            );
            let at = At::only(&self.stages[index].head.location);
            self.lint.warn(at, Rule::InvalidBaseImagePlatform, message);
        }
    }

    fn scratch(&mut self, platform: Platform) -> Result<Start, Stop> {
        let root = self.source("scratch".to_owned(), Op::Scratch, &platform)?;
        let mut config = ImageConfig::scratch(&platform);
        if platform.os != "windows" {
            config.config.env = vec![format!("PATH={DEFAULT_PATH}")];
        }
        config.config.working_dir = "/".to_owned();
        Ok(Start::new(root, config, Vec::new(), platform))
    }

    fn base_context(
        &mut self,
        name: &str,
        kind: &ContextKind,
        platform: Platform,
    ) -> Result<Start, Stop> {
        match kind {
            ContextKind::Image(image) if image == "scratch" => self.scratch(platform),
            ContextKind::Image(image) => self.base_image(image, &platform),
            ContextKind::Target(stage) => {
                let index = self.names.find(stage).ok_or_else(|| {
                    DockerfileError::whole(format!("context {name}: there is no stage {stage}"))
                })?;
                Ok(Start::on(&*self.stage(index)?))
            }
            ContextKind::Local => {
                let root = self.context(name)?;
                let start = self.scratch(platform)?;
                Ok(Start { root, ..start })
            }
        }
    }

    fn base_image(&mut self, image: &str, platform: &Platform) -> Result<Start, Stop> {
        let (root, mut config, is_known) = self.image(image, platform)?;
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
        if config.architecture.is_empty() {
            config.set_platform(platform);
        }
        let platform = config.platform();
        let mut start = Start::new(root, config, history, platform);
        start.env_is_known = is_known;
        Ok(start)
    }

    /// An image's files and configuration, and whether that is known; or a note that it must be.
    pub(crate) fn image(
        &mut self,
        name: &str,
        platform: &Platform,
    ) -> Result<(StepId, ImageConfig, bool), Stop> {
        let request = ImageRequest {
            name: name.to_owned(),
            platform: platform.clone(),
        };
        let Some(image) = self.images.get(&request) else {
            self.needs.insert(request, self.at.clone());
            return Err(Stop::Needs);
        };
        let (source, config) = (image.source.clone(), image.config.clone());
        let is_known = image.is_known;
        let id = self.source(format!("image {name}"), Op::Image(source), platform)?;
        Ok((id, config, is_known))
    }
}

impl Start {
    fn new(
        root: StepId,
        mut config: ImageConfig,
        history: Vec<HistoryLine>,
        platform: Platform,
    ) -> Self {
        let triggers = std::mem::take(&mut config.config.on_build);
        Self {
            root,
            config,
            history,
            platform,
            env: IndexMap::new(),
            env_is_known: true,
            args: IndexMap::new(),
            workdir_set: false,
            triggers,
        }
    }

    /// A stage that is built on another one.
    fn on(state: &StageState) -> Self {
        let start = Self::new(
            state.root,
            state.config.clone(),
            state.history.clone(),
            state.platform.clone(),
        );
        Self {
            env: state.env.clone(),
            env_is_known: state.env_is_known,
            args: state.args.clone(),
            workdir_set: state.workdir_set,
            ..start
        }
    }
}
