//! Results that were left in a cluster's storage, as later builds find them: a memo of the store under the
//! cluster's name and the step's key. Whether the storage still has them is asked each time.

use std::time::Duration;

use kiln_cache::Store;
use kiln_graph::encode::Encoder;
use kiln_graph::{Digest, StepKey};
use kiln_share::{RemoteManifest, RemoteRecord, RemoteTree};
use kiln_solve::Filed;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;

use crate::digest::of_blob;

/// Bumped whenever records of other versions would be misunderstood.
const VERSION: u32 = 1;
const KIND: &str = "cluster-result";

/// Remembers a result whose trees a cluster has. It is no loss if it can't: the step runs again.
pub(crate) fn remember(store: &Store, server: &str, filed: &Filed, output: Vec<RemoteTree>) {
    let record = RemoteRecord {
        key: filed.key,
        name: String::new(),
        took: u64::try_from(filed.took.as_millis()).unwrap_or(u64::MAX),
        created: filed.created,
        stdout: filed.stdout.clone(),
        output,
    };
    _ = store.memos().put(KIND, &name(server, &filed.key), &record);
}

/// A result that a cluster had.
pub(crate) fn recall(store: &Store, server: &str, key: &StepKey) -> Option<RemoteRecord> {
    let record = store
        .memos()
        .get::<RemoteRecord>(KIND, &name(server, key))
        .ok()??;
    (record.key == *key).then_some(record)
}

/// What a result is filed as.
pub(crate) fn filed(record: &RemoteRecord) -> Filed {
    Filed {
        key: record.key,
        added: record.output.iter().map(|tree| tree.tree).collect(),
        took: Duration::from_millis(record.took),
        created: record.created,
        stdout: record.stdout.clone(),
    }
}

/// The blobs that a tree is made of.
pub(crate) fn blobs(tree: &RemoteTree) -> Vec<reapi::Digest> {
    let mut blobs = vec![of_blob(&tree.layer.blob, tree.layer.size)];
    if let RemoteManifest::Blob {
        manifest,
        manifest_size,
    } = &tree.manifest
    {
        blobs.push(of_blob(manifest, *manifest_size));
    }
    blobs
}

fn name(server: &str, key: &StepKey) -> Digest {
    let mut out = Encoder::new(KIND, VERSION);
    out.str(server).digest(&key.0);
    out.finish()
}
