//! Carries out [`kiln_graph::Files`]: what COPY, ADD and WORKDIR change.

mod apply;
mod difference;
mod error;
mod owner;
mod parents;
mod place;
mod select;
mod step;

pub(crate) use apply::{Surroundings, apply, copy_file};
pub use error::FilesError;
pub(crate) use select::{Selected, digest, select};
pub use step::FileExecutor;
