//! Runs the ordered steps with a store of the worker's own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kiln_cache::{Options, OverlayXattrs, Store};
use kiln_execute::{EngineError, Snapshotter, now, parallel};
use kiln_graph::{BlobDigest, ImageLayer};
use kiln_image::{Client, ClientOptions};
use kiln_sandbox::{Identity, Privileges, Sandbox, Selection};
use kiln_share::{CacheSource, CacheTrust};
use kiln_solve::Cancel;
use kiln_tree::host;

use super::packed::PackedBlobs;
use super::scratch::Scratch;
use crate::order::{BLOBS, Order, OrderedIds};
use crate::ordered::{Bench, Outbox, options};
use crate::report::{OUT, StepReport};

/// Runs steps until one doesn't succeed.
pub(super) fn run(
    order: &Order,
    privileges: Privileges,
    scratch: &Scratch,
) -> Result<Vec<StepReport>, String> {
    let trees = trees(order, &privileges, scratch).map_err(|error| error.to_string())?;
    unpack_layers(order, &trees).map_err(|error| error.to_string())?;
    host::create_dir_all(Path::new(OUT).join(BLOBS)).map_err(|error| error.to_string())?;
    let bench = Bench {
        trees,
        sandbox: &Sandbox::of_this_program(),
        selection: &Selection::new(privileges),
        options: options(order.network.into(), order.ids),
        since: now(),
        outbox: &Directory,
        cancel: &Cancel::new(),
        // The store goes with the action.
        mark: None,
        live: Mutex::default(),
    };
    bench.run(&order.steps)
}

/// A store in the scratch directory, which knows the ordered trees.
fn trees(
    order: &Order,
    privileges: &Privileges,
    scratch: &Scratch,
) -> Result<Snapshotter, EngineError> {
    let xattrs = match privileges.identity {
        Identity::Root => OverlayXattrs::Trusted,
        _ => OverlayXattrs::User,
    };
    let options = Options {
        xattrs,
        ..Options::default()
    };
    let trees = Snapshotter {
        store: Store::open(scratch.path(), options)?,
        client: Client::new(ClientOptions::default()),
        gives_away: order.ids != OrderedIds::One && privileges.identity.gives_away(),
        distant: Arc::default(),
        deltas: Arc::default(),
    };
    let source = CacheSource::new(Arc::new(PackedBlobs), CacheTrust::default());
    for tree in &order.trees {
        trees.distant.add(tree.clone(), &source);
    }
    Ok(trees)
}

/// Unpacks the layers of images, side by side.
fn unpack_layers(order: &Order, trees: &Snapshotter) -> Result<(), EngineError> {
    let layers = order.image_layers().map(|layer| (layer.diff_id, layer));
    let distinct: BTreeMap<BlobDigest, &ImageLayer> = layers.collect();
    let layers: Vec<&ImageLayer> = distinct.into_values().collect();
    let unpacked = parallel::map(&layers, |layer| PackedBlobs::unpack(trees, layer))?;
    drop(unpacked);
    Ok(())
}

/// The action's directory of outputs, and its standard output.
struct Directory;

impl Outbox for Directory {
    fn blob(&self, digest: &BlobDigest, _: u64, path: &Path) -> Result<(), String> {
        put_out(&digest.hex(), |out| {
            std::io::copy(&mut host::open(path)?, out).map(drop)
        })
    }

    fn bytes(&self, bytes: &[u8]) -> Result<BlobDigest, String> {
        let blob = BlobDigest::of(bytes);
        put_out(&blob.hex(), |out| out.write_all(bytes))?;
        Ok(blob)
    }

    /// Servers that stream it show it at work.
    fn live(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        _ = out.write_all(bytes);
        _ = out.flush();
    }
}

/// Writes a blob among the outputs.
fn put_out(
    name: &str,
    write: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> Result<(), String> {
    let path = Path::new(OUT).join(BLOBS).join(name);
    let mut done = host::create(&path);
    let written = match &mut done {
        Ok(file) => write(file),
        Err(_) => done.map(drop),
    };
    written.map_err(|error| format!("{} can't be written: {error}", path.display()))
}
