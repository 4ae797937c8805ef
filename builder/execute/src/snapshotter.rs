//! Trees for the layers of a snapshot: fetched and unpacked when a step needs their files.

use std::sync::Arc;

use kiln_cache::{Blob, Staging, Store, Tree};
use kiln_graph::{BlobDigest, Digest, ImageLayer, ImagePath, Manifest, StepKey, TreeId};
use kiln_image::layer::{UnpackOptions, Unpacked, unpack};
use kiln_image::{Client, ImageError, ImageName};
use kiln_solve::{EventSink, LayerRef, Snapshot, StepResult};
use kiln_tree::{TreeRoot, host};

use crate::delta::Deltas;
use crate::distant::{Distant, DistantTrees, Fetch};
use crate::import::import;
use crate::meter::meter;
use crate::view::{Layer, View, layer_of, view_of};
use crate::{EngineError, parallel};

/// Brings the trees of snapshots into a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshotter {
    /// The store.
    pub store: Store,
    /// Fetches images.
    pub client: Client,
    /// Whether files can be given to any owner.
    pub gives_away: bool,
    /// Where trees can be had that the store lacks.
    pub distant: Arc<DistantTrees>,
    /// The differences that layers of images may be rebuilt from.
    pub deltas: Arc<Deltas>,
}

impl Snapshotter {
    /// The same for a build that begins: it knows no trees of shared caches yet.
    #[must_use]
    pub fn for_build(&self) -> Self {
        Self {
            distant: Arc::default(),
            ..self.clone()
        }
    }

    /// The trees of a snapshot, lowest first; what isn't there is fetched and unpacked in parallel.
    ///
    /// # Errors
    /// When one can't be had.
    pub fn trees(
        &self,
        snapshot: &Snapshot,
        events: &dyn EventSink,
    ) -> Result<Vec<Tree>, EngineError> {
        parallel::map(snapshot.layers(), |layer| self.tree(layer, events))
    }

    /// Brings what is missing of the trees of a step's inputs.
    ///
    /// # Errors
    /// When one can't be had.
    pub(crate) fn bring_inputs(
        &self,
        inputs: &[StepResult],
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        for input in inputs {
            if let StepResult::Snapshot(snapshot) = input {
                self.trees(snapshot, events)?;
            }
        }
        Ok(())
    }

    pub(crate) fn tree(
        &self,
        layer: &LayerRef,
        events: &dyn EventSink,
    ) -> Result<Tree, EngineError> {
        match layer {
            LayerRef::Image { layer, image } => self.image_tree(layer, image, events),
            LayerRef::Tree(id) => match (self.store.trees().get(id)?, self.distant.get(id)) {
                (Some(tree), _) => Ok(tree),
                (None, Some(distant)) => self.fetch(&distant, events).tree(),
                (None, None) => Err(self.distant.only_named(id).unwrap_or(EngineError::Gone {
                    what: format!("tree {id}"),
                })),
            },
        }
    }

