//! Opens an engine for the user who runs this program.

use std::path::Path;
use std::sync::Arc;

use kiln_cache::{Options, OverlayXattrs, Store};
use kiln_engine::Engine;
use kiln_graph::BlobDigest;
use kiln_image::{Client, ClientOptions, Documents};
use kiln_sandbox::{Identity, Sandbox, enter_user_namespace};

use crate::{Config, Error};

/// Moves into a user namespace where needed, and opens the user's store. To be called before
/// there are threads. `notice` is told what the user should know, such as a store that is upgraded.
///
/// # Errors
/// When there are no user namespaces, or the store can't be opened.
pub fn open(notice: fn(&str)) -> Result<(Engine, Identity), Error> {
    let identity = enter_user_namespace()?;
    let root = Store::default_root(identity == Identity::Root)?;
    Ok((open_at(&root, identity, notice)?, identity))
}

/// Opens a store in a folder, for a process that [`kiln_sandbox::enter_user_namespace`] has given
/// its identity.
///
/// # Errors
/// When the store can't be opened.
pub fn open_at(root: &Path, identity: Identity, notice: fn(&str)) -> Result<Engine, Error> {
    let xattrs = match identity.is_in_user_namespace() {
        true => OverlayXattrs::User,
        false => OverlayXattrs::Trusted,
    };
    let config = Config::load()?;
    let store = Store::open(root, Options { xattrs, notice })?;
    Ok(Engine::new(
        store.clone(),
        Sandbox::of_this_program(),
        Client::new(ClientOptions {
            registries: config.registries,
            documents: Some(Arc::new(StoredDocuments(store.clone()))),
            ..ClientOptions::default()
        }),
        identity,
    ))
}

/// Manifests and configurations, kept as blobs.
#[derive(Debug)]
struct StoredDocuments(Store);

impl Documents for StoredDocuments {
    fn get(&self, digest: &BlobDigest) -> Option<Vec<u8>> {
        let blob = self.0.blob(digest).ok()??;
        std::fs::read(blob.path).ok()
    }

    fn put(&self, bytes: &[u8]) {
        // Whatever keeps it from being written is said by the build, which writes more.
        _ = self.0.put_blob(bytes);
    }
}
