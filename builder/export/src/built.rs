//! A solved build, as exports see it.

use kiln_execute::Snapshotter;
use kiln_graph::{Build, Timestamp};
use kiln_solve::Solution;

/// What images are made of.
#[derive(Clone, Copy, Debug)]
pub struct Built<'a> {
    /// Brings trees here.
    pub trees: &'a Snapshotter,
    /// The build.
    pub build: &'a Build,
    /// The results of its steps.
    pub solution: &'a Solution,
    /// When the build began.
    pub started: Timestamp,
}
