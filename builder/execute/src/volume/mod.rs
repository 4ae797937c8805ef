//! Cache volumes that are tied to something, such as a lock file: the exact one is taken first, then
//! the newest of the same name, here before elsewhere.

mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_cache::Stop;
use kiln_graph::{CacheMount, ContentDigest};
use kiln_solve::{Cancel, Event, EventSink};
use kiln_tree::{Sharing, copy_tree};

use crate::EngineError;
use crate::shared::SharedSources;
use crate::snapshotter::Snapshotter;
use crate::view::{Layer, View};
pub use transfer::{VolumeTransfer, export_volume, import_volume};

/// A volume's name with what it is tied to.
#[must_use]
pub fn keyed_volume(name: &str, key: Option<&str>) -> String {
    match key {
        Some(key) => format!("{name}@{key}"),
        None => name.to_owned(),
    }
}

/// Finds the volumes that steps ask for.
pub struct VolumeFinder<'a> {
    /// Copies and restores volumes.
    pub trees: &'a Snapshotter,
    /// What volumes are tied to, by their names.
    pub keys: &'a BTreeMap<String, String>,
    /// Have volumes that aren't here.
    pub shared: &'a SharedSources,
    /// Is told what goes wrong.
    pub events: &'a dyn EventSink,
}

impl std::fmt::Debug for VolumeFinder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeFinder").finish_non_exhaustive()
    }
}

impl VolumeFinder<'_> {
    /// The name of the volume that a step asking for `cache` gets, brought here if it can be. A new one
    /// is filled with the tree whose content is `filling`, if there is one.
    pub(crate) fn find(
        &self,
        cache: &CacheMount,
        filling: Option<ContentDigest>,
        cancel: &Cancel,
    ) -> Result<String, EngineError> {
        let key = self.keys.get(&cache.id).map(String::as_str);
        let (id, plain) = (&cache.id, cache.volume(filling));
        let name = keyed_volume(&plain, key);
        let stop = || cancel.is_cancelled();
        let store = &self.trees.store;
        let _alone = store.volumes().lock_search(&plain, &stop)?;
        if store.volumes().has(&name) {
            return Ok(name);
        }
        self.fetch(id, &name, &name);
        if key.is_none() || store.volumes().has(&name) {
            return Ok(name);
        }
        match store.volumes().newest(&plain)? {
            Some(newest) => copy_volume(self.trees, &newest, &name, &stop)?,
            None => self.fetch(id, &plain, &name),
        }
        Ok(name)
    }

    /// Brings a volume here that a step wants and that isn't there, if a shared cache has it.
    fn fetch(&self, id: &str, theirs: &str, name: &str) {
        let sources = self.shared.all().iter();
        for source in sources.filter(|source| source.volumes.has(id)) {
            match import_volume(self.trees, theirs, name, source) {
                Ok(Some(_)) => return,
                Ok(None) => {}
                Err(error) => {
                    let message = format!("the volume {name} starts empty: {error}");
                    self.events.event(Event::Warning { message });
                }
            }
        }
    }
}

/// Makes a volume a copy of another, which no step changes meanwhile.
fn copy_volume(
    trees: &Snapshotter,
    from: &str,
    to: &str,
    stop: Stop<'_>,
) -> Result<(), EngineError> {
    let store = &trees.store;
    let Some(source) = store.volumes().take_alone(from, stop)? else {
        return Ok(());
    };
    let root = source.root().clone();
    let staging = store.staging()?;
    let files = View::new(vec![Layer {
        manifest: Arc::new(transfer::scan(store, &root)?),
        root: root.clone(),
    }]);
    let (give_away, sharing) = (trees.gives_away, Sharing::ContentOnly);
    copy_tree(&files.flatten(), staging.root(), give_away, sharing)
        .and_then(|()| transfer::own_entry(&root))
        .and_then(|own| staging.root().set_attributes(&own, give_away))
        .map_err(|source| EngineError::Output {
            what: format!("cache volume {to}"),
            source,
        })?;
    Ok(store.volumes().replace(to, staging, stop)?)
}
