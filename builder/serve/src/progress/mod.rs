//! What a client is shown of a build.

mod log;
mod numbering;
mod sink;
mod vertex;

pub(crate) use log::{StatusLog, decode, follow};
pub(crate) use sink::{Contexts, Progress};
pub(crate) use vertex::{Vertex, digest_of, now};
