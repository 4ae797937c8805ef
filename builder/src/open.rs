//! What opening an engine needs: the user's namespace, and a place for what registries say.

use std::sync::OnceLock;

use kiln_cache::Store;
use kiln_graph::BlobDigest;
use kiln_image::{CredentialSource, Documents};
use kiln_sandbox::{IsolationChoice, Privileges, enter_user_namespace};

use crate::{Config, Engine, Error, Kiln};

/// The privileges of this process since [`enter`].
static ENTERED: OnceLock<Privileges> = OnceLock::new();

/// Moves this process into a user namespace where one is needed and allowed: what
/// [`KilnBuilder::open`](crate::KilnBuilder::open) does otherwise. For programs that have threads by
/// then, such as those with an async runtime: to be called first thing in `main`, after
/// [`run_if_helper`](crate::run_if_helper).
///
/// # Errors
/// When a namespace was made but can't be used.
pub fn enter(choice: IsolationChoice) -> Result<(), Error> {
    let privileges = enter_user_namespace(choice)?;
    _ = ENTERED.set(privileges);
    Ok(())
}

pub(crate) fn entered() -> Option<Privileges> {
    ENTERED.get().cloned()
}

/// Opens the user's store with the user's settings and credentials, as the `kiln` command does.
/// Steps are isolated as `$KILN_ISOLATION` says. To be called before there are threads. `notice` is
/// told what the user should know, such as a store that is upgraded.
///
/// # Errors
/// When the store can't be opened.
pub fn open(notice: fn(&str)) -> Result<Engine, Error> {
    open_isolated(isolation_of_environment()?, notice)
}

/// The isolation that `$KILN_ISOLATION` asks for.
///
/// # Errors
/// When there is no such isolation.
pub fn isolation_of_environment() -> Result<IsolationChoice, Error> {
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
    let builder = Kiln::builder()
        .user_store()?
        .config(Config::load()?)
        .credentials(CredentialSource::User)
        .isolation(choice)
        .notice(notice);
    Ok(builder.open()?.engine().clone())
}

/// Manifests and configurations, kept as blobs.
#[derive(Debug)]
pub(crate) struct StoredDocuments(Store);

impl StoredDocuments {
    pub(crate) fn new(store: Store) -> Self {
        Self(store)
    }
}

impl Documents for StoredDocuments {
    fn get(&self, digest: &BlobDigest) -> Option<Vec<u8>> {
        let blob = self.0.blobs().get(digest).ok()??;
        std::fs::read(blob.path).ok()
    }

    fn put(&self, bytes: &[u8]) {
        // Whatever keeps it from being written is said by the build, which writes more.
        _ = self.0.blobs().put(bytes);
    }
}
