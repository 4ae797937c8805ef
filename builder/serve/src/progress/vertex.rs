//! A vertex: one line of a display, by its digest.

use std::time::SystemTime;

use kiln_graph::BlobDigest;
use sha2::{Digest as _, Sha256};

use crate::proto::control::Vertex as Message;
use crate::proto::{Timestamp, timestamp};

/// Now.
pub(crate) fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

/// A digest of what a vertex is, in the form that clients parse.
pub(crate) fn digest_of<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    BlobDigest::from_sha256(hash.finalize().into()).to_string()
}

/// What is known of a vertex.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vertex {
    pub(crate) digest: String,
    pub(crate) name: String,
    pub(crate) inputs: Vec<String>,
    /// The same instant in all messages of one run: another one is another run to clients.
    pub(crate) started: Option<Timestamp>,
}

impl Vertex {
    /// The vertex before it is begun.
    pub(crate) fn planned(&self) -> Message {
        Message {
            digest: self.digest.clone(),
            inputs: self.inputs.clone(),
            name: self.name.clone(),
            started: self.started,
            ..Message::default()
        }
    }

    /// Begins it now, unless it has begun.
    pub(crate) fn start(&mut self) -> Message {
        self.started.get_or_insert_with(now);
        self.planned()
    }

    /// Ends it; an error ends in `context canceled` when it was cancelled.
    pub(crate) fn complete(&mut self, is_cached: bool, error: String) -> Message {
        Message {
            completed: Some(now()),
            cached: is_cached,
            error,
            ..self.start()
        }
    }
}
