//! Images by their names: in the store, in registries, in archives.

use std::collections::BTreeMap;

use kiln_attest::Inventory;
use kiln_attest::sbom::Subject;
use kiln_cache::{ImageRecord, Tree};
use kiln_execute::{EngineError, Snapshotter, joined};
use kiln_export::{
    Difference, ImageReport, IndexMerger, MergedIndex, OutputEntry, Rebase, diff_images, files_of,
    find_image, image_packages, inspect_image, push_stored, rebase,
};
use kiln_graph::{ImagePath, Platform};
use kiln_image::{Reference, Resolved};
use kiln_solve::{EventSink, Snapshot, StepResult};
use kiln_tree::TreeRoot;

/// Brings images here, and looks into them.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a>(pub(crate) &'a Snapshotter);

impl Images<'_> {
    /// Fetches and unpacks an image's layers.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn pull(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let resolved = self.0.client.resolve(name, platform)?;
        self.0.deltas.explain();
        let layers = Snapshot::of_image(&resolved.layers, name);
        self.0.trees(&layers, events).map(drop)
    }

    /// Takes the files of an image as those that pulled layers may be rebuilt from.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn use_base(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let image = self.find(name, platform)?;
        self.0.use_base_image(&image.layers, name, events)
    }

    /// A tagged image, when the store has all that is needed to build on it, or knows which images of registries
    /// have the rest.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn stored(&self, name: &str, platform: &Platform) -> Result<Option<Resolved>, EngineError> {
        kiln_export::stored_image(&self.0.store, name, platform)
    }

    /// Notes what a name of an image in a registry stands for.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn note(
        &self,
        name: &str,
        platform: &Platform,
        image: &Resolved,
    ) -> Result<(), EngineError> {
        kiln_export::note_name(&self.0.store, name, platform, image)
    }

    /// The image that a name stood for when its registry was asked last, when the store has all its layers.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn noted(&self, name: &str, platform: &Platform) -> Result<Option<Resolved>, EngineError> {
        kiln_export::noted_image(&self.0.store, name, platform)
    }

    /// A tagged image, of whose layers the store may have none.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn tagged(&self, name: &str, platform: &Platform) -> Result<Option<Resolved>, EngineError> {
        kiln_export::tagged_image(&self.0.store, name, platform)
    }

    /// Brings an image into the store under a name: its layers, and a manifest.
    ///
    /// # Errors
    /// When it can't be read, or the store can't be written.
    pub fn load(
        &self,
        image: &str,
        platform: &Platform,
        name: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        kiln_export::load(self.0, image, platform, name, events)
    }

    /// An image of the store, else of wherever its name says.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn find(&self, name: &str, platform: &Platform) -> Result<Resolved, EngineError> {
        find_image(self.0, name, platform)
    }

    /// The files that an image shows, as one tree.
    ///
    /// # Errors
    /// When the image can't be had or unpacked.
    pub fn files(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<Vec<OutputEntry>, EngineError> {
        let image = self.find(name, platform)?;
        let snapshot = Snapshot::of_image(&image.layers, name);
        let result = StepResult::Snapshot(snapshot);
        files_of(self.0, Some(&result), events)
    }

    /// The files that an image shows, in one tree of the store, which shares them with those of its
    /// layers. A session must keep it.
    ///
    /// # Errors
    /// When the image can't be had or unpacked.
    pub fn tree(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<Tree, EngineError> {
        let image = self.find(name, platform)?;
        let snapshot = Snapshot::of_image(&image.layers, name);
        joined(self.0, &self.0.trees(&snapshot, events)?)
    }

    /// Gives a directory the attributes of a tree's root.
    ///
    /// # Errors
    /// When the tree can't be read, or the system refuses.
    pub fn dress_root(&self, tree: &Tree, directory: &TreeRoot) -> Result<(), EngineError> {
        let manifest = tree.manifest()?;
        let Some(root) = manifest.get(&ImagePath::root()) else {
            return Ok(());
        };
        let set = directory.set_attributes(root, self.0.gives_away);
        set.map_err(|source| EngineError::Output {
            what: "the root of an image".to_owned(),
            source,
        })
    }

    /// What each layer of an image holds.
    ///
    /// # Errors
    /// When the image can't be had or unpacked.
    pub fn inspect(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<ImageReport, EngineError> {
        inspect_image(self.0, name, platform, events)
    }

    /// The packages of an image in the store, a registry or an archive, and what they are told with.
    ///
    /// # Errors
    /// When the image can't be had or unpacked.
    pub fn packages(
        &self,
        name: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<(Subject, Inventory), EngineError> {
        image_packages(self.0, name, platform, events)
    }

    /// The paths in which two images differ.
    ///
    /// # Errors
    /// When an image can't be had or unpacked.
    pub fn diff(
        &self,
        before: &str,
        after: &str,
        platform: &Platform,
        events: &dyn EventSink,
    ) -> Result<Vec<Difference>, EngineError> {
        diff_images(self.0, before, after, platform, events)
    }

    /// Puts an image's own layers onto another base, and tags the result.
    ///
    /// # Errors
    /// When the image isn't built on the base, or replaces files that differ between the bases:
    /// it may hold what was made from the old ones, such as a package database.
    pub fn rebase(&self, wanted: &Rebase<'_>, events: &dyn EventSink) -> Result<(), EngineError> {
        rebase(self.0, wanted, events)
    }

    /// Merges images, and those of indexes, each once. Nothing is sent.
    ///
    /// # Errors
    /// When one can't be had or understood, or two different ones are for one platform.
    pub fn merge(
        &self,
        images: &[Reference],
        annotations: &BTreeMap<String, String>,
    ) -> Result<MergedIndex, EngineError> {
        self.index_merger().merge(images, annotations)
    }

    /// Sends an index and what it names. Blobs of the same registry are mounted; what is in the
    /// repository already is left alone.
    ///
    /// # Errors
    /// When something can't be fetched or sent.
    pub fn push_index(
        &self,
        index: &MergedIndex,
        to: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        self.index_merger().push(index, to, events)
    }

    /// Sends an image of the store to its registry. Layers that aren't here are mounted from where they are, or
    /// fetched.
    ///
    /// # Errors
    /// When a layer is nowhere to be had, or the registry doesn't take the image.
    pub fn push(
        &self,
        image: &ImageRecord,
        to: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        push_stored(self.0, image, to, events)
    }

    fn index_merger(&self) -> IndexMerger<'_> {
        IndexMerger {
            store: &self.0.store,
            client: &self.0.client,
        }
    }
}
