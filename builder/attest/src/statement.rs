//! In-toto statements, version 1
//! (<https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>): something that is
//! said about artifacts of known digests.

use std::collections::BTreeMap;

use kiln_graph::BlobDigest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::AttestError;

/// A statement's media type, as a layer of an attestation's manifest and in an envelope.
pub const STATEMENT_MEDIA_TYPE: &str = "application/vnd.in-toto+json";
const TYPE: &str = "https://in-toto.io/Statement/v1";
/// The version before, which is read as well.
const OLD_TYPE: &str = "https://in-toto.io/Statement/v0.1";

/// An artifact that a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// A package URL, or nothing.
    #[serde(default)]
    pub name: String,
    /// Digests by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Artifact {
    /// An artifact of a name and a digest.
    #[must_use]
    pub fn new(name: impl Into<String>, digest: &BlobDigest) -> Self {
        Self {
            name: name.into(),
            digest: [("sha256".to_owned(), digest.hex())].into(),
        }
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    /// What it is about.
    pub subject: Vec<Artifact>,
    /// What kind of thing it says.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What it says.
    #[serde(default)]
    pub predicate: Value,
}

impl Statement {
    /// A statement about some artifacts.
    #[must_use]
    pub fn new(subject: Vec<Artifact>, predicate_type: &str, predicate: Value) -> Self {
        Self {
            kind: TYPE.to_owned(),
            subject,
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }

    /// Reads a statement.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn read(bytes: &[u8]) -> Result<Self, AttestError> {
        let read: Self = serde_json::from_slice(bytes)
            .map_err(|error| AttestError::Statement(error.to_string()))?;
        match read.kind == TYPE || read.kind == OLD_TYPE {
            true => Ok(read),
            false => Err(AttestError::Statement(format!(
                "its type is '{}'",
                read.kind
            ))),
        }
    }

    /// The statement as JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::json!(self).to_string().into_bytes()
    }

    /// Whether it is about an artifact of this digest.
    #[must_use]
    pub fn is_about(&self, digest: &BlobDigest) -> bool {
        let hex = digest.hex();
        let names = |artifact: &Artifact| artifact.digest.get("sha256") == Some(&hex);
        self.subject.iter().any(names)
    }
}

/// An image's name as a statement's subject has it: `pkg:docker/NAME@TAG?platform=…`. Names of
/// Docker Hub are written without what they leave out.
#[must_use]
pub fn image_purl(
    repository: &str,
    tag: Option<&str>,
    digest: Option<&BlobDigest>,
    platform: &str,
) -> String {
    use crate::purl::encode;
    let short = repository
        .strip_prefix("docker.io/library/")
        .or_else(|| repository.strip_prefix("docker.io/"))
        .unwrap_or(repository);
    let path: Vec<String> = short.split('/').map(encode).collect();
    let version = tag.map_or(String::new(), |tag| format!("@{}", encode(tag)));
    let digest = digest.map_or(String::new(), |digest| format!("digest={digest}&"));
    format!(
        "pkg:docker/{}{version}?{digest}platform={}",
        path.join("/"),
        encode(platform)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_what_they_are_about() {
        let (one, other) = (
            BlobDigest::from_sha256([1; 32]),
            BlobDigest::from_sha256([2; 32]),
        );
        let statement = Statement::new(vec![Artifact::new("a", &one)], "https://x", Value::Null);
        let read = Statement::read(&statement.to_json()).unwrap();
        assert_eq!(read, statement);
        assert!(read.is_about(&one) && !read.is_about(&other));
        assert!(Statement::read(br#"{"_type":"x","subject":[],"predicateType":"y"}"#).is_err());
        assert!(Statement::read(b"[]").is_err());
    }

    #[test]
    fn names_of_images() {
        let digest = BlobDigest::from_sha256([1; 32]);
        let of = |name, tag| image_purl(name, tag, None, "linux/amd64");
        assert_eq!(
            of("docker.io/library/alpine", Some("3.18")),
            "pkg:docker/alpine@3.18?platform=linux%2Famd64"
        );
        assert_eq!(
            of("127.0.0.1:5000/a/b", None),
            "pkg:docker/127.0.0.1:5000/a/b?platform=linux%2Famd64"
        );
        assert!(image_purl("a", None, Some(&digest), "p").contains("?digest=sha256:0101"));
    }
}
