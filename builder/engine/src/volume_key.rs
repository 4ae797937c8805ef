//! Cache volumes that are tied to something, such as a lock file: the exact one is taken first, then
//! the newest of the same name, here before elsewhere.

use kiln_cache::VolumeSharing;
use kiln_graph::Manifest;

use crate::EngineError;
use crate::copied::copy_out;
use crate::engine::Engine;
use crate::step::Shared;
use crate::view::{Layer, View};

/// A volume's name with what it is tied to.
#[must_use]
pub fn keyed_volume(name: &str, key: Option<&str>) -> String {
    match key {
        Some(key) => format!("{name}@{key}"),
        None => name.to_owned(),
    }
}

impl Shared<'_> {
    /// The name of the volume that a step asking for `id` gets, brought here if it can be.
    pub(crate) fn find_volume(&self, id: &str) -> Result<String, EngineError> {
        let key = self.request.volume_keys.get(id).map(String::as_str);
        let name = keyed_volume(id, key);
        let _alone = self.engine.store.lock_volume_search(id)?;
        if self.engine.store.has_volume(&name) {
            return Ok(name);
        }
        self.fetch_volume(id, &name, &name);
        if key.is_none() || self.engine.store.has_volume(&name) {
            return Ok(name);
        }
        match self.engine.store.newest_volume(id)? {
            Some(newest) => self.engine.copy_volume(&newest, &name)?,
            None => self.fetch_volume(id, id, &name),
        }
        Ok(name)
    }
}

impl Engine {
    /// Makes a volume a copy of another.
    fn copy_volume(&self, from: &str, to: &str) -> Result<(), EngineError> {
        let source = self.store.volume(from, VolumeSharing::Shared)?;
        let manifest: Manifest = self.scan_volume(source.path())?;
        let layer = Layer {
            manifest: std::sync::Arc::new(manifest),
            root: source.path().to_owned(),
        };
        let staging = self.store.staging()?;
        let sharing = kiln_cache::Sharing::ContentOnly;
        let files = View::new(vec![layer]).flatten();
        let fail = |source| EngineError::Output {
            what: format!("cache volume {to}"),
            source,
        };
        copy_out(&files, staging.fs(), self.gives_away(), sharing).map_err(fail)?;
        let own = crate::remote::own_entry(source.path()).map_err(fail)?;
        crate::files::set_attributes(&own, staging.fs(), self.gives_away()).map_err(fail)?;
        Ok(self.store.replace_volume(to, staging)?)
    }
}
