//! Trees for the layers of a snapshot: fetched and unpacked when a step needs their files.

use std::sync::Arc;

use kiln_cache::{Blob, Tree};
use kiln_graph::{Digest, ImageLayer, StepKey};
use kiln_image::layer::{UnpackOptions, unpack};
use kiln_tree::host;

use kiln_tree::TreeRoot;

use crate::engine::Engine;
use crate::execute::view::{Layer, View};
use crate::solve::snapshot::{LayerRef, Snapshot, StepResult};
use crate::solve::step::Shared;
use crate::{EngineError, EventSink, parallel};

impl Engine {
    /// The trees of a snapshot, lowest first; what isn't there is fetched and unpacked in parallel.
    pub(crate) fn trees(
        &self,
        snapshot: &Snapshot,
        events: &dyn EventSink,
    ) -> Result<Vec<Tree>, EngineError> {
        parallel::map(snapshot.layers(), |layer| self.tree(layer, events))
    }

    fn tree(&self, layer: &LayerRef, events: &dyn EventSink) -> Result<Tree, EngineError> {
        match layer {
            LayerRef::Tree(id) => self.store.tree(id)?.ok_or_else(|| EngineError::Missing {
                message: format!("tree {id} is gone from the store: something else removes files in it; build again"),
                location: None,
            }),
            LayerRef::Image { layer, image } => self.image_tree(layer, image, events),
            LayerRef::Distant(distant) => self.distant_tree(distant, events),
        }
    }

    /// Whether the files of a snapshot are all in the store.
    pub(crate) fn is_here(&self, snapshot: &Snapshot) -> Result<bool, EngineError> {
        for layer in snapshot.layers() {
            let known = match layer {
                LayerRef::Tree(_) => true,
                LayerRef::Image { layer, .. } => self.known_tree(layer)?.is_some(),
                LayerRef::Distant(distant) => self.store.tree(&distant.tree.tree)?.is_some(),
            };
            if !known {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn known_tree(&self, layer: &ImageLayer) -> Result<Option<Tree>, EngineError> {
        match self.store.layer_tree(&layer.diff_id)? {
            Some(id) => Ok(self.store.tree(&id)?),
            None => Ok(None),
        }
    }

    fn image_tree(
        &self,
        layer: &ImageLayer,
        image: &str,
        events: &dyn EventSink,
    ) -> Result<Tree, EngineError> {
        if let Some(tree) = self.known_tree(layer)? {
            return Ok(tree);
        }
        let key = StepKey(Digest::of(layer.diff_id.to_string().as_bytes()));
        let _alone = self.store.lock_step(&key, &|| self.store.is_stopped())?;
        if let Some(tree) = self.known_tree(layer)? {
            return Ok(tree);
        }
        let blob = self.blob(layer, image, events)?;
        let staging = self.store.staging()?;
        let options = UnpackOptions {
            xattrs: self.store.xattrs(),
            give_away: self.gives_away(),
            whiteouts: true,
        };
        let name = format!("unpack {image} {}", &layer.blob.hex()[..12]);
        let meter = self.meter(events, name, Some(blob.size));
        let unpacked = host::open(&blob.path)
            .and_then(|file| unpack(meter.reader(file), staging.root(), &options))
            .map_err(|source| EngineError::Output {
                what: format!("the files of layer {} of {image}", layer.blob),
                source,
            })?;
        if unpacked.diff_id != layer.diff_id {
            let (expected, actual) = (layer.diff_id, unpacked.diff_id);
            return Err(kiln_cache::StoreError::WrongDigest { expected, actual }.into());
        }
        let tree = self.store.commit(staging, unpacked.manifest)?;
        self.store.bind_layer(&layer.diff_id, tree.id())?;
        Ok(tree)
    }

    /// A layer's blob, fetched when it isn't there.
    pub(crate) fn blob(
        &self,
        layer: &ImageLayer,
        image: &str,
        events: &dyn EventSink,
    ) -> Result<Blob, EngineError> {
        if let Some(blob) = self.store.blob(&layer.blob)? {
            return Ok(blob);
        }
        let name = format!("pull {} {}", image, &layer.blob.hex()[..12]);
        let meter = self.meter(events, name, Some(layer.size));
        let mut writer = self.store.blob_writer()?;
        let tell = |done| meter.set(done);
        self.client
            .fetch_blob(image, &layer.blob, layer.size, &mut writer, &tell)?;
        Ok(writer.commit(Some(layer.blob))?)
    }
}

impl Shared<'_> {
    /// What a step's result contains, for keys: the files of trees on remotes stay there.
    pub(crate) fn outline(&self, result: &StepResult) -> Result<Arc<View>, EngineError> {
        let StepResult::Snapshot(snapshot) = result else {
            return self.view(result);
        };
        let layer = |layer: &LayerRef| -> Result<Layer, EngineError> {
            if let LayerRef::Distant(distant) = layer
                && self.engine.store.tree(&distant.tree.tree)?.is_none()
            {
                return Ok(Layer {
                    manifest: self
                        .engine
                        .distant_manifest(distant, &*self.request.events)?,
                    root: TreeRoot::at(""),
                });
            }
            let tree = self.engine.tree(layer, &*self.request.events)?;
            Ok(Layer {
                manifest: tree.manifest()?,
                root: tree.root(),
            })
        };
        let layers = parallel::map(snapshot.layers(), layer)?;
        Ok(Arc::new(View::new(layers)))
    }

    /// The files of a step's result.
    pub(crate) fn view(&self, result: &StepResult) -> Result<Arc<View>, EngineError> {
        Ok(Arc::new(match result {
            StepResult::Folder(folder) => View::new(vec![Layer {
                manifest: folder.manifest.clone(),
                root: folder.root.clone(),
            }]),
            StepResult::Snapshot(snapshot) => {
                view_of(&self.engine.trees(snapshot, &*self.request.events)?)?
            }
        }))
    }
}

/// The files that a stack of trees shows.
pub(crate) fn view_of(trees: &[Tree]) -> Result<View, EngineError> {
    let layer = |tree: &Tree| -> Result<Layer, EngineError> {
        Ok(Layer {
            manifest: tree.manifest()?,
            root: tree.root(),
        })
    };
    Ok(View::new(
        trees.iter().map(layer).collect::<Result<_, _>>()?,
    ))
}
