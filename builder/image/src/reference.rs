//! Names of images in registries: `[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]`, with Docker's rules
//! for what may be left out (`distribution/reference`).

use std::fmt;
use std::str::FromStr;

use kiln_graph::BlobDigest;

const DEFAULT_HOST: &str = "docker.io";

/// The name of an image in a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry, with its port where it has one.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// The tag; `latest` when neither tag nor digest is given.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<BlobDigest>,
}

/// A text that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference format: '{name}' {reason}")]
pub struct BadReference {
    /// The text.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(name: &str) -> Result<Self, BadReference> {
        let bad = |reason| BadReference {
            name: name.to_owned(),
            reason,
        };
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(digest.parse().map_err(|_| bad("has a broken digest"))?),
            ),
            None => (name, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (DEFAULT_HOST, rest),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (path, None),
        };
        if path.is_empty() {
            return Err(bad("has no repository"));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("must be lower case"));
        }
        if !path.split('/').all(is_component) {
            return Err(bad(
                "may only have letters, digits, and single separators between them",
            ));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(bad("has a broken tag"));
        }
        let official = host == DEFAULT_HOST && !path.contains('/');
        let repository = if official {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        let tag = if tag.is_none() && digest.is_none() {
            Some("latest".to_owned())
        } else {
            tag
        };
        Ok(Self {
            host: host.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

fn is_component(part: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    ends(part.chars().next()) && ends(part.chars().next_back()) && part.chars().all(inside)
}

fn is_tag(tag: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=128).contains(&tag.len()) && !tag.starts_with(['.', '-']) && tag.chars().all(inside)
}

impl Reference {
    /// Whether both are in one repository.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        self.host == other.host && self.repository == other.repository
    }

    /// Whether a name is that of an image in the same repository.
    #[must_use]
    pub fn has_beside(&self, name: &str) -> bool {
        let other = name.parse::<Self>();
        other.is_ok_and(|other| other.is_beside(self))
    }

    /// What has this digest in the same repository.
    #[must_use]
    pub fn pinned(&self, digest: BlobDigest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// What the registry calls the manifest: its digest where one is given, else its tag.
    #[must_use]
    pub fn manifest_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The host that the registry's API is at.
    pub(crate) fn api_host(&self) -> &str {
        match self.host == DEFAULT_HOST {
            true => "registry-1.docker.io",
            false => &self.host,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest
            .iter()
            .try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let pinned = format!("a@{digest}");
        let full = format!("docker.io/library/a@{digest}");
        let cases = [
            ("debian", "docker.io/library/debian:latest"),
            ("me/app:1", "docker.io/me/app:1"),
            ("localhost/a", "localhost/a:latest"),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
            (&pinned, &full),
        ];
        for (name, want) in cases {
            assert_eq!(name.parse::<Reference>().unwrap().to_string(), want);
        }
        for bad in ["", "A", "a:", "a//b", "-a", "a@sha256:1", "a b", "host.x/"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_names_survive(text in "[a-z0-9./:@_-]{0,30}") {
            if let Ok(name) = text.parse::<Reference>() {
                prop_assert_eq!(name.to_string().parse::<Reference>(), Ok(name));
            }
        }
    }
}
