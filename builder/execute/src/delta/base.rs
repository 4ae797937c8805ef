//! The old images that layers are rebuilt from: earlier ones of the same repository, and the one that the
//! user names.

use std::path::Path;
use std::sync::Arc;

use kiln_graph::{ImageConfig, ImageLayer};
use kiln_image::Reference;
use kiln_solve::EventSink;
use kiln_tree::TreeError;

use super::source_tree::{files_here, source_trees};
use super::{Base, OldImage};
use crate::EngineError;
use crate::document::document;
use crate::snapshotter::Snapshotter;

/// So many earlier images of a repository are looked at.
const MAX_EARLIER: usize = 3;

impl Snapshotter {
    /// Brings an image here whose files layers may be rebuilt from; the first one counts.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn use_base_image(
        &self,
        layers: &[ImageLayer],
        image: &str,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let trees = source_trees(self, layers, image, events)?;
        self.use_base(Base {
            files: Arc::new(OldImage::of(&trees)?),
            is_stored: true,
        });
        Ok(())
    }

    /// Uses the files of an image that lie in a directory; the first one counts.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn use_base_directory(&self, directory: &Path) -> Result<(), TreeError> {
        self.use_base(Base {
            files: Arc::new(OldImage::of_directory(directory)?),
            is_stored: false,
        });
        Ok(())
    }

    fn use_base(&self, base: Base) {
        _ = self.deltas.base.set(base);
    }

    /// The files of old images that an image may share some with; none of the image itself, which is
    /// named by its digest.
    pub(crate) fn old_images(
        &self,
        image: &Reference,
    ) -> Result<Arc<[Arc<OldImage>]>, EngineError> {
        let Some(digest) = image.digest else {
            return Ok(Arc::from([]));
        };
        let place = self.deltas.earlier.place(digest);
        if let Some(found) = place.get() {
            return Ok(found.clone());
        }
        let mut found: Vec<Arc<OldImage>> = Vec::new();
        found.extend(self.deltas.base.get().map(|base| base.files.clone()));
        found.extend(self.earlier_images(image)?);
        Ok(place.get_or_init(|| found.into()).clone())
    }

    /// The images of the same repository that are here, the latest first.
    fn earlier_images(&self, image: &Reference) -> Result<Vec<Arc<OldImage>>, EngineError> {
        let mut records = self.store.images().all()?;
        records
            .retain(|record| image.has_beside(&record.name) && Some(record.digest) != image.digest);
        records.sort_by_key(|record| std::cmp::Reverse(record.tagged));
        let mut found = Vec::new();
        for record in records.iter().take(MAX_EARLIER) {
            let Some(config) = document::<ImageConfig>(&self.store, &record.config)? else {
                continue;
            };
            let mut trees = Vec::new();
            for diff_id in &config.rootfs.diff_ids {
                trees.extend(files_here(&self.store, diff_id)?);
            }
            if !trees.is_empty() {
                found.push(Arc::new(OldImage::of(&trees)?));
            }
        }
        Ok(found)
    }
}
