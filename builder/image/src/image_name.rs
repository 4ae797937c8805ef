//! Images wherever they are: `NAME`, `oci:DIR[:TAG]`, and their kin.

use std::path::PathBuf;
use std::str::FromStr;

use crate::{BadReference, Reference};

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageName {
    /// In a registry.
    Registry(Reference),
    /// In an OCI layout folder.
    Layout {
        /// The folder.
        folder: PathBuf,
        /// The name in its index.
        tag: Option<String>,
    },
}

impl FromStr for ImageName {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        for prefix in ["oci-layout://", "oci:"] {
            if let Some(rest) = text.strip_prefix(prefix) {
                let (folder, tag) = match rest.rsplit_once(':') {
                    Some((folder, tag)) if !tag.contains('/') => (folder, Some(tag.to_owned())),
                    _ => (rest, None),
                };
                return Ok(Self::Layout {
                    folder: folder.into(),
                    tag,
                });
            }
        }
        let name = ["docker-image://", "docker://"]
            .iter()
            .find_map(|p| text.strip_prefix(p));
        name.unwrap_or(text).parse().map(Self::Registry)
    }
}
