//! What executors and sources of one's own have to keep to, as functions that try them: to be called from
//! the tests of whoever wrote one.

mod executor;
mod source;
mod trial;

pub use executor::{ExecutorTrial, executor};
pub use source::{SourceTrial, source};
