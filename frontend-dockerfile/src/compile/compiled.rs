//! What comes of compiling a Dockerfile, or of checking one.

use std::collections::BTreeSet;

use kiln_graph::{Build, ImageRequest, Location};

use crate::{Diagnostic, DockerfileError, Outline};

/// What came of a compilation.
#[derive(Clone, Debug)]
pub enum Outcome<T = Compiled> {
    /// What was asked for.
    Done(Box<T>),
    /// These images must be known first; and where each is asked for.
    Needs(Vec<(ImageRequest, Option<Location>)>),
}

/// A compiled Dockerfile.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph and the images wanted.
    pub build: Build,
    /// Warnings, in the order in which they were found.
    pub warnings: Vec<Diagnostic>,
    /// Whether the file wants warnings to fail the build.
    pub warnings_are_errors: bool,
    /// The stages that the targets are made of, by name or number.
    pub used_stages: Vec<String>,
    /// What the target takes.
    pub outline: Outline,
}

impl Compiled {
    /// The error that its warnings are, when the file wants them to be.
    #[must_use]
    pub fn violations(&self) -> Option<String> {
        violations(self.warnings_are_errors, &self.warnings)
    }
}

/// What is wrong with a Dockerfile.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Warnings, in the order in which they were found.
    pub warnings: Vec<Diagnostic>,
    /// Why the file can't be built, if that is known.
    pub error: Option<DockerfileError>,
}

/// The error that warnings are, when the file wants them to be.
pub(super) fn violations(is_strict: bool, found: &[Diagnostic]) -> Option<String> {
    let names: BTreeSet<&str> = found.iter().map(|found| found.rule.name()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    (is_strict && !names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("lint violation found for rules: {names}")
    })
}
