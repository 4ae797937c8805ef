//! Makes images of solved builds: which changes go into which layer, the layers' blobs, the
//! configuration and the manifest.

use kiln_attest::artifact::Artifact;
use kiln_cache::{LayerBlob, Store};
use kiln_execute::{EngineError, parallel};
use kiln_graph::{History, ImageConfig, Target};
use kiln_image::{Descriptor, Manifest};
use kiln_solve::EventSink;

use crate::annotation::IndexAnnotations;
use crate::built::Built;
use crate::created;
use crate::erofs::write_erofs;
use crate::image_options::ImageOptions;
use crate::inline::InlineWriter;
use crate::layer_blob::{ImageBlob, Making, layer_blob};
use crate::layering::{LayerPlanner, PlannedLayer};
use crate::media_types::MediaTypes;
use crate::output::files_of;
use crate::verity::Verity;

/// A finished image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The configuration document's bytes.
    pub config: Vec<u8>,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Names the manifest.
    pub descriptor: Descriptor,
    /// Names the configuration.
    pub config_descriptor: Descriptor,
    pub(crate) layers: Vec<ImageBlob>,
    /// What is said of an index that names it beside others.
    pub(crate) around: IndexAnnotations,
    /// What lies beside it in an index.
    pub(crate) attestation: Option<Artifact>,
}

/// Makes the image of one target.
///
/// # Errors
/// When layers can't be read, compressed or stored.
pub fn assemble(
    built: Built<'_>,
    target: &Target,
    options: &ImageOptions,
    events: &dyn EventSink,
) -> Result<Image, EngineError> {
    let (graph, created) = (&built.build.graph, &built.solution.created);
    let mut target = target.clone();
    if let Some(config) = &options.config {
        target.config = (**config).clone();
    }
    let target = &created::dated(graph, created, target, options.epoch);
    let planner = LayerPlanner::of(built);
    let (layers, history) = planner.plan(target, &options.plan, events)?;
    let numbered: Vec<(usize, &PlannedLayer)> = layers.iter().enumerate().collect();
    let blobs = parallel::map(&numbered, |(number, layer)| {
        let name = format!("compress layer {} of {}", number + 1, layers.len());
        let made = Making {
            name,
            options,
            since: built.started,
            events,
        };
        layer_blob(built.trees, layer, &made)
    })?;
    let mut config = configuration(target, &blobs, history);
    if let Some(wanted) = &options.inline {
        let inline = InlineWriter {
            built,
            planner,
            options,
            events,
        };
        config.inline_cache = inline.entries(wanted, &layers, &blobs)?;
    }
    let verity = match options.erofs_verity {
        true => Some(erofs_verity(built, target, options, events)?),
        false => None,
    };
    manifest(&built.trees.store, &config, blobs, options, verity)
}

/// Annotation of a layer: the time that no file in it is later than, as BuildKit's exporters write it.
const REWRITTEN: &str = "buildkit/rewritten-timestamp";

/// Annotation: the fs-verity digest of the EROFS image that an image's files make.
const EROFS_VERITY: &str = "dev.kiln.erofs.fs-verity";

/// The annotation of a target's files.
fn erofs_verity(
    built: Built<'_>,
    target: &Target,
    options: &ImageOptions,
    events: &dyn EventSink,
) -> Result<(String, String), EngineError> {
    let root = built.solution.results.get(&target.root);
    let files = files_of(built.trees, root, events)?;
    let mut verity = Verity::default();
    let written = write_erofs(&files, options.latest(), &mut verity);
    written.map_err(|source| EngineError::Output {
        what: "the EROFS image of the result".to_owned(),
        source,
    })?;
    Ok((EROFS_VERITY.to_owned(), verity.digest().to_string()))
}

fn manifest(
    store: &Store,
    config: &ImageConfig,
    layers: Vec<ImageBlob>,
    options: &ImageOptions,
    own_annotation: Option<(String, String)>,
) -> Result<Image, EngineError> {
    let platform = config.platform();
    let types = MediaTypes::of(options);
    let fail = |error: serde_json::Error| EngineError::Output {
        what: "the manifest".to_owned(),
        source: error.into(),
    };
    let config = serde_json::to_vec(config).map_err(fail)?;
    let stored = store.blobs().put(&config)?;
    let config_descriptor = Descriptor::new(types.config, stored.digest, stored.size);
    let layer = |layer: &ImageBlob| {
        let LayerBlob { blob, size, .. } = layer.blob;
        let mut annotations = layer.blob.annotations.clone();
        if let (None, true, Some(latest)) = (&layer.from, options.marks_rewritten, options.latest())
        {
            annotations.insert(REWRITTEN.to_owned(), latest.seconds.to_string());
        }
        Descriptor {
            annotations,
            ..Descriptor::new(&types.layer(&layer.blob.media_type), blob, size)
        }
    };
    let mut annotations = options.annotations.of_manifest(&platform);
    annotations.extend(own_annotation);
    let manifest = Manifest {
        schema_version: 2,
        media_type: types.manifest.to_owned(),
        config: config_descriptor.clone(),
        layers: layers.iter().map(layer).collect(),
        annotations,
    };
    let manifest = serde_json::to_vec(&manifest).map_err(fail)?;
    let stored = store.blobs().put(&manifest)?;
    let mut descriptor = Descriptor::new(types.manifest, stored.digest, stored.size);
    descriptor.platform = Some((&platform).into());
    descriptor.annotations = options.annotations.of_manifest_descriptor(&platform);
    Ok(Image {
        config,
        manifest,
        descriptor,
        config_descriptor,
        layers,
        around: options.annotations.of_index(),
        attestation: None,
    })
}

/// An image's configuration. Lines of the history that speak of no step have the image's time.
fn configuration(target: &Target, blobs: &[ImageBlob], history: Vec<History>) -> ImageConfig {
    let mut config = target.config.clone();
    config.history = history;
    let undated = config.history.iter_mut();
    for line in undated.filter(|line| line.created.is_none()) {
        line.created.clone_from(&config.created);
    }
    config.rootfs.diff_ids = blobs.iter().map(|layer| layer.blob.diff_id).collect();
    config
}

impl Image {
    /// The length of its manifest, its configuration and its layers, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let layers: u64 = self.layer_sizes().iter().sum();
        self.descriptor.size + self.config_descriptor.size + layers
    }

    /// The lengths of the layers' blobs in bytes, lowest first.
    #[must_use]
    pub fn layer_sizes(&self) -> Vec<u64> {
        self.layers.iter().map(|layer| layer.blob.size).collect()
    }
}
