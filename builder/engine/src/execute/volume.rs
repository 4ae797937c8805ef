//! Cache volumes that are tied to something, such as a lock file: the exact one is taken first, then
//! the newest of the same name, here before elsewhere.

use kiln_cache::Stop;
use kiln_graph::CacheMount;
use kiln_tree::{Sharing, copy_tree};

use crate::EngineError;
use crate::engine::Engine;
use crate::execute::view::{Layer, View};
use crate::solve::step::Shared;

/// A volume's name with what it is tied to.
#[must_use]
pub fn keyed_volume(name: &str, key: Option<&str>) -> String {
    match key {
        Some(key) => format!("{name}@{key}"),
        None => name.to_owned(),
    }
}

impl Shared<'_> {
    /// The name of the volume that a step asking for `cache` gets, brought here if it can be.
    pub(crate) fn find_volume(&self, cache: &CacheMount) -> Result<String, EngineError> {
        let key = self.request.volume_keys.get(&cache.id).map(String::as_str);
        let (id, plain) = (&cache.id, cache.volume());
        let name = keyed_volume(&plain, key);
        let stop = || self.cancel.is_cancelled();
        let _alone = self.engine.store.lock_volume_search(&plain, &stop)?;
        if self.engine.store.has_volume(&name) {
            return Ok(name);
        }
        self.fetch_volume(id, &name, &name);
        if key.is_none() || self.engine.store.has_volume(&name) {
            return Ok(name);
        }
        match self.engine.store.newest_volume(&plain)? {
            Some(newest) => self.engine.copy_volume(&newest, &name, &stop)?,
            None => self.fetch_volume(id, &plain, &name),
        }
        Ok(name)
    }
}

impl Engine {
    /// Makes a volume a copy of another, which no step changes meanwhile.
    fn copy_volume(&self, from: &str, to: &str, stop: Stop<'_>) -> Result<(), EngineError> {
        let Some(source) = self.store.volume_alone(from, stop)? else {
            return Ok(());
        };
        let manifest = self.scan_volume(source.root())?;
        let root = source.root().clone();
        let staging = self.store.staging()?;
        let files = View::new(vec![Layer {
            manifest: std::sync::Arc::new(manifest),
            root: root.clone(),
        }]);
        let give_away = self.gives_away();
        let sharing = Sharing::ContentOnly;
        copy_tree(&files.flatten(), staging.root(), give_away, sharing)
            .and_then(|()| crate::share::own_entry(&root))
            .and_then(|own| staging.root().set_attributes(&own, give_away))
            .map_err(|source| EngineError::Output {
                what: format!("cache volume {to}"),
                source,
            })?;
        Ok(self.store.replace_volume(to, staging, stop)?)
    }
}
