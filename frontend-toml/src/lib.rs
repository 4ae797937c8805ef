//! Reads `kiln.toml` files, and compiles them to a graph. The language is specified in this
//! crate's README.
//!
//! [`parse`] gives the file as it is written; [`compile()`] makes a [`kiln_graph::Build`] of one
//! image in it. Both are pure: what must be known of base images is asked for with
//! [`Outcome::Needs`] and given at the next call, as with Dockerfiles; so are the outputs of steps that
//! texts name, with [`Outcome::Values`].

mod check;
mod compile;
mod condition;
mod error;
mod files;
mod format;
mod frontend;
mod group;
mod inherit;
pub mod limits;
mod matrix;
mod model;
mod params;
mod parse;
mod pattern;
mod schema;
mod suggest;
mod template;
mod text;
mod time;
mod value;

pub use compile::{
    Compiled, LayerRule, NamedContext, Options, Outcome, Policy, RequiredSignature, Settings,
    Signers, ValueSteps, compile, platforms,
};
pub use error::TomlError;
pub use format::format;
pub use frontend::TomlFrontend;
pub use kiln_graph::{ImageRequest, ImageTable, ResolvedImage};
pub use model::BuildFile;
pub use parse::{Included, ReadIncluded, parse};
pub use schema::schema;
pub use value::{ValueRequest, ValueTable};
