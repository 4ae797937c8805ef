//! Layers that are rebuilt from differences: the old image is here, and the registry has an oci-delta
//! artifact from it to the image that is pulled. Whatever is wrong with one, the layer is fetched
//! whole.

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
pub use rebuild::{Fetcher, Rebuild, RebuildError};
pub use source_tree::{note_files, source_trees};

/// A difference whose old image is here.
#[derive(Debug)]
pub struct UsableDelta {
    /// The artifact.
    pub manifest: DeltaManifest,
    /// The old image.
    pub old: OldImage,
    /// Where its blobs are: the new image.
    pub image: Reference,
}

type Looked = Arc<OnceLock<Option<Arc<UsableDelta>>>>;

/// The differences that were looked for, by the digests of the images they give.
#[derive(Debug, Default)]
pub struct Deltas {
    looked: Mutex<HashMap<BlobDigest, Looked>>,
    explains: AtomicBool,
}

impl Deltas {
    /// Has it said why an image is pulled in whole layers although an earlier one is here.
    pub fn explain(&self) {
        self.explains.store(true, Ordering::Relaxed);
    }

    fn explains(&self) -> bool {
        self.explains.load(Ordering::Relaxed)
    }

    fn place(&self, image: BlobDigest) -> Looked {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.entry(image).or_default().clone()
    }
}
