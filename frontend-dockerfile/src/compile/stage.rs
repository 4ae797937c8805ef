//! A stage while it is compiled.

use kiln_graph::{
    HistoryLine, ImageConfig, LayerOrigin, Location, Platform, StageStep, StepId, StepName,
};

use crate::ast::Instruction;

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
    pub(crate) env: Vec<(String, String)>,
    /// Declared arguments with their values, in order, for the history of RUN.
    pub(crate) args: Vec<(String, Option<String>)>,
    pub(crate) steps: Vec<StageStep>,
    pub(crate) cmd_set: bool,
    pub(crate) number: u32,
    pub(crate) of: u32,
    pub(crate) layer_name: Option<String>,
    pub(crate) absolute_workdir: bool,
}

impl StageState {
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
            author: self.config.author.clone(),
            layer,
            created: created.cloned(),
            layer_name: self.layer_name.clone(),
        });
    }

    /// Sets what RUN sees.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        set(&mut self.env, name, value.to_owned());
    }

    /// What a name expands to.
    pub(crate) fn lookup(&self, name: &str) -> Option<String> {
        self.env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }
}

/// Replaces a value, keeping its place, or appends it.
pub(crate) fn set<T>(list: &mut Vec<(String, T)>, name: &str, value: T) {
    match list.iter_mut().find(|(key, _)| key == name) {
        Some((_, old)) => *old = value,
        None => list.push((name.to_owned(), value)),
    }
}
