//! Entries of Rekor's second version
//! (<https://github.com/sigstore/rekor-tiles/blob/main/CLIENTS.md>): a `dsse` entry of version 0.0.2, with a
//! proof that it is in the tree of a checkpoint that the log has signed. Such a log says no time: that is an
//! authority's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_graph::BlobDigest;
use serde::Deserialize;
use serde_json::Value;

use crate::bundle::{Envelope, bytes};
use crate::certificate::Certificate;
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

/// Whether an entry's body is of this envelope, signed so with this certificate.
pub(crate) fn is_of(
    body: &Value,
    envelope: &Envelope,
    certificate: &Certificate,
    signature: &[u8],
) -> bool {
    let spec = &body["spec"]["dsseV002"];
    let payload = BlobDigest::of(&envelope.payload);
    let is_payload = spec["payloadHash"]["algorithm"] == "SHA2_256"
        && spec["payloadHash"]["digest"] == STANDARD.encode(payload.as_bytes());
    let is_it = |one: &Value| {
        let verifier = bytes(&one["verifier"]["x509Certificate"]["rawBytes"]);
        one["content"] == STANDARD.encode(signature)
            && verifier.is_some_and(|bytes| certificate.is(&bytes))
    };
    let signatures = spec["signatures"].as_array();
    is_payload && signatures.is_some_and(|all| all.iter().any(is_it))
}
