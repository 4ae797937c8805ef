//! What mutable sources are taken to be: commits for branches and tags, digests for files.

use std::collections::BTreeMap;

use kiln_graph::address::redact_userinfo;
use kiln_graph::{BlobDigest, GitSource, HttpSource};

/// Commits and digests by what they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Commits by repository, without userinfo, and branch or tag (empty: the default branch).
    pub git: BTreeMap<(String, String), String>,
    /// Digests by address, without userinfo.
    pub http: BTreeMap<String, BlobDigest>,
}

/// What a source stands for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The commit of a branch or tag.
    Commit(String),
    /// The digest of a file.
    Checksum(BlobDigest),
}

impl Pins {
    /// What a commit is kept under.
    #[must_use]
    pub fn git_key(source: &GitSource) -> (String, String) {
        let remote = redact_userinfo(&source.remote).into_owned();
        (remote, source.reference.clone())
    }

    /// What a digest is kept under.
    #[must_use]
    pub fn http_key(source: &HttpSource) -> String {
        redact_userinfo(&source.url).into_owned()
    }

    /// A source at the commit that is known for it.
    pub(crate) fn git(&self, source: &GitSource) -> GitSource {
        let mut source = source.clone();
        if let Some(commit) = self.git.get(&Self::git_key(&source)) {
            source.reference.clone_from(commit);
        }
        source
    }

    /// A source with the digest that is known for it.
    pub(crate) fn http(&self, source: &HttpSource) -> HttpSource {
        let pinned = self.http.get(&Self::http_key(source)).copied();
        HttpSource {
            checksum: source.checksum.or(pinned),
            ..source.clone()
        }
    }
}
