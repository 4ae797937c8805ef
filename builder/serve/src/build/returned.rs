//! What a client, or a frontend, hands back as a build's result.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_graph::ImageConfig;
use tonic::Status;

use super::{Built, Kept, image_config, join};
use crate::error::rpc_status;
use crate::proto::frontend::result::Result as Refs;
use crate::proto::frontend::{self, ReturnRequest};
use crate::server::Server;

/// What a client, or its frontend, hands back as a build's result.
pub(crate) struct Returned {
    /// One of its refs; none of a build without a result.
    pub(crate) first: Option<Arc<Built>>,
    pub(crate) metadata: HashMap<String, Vec<u8>>,
}

/// The results by the names of their platforms; one without platforms has no name.
fn refs_of(result: Option<Refs>) -> Vec<(String, String)> {
    let refs: Vec<(String, String)> = match result {
        None => Vec::new(),
        Some(Refs::RefDeprecated(id)) => vec![(String::new(), id)],
        Some(Refs::Ref(one)) => vec![(String::new(), one.id)],
        Some(Refs::RefsDeprecated(all)) => all.refs.into_iter().collect(),
        Some(Refs::Refs(frontend::RefMap { refs })) => {
            refs.into_iter().map(|(name, one)| (name, one.id)).collect()
        }
    };
    let is_there = |(_, id): &(String, String)| !id.is_empty();
    refs.into_iter().filter(is_there).collect()
}

/// What is handed back as a result.
///
/// # Errors
/// The error that is handed back, or when there is no such result.
pub(crate) async fn returned(
    server: &Arc<Server>,
    returned: ReturnRequest,
) -> Result<Returned, Status> {
    if let Some(error) = returned.error {
        return Err(rpc_status(error));
    }
    let result = returned.result.unwrap_or_default();
    let metadata = result.metadata;
    let mut kept: HashMap<String, Kept> = HashMap::new();
    for (name, id) in refs_of(result.result) {
        kept.insert(name, server.jobs.result(&id)?);
    }
    let first = kept.values().next().map(|one| one.built.clone());
    let is_whole = |first: &Arc<Built>| {
        let all = kept.values().all(|one| Arc::ptr_eq(&one.built, first));
        all && (kept.contains_key("") || kept.len() == first.platforms().len())
    };
    if first.as_ref().is_none_or(is_whole) {
        return Ok(Returned { first, metadata });
    }
    // Reads and writes the store.
    let work = move || {
        let joined = join(&kept, &metadata);
        joined.map(|joined| Returned {
            first: Some(joined),
            metadata,
        })
    };
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Status::internal("joining results ended early"))?;
    done.map_err(|error| error.status())
}

impl Returned {
    /// The configuration that the client wants the image of a definition to have.
    pub(crate) fn configuration(&self) -> Result<Option<ImageConfig>, Status> {
        let Some(built) = self.first.as_ref().filter(|built| built.is_definition) else {
            return Ok(None);
        };
        const KEY: &str = "containerimage.config";
        let platforms = built.platforms();
        let own = platforms.first().map(|name| format!("{KEY}/{name}"));
        let found = self.metadata.get(KEY);
        let found = found.or_else(|| self.metadata.get(&own?));
        found.map(|json| image_config(json)).transpose()
    }
}
