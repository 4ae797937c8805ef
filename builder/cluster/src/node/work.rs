//! Runs an order with the store, the sandboxes and the network of this machine.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use kiln_cache::StoreError;
use kiln_execute::{DefaultNetwork, Snapshotter, now};
use kiln_graph::BlobDigest;
use kiln_share::{
    CacheSource, CacheTrust, Remote, RemoteBlob, RemoteError, RemoteManifest, RemoteTree,
};
use prost::Message as _;
use reapi::{ActionResult, Directory, DirectoryNode, FileNode, OutputDirectory, Tree};
use tonic::Status;

use super::Node;
use super::blobs::{Blobs, failed};
use super::operation::Operation;
use crate::digest::of_blob;
use crate::order::{BLOBS, Order, OrderedIds, OrderedNetwork};
use crate::ordered::{Bench, Outbox, options};
use crate::report::{OUT, REPORT, Report, StepReport};

/// Why a client's results would be others here.
const ALL_IDS: &str = "it has all user ids, and the client one";
const ONE_ID: &str = "it has one user id";

impl Node {
    /// Runs an order, and leaves what came of it in the storage.
    pub(super) fn work(
        &self,
        order: &Order,
        operation: &Operation,
    ) -> Result<ActionResult, Status> {
        let store = &self.parts.trees.store;
        let _session = store.session().map_err(|error| failed(&error))?;
        self.check_inputs(order)?;
        let left = Left {
            blobs: &self.blobs,
            operation,
            files: Mutex::default(),
        };
        let ran = match self.refusal(order.ids) {
            Some(reason) => Err(reason.to_owned()),
            None => self.run(order, operation, &left),
        };
        let succeeded = ran
            .as_ref()
            .is_ok_and(|steps| steps.iter().all(|step| step.end.is_success()));
        let report = Report::new(self.name.clone(), ran);
        let report = serde_json::to_vec(&report);
        let report = report.map_err(|error| Status::internal(error.to_string()))?;
        let tree = left.tree(&report)?;
        store.settle().map_err(|error| failed(&error))?;
        Ok(ActionResult {
            exit_code: i32::from(!succeeded),
            output_directories: vec![OutputDirectory {
                path: OUT.to_owned(),
                tree_digest: Some(tree),
                ..OutputDirectory::default()
            }],
            ..ActionResult::default()
        })
    }

    /// Whether the roots are still there, as such or as blobs: what waited for long may be collected.
    fn check_inputs(&self, order: &Order) -> Result<(), Status> {
        let store = &self.parts.trees.store;
        let has = |digest: &BlobDigest| store.blobs().get(digest).map(|blob| blob.is_some());
        let tree_is_there = |tree: &RemoteTree| {
            let manifest = match &tree.manifest {
                RemoteManifest::Blob { manifest, .. } => has(manifest)?,
                RemoteManifest::Layer { .. } => true,
            };
            Ok(store.trees().get(&tree.tree)?.is_some() || (manifest && has(&tree.layer.blob)?))
        };
        let trees = order
            .trees
            .iter()
            .map(|tree| (tree.layer.blob, tree_is_there(tree)));
        let layers = order
            .image_layers()
            .map(|layer| (layer.blob, store.layers().has(layer)));
        for (blob, is_there) in trees.chain(layers) {
            if !is_there.map_err(|error: StoreError| failed(&error))? {
                return Err(Status::failed_precondition(format!(
                    "the input {blob} is missing"
                )));
            }
        }
        Ok(())
    }

    /// Why nothing of an order is run here.
    fn refusal(&self, ids: OrderedIds) -> Option<&'static str> {
        match (ids, self.parts.trees.gives_away) {
            // Files of others would come to be owned by them.
            (OrderedIds::One, true) => Some(ALL_IDS),
            (OrderedIds::All, false) => Some(ONE_ID),
            _ => None,
        }
    }

    fn run(
        &self,
        order: &Order,
        operation: &Operation,
        left: &Left<'_>,
    ) -> Result<Vec<StepReport>, String> {
        let bench = Bench {
            trees: self.trees(order),
            sandbox: &self.parts.sandbox,
            selection: &self.parts.selection,
            options: options(narrower(order.network, self.parts.network), order.ids),
            since: now(),
            outbox: left,
            cancel: &operation.cancel,
            mark: Some(operation.mark()),
            live: Mutex::default(),
        };
        bench.run(&order.steps)
    }

    /// The machine's trees, and those that were ordered.
    fn trees(&self, order: &Order) -> Snapshotter {
        let trees = self.parts.trees.for_build();
        let source = CacheSource::new(Arc::new(Stored), CacheTrust::default());
        for tree in &order.trees {
            trees.distant.add(tree.clone(), &source);
        }
        trees
    }
}

