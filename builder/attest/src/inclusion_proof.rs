//! Proofs that an entry is in the tree of a checkpoint that a log has signed
//! (<https://github.com/sigstore/rekor-tiles/blob/main/CLIENTS.md>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::log_key::LogKey;
use crate::merkle::{self, Hash};
use crate::number::Number;

/// A path in a tree of 2^64 leaves is no longer.
const MAX_PROOF: usize = 64;

/// A proof that an entry is in a log, as a bundle has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InclusionProof {
    log_index: Number,
    tree_size: Number,
    root_hash: String,
    #[serde(default)]
    hashes: Vec<String>,
    checkpoint: Note,
}

#[derive(Clone, Debug, Deserialize)]
struct Note {
    envelope: String,
}

impl InclusionProof {
    /// Whether an entry with these bytes is in the log; why it is not believed otherwise.
    pub(crate) fn check(&self, entry: &[u8], log: &LogKey) -> Result<(), &'static str> {
        const DAMAGED: &str = "a proof is damaged";
        let note = &self.checkpoint.envelope;
        let checkpoint = Checkpoint::read(note, log);
        let checkpoint = checkpoint.ok_or("its checkpoint was not signed with the log's key")?;
        let numbers = self.log_index.get().zip(self.tree_size.get());
        let (index, size) = numbers.ok_or(DAMAGED)?;
        if self.hashes.len() > MAX_PROOF {
            return Err(DAMAGED);
        }
        let hashes: Option<Vec<Hash>> = self.hashes.iter().map(|text| hash(text)).collect();
        let root = merkle::root(merkle::leaf(entry), index, size, &hashes.ok_or(DAMAGED)?);
        let is_it = size == checkpoint.size && hash(&self.root_hash) == Some(checkpoint.root);
        match is_it && root == Some(checkpoint.root) {
            true => Ok(()),
            false => Err("its entry is not in the tree of the checkpoint"),
        }
    }
}

fn hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
