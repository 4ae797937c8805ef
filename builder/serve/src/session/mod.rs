//! Sessions: what a client lets its builds call in itself.

mod auth;
mod call;
mod content;
mod file_send;
mod file_sync;
pub mod fuzz;
mod mirror;
mod policy;
mod receive;
mod secrets;
mod sender;
mod ssh;
mod stat;
mod tunnel;
mod upload;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;

pub(crate) use auth::SessionCredentials;
pub(crate) use call::Channel;
pub(crate) use content::ClientStore;
pub(crate) use file_send::{send_files, send_tar};
pub(crate) use file_sync::{Filter, mirror, read_files};
pub(crate) use mirror::{Mirror, Mirrors};
pub(crate) use policy::{
    Decisions, FileLookup, ImageLookup, Lookups, SessionPolicy, verdict_of, with_digest,
};
pub(crate) use receive::ReceiveError;
pub(crate) use secrets::SessionSecrets;
pub(crate) use stat::stat_of;
pub(crate) use tunnel::open;
pub(crate) use upload::{pull, upload_of};

/// How long is waited for a session that a build names before it is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its name, chosen by the client.
    pub(crate) id: String,
    /// What the client says its directories are like from one build to the next.
    pub(crate) shared_key: String,
    /// The methods that it offers, in lower case: `/package.service/method`.
    methods: BTreeSet<String>,
    channel: Channel,
    /// Is cancelled when the client is gone.
    pub(crate) ended: CancellationToken,
}

impl Session {
    /// Whether the client says that it has a method.
    pub(crate) fn offers(&self, path: &str) -> bool {
        self.methods.contains(&path.to_ascii_lowercase())
    }
}

/// What a session's request says of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Introduction {
    id: String,
    shared_key: String,
    methods: BTreeSet<String>,
}

impl Introduction {
    /// Reads the metadata of `Control.Session`.
    pub(crate) fn of(metadata: &MetadataMap) -> Result<Self, Status> {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        let id = text("x-docker-expose-session-uuid").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Status::invalid_argument("a session needs a session ID"))?;
        let methods = metadata.get_all("x-docker-expose-session-grpc-method");
        let methods = methods.iter().filter_map(|value| value.to_str().ok());
        Ok(Self {
            id: id.to_owned(),
            shared_key: text("x-docker-expose-session-sharedkey")
                .unwrap_or_default()
                .to_owned(),
            methods: methods.map(str::to_ascii_lowercase).collect(),
        })
    }
}

/// The id in a session's name: what stands before a colon doesn't count.
pub(crate) fn session_id(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, id)| id)
}

/// All sessions that are open.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    /// Goes up when one is opened.
    opened: watch::Sender<u64>,
}

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session until the guard is dropped.
    fn register(self: &Arc<Self>, session: Session) -> Result<Registered, Status> {
        let session = Arc::new(session);
        let mut open = self.lock();
        if open.contains_key(&session.id) {
            let text = format!("session {} already exists", session.id);
            return Err(Status::already_exists(text));
        }
        open.insert(session.id.clone(), session.clone());
        drop(open);
        self.opened.send_modify(|version| *version += 1);
        Ok(Registered {
            sessions: self.clone(),
            session,
        })
    }

    fn find(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }

    /// The session of a name, which may come a little later than who names it. Errors don't say which one
    /// it is: they are kept in the history.
    pub(crate) async fn get(&self, name: &str) -> Result<Arc<Session>, Status> {
        let id = session_id(name);
        let mut changes = self.opened.subscribe();
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            changes.borrow_and_update();
            if let Some(found) = self.find(id) {
                return Ok(found);
            }
            let changed = tokio::time::timeout_at(end, changes.changed()).await;
            if !changed.is_ok_and(|changed| changed.is_ok()) {
                let text = "no active session for the build: context deadline exceeded";
                return Err(Status::unknown(text));
            }
        }
    }
}

/// Keeps a session in the registry.
#[derive(Debug)]
pub(crate) struct Registered {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.session.ended.cancel();
        self.sessions.lock().remove(&self.session.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn introductions() {
        let mut metadata = MetadataMap::new();
        assert!(Introduction::of(&metadata).is_err());
        metadata.insert("x-docker-expose-session-uuid", "abc".parse().unwrap());
        for method in ["/moby.filesync.v1.FileSync/DiffCopy", "/a.B/C"] {
            metadata.append(
                "x-docker-expose-session-grpc-method",
                method.parse().unwrap(),
            );
        }
        let read = Introduction::of(&metadata).unwrap();
        assert_eq!((read.id.as_str(), read.shared_key.as_str()), ("abc", ""));
        assert!(read.methods.contains("/moby.filesync.v1.filesync/diffcopy"));
    }
}
