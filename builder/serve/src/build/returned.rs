//! What a client, or a frontend, hands back as a build's result.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_graph::ImageConfig;
use tonic::Status;

use super::join::{join, select};
use super::{Built, Kept, image_config};
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

/// Whether results are all targets of one build, each by its own name.
fn are_whole(results: &HashMap<String, Kept>) -> bool {
    let Some(first) = results.values().next() else {
        return true;
    };
    let built = &first.built;
    let platforms = built.platforms();
    let is_own = |(name, one): (&String, &Kept)| {
        Arc::ptr_eq(&one.built, built) && is_named(&platforms, built.is_map, one.number, name)
    };
    results.len() == platforms.len() && results.iter().all(is_own)
}

/// Whether a target of a build has a name; that of a build whose results have no names has none.
fn is_named(platforms: &[String], is_map: bool, number: usize, name: &str) -> bool {
    match name {
        "" => !is_map && number == 0,
        name => platforms.get(number).is_some_and(|own| own == name),
    }
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
    if are_whole(&kept) {
        return Ok(Returned { first, metadata });
    }
    // Reads and writes the store.
    let work = move || {
        let joined = match kept.get("").filter(|_| kept.len() == 1) {
            Some(one) => select(one),
            None => join(&kept, &metadata),
        };
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

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn results_have_the_names_of_their_platforms() {
        let both = ["linux/amd64", "linux/arm64"].map(str::to_owned);
        for (is_map, number, name, want) in [
            (true, 0, "linux/amd64", true),
            (true, 1, "linux/arm64", true),
            (true, 1, "linux/amd64", false),
            (true, 2, "linux/arm64", false),
            (true, 0, "", false),
            (false, 0, "", true),
            (false, 1, "", false),
        ] {
            assert_eq!(
                is_named(&both, is_map, number, name),
                want,
                "{number} {name}"
            );
        }
    }
}
