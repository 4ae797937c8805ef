//! What a frontend makes of a build file: the graph, and the images wanted from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Graph, ImageConfig, ImagePath, Platform, StepId};

/// A compiled build file.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// All steps.
    pub graph: Graph,
    /// The images wanted, one for each platform, in the order asked for.
    pub targets: Vec<Target>,
    /// The build file's stages (or kiln.toml's steps) in order, needed by a target or not.
    pub stages: Vec<Stage>,
    /// Files of the main context that cache volumes are tied to, by the volumes' names.
    pub volume_files: BTreeMap<String, String>,
    /// Files that can be taken out of steps, whether or not these succeed.
    pub exports: Vec<Export>,
}

impl Build {
    /// The steps whose results the images wanted are made of, in the order of the targets.
    #[must_use]
    pub fn roots(&self) -> Vec<StepId> {
        self.targets.iter().map(|target| target.root).collect()
    }
}

/// Files that can be taken out of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// What people call them.
    pub name: String,
    /// The step.
    pub step: StepId,
    /// A file or directory in it.
    pub path: ImagePath,
}

/// One image wanted from a graph.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it runs on.
    pub platform: Platform,
    /// The step whose tree is the image's root.
    pub root: StepId,
    /// The configuration, whole but for what only the solved build knows: `rootfs.diff_ids`,
    /// the history (see `history`) and the time of creation.
    pub config: ImageConfig,
    /// How the image came to be: first the base image's own lines, then one for each instruction.
    pub history: Vec<HistoryLine>,
}

/// One line of an image's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLine {
    /// The command as `docker history` shows it.
    pub created_by: String,
    /// A comment, such as the name of the builder.
    pub comment: String,
    /// Who maintains the image.
    pub author: String,
    /// Where the layer comes from.
    pub layer: LayerOrigin,
    /// When, for lines taken over from a base image (RFC 3339).
    pub created: Option<String>,
    /// The named layer this belongs to (`# layer: NAME`).
    pub layer_name: Option<String>,
}

/// Where the layer of a history line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerOrigin {
    /// The line changes no files.
    None,
    /// The next of the base image's own layers.
    Base,
    /// What this step changed.
    Step(StepId),
}

/// A stage of a build file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, or its number where it has none.
    pub name: String,
    /// The steps of its instructions: number (from 1, FROM), line, step. Instructions without a
    /// step (ENV, LABEL) have none.
    #[serde(skip)]
    pub steps: Vec<StageStep>,
}

/// An instruction of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageStep {
    /// Its number within the stage, FROM is 1.
    pub number: u32,
    /// The first line of the build file that it stands on.
    pub line: u32,
    /// The last line.
    pub end_line: u32,
    /// Its step.
    pub step: StepId,
}
