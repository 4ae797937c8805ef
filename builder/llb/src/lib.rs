//! LLB, BuildKit's graphs (`solver/pb/ops.proto`), as kiln's. Pure: asks for images by returning.
//!
//! ```text
//! definition   marshalled operations, checked: digests, order, limits
//! compile      each operation as steps
//! source       images, repositories, files, directories of clients
//! exec         commands; outputs of mounts are copied in and out
//! container    the mounts of a container, and its processes
//! file         changes to files
//! frontend     the suite of all frontends over it, in tests
//! ```
//!
//! What kiln's graph can't say is an error that names it: a definition is never built as something else.

mod compile;
mod container;
mod definition;
mod error;
mod exec;
mod file;
#[cfg(test)]
mod frontend;
mod source;

pub use bollard_buildkit_proto::pb;

pub use compile::{Compiled, Outcome, compile, results_in};
pub use container::{Surroundings, process, surroundings};
pub use error::LlbError;
pub use source::{LAYOUT, LocalSource, OWN_RESULTS, RESULT, image_of_ref};
