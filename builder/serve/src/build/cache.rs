//! Shared caches that clients name. Their format is kiln's own: those of BuildKit aren't read.
//!
//! The client's own directories (`type=local`) are in [`super::local_cache`].

use std::collections::HashMap;
use std::sync::Arc;

use kiln::Error;
use kiln_engine::{
    CacheMode, CacheSource, CacheTarget, Engine, EngineError, InlineCache, InlineRemote,
    RegistryRemote,
};
use kiln_image::Reference;
use kiln_share::{
    CacheTrust, GhaRemote, GhaSettings, GhaSettingsError, Remote, S3Keys, S3Settings,
};
use tonic::Status;

use super::attributes::{Attributes, flag};
use super::contexts::Client;
use super::local_cache::{self, LocalTarget};
use crate::error::BuildError;
use crate::proto::control::CacheOptionsEntry;

/// Caches that results are sent to.
#[derive(Default)]
pub(super) struct Targets {
    pub(super) remotes: Vec<CacheTarget>,
    /// The export to each of the remotes, in their order.
    pub(super) exports: Vec<CacheExport>,
    /// Whether the image carries its own.
    pub(super) inline: Option<InlineCache>,
}

/// The export to one remote.
pub(super) struct CacheExport {
    pub(super) name: String,
    /// Whether a failure is only told.
    pub(super) is_tolerant: bool,
    /// The remote, when it is a directory of the client's: that is written when all is there.
    local: Option<Arc<LocalTarget>>,
}

impl CacheExport {
    /// Ends it. Gives the manifest's descriptor as JSON, when it is to a directory of the client's.
    pub(super) fn finish(&self) -> Result<Option<String>, BuildError> {
        let Some(local) = &self.local else {
            return Ok(None);
        };
        let failed = |source| EngineError::RemoteCache {
            remote: local.name(),
            source,
        };
        let manifest = local.finish().map_err(failed).map_err(Error::from)?;
        let json = serde_json::to_string(&manifest);
        let json = json.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(json))
    }
}

/// The name in a registry that an entry is about.
fn reference(engine: &Engine, entry: &CacheOptionsEntry) -> Result<Reference, Status> {
    let name = entry.attrs.get("ref").map_or("", String::as_str);
    let read: Result<Reference, _> = name.parse();
    let name = read.map_err(|error| {
        Status::invalid_argument(format!("{} cache: ref {name:?}: {error}", entry.r#type))
    })?;
    if flag(&entry.attrs, "registry.insecure")? == Some(true) {
        engine.client().allow_insecure(&name.host);
    }
    Ok(name)
}

fn unknown(kind: &str) -> Status {
    Status::unknown(format!(
        "unknown cache type {kind:?}: kiln has registry, inline, local, s3 and gha"
    ))
}

fn text<'a>(attributes: &'a HashMap<String, String>, key: &str) -> Option<&'a String> {
    attributes.get(key).filter(|value| !value.is_empty())
}

/// What an entry of a kind must say.
pub(super) fn required<'a>(
    kind: &str,
    attributes: &'a HashMap<String, String>,
    key: &str,
) -> Result<&'a String, Status> {
    let missing = || Status::invalid_argument(format!("{kind} cache: {key} is missing"));
    text(attributes, key).ok_or_else(missing)
}

fn s3(attributes: &HashMap<String, String>) -> Result<Arc<dyn Remote>, Status> {
    let text = |key: &str| text(attributes, key).cloned();
    let required = |key: &str| required("s3", attributes, key).cloned();
    // The server's own credentials are not for its clients.
    let keys = S3Keys {
        id: required("access_key_id")?,
        secret: required("secret_access_key")?,
        token: text("session_token"),
    };
    let settings = S3Settings {
        bucket: required("bucket")?,
        prefix: text("prefix").unwrap_or_default(),
        name: text("name"),
        region: text("region"),
        endpoint: text("endpoint_url"),
        path_style: flag(attributes, "use_path_style")?,
        keys: Some(keys),
    };
    let remote = kiln_share::s3_remote(&settings);
    remote.ok_or_else(|| Status::unimplemented("this kiln was built without S3 caches"))
}

