//! `kiln image push`.

use kiln::{Engine, Error};
use kiln_image::{Manifest, PushBlob, PushImage};

use super::image_id::{full_name, no_such_image};

/// Sends an image of the store to its registry.
///
/// # Errors
/// When there is no such image, or the registry doesn't take it.
pub(super) fn push(engine: &Engine, name: &str) -> Result<(), Error> {
    let reference = full_name(name)?;
    let store = engine.store();
    let image = store
        .image(&reference.to_string())?
        .ok_or_else(|| no_such_image(name))?;
    let read = |digest: &kiln_graph::BlobDigest| -> Result<Vec<u8>, Error> {
        let blob = store.blob(digest)?.ok_or_else(|| {
            Error::Usage(format!(
                "blob {digest} of {name} was never fetched; build it again with --push"
            ))
        })?;
        std::fs::read(&blob.path).map_err(|source| Error::File {
            what: format!("cannot read blob {digest}"),
            source,
        })
    };
    let top = read(&image.digest)?;
    let mut blobs = Vec::new();
    let mut manifests = Vec::new();
    let is_part = |digest: &&kiln_graph::BlobDigest| {
        **digest != image.digest && Some(**digest) != image.index
    };
    for digest in image.blobs.iter().filter(is_part) {
        let Some(blob) = store.blob(digest)? else {
            read(digest)?;
            continue;
        };
        let bytes = if blob.size < 1 << 20 {
            read(digest)?
        } else {
            Vec::new()
        };
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
            let kind = match manifest.media_type.as_str() {
                "" => kiln_image::media_type::MANIFEST,
                own => own,
            };
            manifests.push((bytes, kind.to_owned()));
            continue;
        }
        let path = blob.path.clone();
        blobs.push(PushBlob {
            digest: *digest,
            size: blob.size,
            mount_from: None,
            file: Box::new(move || Ok(path.clone())),
        });
    }
    let image = PushImage {
        blobs,
        manifests,
        top: (top, image.media_type),
    };
    Ok(engine.client().push(&reference, &image, &|_| {})?)
}
