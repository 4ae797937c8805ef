//! Who asks. A caller is whoever sends some `Authorization` header, or none: what one may read is known
//! only to clients of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_execute::Snapshotter;
use kiln_image::{Client, ClientOptions, CredentialSource, Logins, Reference};

/// How long a caller's client is kept.
const KEPT: Duration = Duration::from_secs(300);
/// More callers are not remembered.
const MAX_CALLERS: usize = 64;

/// What one caller's requests are made with.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) trees: Snapshotter,
    authorization: Option<String>,
}

impl Caller {
    /// The client, with the caller's header for this image.
    pub(crate) fn client(&self, image: &Reference) -> &Client {
        let client = &self.trees.client;
        if let Some(authorization) = &self.authorization {
            client.authorize(image, authorization);
        }
        client
    }
}

/// The callers of the last minutes.
pub(crate) struct Callers {
    trees: Snapshotter,
    /// Nobody's: callers share its connections and settings.
    client: Client,
    known: Mutex<HashMap<Option<String>, (Instant, Caller)>>,
}

impl Callers {
    pub(crate) fn new(trees: Snapshotter, options: ClientOptions) -> Self {
        let client = Client::new(ClientOptions {
            credentials: CredentialSource::None,
            logins: Logins::default(),
            documents: None,
            ..options
        });
        Self {
            trees,
            client,
            known: Mutex::default(),
        }
    }

    /// The caller with a header.
    pub(crate) fn get(&self, authorization: Option<String>) -> Caller {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (since, _)| since.elapsed() < KEPT);
        if let Some((_, caller)) = known.get(&authorization) {
            return caller.clone();
        }
        let caller = Caller {
            trees: Snapshotter {
                client: self.client.on_behalf(CredentialSource::None),
                deltas: Arc::default(),
                distant: Arc::default(),
                ..self.trees.clone()
            },
            authorization: authorization.clone(),
        };
        if known.len() < MAX_CALLERS {
            known.insert(authorization, (Instant::now(), caller.clone()));
        }
        caller
    }
}
