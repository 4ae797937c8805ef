//! Shared caches: what a store shares with others, and where. Format 1.
//!
//! A remote holds *entries*, small JSON documents under names, and *blobs* under their SHA-256.
//! An entry is only written when all blobs it names are there. A step's result is the entry
//! `step-<step key>`, one [`RemoteRecord`]: for each tree its manifest (in the store's own form,
//! see [`kiln_cache::manifest_file`]) and its files (a layer as images have it, so that a registry keeps one
//! copy for both); in an image that carries its own cache, the manifest is in the layer itself.
//! The content of what a step copies out of another's result is the entry `part-<digest>`, one
//! [`RemotePart`], so that the step's key can be made where the files are not.
//! A result whose files aren't shared is the entry `name-<step key>`, one [`RemoteName`]: builds that find what
//! was made from it need it no more. Where there are such, there is the entry `name-any`, which says nothing and
//! is signed by nobody: without it no key is looked up twice.
//! Each key is looked up by itself and each entry written by itself: builds that write at once lose
//! nothing of each other's.
#![allow(
    clippy::disallowed_methods,
    reason = "a shared directory is named by the user, and no tree"
)]

mod bundle;
mod directory;
mod error;
mod gha;
mod inline;
mod registry;
mod s3;
mod sign;
mod source;

use std::io::Write;
use std::path::Path;

use kiln_graph::{BlobDigest, ContentDigest, Digest, Entry, Manifest, StepKey, TreeId};
use serde::{Deserialize, Serialize};

pub use bundle::{BlobPlace, BundleSource, BundleTarget};
pub use directory::DirectoryRemote;
pub use error::RemoteError;
pub use gha::{GhaRemote, GhaSettings, GhaSettingsError};
pub use inline::InlineRemote;
use kiln_cache::LayerBlob;
pub use registry::RegistryRemote;
#[cfg(feature = "s3")]
pub use s3::S3Remote;
pub use s3::{S3Keys, S3Settings, s3_remote};
pub use sign::{CacheSigner, CacheTrust, SignatureError};
pub use source::{CacheSource, Volumes};

/// A place that stores share what they have with.
pub trait Remote: Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> String;

    /// The name of an image or a cache in the repository that holds its blobs, when it is in a
    /// registry: there they need not be fetched to be in another image.
    fn repository(&self) -> Option<String> {
        None
    }

    /// An entry's bytes; `None` when there is none.
    ///
    /// # Errors
    /// When the place can't be reached or read.
    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError>;

    /// Writes an entry and the blobs that it names, those that aren't there yet. Gives the number
    /// of bytes that were sent.
    ///
    /// # Errors
    /// When the place can't be reached or written.
    fn put(&self, name: &str, entry: &[u8], blobs: &[RemoteBlob<'_>]) -> Result<u64, RemoteError>;

    /// Writes a blob's bytes to `out`. The caller checks the digest.
    ///
    /// # Errors
    /// When the place can't be reached or read, or `out` can't be written.
    fn blob(&self, digest: &BlobDigest, size: u64, out: &mut dyn Write) -> Result<(), RemoteError>;

    /// Makes what was put visible to others, in places where it isn't before: is called when nothing more is
    /// to be put for now.
    ///
    /// # Errors
    /// When the place can't be reached or written.
    fn finish(&self) -> Result<(), RemoteError> {
        Ok(())
    }
}

/// A blob to be written.
#[derive(Clone, Copy, Debug)]
pub struct RemoteBlob<'a> {
    /// Its digest.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size: u64,
    /// The file that holds it.
    pub path: &'a Path,
}

/// A tree of a remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteTree {
    /// Its identity.
    pub tree: TreeId,
    /// Where its manifest is.
    #[serde(flatten)]
    pub manifest: RemoteManifest,
    /// The blob with its files.
    pub layer: LayerBlob,
}

/// Where a tree's manifest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RemoteManifest {
    /// In a blob of its own.
    Blob {
        /// The blob.
        manifest: BlobDigest,
        /// Its length in bytes.
        manifest_size: u64,
    },
    /// In the layer, which says all but which times count: those of no entries at first, then of
    /// so many, then again of none, and so on, in the order of paths.
    Layer {
        /// The lengths of these runs.
        counts: Vec<u32>,
    },
}

impl RemoteManifest {
    /// A manifest that is in the layer.
    #[must_use]
    pub fn in_layer(manifest: &Manifest) -> Self {
        let (mut counts, mut state) = (vec![0], false);
        for entry in manifest.entries() {
            if entry.mtime_counts != state {
                state = entry.mtime_counts;
                counts.push(0);
            }
            *counts.last_mut().unwrap_or(&mut 0) += 1;
        }
        Self::Layer { counts }
    }

    /// Entries of a layer, with those times counting that did.
    #[must_use]
    pub fn with_counts(entries: &[Entry], counts: &[u32]) -> Manifest {
        let runs = counts.iter().zip([false, true].into_iter().cycle());
        let flags = runs.flat_map(|(count, flag)| std::iter::repeat_n(flag, *count as usize));
        let flagged = entries
            .iter()
            .zip(flags)
            .map(|(entry, mtime_counts)| Entry {
                mtime_counts,
                ..entry.clone()
            });
        flagged.collect()
    }
}

