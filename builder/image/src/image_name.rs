//! Images wherever they are: `NAME`, `oci:DIR[:TAG]`, and their kin.

use std::path::PathBuf;
use std::str::FromStr;

use kiln_graph::address::IMAGE_SCHEME;

use crate::{BadReference, Reference};

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageName {
    /// In a registry.
    Registry(Reference),
    /// In an OCI layout directory.
    Layout {
        /// The directory.
        directory: PathBuf,
        /// The name in its index.
        tag: Option<String>,
    },
    /// In a tar: an OCI layout, or what `docker save` writes.
    Archive {
        /// The tar.
        file: PathBuf,
        /// The name in its index.
        tag: Option<String>,
    },
    /// In the Docker daemon.
    Daemon(String),
}

impl FromStr for ImageName {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        for prefix in ["oci-layout://", "oci:"] {
            if let Some(rest) = text.strip_prefix(prefix) {
                let (directory, tag) = path_and_tag(rest);
                return Ok(Self::Layout { directory, tag });
            }
        }
        for prefix in ["oci-archive:", "docker-archive:"] {
            if let Some(rest) = text.strip_prefix(prefix) {
                let (file, tag) = path_and_tag(rest);
                return Ok(Self::Archive { file, tag });
            }
        }
        if let Some(name) = text.strip_prefix("docker-daemon:") {
            return Ok(Self::Daemon(name.to_owned()));
        }
        let name = [IMAGE_SCHEME, "docker://"]
            .iter()
            .find_map(|p| text.strip_prefix(p));
        name.unwrap_or(text).parse().map(Self::Registry)
    }
}

/// A path, and behind a colon a tag, which has no slash unless it is a whole name.
fn path_and_tag(text: &str) -> (PathBuf, Option<String>) {
    match text.split_once(':') {
        Some((path, tag)) if !tag.is_empty() => (path.into(), Some(tag.to_owned())),
        _ => (text.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_images_are() {
        let tag = |text: &str| Some(text.to_owned());
        let cases = [
            (
                "oci:a/b:v1",
                ImageName::Layout {
                    directory: "a/b".into(),
                    tag: tag("v1"),
                },
            ),
            (
                "docker-archive:/x.tar:r.example/a:v1",
                ImageName::Archive {
                    file: "/x.tar".into(),
                    tag: tag("r.example/a:v1"),
                },
            ),
            (
                "oci-archive:x.tar",
                ImageName::Archive {
                    file: "x.tar".into(),
                    tag: None,
                },
            ),
            ("docker-daemon:a:v1", ImageName::Daemon("a:v1".into())),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
    }
}
