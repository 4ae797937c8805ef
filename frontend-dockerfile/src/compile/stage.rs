//! A stage while it is compiled.

use std::collections::HashMap;

use indexmap::IndexMap;
use kiln_graph::{
    HistoryLine, ImageConfig, LayerOrigin, Location, Platform, RootFs, StageStep, StepId, StepName,
    Target,
};

use super::options::Options;
use super::outline::Captured;
use crate::ast::Instruction;
use crate::limits::MAX_ENVIRONMENT;

/// A stage while it is compiled, and what stages built on it start from.
#[derive(Clone, Debug)]
pub(crate) struct StageState {
    /// Its place in the file.
    pub(crate) index: usize,
    /// Its name, or its number.
    pub(crate) name: String,
    pub(crate) platform: Platform,
    pub(crate) root: StepId,
    pub(crate) config: ImageConfig,
    pub(crate) history: Vec<HistoryLine>,
    /// What RUN sees and variables expand to: ENV and ARG, the later one winning.
    pub(crate) env: IndexMap<String, String>,
    /// Whether all variables of the base image are known.
    pub(crate) env_is_known: bool,
    /// Declared arguments, in order, for the history of RUN.
    pub(crate) args: IndexMap<String, Option<String>>,
    pub(crate) steps: Vec<StageStep>,
    pub(crate) once: Once,
    pub(crate) number: u32,
    pub(crate) of: u32,
    pub(crate) layer_name: Option<String>,
    /// Whether the stage, or one that it is built on, has a WORKDIR.
    pub(crate) workdir_set: bool,
    /// What it uses, for the outline.
    pub(crate) captured: Captured,
    /// Where the image's configuration has which variable.
    pub(crate) config_env: HashMap<String, usize>,
    /// Bytes of `env`.
    env_size: usize,
}

/// Where the last of the instructions is of which only the last counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Once {
    pub(crate) cmd: Option<Location>,
    pub(crate) entrypoint: Option<Location>,
    pub(crate) healthcheck: Option<Location>,
}

/// What a stage starts from.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) root: StepId,
    pub(crate) config: ImageConfig,
    pub(crate) history: Vec<HistoryLine>,
    pub(crate) platform: Platform,
    pub(crate) env: IndexMap<String, String>,
    pub(crate) env_is_known: bool,
    pub(crate) args: IndexMap<String, Option<String>>,
    pub(crate) workdir_set: bool,
    /// ONBUILD triggers that fire.
    pub(crate) triggers: Vec<String>,
}

impl StageState {
    pub(crate) fn new(index: usize, name: String, start: Start, captured: Captured) -> Self {
        Self {
            index,
            name,
            platform: start.platform,
            root: start.root,
            config: start.config,
            history: start.history,
            env_size: start
                .env
                .iter()
                .map(|(name, value)| in_environment(name, value))
                .sum(),
            env: start.env,
            env_is_known: start.env_is_known,
            args: start.args,
            steps: Vec::new(),
            once: Once::default(),
            number: 0,
            of: 0,
            layer_name: None,
            workdir_set: start.workdir_set,
            captured,
            config_env: HashMap::new(),
        }
    }

    /// The image that the stage is, when it is wanted for a platform.
    pub(super) fn target(
        &self,
        options: &Options,
        platform: &Platform,
        created: Option<&String>,
    ) -> Target {
        let mut config = self.config.clone();
        let run = &mut config.config;
        run.entrypoint = run.entrypoint.take().filter(|words| !words.is_empty());
        run.cmd = run.cmd.take().filter(|words| !words.is_empty());
        run.labels.extend(options.labels.clone());
        if options.platforms_are_given {
            config.set_platform(platform);
        }
        config.created = created.cloned();
        config.history.clear();
        config.rootfs = RootFs::default();
        Target {
            platform: config.platform(),
            root: self.root,
            config,
            history: self.history.clone(),
        }
    }

    /// Notes that an instruction begins.
    pub(crate) fn begin(&mut self, instruction: &Instruction) {
        self.number += 1;
        let mut names = instruction
            .comments
            .iter()
            .filter_map(|comment| comment.strip_prefix("layer:"));
        if let Some(name) = names.next_back() {
            self.layer_name = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        }
    }

    /// The name of the current instruction's step.
    pub(crate) fn step_name(&self, text: impl Into<String>) -> StepName {
        StepName {
            stage: self.name.clone(),
            number: self.number,
            of: self.of,
            text: text.into(),
        }
    }

    /// Makes a step the stage's new root.
    pub(crate) fn advance(&mut self, step: StepId, at: &Location) {
        self.root = step;
        let (number, line, end_line) = (self.number, at.line, at.end_line);
        self.steps.push(StageStep {
            number,
            line,
            end_line,
            step,
        });
    }

    /// Adds a line of history for the current instruction.
    pub(crate) fn record(
        &mut self,
        created_by: String,
        layer: LayerOrigin,
        created: Option<&String>,
    ) {
        self.history.push(HistoryLine {
            created_by,
            comment: "buildkit.dockerfile.v0".to_owned(),
            author: String::new(),
            layer,
            created: created.cloned(),
            layer_name: self.layer_name.clone(),
        });
    }

    /// Sets what RUN sees.
    ///
    /// # Errors
    /// In words, when all variables together become too large.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) -> Result<(), String> {
        let old = self.env.insert(name.to_owned(), value.to_owned());
        self.env_size += in_environment(name, value);
        if let Some(old) = old {
            self.env_size -= in_environment(name, &old);
        }
        match self.env_size > MAX_ENVIRONMENT {
            true => Err(format!(
                "the stage's variables are larger than {MAX_ENVIRONMENT} bytes"
            )),
            false => Ok(()),
        }
    }

    /// What a name expands to.
    pub(crate) fn lookup(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    /// How much a stage built on this one takes over.
    pub(crate) fn size(&self) -> usize {
        let lines = self.history.iter();
        let history: usize = lines.map(|line| line.created_by.len() + 100).sum();
        history + self.env_size
    }
}

/// The bytes that a variable takes in a process's environment.
fn in_environment(name: &str, value: &str) -> usize {
    name.len() + value.len() + 2
}