/// A step's network: what the client gives it, and no more than builds have here.
fn narrower(ordered: OrderedNetwork, own: DefaultNetwork) -> DefaultNetwork {
    match (DefaultNetwork::from(ordered), own) {
        (DefaultNetwork::None, _) | (_, DefaultNetwork::None) => DefaultNetwork::None,
        (DefaultNetwork::Sandbox, _) | (_, DefaultNetwork::Sandbox) => DefaultNetwork::Sandbox,
        (DefaultNetwork::Host, DefaultNetwork::Host) => DefaultNetwork::Host,
    }
}

/// What an order leaves in the storage.
struct Left<'a> {
    blobs: &'a Blobs,
    operation: &'a Operation,
    /// By hash.
    files: Mutex<BTreeMap<String, reapi::Digest>>,
}

impl Left<'_> {
    fn add(&self, digest: reapi::Digest) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        _ = files.insert(digest.hash.clone(), digest);
    }

    /// The directory of outputs, as a message in the storage.
    fn tree(&self, report: &[u8]) -> Result<reapi::Digest, Status> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let file = |name: &str, digest: &reapi::Digest| FileNode {
            name: name.to_owned(),
            digest: Some(digest.clone()),
            ..FileNode::default()
        };
        let blobs = Directory {
            files: files
                .iter()
                .map(|(hash, digest)| file(hash, digest))
                .collect(),
            ..Directory::default()
        };
        let below = crate::digest::Stored::message(&blobs);
        let root = Directory {
            files: vec![file(REPORT, &self.blobs.keep(report)?.message())],
            directories: vec![DirectoryNode {
                name: BLOBS.to_owned(),
                digest: Some(below.digest),
            }],
            ..Directory::default()
        };
        let tree = Tree {
            root: Some(root),
            children: vec![blobs],
        };
        Ok(self.blobs.keep(&tree.encode_to_vec())?.message())
    }
}

impl Outbox for Left<'_> {
    /// It is in the store, which is the storage.
    fn blob(&self, digest: &BlobDigest, size: u64, _: &Path) -> Result<(), String> {
        self.add(of_blob(digest, size));
        Ok(())
    }

    fn bytes(&self, bytes: &[u8]) -> Result<BlobDigest, String> {
        let kept = self.blobs.keep(bytes);
        let kept = kept.map_err(|status| status.message().to_owned())?;
        self.add(kept.message());
        Ok(kept.digest)
    }

    fn live(&self, bytes: &[u8]) {
        self.operation.wrote(bytes);
    }
}

/// The node's own store, as what ordered trees are fetched from: what isn't in it is nowhere.
#[derive(Debug)]
struct Stored;

impl Remote for Stored {
    fn name(&self) -> String {
        "the action's inputs".to_owned()
    }

    fn entry(&self, _: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        Ok(None)
    }

    fn put(&self, _: &str, _: &[u8], _: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        Err(RemoteError::Denied("inputs can't be written".to_owned()))
    }

    fn blob(&self, digest: &BlobDigest, _: u64, _: &mut dyn Write) -> Result<(), RemoteError> {
        Err(RemoteError::Damaged(format!("{digest} is missing")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_the_network_that_both_sides_give() {
        use DefaultNetwork::{Host, None, Sandbox};
        for (ordered, own, want) in [
            (OrderedNetwork::Worker, Host, Host),
            (OrderedNetwork::Worker, Sandbox, Sandbox),
            (OrderedNetwork::Worker, None, None),
            (OrderedNetwork::Sandbox, Host, Sandbox),
            (OrderedNetwork::Sandbox, None, None),
            (OrderedNetwork::None, Host, None),
        ] {
            assert_eq!(narrower(ordered, own), want, "{ordered:?} {own:?}");
        }
    }
}
