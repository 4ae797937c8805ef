//! A compiled build, ready to be solved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_attest::provenance::Dependency;
use kiln_engine::{Pins, Request, Solved};
use kiln_frontend_dockerfile::ast::Dockerfile;
use kiln_frontend_dockerfile::{Checked, Compiled, Options};
use kiln_frontend_toml::Settings;
use kiln_graph::Entitlements;

use crate::{Error, PathRule, Policy, Texts};

/// A Dockerfile that has been read, with all that the frontend needs.
#[derive(Debug)]
pub struct Prepared {
    /// The file's text, and those it includes.
    pub texts: Texts,
    /// The syntax tree, when the file is a Dockerfile.
    pub file: Option<Dockerfile>,
    /// What the frontend was told.
    pub options: Options,
    /// What became of it.
    pub compiled: Compiled,
    /// Layers by path, when the file says which.
    pub layers: Vec<PathRule>,
    /// What the image must keep to, when the file says.
    pub policy: Option<Policy>,
    /// Where the image goes, when the file says.
    pub settings: Settings,
    /// All directories by name.
    pub directories: BTreeMap<String, PathBuf>,
    /// Contexts that were fetched, for as long as the build needs them.
    pub(super) kept: Vec<Arc<Solved>>,
    /// What the lock says of sources.
    pub(super) pins: Pins,
    /// What the build file may ask for.
    pub(super) allowed: Entitlements,
}

/// What is wrong with a Dockerfile.
#[derive(Debug)]
pub struct CheckedFile {
    /// Warnings, and why it can't be built.
    pub checked: Checked,
    /// The file's name for messages.
    pub file_name: String,
    /// The file's text.
    pub texts: Texts,
}

impl Prepared {
    /// What contexts were fetched from.
    pub(crate) fn fetched(&self) -> Result<Vec<Dependency>, Error> {
        let mut all = Vec::new();
        for solved in &self.kept {
            all.extend(solved.dependencies()?);
        }
        Ok(all)
    }

    /// The engine's request for the build.
    #[must_use]
    pub fn request(&self) -> Request {
        let mut request = Request::new(self.compiled.build.clone());
        request.contexts.clone_from(&self.directories);
        request.pins = self.pins.clone();
        request.allowed = self.allowed.clone();
        request
    }
}
