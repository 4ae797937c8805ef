//! A solved build, as exports see it.

use kiln_graph::{Build, Timestamp};
use kiln_solve::Solution;

use crate::execute::snapshotter::Snapshotter;

/// What images are made of.
#[derive(Clone, Copy)]
pub(crate) struct Built<'a> {
    pub(crate) trees: &'a Snapshotter,
    pub(crate) build: &'a Build,
    pub(crate) solution: &'a Solution,
    /// When the build began.
    pub(crate) started: Timestamp,
}
