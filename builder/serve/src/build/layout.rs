//! OCI layouts of a client's: images brought here from one, and sent into one.

use std::collections::BTreeSet;
use std::path::Path;

use kiln_graph::{BlobDigest, Platform};
use kiln_image::{Descriptor, Index, Manifest};
use kiln_tree::host;
use serde_json::{Value, json};
use tonic::Status;

use crate::error::BuildError;
use crate::session::ClientStore;

/// A manifest, index or configuration is no larger, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;
/// Files of a layout that isn't tarred.
const BLOBS: &str = "blobs/sha256";

fn broken(source: std::io::Error) -> BuildError {
    BuildError::Host {
        what: "cannot keep an image of the client's",
        source,
    }
}

fn unread(digest: &BlobDigest, error: &serde_json::Error) -> Status {
    Status::invalid_argument(format!("{digest} in the client's layout: {error}"))
}

/// Brings an image here as a layout in `directory`: of an index, the images for these platforms.
pub(super) fn fetch(
    store: &ClientStore,
    top: &BlobDigest,
    platforms: &[Platform],
    directory: &Path,
) -> Result<(), BuildError> {
    host::create_dir_all(directory.join(BLOBS)).map_err(broken)?;
    let fetch = Fetch { store, directory };
    let bytes = fetch.document(top)?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|error| unread(top, &error))?;
    let is_index = document.get("manifests").is_some();
    match is_index {
        true => fetch.index(top, &bytes, platforms)?,
        false => fetch.image(top, &bytes)?,
    }
    let usual = match is_index {
        true => kiln_image::media_type::INDEX,
        false => kiln_image::media_type::MANIFEST,
    };
    let own = document.get("mediaType").and_then(Value::as_str);
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": own.unwrap_or(usual),
            "digest": top.to_string(),
            "size": bytes.len(),
        }],
    });
    let mark = json!({ "imageLayoutVersion": "1.0.0" });
    for (name, document) in [("index.json", index), ("oci-layout", mark)] {
        host::write(directory.join(name), document.to_string()).map_err(broken)?;
    }
    Ok(())
}

struct Fetch<'a> {
    store: &'a ClientStore,
    directory: &'a Path,
}

impl Fetch<'_> {
    fn document(&self, digest: &BlobDigest) -> Result<Vec<u8>, BuildError> {
        let bytes = self.store.document(digest, MAX_DOCUMENT)?;
        let file = self.directory.join(BLOBS).join(digest.hex());
        host::write(file, &bytes).map_err(broken)?;
        Ok(bytes)
    }

    fn index(
        &self,
        digest: &BlobDigest,
        bytes: &[u8],
        platforms: &[Platform],
    ) -> Result<(), BuildError> {
        let index: Index = serde_json::from_slice(bytes).map_err(|error| unread(digest, &error))?;
        let is_only = index.manifests.len() == 1;
        let fits = |image: &Descriptor| match image.runs_on() {
            Some(own) => platforms.iter().any(|wanted| own.serves(wanted).is_some()),
            None => is_only,
        };
        for image in index.manifests.iter().filter(|image| fits(image)) {
            let manifest = self.document(&image.digest)?;
            self.image(&image.digest, &manifest)?;
        }
        Ok(())
    }

    fn image(&self, digest: &BlobDigest, bytes: &[u8]) -> Result<(), BuildError> {
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| unread(digest, &error))?;
        self.document(&manifest.config.digest)?;
        let mut seen = BTreeSet::new();
        for layer in &manifest.layers {
            if !seen.insert(layer.digest) {
                continue;
            }
            let file = self.directory.join(BLOBS).join(layer.digest.hex());
            let file = host::create(file).map_err(broken)?;
            self.store.read(&layer.digest, layer.size, file)?;
        }
        Ok(())
    }
}

/// Sends a layout's blobs to a client, what others name first: whoever finds an image there finds all
/// of it. The client writes `index.json` by itself.
pub(super) fn send(store: &ClientStore, directory: &Path) -> Result<(), BuildError> {
    let bytes = host::read(directory.join("index.json")).map_err(broken)?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| Status::internal(format!("the layout's index: {error}")))?;
    let mut send = Send {
        store,
        directory,
        sent: BTreeSet::new(),
    };
    index.manifests.iter().try_for_each(|top| send.all(top, 0))
}

/// Indexes that hold indexes are no deeper.
const MAX_DEPTH: usize = 4;

struct Send<'a> {
    store: &'a ClientStore,
    directory: &'a Path,
    sent: BTreeSet<BlobDigest>,
}

impl Send<'_> {
    fn all(&mut self, top: &Descriptor, depth: usize) -> Result<(), BuildError> {
        let kind = match top.media_type.as_str() {
            text if text.contains("index") || text.contains("manifest.list") => "index",
            text if text.contains("manifest") => "manifest",
            text if text.contains("config") => "config",
            _ => "layer",
        };
        let inner = match kind {
            "index" | "manifest" if depth < MAX_DEPTH => self.named_by(top)?,
            _ => Vec::new(),
        };
        inner.iter().try_for_each(|one| self.all(one, depth + 1))?;
        if !self.sent.insert(top.digest) {
            return Ok(());
        }
        let file = host::open(self.file(top)).map_err(broken)?;
        Ok(self.store.write(kind, &top.digest, top.size, file)?)
    }

    fn file(&self, blob: &Descriptor) -> std::path::PathBuf {
        self.directory.join(BLOBS).join(blob.digest.hex())
    }

    /// What a document names.
    fn named_by(&self, document: &Descriptor) -> Result<Vec<Descriptor>, BuildError> {
        let bytes = host::read(self.file(document)).map_err(broken)?;
        if let Ok(index) = serde_json::from_slice::<Index>(&bytes) {
            return Ok(index.manifests);
        }
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| unread(&document.digest, &error))?;
        let mut all = manifest.layers;
        all.push(manifest.config);
        Ok(all)
    }
}
