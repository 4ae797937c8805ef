//! Operations that bring files: images, directories, git repositories, HTTP servers.

use serde::{Deserialize, Serialize};

use crate::{BlobDigest, ImagePath};

/// An image, resolved: what its manifest says for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// Where it can be had, as people write it and the image library reads it; with a digest
    /// where one is known. Not part of the definition: content is.
    pub name: String,
    /// The manifest's digest.
    pub manifest: BlobDigest,
    /// Layers, lowest first.
    pub layers: Vec<ImageLayer>,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// Digest of the blob as it is stored.
    pub blob: BlobDigest,
    /// The blob's length in bytes.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// Digest of the uncompressed tar.
    pub diff_id: BlobDigest,
}

/// A local directory that the builder is given by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextSource {
    /// The directory's name: `context` for the main one.
    pub name: String,
    /// `.dockerignore` patterns, in order, already cleaned (see [`crate::pattern`]).
    pub ignore: Vec<String>,
}

/// A commit of a git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSource {
    /// The repository's address.
    pub remote: String,
    /// Branch, tag or commit; empty for the default branch.
    pub reference: String,
    /// The directory of the commit that is wanted; the root for all.
    pub subdir: ImagePath,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// The commit the user says it must be (full or abbreviated hexadecimal).
    pub checksum: Option<String>,
    /// Whether submodules are fetched as well.
    pub submodules: bool,
}

/// One file from an HTTP or HTTPS server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpSource {
    /// The address.
    pub url: String,
    /// The content's digest, when the user demands one.
    pub checksum: Option<BlobDigest>,
    /// The file's name in the resulting tree; `None`: as the answer or the address says.
    pub file_name: Option<String>,
    /// How the server is asked for it.
    #[serde(default, skip_serializing_if = "HttpRequest::is_usual")]
    pub request: HttpRequest,
}

/// How a server is asked for a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// Headers that may change the answer, by name.
    pub headers: Vec<(String, String)>,
    /// The secret that is the header `Authorization`; `None`: one that is named after the server, if there is one.
    pub secret: Option<String>,
}

impl HttpRequest {
    /// Whether nothing but the file is asked for.
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}
