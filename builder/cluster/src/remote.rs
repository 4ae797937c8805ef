//! A cluster's storage and action cache as a shared cache.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;

use kiln_graph::BlobDigest;
use kiln_share::{Remote, RemoteBlob, RemoteError};

use crate::action_cache::{self, EntryAction, Found};
use crate::connection::Connection;
use crate::digest::{Stored, of_blob};
use crate::storage::{Content, Upload};
use crate::{ClusterError, ReapiSettings};

/// A server that stores share. Nothing is connected to before its first use.
pub struct ReapiRemote {
    settings: ReapiSettings,
    open: OnceLock<Result<Connection, ClusterError>>,
}

impl fmt::Debug for ReapiRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReapiRemote({})", self.settings)
    }
}

impl ReapiRemote {
    /// The remote at a server.
    #[must_use]
    pub fn new(settings: ReapiSettings) -> Self {
        Self {
            settings,
            open: OnceLock::new(),
        }
    }

    pub(crate) fn connection(&self) -> Result<&Connection, ClusterError> {
        let open = || Connection::open(&self.settings);
        self.open.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    fn find(&self, name: &str) -> Result<Option<Vec<u8>>, ClusterError> {
        let connection = self.connection()?;
        let action = EntryAction::of(name);
        connection.runtime.block_on(async {
            let instance = &self.settings.instance;
            match action_cache::get(&connection.service, instance, &action).await? {
                None => Ok(None),
                Some(Found::Bytes(bytes)) => Ok(Some(bytes)),
                // The result may outlive its files: then there is no entry.
                Some(Found::Blob(digest)) => match connection.storage.read_whole(&digest).await {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(ClusterError::Blob { .. }) => Ok(None),
                    Err(error) => Err(error),
                },
            }
        })
    }

    fn file(
        &self,
        name: &str,
        entry: &[u8],
        blobs: &[RemoteBlob<'_>],
    ) -> Result<u64, ClusterError> {
        let connection = self.connection()?;
        if !connection.capabilities.takes_results {
            return Err(ClusterError::ReadOnly);
        }
        let (action, entry) = (EntryAction::of(name), Stored::new(entry.to_vec()));
        let messages = action.messages().into_iter().chain([&entry]);
        let messages = messages.map(|stored| Upload {
            digest: stored.digest.clone(),
            content: Content::Bytes(&stored.bytes),
        });
        let files = blobs.iter().map(|blob| Upload {
            digest: of_blob(&blob.digest, blob.size),
            content: Content::File(blob.path),
        });
        let uploads = messages.chain(files).collect();
        connection.runtime.block_on(async {
            let sent = connection.storage.send(uploads).await?;
            let digests = blobs.iter().map(|blob| of_blob(&blob.digest, blob.size));
            let (service, instance) = (&connection.service, &self.settings.instance);
            action_cache::put(service, instance, &action, entry.digest.clone(), digests).await?;
            Ok(sent)
        })
    }

    fn fail(&self, error: &ClusterError) -> RemoteError {
        let text = format!("{}: {error}", self.settings);
        match error {
            ClusterError::ReadOnly | ClusterError::Refused(_) | ClusterError::Instance(_) => {
                RemoteError::Denied(text)
            }
            ClusterError::Blob { .. } => RemoteError::Damaged(text),
            _ => RemoteError::Unreachable(text),
        }
    }
}

impl Remote for ReapiRemote {
    fn name(&self) -> String {
        self.settings.to_string()
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        self.find(name).map_err(|error| self.fail(&error))
    }

    fn put(&self, name: &str, entry: &[u8], blobs: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        let filed = self.file(name, entry, blobs);
        filed.map_err(|error| self.fail(&error))
    }

    fn blob(&self, digest: &BlobDigest, size: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        let read = self.connection().and_then(|connection| {
            let digest = of_blob(digest, size);
            let read = connection.storage.read(&digest, out);
            connection.runtime.block_on(read)
        });
        read.map_err(|error| self.fail(&error))
    }
}
