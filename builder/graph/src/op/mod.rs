//! Operations: what a step does, without where it stands in the graph.

mod encode;
mod exec;
mod files;
mod mount;
mod source;

use serde::{Deserialize, Serialize};

use crate::StepId;

pub use exec::{Exec, Network, PROXIES, Security, ULIMITS};
pub use files::{CopyFiles, FileAction, Files, Owner};
pub use mount::{CacheMount, Mount, MountAccess, MountKind, SecretMount, Sharing, SshMount};
pub use source::{ContextSource, GitSource, HttpRequest, HttpSource, ImageLayer, ImageSource};

/// One of a step's inputs, by its position in the step's list of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Input(pub u32);

impl Input {
    /// Adds a step to a list of inputs, and says which one it is.
    pub fn add(inputs: &mut Vec<StepId>, step: StepId) -> Self {
        inputs.push(step);
        Self(u32::try_from(inputs.len() - 1).unwrap_or(u32::MAX))
    }

    /// The position as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// The empty tree.
    Scratch,
    /// The files of an image.
    Image(ImageSource),
    /// The files of a local directory.
    Context(ContextSource),
    /// The files of a git commit.
    Git(GitSource),
    /// One file from an HTTP server.
    Http(HttpSource),
    /// A command run in a tree.
    Exec(Box<Exec>),
    /// Changes to files that need no command.
    Files(Files),
    /// Trees stacked upon each other, lowest first, without copying.
    Merge {
        /// At least one.
        layers: Vec<Input>,
    },
}

impl Op {
    /// The inputs this operation names, in no particular order.
    #[must_use]
    pub fn inputs(&self) -> Vec<Input> {
        match self {
            Self::Scratch | Self::Image(_) | Self::Context(_) | Self::Git(_) | Self::Http(_) => {
                Vec::new()
            }
            Self::Exec(exec) => exec.inputs(),
            Self::Files(files) => files.inputs(),
            Self::Merge { layers } => layers.clone(),
        }
    }

    /// The tree whose changes are the result; nothing for what is made from nothing or of several.
    #[must_use]
    pub fn base(&self) -> Option<Input> {
        match self {
            Self::Exec(exec) => Some(exec.root),
            Self::Files(files) => files.base,
            _ => None,
        }
    }
}
