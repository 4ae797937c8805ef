//! Files over HTTP. Each becomes a tree.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_cache::{Staging, Store, StoreError, Tree, sha256_of};
use kiln_graph::address::{self, redact};
use kiln_graph::{
    BlobDigest, Digest, Entry, HttpSource, ImagePath, Manifest, Node, Step, Timestamp, TreeId,
};
use kiln_image::Client;
use kiln_solve::{Outcome, ResolvedSource};
use kiln_tree::host;
use serde::{Deserialize, Serialize};

use super::http_access::headers;
use super::resolved::{memo_key, resolved};
use crate::{EngineError, SecretProvider, WrongChecksum};

/// What is remembered of a download.
#[derive(Serialize, Deserialize)]
struct Known {
    etag: Option<String>,
    tree: TreeId,
    /// The file's digest; older stores don't say.
    #[serde(default)]
    sum: Option<BlobDigest>,
}

/// The digest of a file that was downloaded before, if it is remembered.
///
/// # Errors
/// When the store can't be read.
pub fn known_checksum(
    store: &Store,
    source: &HttpSource,
) -> Result<Option<BlobDigest>, EngineError> {
    Ok(known_download(store, source)?.and_then(|known| known.sum))
}

fn known_download(store: &Store, source: &HttpSource) -> Result<Option<Known>, EngineError> {
    Ok(store
        .memos()
        .get("http", &download_key(source, source.checksum))?)
}

fn download_key(source: &HttpSource, checksum: Option<BlobDigest>) -> Digest {
    let checksum = checksum.map(|sum| sum.to_string()).unwrap_or_default();
    let mut parts = vec![source.url.as_str(), &checksum];
    let headers = source.request.headers.iter();
    parts.extend(headers.flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    memo_key(&parts)
}

/// Fetches files.
pub struct HttpResolver<'a> {
    /// Keeps the trees.
    pub store: &'a Store,
    /// Fetches.
    pub client: &'a Client,
    /// Whether files can be given to any owner.
    pub gives_away: bool,
    /// What lets the user in.
    pub secrets: &'a dyn SecretProvider,
}

impl std::fmt::Debug for HttpResolver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpResolver").finish_non_exhaustive()
    }
}

impl HttpResolver<'_> {
    /// Fetches a file, unless the server says it is still what the store has.
    pub(crate) fn resolve(
        &self,
        step: &Step,
        source: &HttpSource,
    ) -> Result<ResolvedSource, EngineError> {
        let known = known_download(self.store, source)?;
        let there = match &known {
            Some(known) => self.store.trees().get(&known.tree)?,
            None => None,
        };
        if let (Some(tree), Some(_)) = (&there, source.checksum) {
            return Ok(resolved(tree, Outcome::Cached));
        }
        let etag = known
            .as_ref()
            .filter(|_| there.is_some())
            .and_then(|known| known.etag.as_deref());
        let staging = self.store.staging()?;
        let file = staging.work().join("file");
        let mut start =
            || -> std::io::Result<Box<dyn std::io::Write>> { Ok(Box::new(host::create(&file)?)) };
        let headers = headers(source, self.secrets, step)?;
        let about = self
            .client
            .download(&source.url, etag, &headers, &mut start)?;
        if let (true, Some(tree)) = (about.unchanged, &there) {
            return Ok(resolved(tree, Outcome::Cached));
        }
        let sum = check_sum(&file, source, step)?;
        let name = source.file_name.clone().or(about.file_name);
        let name = name.or_else(|| address::file_name(&source.url));
        let name = name.unwrap_or_else(|| "download".to_owned());
        let changed = about.last_modified.and_then(timestamp);
        let tree = self.one_file(staging, &file, &name, changed.unwrap_or_default())?;
        let known = Known {
            etag: about.etag,
            tree: tree.id(),
            sum: Some(sum),
        };
        // Whoever demands this digest from now on need not fetch it again.
        for checksum in [source.checksum, Some(sum)] {
            let key = download_key(source, checksum);
            self.store.memos().put("http", &key, &known)?;
        }
        Ok(resolved(&tree, Outcome::Ran))
    }

    fn one_file(
        &self,
        staging: Staging,
        file: &Path,
        name: &str,
        mtime: Timestamp,
    ) -> Result<Tree, EngineError> {
        let fail = |source| EngineError::Output {
            what: format!("the download {name}"),
            source,
        };
        let path = ImagePath::new(name.replace('/', "_"));
        let root = staging.root();
        host::rename(file, root.path().join(path.relative())).map_err(fail)?;
        let digest = root.digest(&path).map_err(StoreError::from)?;
        let size = root.stat(&path).map_err(fail)?.st_size;
        let size = u64::try_from(size).unwrap_or(0);
        let node = Node::File { size, digest };
        let entry = Entry {
            mode: 0o600,
            mtime,
            node,
            ..Entry::directory(path)
        };
        root.set_attributes(&entry, self.gives_away).map_err(fail)?;
        Ok(self
            .store
            .trees()
            .commit(staging, Manifest::new(vec![entry]))?)
    }
}

/// The digest of what came, which is the one demanded, if one is.
fn check_sum(file: &Path, source: &HttpSource, step: &Step) -> Result<BlobDigest, EngineError> {
    let fail = |error| EngineError::Output {
        what: source.url.clone(),
        source: error,
    };
    let actual = sha256_of(file).map_err(fail)?;
    match source.checksum.filter(|expected| *expected != actual) {
        None => Ok(actual),
        Some(expected) => Err(EngineError::Checksum(Box::new(WrongChecksum {
            address: redact(&source.url).into_owned(),
            actual,
            expected,
            location: step.location.clone(),
        }))),
    }
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp {
        seconds: i64::try_from(since.as_secs()).ok()?,
        nanos: 0,
    })
}