    /// Why the files of trees can't be had, when only the identity of one is known.
    ///
    /// # Errors
    /// When the store can't be read, too.
    pub fn check_named(&self, trees: &[TreeId]) -> Result<(), EngineError> {
        for id in trees {
            if let Some(error) = self.distant.only_named(id)
                && self.store.trees().get(id)?.is_none()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether the files of a snapshot are all in the store.
    pub(crate) fn is_here(&self, snapshot: &Snapshot) -> Result<bool, EngineError> {
        for layer in snapshot.layers() {
            let known = match layer {
                LayerRef::Tree(id) => {
                    let is_elsewhere =
                        self.distant.get(id).is_some() || self.distant.only_named(id).is_some();
                    !is_elsewhere || self.store.trees().get(id)?.is_some()
                }
                LayerRef::Image { layer, .. } => {
                    self.store.layers().tree(&layer.diff_id)?.is_some()
                }
            };
            if !known {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn image_tree(
        &self,
        layer: &ImageLayer,
        image: &str,
        events: &dyn EventSink,
    ) -> Result<Tree, EngineError> {
        if let Some(tree) = self.store.layers().tree(&layer.diff_id)? {
            return Ok(tree);
        }
        let key = StepKey(Digest::of(layer.diff_id.to_string().as_bytes()));
        let _alone = self.store.lock_step(&key, &|| self.store.is_stopped())?;
        if let Some(tree) = self.store.layers().tree(&layer.diff_id)? {
            return Ok(tree);
        }
        match self.rebuilt_tar(layer, events)? {
            Some(tar) => {
                let unpacked = self.unpacked(&tar, layer, image, events);
                _ = host::remove_file(&tar.path);
                unpacked
            }
            None => {
                let blob = self.blob(layer, image, events)?;
                self.unpacked(&blob, layer, image, events)
            }
        }
    }

    /// Unpacks a layer from its blob, or from its tar, and binds it to its tree.
    ///
    /// # Errors
    /// When it can't be read or written, or is another layer.
    pub fn unpacked(
        &self,
        from: &Blob,
        layer: &ImageLayer,
        image: &str,
        events: &dyn EventSink,
    ) -> Result<Tree, EngineError> {
        let staging = self.store.staging()?;
        let name = format!("unpack {image} {}", &layer.blob.hex()[..12]);
        let unpacked = self.unpack(from, &staging, name, events);
        let unpacked = unpacked.map_err(|source| EngineError::Output {
            what: format!("the files of layer {} of {image}", layer.blob),
            source,
        })?;
        if unpacked.diff_id != layer.diff_id {
            let (expected, actual) = (layer.diff_id, unpacked.diff_id);
            return Err(kiln_cache::StoreError::WrongDigest { expected, actual }.into());
        }
        let tree = self.store.trees().commit(staging, unpacked.manifest)?;
        self.store.layers().bind(&layer.diff_id, tree.id())?;
        Ok(tree)
    }

    /// The tar of a layer whose blob isn't here and can only be rebuilt uncompressed.
    fn rebuilt_tar(
        &self,
        layer: &ImageLayer,
        events: &dyn EventSink,
    ) -> Result<Option<Blob>, EngineError> {
        if self.store.blobs().get(&layer.blob)?.is_some() || self.gives_blob(layer, events) {
            return Ok(None);
        }
        let rebuilt = self
            .tar_from_delta(layer, events)
            .or_else(|| self.tar_from_files(layer, events));
        Ok(rebuilt.map(|(path, size)| Blob {
            digest: layer.diff_id,
            size,
            path,
        }))
    }

    /// Unpacks a layer's blob as a tree to be committed; `name` is what displays call it.
    pub(crate) fn unpack(
        &self,
        blob: &Blob,
        staging: &Staging,
        name: String,
        events: &dyn EventSink,
    ) -> std::io::Result<Unpacked> {
        let options = UnpackOptions {
            xattrs: self.store.xattrs(),
            give_away: self.gives_away,
            whiteouts: true,
        };
        let meter = meter(&self.store, events, name, Some(blob.size));
        let file = host::open(&blob.path)?;
        unpack(meter.reader(file), staging.root(), &options)
    }

    /// A layer's blob, fetched when it isn't there.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn blob(
        &self,
        layer: &ImageLayer,
        image: &str,
        events: &dyn EventSink,
    ) -> Result<Blob, EngineError> {
        if let Some(blob) = self.store.blobs().get(&layer.blob)? {
            return Ok(blob);
        }
        if let Some(blob) = self.blob_from_delta(layer, events) {
            return Ok(blob);
        }
        let origin = self.origin(&layer.blob, image)?;
        let origin = origin.unwrap_or_else(|| image.to_owned());
        match self.pulled(layer, &origin, events) {
            Err(EngineError::Image(error))
                if origin != image && !matches!(error, ImageError::Cancelled) =>
            {
                let own = self.pulled(layer, image, events);
                own.map_err(|_| error.into())
            }
            pulled => pulled,
        }
    }

    fn pulled(
        &self,
        layer: &ImageLayer,
        image: &str,
        events: &dyn EventSink,
    ) -> Result<Blob, EngineError> {
        let name = format!("pull {} {}", image, &layer.blob.hex()[..12]);
        let meter = meter(&self.store, events, name, Some(layer.size));
        let mut writer = self.store.blobs().writer()?;
        let tell = |done| meter.set(done);
        self.client
            .fetch_blob(image, &layer.blob, layer.size, &mut writer, &tell)?;
        Ok(writer.commit(Some(layer.blob))?)
    }

    /// The image of a registry that has a blob of an image: of one that was built here, what the layer was
    /// taken from; nothing when only the store has it, or an archive.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn origin(&self, blob: &BlobDigest, image: &str) -> Result<Option<String>, EngineError> {
        let Ok(ImageName::Registry(reference)) = image.parse::<ImageName>() else {
            return Ok(None);
        };
        if reference.digest.is_some() {
            return Ok(Some(image.to_owned()));
        }
        Ok(match self.store.images().get(&reference.to_string())? {
            Some(mut own) => own.origins.remove(blob),
            None => Some(image.to_owned()),
        })
    }

    /// A result as a root filesystem: a directory of the user's is copied into the store first.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn snapshot(&self, result: &StepResult) -> Result<Snapshot, EngineError> {
        match result {
            StepResult::Snapshot(snapshot) => Ok(snapshot.clone()),
            StepResult::Directory(directory) => {
                let tree = import(self, directory, &ImagePath::root())?;
                Ok(Snapshot::new(vec![LayerRef::Tree(tree.id())]))
            }
        }
    }

    /// The same; of a step that gave nothing, the empty root filesystem.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn snapshot_or_scratch(
        &self,
        result: Option<&StepResult>,
    ) -> Result<Snapshot, EngineError> {
        result.map_or_else(|| Ok(Snapshot::scratch()), |result| self.snapshot(result))
    }

    /// The blob with the files of a tree of a shared cache.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn distant_layer(
        &self,
        distant: &Distant,
        events: &dyn EventSink,
    ) -> Result<Blob, EngineError> {
        self.fetch(distant, events).layer()
    }

