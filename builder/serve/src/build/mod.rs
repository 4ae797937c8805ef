//! From a frontend's attributes to a solved build, and to what the exporters want.

mod answer;
mod attest;
mod attributes;
mod cache;
mod client_directory;
mod container;
mod context_source;
mod contexts;
mod definition;
mod exporter;
mod failed_step;
mod frontend;
mod gateway;
mod input;
mod join;
mod journal;
mod layout;
mod lend;
mod local_cache;
mod question;
mod returned;
mod run;
mod solve;
mod source_meta;
mod source_policy;
mod sources;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use kiln::{AttestOptions, Journal, Provenance, Texts};
use kiln_engine::{ImageOptions, Shown, Solved};
use kiln_graph::{ImageConfig, Platform, Target};
use kiln_image::PlatformDocument;
use serde_json::{Value, json};
use tonic::Status;

pub(crate) use answer::{build, resolve_file, resolve_image};
pub(crate) use container::{Results, container};
pub(crate) use exporter::{Export, export};
pub(crate) use frontend::{DOCKERFILE, Foreign};
pub(crate) use returned::{Returned, returned};
pub(crate) use source_policy::SourcePolicy;

use crate::proto::control::CacheOptionsEntry;
use crate::proto::pb::Definition;
use crate::proto::sourcepolicy::Policy;
use crate::result_ref::new_id;

/// What is asked of a frontend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Its name: `dockerfile.v0`, or `gateway.v0` with an image.
    pub(crate) frontend: String,
    pub(crate) attributes: HashMap<String, String>,
    /// Results of other builds, by name.
    pub(crate) inputs: HashMap<String, Definition>,
    pub(crate) imports: Vec<CacheOptionsEntry>,
    /// A definition in place of what a frontend makes.
    pub(crate) definition: Option<Definition>,
    /// Rules about sources, beside the build's.
    pub(crate) policies: Vec<Policy>,
}

/// A build that was solved.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) solved: Solved,
    /// How its images are made.
    pub(crate) options: ImageOptions,
    pub(crate) texts: Texts,
    /// The build file's name.
    pub(crate) file: String,
    /// Whether results are named by their platforms, were it only one.
    pub(crate) is_map: bool,
    /// What the client is told of the cache that was written to its directory: a descriptor, as JSON.
    pub(crate) cache_manifest: Option<String>,
    /// Whether it is of a definition: how its image is configured the client says.
    pub(crate) is_definition: bool,
    /// The attestations that are asked for.
    attest: AttestOptions,
    /// What is known of where the result comes from.
    facts: Provenance,
    /// Notes what happens, and shows it to the client.
    pub(crate) journal: Arc<Journal>,
    /// What it was made from and isn't in the store yet.
    _scratch: Arc<Scratch>,
    /// The results that it was joined from.
    _parts: Vec<Kept>,
}

/// A result that has a name: one target of a build that was solved.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) built: Arc<Built>,
    /// Which target.
    pub(crate) number: usize,
}

impl Kept {
    /// The target.
    pub(crate) fn target(&self) -> Option<&Target> {
        self.built.solved.build().targets.get(self.number)
    }

    /// The result as a container shows it.
    pub(crate) fn shown(&self) -> Shown<'_> {
        let target = self.target()?;
        Some((&self.built.solved, target.root))
    }
}

/// A directory that goes with what is made from it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A path in it where nothing is yet; what it is for comes first in its name.
    fn vacant(&self, purpose: &str) -> Result<PathBuf, Status> {
        let id = new_id()?;
        Ok(self.0.join(format!("{purpose}-{}", &id[..16])))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        kiln_tree::remove_all(&self.0);
    }
}

impl Built {
    /// The names of the platforms.
    pub(crate) fn platforms(&self) -> Vec<String> {
        let targets = &self.solved.build().targets;
        let names = targets.iter().map(|target| target.platform.to_string());
        names.collect()
    }

    /// Where the result comes from: the type of predicate, and the predicate.
    pub(crate) fn provenance(&self) -> (&'static str, Value) {
        attest::of_history(&self.attest).predicate(&self.facts)
    }
}

/// What a frontend answers.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The build; none when something was asked about the build file only.
    pub(crate) result: Option<Arc<Built>>,
    /// Answers to questions.
    said: HashMap<String, Vec<u8>>,
}

impl Answer {
    /// The names of the platforms.
    pub(crate) fn platforms(&self) -> Vec<String> {
        let result = self.result.iter();
        result.flat_map(|built| built.platforms()).collect()
    }

    /// Whether results are named by their platforms.
    pub(crate) fn is_map(&self) -> bool {
        self.result.as_ref().is_some_and(|built| built.is_map)
    }

    /// What is told beside the results, under BuildKit's names.
    pub(crate) fn metadata(&self) -> HashMap<String, Vec<u8>> {
        let mut metadata = self.said.clone();
        let Some(built) = &self.result else {
            return metadata;
        };
        if built.is_definition {
            // It says nothing of an image's configuration.
            return metadata;
        }
        let mut platforms = Vec::new();
        for target in &built.solved.build().targets {
            let (platform, id) = (&target.platform, target.platform.to_string());
            let config = serde_json::to_vec(&target.config).unwrap_or_default();
            let key = match built.is_map {
                true => format!("containerimage.config/{id}"),
                false => "containerimage.config".to_owned(),
            };
            metadata.insert(key, config);
            let about = PlatformDocument::from(platform);
            platforms.push(json!({ "ID": id, "Platform": about }));
        }
        let platforms = json!({ "Platforms": platforms });
        let platforms = platforms.to_string().into_bytes();
        metadata.insert("refs.platforms".to_owned(), platforms);
        metadata
    }
}

/// An image's configuration that a client says.
pub(crate) fn image_config(json: &[u8]) -> Result<ImageConfig, Status> {
    let wrong = |reason: String| {
        Status::invalid_argument(format!("an image's configuration can't be used: {reason}"))
    };
    let mut config: ImageConfig =
        serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    config.check().map_err(|error| wrong(error.to_string()))?;
    if config.architecture.is_empty() {
        config.set_platform(&Platform::host());
    }
    Ok(config)
}
