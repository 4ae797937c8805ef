//! Bake files: many builds described in one file (`docker-bake.hcl`, `docker-bake.json`,
//! <https://docs.docker.com/build/bake/reference/>; compose files, <https://compose-spec.io>). Text to
//! targets. Pure: files and the environment are given, nothing is built.

mod budget;
mod compose;
mod compose_keys;
mod document;
mod environment;
mod evaluate;
mod function;
mod overrides;
mod path;
mod project;
mod scope;
mod source;
mod target;
mod time;
mod validation;
mod yaml;

pub use overrides::Override;
pub use project::{Bake, Group, Project};
pub use source::{BakeError, Source};
pub use target::{Target, linked_target};

/// Reads a file that a compose file names; `None` when it isn't there.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Result<Option<String>, BakeError>;

/// Reads files, the later ones adding to and winning over the earlier ones, and bake files over compose
/// files. `env` gives the environment's variables, which win over the files'; `dotenv` is the text of
/// the `.env` file, which compose files read variables from; `files` reads what they name.
///
/// # Errors
/// When a file can't be understood, or an expression can't be evaluated.
pub fn read(
    sources: &[Source],
    dotenv: Option<&str>,
    env: &dyn Fn(&str) -> Option<String>,
    files: ReadFile<'_>,
) -> Result<Project, BakeError> {
    let (compose_files, bake_files): (Vec<&Source>, Vec<&Source>) =
        sources.iter().partition(|source| source.is_compose());
    let mut document = document::Document::default();
    for source in bake_files {
        document.add(source)?;
    }
    let services = match compose_files.is_empty() {
        true => None,
        false => {
            let warnings = &mut document.warnings;
            Some(compose::read(&compose_files, dotenv, env, files, warnings)?)
        }
    };
    Project::new(services, document, env)
}
