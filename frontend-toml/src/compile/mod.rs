//! From tables to a graph: one image of the file, and what it needs.

mod command;
mod compiler;
mod config;
mod copy;
mod image;
mod layers;
mod limits;
mod mounts;
mod order;
mod policy;
mod settings;
mod source;
mod step;
mod value;
mod verify;
mod worker;

use std::collections::BTreeMap;

use kiln_graph::{Build, ImageRequest, ImageTable, Location, Platform};

use crate::error::{TomlError, Wrong};
use crate::model::BuildFile;
use crate::params;
use crate::value::ValueTable;
use compiler::Compiler;
pub use policy::Policy;
pub use settings::{Settings, platforms};
pub use value::ValueSteps;
pub use verify::{RequiredSignature, Signers};

/// What a compilation is told besides the file.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--build-arg`: values of parameters.
    pub params: BTreeMap<String, String>,
    /// `--target`: the image, or a step.
    pub target: Option<String>,
    /// `--platform`, at least one.
    pub platforms: Vec<Platform>,
    /// What the builder runs on.
    pub build_platform: Platform,
    /// The main context's ignore patterns.
    pub ignore: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--build-context`: what stands for a source, or for an image, of the name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--no-cache-filter`: steps to run whatever is stored.
    pub no_cache_filter: Vec<String>,
    /// `--add-host`: names and addresses.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`, by name: soft and hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// What steps have written, as far as it is known.
    pub values: ValueTable,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            params: BTreeMap::new(),
            target: None,
            platforms: vec![Platform::host()],
            build_platform: Platform::host(),
            ignore: Vec::new(),
            labels: BTreeMap::new(),
            contexts: BTreeMap::new(),
            no_cache_filter: Vec::new(),
            extra_hosts: Vec::new(),
            ulimits: BTreeMap::new(),
            shm_size: None,
            values: ValueTable::new(),
        }
    }
}

/// A named context of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory, and its ignore patterns.
    Directory(Vec<String>),
    /// An image's name.
    Image(String),
    /// Another step.
    Step(String),
}

/// What came of a compilation.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The build.
    Done(Box<Compiled>),
    /// These images must be known first; and where each is asked for.
    Needs(Vec<(ImageRequest, Option<Location>)>),
    /// What these steps write must be known first.
    Values(Box<ValueSteps>),
}

/// A compiled file.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph and the image wanted, once for each platform.
    pub build: Build,
    /// The image's layers by path, if the file says.
    pub layers: Vec<LayerRule>,
    /// What the image must keep to, if the file says.
    pub policy: Option<Policy>,
    /// Where the image goes, if the file says.
    pub settings: Settings,
    /// The directories of the context that the graph names, from the context on.
    pub directories: BTreeMap<String, String>,
    /// The signatures that its images must have.
    pub signatures: Vec<RequiredSignature>,
}

/// Paths that go into a layer of their own. (Layers by step are in the targets' histories.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRule {
    /// The layer's name.
    pub name: String,
    /// Patterns of its paths.
    pub paths: Vec<String>,
}

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
