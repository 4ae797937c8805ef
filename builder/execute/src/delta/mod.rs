//! Layers that are rebuilt from differences: the old image is here, and the registry has an oci-delta
//! artifact from it to the image that is pulled. Whatever is wrong with one, the layer is fetched
//! whole.

mod base;
mod find;
mod old_image;
mod rebuild;
mod source_tree;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kiln_delta::artifact::DeltaManifest;
use kiln_graph::BlobDigest;
use kiln_image::Reference;

pub use find::layers_here;
pub use old_image::OldImage;
pub(crate) use rebuild::max_tar;
pub use rebuild::{Fetcher, Rebuild, RebuildError};
pub use source_tree::{note_files, source_trees};

/// A difference whose old image is here.
#[derive(Debug)]
pub struct UsableDelta {
    /// The artifact.
    pub manifest: DeltaManifest,
    /// The old image.
    pub old: Arc<OldImage>,
    /// Where its blobs are: the new image.
    pub image: Reference,
}

/// What is found once for each image.
#[derive(Debug)]
struct PerImage<T>(Mutex<HashMap<BlobDigest, Arc<OnceLock<T>>>>);

impl<T> Default for PerImage<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> PerImage<T> {
    fn place(&self, image: BlobDigest) -> Arc<OnceLock<T>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry(image).or_default().clone()
    }
}

/// What layers may be rebuilt from, by the digests of the images they are of.
#[derive(Debug, Default)]
pub struct Deltas {
    looked: PerImage<Option<Arc<UsableDelta>>>,
    earlier: PerImage<Arc<[Arc<OldImage>]>>,
    /// Files of the old image, where the user says what that is.
    base: OnceLock<Base>,
    explains: AtomicBool,
}

/// The old image that the user names.
#[derive(Debug)]
struct Base {
    files: Arc<OldImage>,
    /// Whether it is in the store, too, where differences find it.
    is_stored: bool,
}

impl Deltas {
    /// Has it said why an image is pulled in whole layers although an earlier one is here.
    pub fn explain(&self) {
        self.explains.store(true, Ordering::Relaxed);
    }

    fn explains(&self) -> bool {
        self.explains.load(Ordering::Relaxed)
    }
}