/// The cache of a workflow of GitHub's, with what the client was given: the server's own variables are not for
/// its clients.
fn gha(engine: &Engine, attributes: &HashMap<String, String>) -> Result<Arc<dyn Remote>, Status> {
    let settings = GhaSettings::read(|key| attributes.get(key).cloned());
    let wrong = |error: GhaSettingsError| Status::invalid_argument(format!("gha cache: {error}"));
    let client = engine.client().clone();
    Ok(Arc::new(GhaRemote::new(client, settings.map_err(wrong)?)))
}

/// The caches that attributes name: `cache-imports` as JSON, and references in `cache-from`.
pub(super) fn imports_of(attributes: Attributes<'_>) -> Result<Vec<CacheOptionsEntry>, Status> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Named {
        r#type: String,
        #[serde(default)]
        attrs: HashMap<String, String>,
    }
    let json = attributes.text("cache-imports").unwrap_or("[]");
    let named: Vec<Named> = serde_json::from_str(json)
        .map_err(|error| Status::invalid_argument(format!("cache-imports: {error}")))?;
    let named = named.into_iter().map(|one| CacheOptionsEntry {
        r#type: one.r#type,
        attrs: one.attrs,
    });
    let references = attributes.list("cache-from").map(|name| CacheOptionsEntry {
        r#type: "registry".to_owned(),
        attrs: HashMap::from([("ref".to_owned(), name.to_owned())]),
    });
    Ok(named.chain(references).collect())
}

/// Caches that results are taken from. A name in a registry is looked up as a cache, then as an image
/// that carries one.
pub(super) fn imports(
    engine: &Engine,
    client: &Client<'_>,
    entries: &[CacheOptionsEntry],
) -> Result<Vec<CacheSource>, Status> {
    let mut sources = Vec::new();
    for entry in entries {
        let registries = || engine.client().clone();
        let remotes: Vec<Arc<dyn Remote>> = match entry.r#type.as_str() {
            "registry" | "inline" => {
                let name = reference(engine, entry)?;
                vec![
                    Arc::new(RegistryRemote::new(registries(), name.clone())),
                    Arc::new(InlineRemote::new(registries(), name)),
                ]
            }
            "s3" => vec![s3(&entry.attrs)?],
            "gha" => vec![gha(engine, &entry.attrs)?],
            "local" => vec![Arc::new(local_cache::source(client, &entry.attrs)?)],
            other => return Err(unknown(other)),
        };
        let source = |remote| CacheSource::new(remote, CacheTrust::default());
        sources.extend(remotes.into_iter().map(source));
    }
    Ok(sources)
}

/// Caches that results are sent to.
pub(super) fn exports(
    engine: &Engine,
    client: &Client<'_>,
    entries: &[CacheOptionsEntry],
) -> Result<Targets, Status> {
    let mut targets = Targets::default();
    for entry in entries {
        let mut local = None;
        let remote: Arc<dyn Remote> = match entry.r#type.as_str() {
            "inline" => {
                targets.inline = Some(InlineCache::default());
                continue;
            }
            "registry" => {
                let name = reference(engine, entry)?;
                Arc::new(RegistryRemote::new(engine.client().clone(), name))
            }
            "s3" => s3(&entry.attrs)?,
            "gha" => gha(engine, &entry.attrs)?,
            "local" => {
                let target = local_cache::target(client, &entry.attrs)?;
                local = Some(target.clone());
                target
            }
            other => return Err(unknown(other)),
        };
        targets.exports.push(CacheExport {
            name: remote.name(),
            is_tolerant: flag(&entry.attrs, "ignore-error")? == Some(true),
            local,
        });
        targets.remotes.push(CacheTarget {
            remote,
            mode: match entry.attrs.get("mode").map(String::as_str) {
                Some("max") => CacheMode::Max,
                _ => CacheMode::Min,
            },
            signer: None,
        });
    }
    Ok(targets)
}
