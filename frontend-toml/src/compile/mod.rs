//! From tables to a graph: one image of the file, and what it needs.

mod command;
mod compiled;
mod compiler;
mod config;
mod copy;
mod image;
mod layers;
mod limits;
mod mounts;
mod named_image;
mod options;
mod order;
mod policy;
mod settings;
mod source;
mod step;
mod value;
mod verify;
mod worker;

use kiln_graph::{Build, ImageTable};

use crate::error::{TomlError, Wrong};
use crate::model::BuildFile;
use crate::params;
pub use compiled::{
    Compiled, LayerRule, Outcome, Policy, RequiredSignature, Settings, Signers, ValueSteps,
};
use compiler::Compiler;
pub use options::{NamedContext, Options};
pub use settings::platforms;

/// Compiles one image of a file.
///
/// # Errors
/// When the file asks for something that can't be, in the image wanted or elsewhere.
pub fn compile(
    file: &BuildFile,
    options: &Options,
    images: &ImageTable,
) -> Result<Outcome, TomlError> {
    outcome(file, options, images).map_err(|wrong| file.files.error(wrong))
}

fn outcome(file: &BuildFile, options: &Options, images: &ImageTable) -> Result<Outcome, Wrong> {
    let params = params::values(file, &options.params)?;
    // Mistakes in what isn't wanted now are found now: they'd be old and strange later.
    let nothing = ImageTable::new();
    let mut all = Compiler::new(file, options, &nothing, &params);
    all.everything()?;
    all.check_contexts()?;
    let mut compiler = Compiler::new(file, options, images, &params);
    let mut targets = Vec::new();
    for platform in &options.platforms {
        match compiler.target(platform) {
            Err(wrong) if wrong.waits => {}
            target => targets.push(target?),
        }
    }
    let wanted = compiler.value_steps()?;
    if !compiler.needs.is_empty() {
        return Ok(Outcome::Needs(compiler.needs.into_iter().collect()));
    }
    let signatures = compiler.signatures()?;
    if !wanted.is_empty() {
        let steps = compiler.into_value_steps(wanted, signatures);
        return Ok(Outcome::Values(Box::new(steps)));
    }
    Ok(Outcome::Done(Box::new(Compiled {
        build: Build {
            graph: compiler.graph,
            targets,
            stages: compiler.stages,
            volume_files: compiler.volume_files,
            exports: compiler.exports,
        },
        layers: compiler.layers,
        policy: compiler.policy,
        settings: compiler.settings.unwrap_or_default(),
        directories: compiler.directories,
        signatures,
    })))
}
