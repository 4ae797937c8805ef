//! Reads Dockerfiles as BuildKit 0.32's frontend does, and compiles them to a graph.
//!
//! [`parse`] gives the syntax tree, usable by itself; [`compile()`] makes a [`kiln_graph::Build`] of
//! it. Both are pure. What the frontend needs to know of base images is asked for with
//! [`Outcome::Needs`] and given at the next call.

pub mod ast;
mod compile;
mod diagnostic;
mod error;
mod expand;
mod frontend;
mod git_query;
mod ignore;
mod image_name;
pub mod limits;
mod lint;
mod outline;
mod parse;
mod print;
mod quote;
mod remote;
mod suggest;

pub use compile::{Checked, Compiled, ContextKind, Options, Outcome, check, compile, epoch_source};
pub use diagnostic::{Diagnostic, Rule};
pub use error::DockerfileError;
pub use frontend::DockerfileFrontend;
pub use ignore::read_ignore_file;
pub use kiln_graph::{ImageRequest, ImageTable, ResolvedImage};
pub use outline::{Argument, Need, Outline, Place, Position, Range, Target, targets};
pub use parse::{parse, parse_partial, parse_trigger};
pub use remote::{is_remote, read_remote};
