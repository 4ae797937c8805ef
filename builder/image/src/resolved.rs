//! What names of images stand for.

use kiln_graph::{BlobDigest, ImageConfig, ImageLayer};

use crate::ImageError;
use crate::document::{Manifest, unread};

/// What a name stands for on one platform.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the name itself stands for: the manifest, or an index that has it. `None` for images
    /// that are in no registry.
    pub named: Option<BlobDigest>,
    /// Digest of the image's manifest.
    pub manifest: BlobDigest,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<ImageLayer>,
}

pub(crate) fn build_resolved(
    image: &str,
    digest: BlobDigest,
    manifest: &Manifest,
    config: &[u8],
) -> Result<Resolved, ImageError> {
    let fail = |reason| ImageError::Document {
        image: image.to_owned(),
        reason,
    };
    let config: ImageConfig = serde_json::from_slice(config).map_err(|error| {
        fail(format!(
            "its configuration can't be understood: {}",
            unread(&error)
        ))
    })?;
    let ids = &config.rootfs.diff_ids;
    if ids.len() != manifest.layers.len() {
        return Err(fail(format!(
            "its configuration names {} layers, its manifest {}",
            ids.len(),
            manifest.layers.len()
        )));
    }
    let layers = manifest.layers.iter().zip(ids);
    let layers = layers
        .map(|(layer, diff_id)| layer.image_layer(*diff_id))
        .collect();
    Ok(Resolved {
        named: None,
        manifest: digest,
        config,
        layers,
    })
}

pub(crate) fn available(index: &crate::Index) -> String {
    let names = index
        .manifests
        .iter()
        .filter(|image| !image.is_attestation());
    names
        .filter_map(|image| Some(image.runs_on()?.to_string()))
        .collect::<Vec<_>>()
        .join(", ")
}
