//! Caches in a directory of the client's (`type=local`): bundles in an OCI layout, whose blobs the client's
//! store takes and gives. The client writes the layout's `index.json` by itself, from what it is told.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

use kiln_graph::BlobDigest;
use kiln_share::{BlobPlace, BundleSource, BundleTarget, RemoteError};
use tonic::{Code, Status};

use super::cache::required;
use super::contexts::Client;
use crate::session::ClientStore;

/// A directory of the client's as a place for blobs.
pub(super) struct ClientDirectory(ClientStore);

/// A cache that is written.
pub(super) type LocalTarget = BundleTarget<ClientDirectory>;

impl ClientDirectory {
    fn new(client: &Client<'_>, directory: &str) -> Self {
        let (runtime, session) = (client.server.runtime.clone(), client.session.clone());
        let store = ClientStore::new(runtime, session, format!("local:{directory}"));
        Self(store)
    }
}

fn name(directory: &str) -> String {
    format!("client directory {directory}")
}

/// The cache in a client's directory: the client has found out which manifest is meant.
pub(super) fn source(
    client: &Client<'_>,
    attributes: &HashMap<String, String>,
) -> Result<BundleSource<ClientDirectory>, Status> {
    let directory = required("local", attributes, "src")?;
    let top: Result<BlobDigest, _> = required("local", attributes, "digest")?.parse();
    let top = top.map_err(|error| Status::invalid_argument(format!("local cache: {error}")))?;
    let place = ClientDirectory::new(client, directory);
    Ok(BundleSource::new(place, name(directory), top))
}

/// A cache to be written to a client's directory.
pub(super) fn target(
    client: &Client<'_>,
    attributes: &HashMap<String, String>,
) -> Result<Arc<LocalTarget>, Status> {
    let directory = required("local", attributes, "dest")?;
    let place = ClientDirectory::new(client, directory);
    Ok(Arc::new(BundleTarget::new(place, name(directory))))
}

impl BlobPlace for ClientDirectory {
    fn read(&self, digest: &BlobDigest, max: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        self.0
            .read(digest, max, out)
            .map_err(|status| failed(&status))
    }

    fn write(
        &self,
        digest: &BlobDigest,
        size: u64,
        from: &mut dyn Read,
    ) -> Result<(), RemoteError> {
        self.0
            .write("cache", digest, size, from)
            .map_err(|status| failed(&status))
    }
}

fn failed(status: &Status) -> RemoteError {
    let text = status.message().to_owned();
    match status.code() {
        Code::DataLoss | Code::NotFound | Code::ResourceExhausted => RemoteError::Damaged(text),
        Code::PermissionDenied => RemoteError::Denied(text),
        _ => RemoteError::Unreachable(text),
    }
}
