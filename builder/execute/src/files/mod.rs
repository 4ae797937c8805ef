//! Carries out [`kiln_graph::Files`]: what COPY, ADD and WORKDIR change.

mod apply;
mod bring;
mod copy;
mod destination;
mod difference;
mod error;
mod owner;
mod parents;
mod place;
mod select;
mod step;
mod surroundings;
mod unpack;

pub(crate) use apply::apply;
pub(crate) use bring::copy_file;
pub use error::FilesError;
pub(crate) use select::{Selected, digest, select};
pub use step::FileExecutor;
pub(crate) use surroundings::Surroundings;
