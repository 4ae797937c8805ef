//! What a build gave.

use kiln_engine::Solved;
use kiln_graph::BlobDigest;
use kiln_image::{Descriptor, Reference};
use serde::Serialize;

use crate::Error;
use crate::output::Written;

/// What a build gave; as JSON, the event `result` of `--progress rawjson`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BuildOutcome {
    /// The digest of the manifest, or of the index over those of several platforms; `None` when
    /// no image was made.
    pub digest: Option<BlobDigest>,
    /// The digest of the (first) image's configuration: what Docker calls the image's ID.
    pub id: Option<BlobDigest>,
    /// The platforms of the images.
    pub platforms: Vec<String>,
    /// The number of layers of the first image.
    pub layers: usize,
    /// The length of all blobs, in bytes.
    pub size: u64,
    /// Names in kiln's store.
    pub stored: Vec<String>,
    /// Names that were pushed.
    pub pushed: Vec<String>,
    /// Whether the Docker daemon has it.
    pub loaded: bool,
    /// What that daemon calls it: one that keeps images as containerd does goes by manifests.
    #[serde(skip)]
    pub daemon_id: Option<BlobDigest>,
    /// Files and directories that were written.
    pub files: Vec<String>,
    /// Names the manifest or index.
    #[serde(skip)]
    pub descriptor: Option<Descriptor>,
    /// Where the images come from, under the names that buildx has for it.
    #[serde(skip)]
    pub provenance: Vec<(String, serde_json::Value)>,
}

impl BuildOutcome {
    /// What the image is called by whoever runs it: the daemon that has it, else Docker at large.
    #[must_use]
    pub fn image_id(&self) -> Option<BlobDigest> {
        self.daemon_id.or(self.id)
    }

    /// The outcome of a solved build whose outputs were written.
    ///
    /// # Errors
    /// When the index can't be stored.
    pub fn of(solved: &Solved, written: &Written) -> Result<Self, Error> {
        let texts = |names: &[Reference]| names.iter().map(Reference::to_string).collect();
        let mut outcome = Self {
            stored: texts(&written.stored),
            pushed: texts(&written.pushed),
            loaded: written.loaded,
            daemon_id: written.daemon_id,
            files: written.files.clone(),
            provenance: written.provenance(solved),
            ..Self::default()
        };
        let Some(first) = written.images.first() else {
            return Ok(outcome);
        };
        let top = solved.top(&written.images)?.0;
        outcome.digest = Some(top.digest);
        outcome.descriptor = Some(top);
        outcome.id = Some(first.config_descriptor.digest);
        outcome.layers = first.layer_sizes().len();
        for image in &written.images {
            let platform = image.descriptor.runs_on();
            outcome
                .platforms
                .extend(platform.map(|own| own.to_string()));
            outcome.size += image.size();
        }
        Ok(outcome)
    }
}
