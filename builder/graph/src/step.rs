//! A step: one vertex of the graph.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::redact;
use crate::{Location, Op, Platform, WorkerProperties};

/// The stable name of a step, shown to people and used to select it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepName {
    /// The stage or kiln.toml step it belongs to; empty for sources.
    pub stage: String,
    /// Its number within the stage: the N-th instruction, FROM is 1. Zero: not an instruction.
    pub number: u32,
    /// How many instructions the stage has.
    pub of: u32,
    /// What it does, in the author's words: the instruction after expansion.
    pub text: String,
}

impl StepName {
    /// The name of a step that is in no stage.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self {
            stage: String::new(),
            number: 0,
            of: 0,
            text: text.into(),
        }
    }
}

/// Without what addresses carry to let somebody in: names are shown, logged and stored.
impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = redact(&self.text);
        match (self.stage.as_str(), self.number) {
            ("", _) => f.write_str(&text),
            (stage, 0) => write!(f, "{stage}: {text}"),
            (stage, number) => write!(f, "{stage}[{number}] {text}"),
        }
    }
}

/// One vertex of the graph: an operation, its place in the build file, its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    #[serde(flatten)]
    pub op: Op,
    /// Its name.
    pub name: StepName,
    /// Where the build file asks for it.
    pub location: Option<Location>,
    /// What it runs on.
    pub platform: Platform,
    /// When a stored result is used.
    #[serde(default, skip_serializing_if = "Reuse::is_always")]
    pub reuse: Reuse,
    /// What it asks of a worker of a cluster.
    #[serde(default, skip_serializing_if = "WorkerProperties::is_empty")]
    pub remote: WorkerProperties,
}

impl Step {
    /// A step of no line in a build file, with a name of its own.
    #[must_use]
    pub fn plain(text: &str, op: Op, platform: Platform) -> Self {
        Self {
            op,
            name: StepName::plain(text),
            location: None,
            platform,
            reuse: Reuse::Always,
            remote: WorkerProperties::none(),
        }
    }
}

/// When a step's stored result is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// Whenever there is one.
    #[default]
    Always,
    /// As long as it isn't older than this (`cache = "7d"`).
    Within(Duration),
    /// Never (`--no-cache-filter`, `cache = "never"`).
    Never,
}

impl Reuse {
    fn is_always(&self) -> bool {
        *self == Self::Always
    }
}
