//! Small facts that are costly to find again: `memo/<kind>/<2 hex>/<digest>`, format 1.
//!
//! A first line `kiln-memo 1 <blake3 of the rest>`, then JSON. A file that doesn't pass its
//! checksum counts as missing.

use std::collections::BTreeMap;
use std::path::Path;

use kiln_graph::{BlobDigest, Digest, ImageLayer, TreeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checked_text::{checked, read_checked};
use crate::error::Context as _;
use crate::{Store, StoreError, Tree, pending};

/// A layer blob that was made from a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBlob {
    /// The blob's digest.
    pub blob: BlobDigest,
    /// Its length in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: BlobDigest,
    /// The blob's media type.
    pub media_type: String,
    /// What its descriptor says besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Facts that a store notes under keys; [`Store::memos`] has them.
#[derive(Clone, Copy, Debug)]
pub struct Memos<'a>(&'a Store);

/// What layers of images were unpacked to in a store; [`Store::layers`] has it.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a>(&'a Store);

impl Store {
    /// The facts that it notes.
    #[must_use]
    pub fn memos(&self) -> Memos<'_> {
        Memos(self)
    }

    /// What layers of images were unpacked to.
    #[must_use]
    pub fn layers(&self) -> Layers<'_> {
        Layers(self)
    }

    pub(crate) fn put_checked<T: Serialize>(
        &self,
        path: &Path,
        fact: &T,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_string(fact).map_err(std::io::Error::other);
        let json = json.context("write", path)?;
        let text = checked(&json);
        pending::mark(self, path)?;
        self.put(path, text.as_bytes())
    }
}

impl Memos<'_> {
    /// A fact noted under `key`.
    ///
    /// # Errors
    /// When it is there but can't be read.
    pub fn get<T: DeserializeOwned>(
        &self,
        kind: &str,
        key: &Digest,
    ) -> Result<Option<T>, StoreError> {
        let path = self.0.sharded(&format!("memo/{kind}"), &key.to_string());
        Ok(read_checked(&path)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Notes a fact.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn put<T: Serialize>(&self, kind: &str, key: &Digest, fact: &T) -> Result<(), StoreError> {
        self.0.put_checked(
            &self.0.sharded(&format!("memo/{kind}"), &key.to_string()),
            fact,
        )
    }

    /// The tree noted under `key`, if it is there.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn tree(&self, kind: &str, key: &Digest) -> Result<Option<Tree>, StoreError> {
        match self.get::<TreeId>(kind, key)? {
            Some(id) => self.0.trees().get(&id),
            None => Ok(None),
        }
    }
}

impl Layers<'_> {
    /// The tree that a layer was unpacked to, if it is there.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn tree(&self, diff_id: &BlobDigest) -> Result<Option<Tree>, StoreError> {
        self.0.memos().tree("layer-tree", &layer_key(diff_id))
    }

    /// Whether a layer of an image is there, unpacked or as its blob.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn has(&self, layer: &ImageLayer) -> Result<bool, StoreError> {
        Ok(self.tree(&layer.diff_id)?.is_some() || self.0.blobs().get(&layer.blob)?.is_some())
    }

    /// Names the tree that a layer was unpacked to.
    pub(crate) fn id(&self, diff_id: &BlobDigest) -> Result<Option<TreeId>, StoreError> {
        self.0.memos().get("layer-tree", &layer_key(diff_id))
    }

    /// Notes what a layer was unpacked to.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn bind(&self, diff_id: &BlobDigest, tree: TreeId) -> Result<(), StoreError> {
        self.0.memos().put("layer-tree", &layer_key(diff_id), &tree)
    }
}

fn layer_key(diff_id: &BlobDigest) -> Digest {
    Digest::from_bytes(*diff_id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;

    #[test]
    fn damaged_facts_are_missing() {
        let (_directory, store) = scratch_store();
        let key = Digest::of(b"key");
        assert_eq!(store.memos().get::<String>("test", &key).unwrap(), None);
        store.memos().put("test", &key, &"fact").unwrap();
        assert_eq!(
            store
                .memos()
                .get::<String>("test", &key)
                .unwrap()
                .as_deref(),
            Some("fact")
        );
        let path = store.sharded("memo/test", &key.to_string());
        let text = std::fs::read_to_string(&path).unwrap();
        for damaged in [
            "",
            "x",
            &text[..text.len() - 1],
            &text.replace("fact", "fake"),
        ] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(
                store.memos().get::<String>("test", &key).unwrap(),
                None,
                "{damaged:?}"
            );
        }
    }
}