    /// Brings a tree of a shared cache or a cluster here. Nothing is kept that isn't as its digests
    /// say.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn fetch_tree(
        &self,
        distant: &Distant,
        events: &dyn EventSink,
    ) -> Result<Tree, EngineError> {
        self.fetch(distant, events).tree()
    }

    /// Brings the manifest of such a tree here; its files stay there.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn fetch_manifest(
        &self,
        distant: &Distant,
        events: &dyn EventSink,
    ) -> Result<Arc<Manifest>, EngineError> {
        self.fetch(distant, events).manifest()
    }

    /// Fetches what belongs to a tree of a shared cache.
    fn fetch<'a>(&'a self, distant: &'a Distant, events: &'a dyn EventSink) -> Fetch<'a> {
        Fetch {
            trees: self,
            distant,
            events,
        }
    }

    /// The manifest of a tree of the store, or of a shared cache; nothing when it is gone.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn manifest(
        &self,
        id: &TreeId,
        events: &dyn EventSink,
    ) -> Result<Option<Arc<Manifest>>, EngineError> {
        match (self.store.trees().get(id)?, self.distant.get(id)) {
            (Some(tree), _) => Ok(Some(tree.manifest()?)),
            (None, Some(distant)) => self.fetch(&distant, events).manifest().map(Some),
            (None, None) => self.distant.only_named(id).map_or(Ok(None), Err),
        }
    }

    /// What a step's result contains, for keys: the files of trees in shared caches stay there.
    pub(crate) fn outline(
        &self,
        result: &StepResult,
        events: &dyn EventSink,
    ) -> Result<Arc<View>, EngineError> {
        let StepResult::Snapshot(snapshot) = result else {
            return self.view(result, events);
        };
        let layer = |layer: &LayerRef| -> Result<Layer, EngineError> {
            if let LayerRef::Tree(id) = layer
                && let Some(distant) = self.distant.get(id)
                && self.store.trees().get(id)?.is_none()
            {
                return Ok(Layer {
                    manifest: self.fetch(&distant, events).manifest()?,
                    root: TreeRoot::at(""),
                });
            }
            layer_of(&self.tree(layer, events)?)
        };
        let layers = parallel::map(snapshot.layers(), layer)?;
        Ok(Arc::new(View::new(layers)))
    }

    /// The files of a step's result.
    pub(crate) fn view(
        &self,
        result: &StepResult,
        events: &dyn EventSink,
    ) -> Result<Arc<View>, EngineError> {
        Ok(Arc::new(match result {
            StepResult::Directory(directory) => View::of_directory(directory),
            StepResult::Snapshot(snapshot) => view_of(&self.trees(snapshot, events)?)?,
        }))
    }
}
