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

impl Store {
    /// A fact noted under `key`.
    ///
    /// # Errors
    /// When it is there but can't be read.
    pub fn memo<T: DeserializeOwned>(
        &self,
        kind: &str,
        key: &Digest,
    ) -> Result<Option<T>, StoreError> {
        let path = self.sharded(&format!("memo/{kind}"), &key.to_string());
        Ok(read_checked(&path)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Notes a fact.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn put_memo<T: Serialize>(
        &self,
        kind: &str,
        key: &Digest,
        fact: &T,
    ) -> Result<(), StoreError> {
        self.put_checked(
            &self.sharded(&format!("memo/{kind}"), &key.to_string()),
            fact,
        )
    }

    /// The tree noted under `key`, if it is there.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn memo_tree(&self, kind: &str, key: &Digest) -> Result<Option<Tree>, StoreError> {
        match self.memo::<TreeId>(kind, key)? {
            Some(id) => self.tree(&id),
            None => Ok(None),
        }
    }

    /// The tree that a layer was unpacked to, if it is there.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn unpacked_layer(&self, diff_id: &BlobDigest) -> Result<Option<Tree>, StoreError> {
        self.memo_tree("layer-tree", &layer_key(diff_id))
    }

    /// Whether a layer of an image is there, unpacked or as its blob.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn has_layer(&self, layer: &ImageLayer) -> Result<bool, StoreError> {
        Ok(self.unpacked_layer(&layer.diff_id)?.is_some() || self.blob(&layer.blob)?.is_some())
    }

    /// Names the tree that a layer was unpacked to.
    pub(crate) fn layer_tree(&self, diff_id: &BlobDigest) -> Result<Option<TreeId>, StoreError> {
        self.memo("layer-tree", &layer_key(diff_id))
    }

    /// Notes what a layer was unpacked to.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn bind_layer(&self, diff_id: &BlobDigest, tree: TreeId) -> Result<(), StoreError> {
        self.put_memo("layer-tree", &layer_key(diff_id), &tree)
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
        assert_eq!(store.memo::<String>("test", &key).unwrap(), None);
        store.put_memo("test", &key, &"fact").unwrap();
        assert_eq!(
            store.memo::<String>("test", &key).unwrap().as_deref(),
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
                store.memo::<String>("test", &key).unwrap(),
                None,
                "{damaged:?}"
            );
        }
    }
}
