//! Opens an engine for the user who runs this program.

use std::path::Path;
use std::sync::Arc;

use kiln_cache::{Options, OverlayXattrs, Store};
use kiln_engine::Engine;
use kiln_graph::BlobDigest;
use kiln_image::{Client, ClientOptions, Documents};
use kiln_sandbox::{Identity, IsolationChoice, Privileges, Sandbox, enter_user_namespace};

use crate::{Config, Error};

/// Moves into a user namespace where needed and allowed, and opens the user's store. Steps are
/// isolated as `$KILN_ISOLATION` says. To be called before there are threads. `notice` is told
/// what the user should know, such as a store that is upgraded.
///
/// # Errors
/// When the store can't be opened.
pub fn open(notice: fn(&str)) -> Result<Engine, Error> {
    open_isolated(isolation_of_environment()?, notice)
}

fn isolation_of_environment() -> Result<IsolationChoice, Error> {
    match std::env::var("KILN_ISOLATION") {
        Ok(text) if !text.is_empty() => text
            .parse()
            .map_err(|error| Error::Usage(format!("KILN_ISOLATION: {error}"))),
        _ => Ok(IsolationChoice::Auto),
    }
}

/// Like [`open`], with the isolation that steps are to have.
///
/// # Errors
/// When the store can't be opened. An isolation that can't be had is told by the first step.
pub fn open_isolated(choice: IsolationChoice, notice: fn(&str)) -> Result<Engine, Error> {
    let is_root = rustix::process::geteuid().is_root();
    let privileges = enter_user_namespace(choice)?;
    let root = Store::default_root(is_root)?;
    open_at(&root, privileges, notice)
}

/// Opens a store in a folder, for a process that [`kiln_sandbox::enter_user_namespace`] has given
/// its privileges.
///
/// # Errors
/// When the store can't be opened.
pub fn open_at(root: &Path, privileges: Privileges, notice: fn(&str)) -> Result<Engine, Error> {
    let xattrs = match privileges.identity {
        Identity::Root => OverlayXattrs::Trusted,
        _ => OverlayXattrs::User,
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
        privileges,
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