/// The bytes of an entry that says `document`, signed if there is somebody to sign it.
#[must_use]
pub fn entry_bytes(name: &str, document: &impl Serialize, signer: Option<&CacheSigner>) -> Vec<u8> {
    let text = serde_json::to_string(document).unwrap_or_default();
    match signer {
        Some(signer) => signer.sign(name, &text),
        None => text.into_bytes(),
    }
}

/// A step's result on a remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteRecord {
    /// What it is filed under.
    pub key: StepKey,
    /// The step's name.
    pub name: String,
    /// How long the step ran, in milliseconds; 0 when it isn't known.
    pub took: u64,
    /// When it ended, in seconds since 1970; 0 when it isn't known.
    #[serde(default)]
    pub created: u64,
    /// What it wrote to its standard output, when somebody wanted to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// The trees that the step added, lowest first.
    pub output: Vec<RemoteTree>,
}

impl RemoteRecord {
    /// The name of a key's entry.
    #[must_use]
    pub fn entry_name(key: &StepKey) -> String {
        format!("step-{key}")
    }

    /// The entry's bytes.
    #[must_use]
    pub fn signed(&self, signer: Option<&CacheSigner>) -> Vec<u8> {
        entry_bytes(&Self::entry_name(&self.key), self, signer)
    }
}

/// What a step gave, without its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteName {
    /// What the result is filed under.
    pub key: StepKey,
    /// When it was made, in seconds since 1970; 0 when it isn't known.
    #[serde(default)]
    pub created: u64,
    /// What the step wrote to its standard output, when somebody wanted to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// The identities of the trees that the step added, lowest first.
    pub added: Vec<TreeId>,
}

impl RemoteName {
    /// The entry that is there where there is any of these.
    pub const ANY: &str = "name-any";

    /// The name of a key's entry.
    #[must_use]
    pub fn entry_name(key: &StepKey) -> String {
        format!("name-{key}")
    }

    /// The entry's bytes.
    #[must_use]
    pub fn signed(&self, signer: Option<&CacheSigner>) -> Vec<u8> {
        entry_bytes(&Self::entry_name(&self.key), self, signer)
    }
}

/// What a part of a result contains: the files that a step copies, or what it mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemotePart {
    /// Names the result, by its content, and the part of it.
    pub part: Digest,
    /// What it contains, as keys have it.
    pub content: ContentDigest,
}

impl RemotePart {
    /// The name of a part's entry.
    #[must_use]
    pub fn entry_name(part: &Digest) -> String {
        format!("part-{part}")
    }

    /// The entry's bytes.
    #[must_use]
    pub fn signed(&self, signer: Option<&CacheSigner>) -> Vec<u8> {
        entry_bytes(&Self::entry_name(&self.part), self, signer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::ImagePath;
    use proptest::prelude::*;

    proptest! {
        /// What a hostile cache can send for an entry.
        #[test]
        fn no_entry_panics(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12), noise in "\\PC{0,9}",
        ) {
            let text = pieces.concat() + &noise;
            for trust in [CacheTrust::default(), trusting()] {
                if let Ok(opened) = trust.open("step-1", text.as_bytes()) {
                    _ = serde_json::from_slice::<RemoteRecord>(&opened);
                }
            }
        }
    }

    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"signed\":",
        "\"{}\"",
        "\"by\":",
        "\"signature\":",
        "\"3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29\"",
        "\"00\"",
        "\"key\":",
        "\"output\":[",
        "\"tree\":",
        "\"size\":18446744073709551615",
        "null",
        "-1",
        "1e999",
    ];

    fn trusting() -> CacheTrust {
        let mut trust = CacheTrust::default();
        let key = CacheSigner::new(&"00".repeat(32)).unwrap().public_key();
        trust.add(&key).unwrap();
        trust
    }

    #[test]
    fn which_times_count_is_kept() {
        for flags in ["", "0", "1", "0011101", "1110"] {
            let entry = |(at, flag): (usize, char)| Entry {
                mtime_counts: flag == '1',
                ..Entry::directory(ImagePath::new(format!("d{at}")))
            };
            let manifest: Manifest = flags.chars().enumerate().map(entry).collect();
            let RemoteManifest::Layer { counts } = RemoteManifest::in_layer(&manifest) else {
                panic!("it is in the layer");
            };
            let plain = manifest.entries().iter().map(|entry| Entry {
                mtime_counts: false,
                ..entry.clone()
            });
            let plain: Vec<Entry> = plain.collect();
            assert_eq!(
                RemoteManifest::with_counts(&plain, &counts),
                manifest,
                "{flags}"
            );
        }
    }

    #[test]
    fn entries_of_both_kinds_are_read() {
        let blob = BlobDigest::from_sha256([7; 32]);
        let tree = |manifest| RemoteTree {
            tree: TreeId(Digest::of(b"t")),
            manifest,
            layer: LayerBlob {
                blob,
                size: 1,
                diff_id: blob,
                media_type: "m".to_owned(),
                annotations: std::collections::BTreeMap::new(),
            },
        };
        let (manifest, manifest_size) = (blob, 5);
        for tree in [
            tree(RemoteManifest::Blob {
                manifest,
                manifest_size,
            }),
            tree(RemoteManifest::Layer { counts: vec![0, 2] }),
        ] {
            let text = serde_json::to_string(&tree).unwrap();
            assert_eq!(serde_json::from_str::<RemoteTree>(&text).unwrap(), tree);
        }
    }
}
