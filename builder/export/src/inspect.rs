//! Looks inside images: what each layer adds, what it wastes, how two images differ.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kiln_cache::Tree;
use kiln_execute::{EngineError, Snapshotter, view_of};
use kiln_graph::{BlobDigest, Digest, Entry, ImagePath, Manifest, Node, Platform};
use kiln_image::Resolved;
use kiln_solve::{EventSink, Snapshot};
use serde::Serialize;

use crate::load::stored_image;
use crate::output_entry::OutputEntry;

/// How many of a layer's paths are named.
const BIGGEST: usize = 10;
/// Smaller files are not worth naming as duplicates, in bytes.
const SMALL: u64 = 4096;

/// What one layer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerReport {
    /// What made it.
    pub created_by: String,
    /// Its blob.
    pub blob: BlobDigest,
    /// How it is compressed.
    pub media_type: String,
    /// The blob's length in bytes.
    pub compressed: u64,
    /// The sum of its files' lengths in bytes.
    pub plain: u64,
    /// How many paths it has.
    pub paths: usize,
    /// The longest files: path and bytes.
    pub biggest: Vec<(String, u64)>,
    /// Bytes of files that a later layer replaces or removes.
    pub shadowed: u64,
    /// Bytes of files whose content the image has already.
    pub duplicated: u64,
}

/// What an image holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageReport {
    /// The layers, lowest first.
    pub layers: Vec<LayerReport>,
    /// The sum of all blobs in bytes.
    pub compressed: u64,
    /// The sum of all files in bytes.
    pub plain: u64,
    /// Bytes that ship and that nobody sees, or that ship more than once.
    pub wasted: u64,
    /// The share of bytes that are not wasted, in percent.
    pub efficiency: f64,
}

/// A path in which two images differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path.
    pub path: String,
    /// `added`, `removed`, `content`, `mode`, `owner`, `type`, `link` or `attributes`.
    pub what: &'static str,
    /// How many bytes the file had.
    pub before: u64,
    /// How many it has.
    pub after: u64,
}

/// An image of the store, else of wherever its name says.
///
/// # Errors
/// When it can't be had.
pub fn find_image(
    trees: &Snapshotter,
    name: &str,
    platform: &Platform,
) -> Result<Resolved, EngineError> {
    match stored_image(&trees.store, name, platform)? {
        Some(image) => Ok(image),
        None => Ok(trees.client.resolve(name, platform)?),
    }
}

/// The unpacked layers of an image, lowest first.
pub(crate) fn image_trees(
    trees: &Snapshotter,
    name: &str,
    image: &Resolved,
    events: &dyn EventSink,
) -> Result<Vec<Tree>, EngineError> {
    trees.trees(&Snapshot::of_image(&image.layers, name), events)
}

/// What each layer of an image holds.
///
/// # Errors
/// When the image can't be had or unpacked.
pub fn inspect_image(
    trees: &Snapshotter,
    name: &str,
    platform: &Platform,
    events: &dyn EventSink,
) -> Result<ImageReport, EngineError> {
    let image = find_image(trees, name, platform)?;
    let trees = image_trees(trees, name, &image, events)?;
    let manifests = trees.iter().map(Tree::manifest);
    let manifests: Vec<Arc<Manifest>> = manifests.collect::<Result<_, _>>()?;
    let mut made_by = image.config.history.iter().filter(|line| !line.empty_layer);
    let mut seen = HashMap::new();
    let mut layers = Vec::new();
    for (number, (layer, manifest)) in image.layers.iter().zip(&manifests).enumerate() {
        let line = made_by.next().map(|line| line.created_by.clone());
        layers.push(LayerReport {
            created_by: line.unwrap_or_default(),
            blob: layer.blob,
            media_type: layer.media_type.clone(),
            compressed: layer.size,
            plain: manifest.size(),
            paths: manifest.entries().len(),
            biggest: biggest(manifest),
            shadowed: shadowed(manifest, &manifests[number + 1..]),
            duplicated: duplicated(manifest, &mut seen),
        });
    }
    Ok(summary(layers))
}

/// The paths in which two images differ.
///
/// # Errors
/// When an image can't be had or unpacked.
pub fn diff_images(
    trees: &Snapshotter,
    before: &str,
    after: &str,
    platform: &Platform,
    events: &dyn EventSink,
) -> Result<Vec<Difference>, EngineError> {
    let files = |name: &str| -> Result<BTreeMap<ImagePath, Entry>, EngineError> {
        let image = find_image(trees, name, platform)?;
        let view = view_of(&image_trees(trees, name, &image, events)?)?;
        Ok(by_path(view.flatten()))
    };
    Ok(differences(&files(before)?, &files(after)?))
}

/// The entries of a tree by their paths.
pub(crate) fn by_path(files: Vec<OutputEntry>) -> BTreeMap<ImagePath, Entry> {
    let entries = files.into_iter().map(|(entry, _)| entry);
    entries.map(|entry| (entry.path.clone(), entry)).collect()
}

/// The paths in which two trees differ.
pub(crate) fn differences(
    before: &BTreeMap<ImagePath, Entry>,
    after: &BTreeMap<ImagePath, Entry>,
) -> Vec<Difference> {
    let gone = before.keys().filter(|path| !after.contains_key(*path));
    let mut paths: Vec<&ImagePath> = gone.chain(after.keys()).collect();
    paths.sort();
    let one = |path: &ImagePath| {
        let (old, new) = (before.get(path), after.get(path));
        let what = Entry::change(old, new)?;
        Some(Difference {
            path: path.to_string(),
            what,
            before: old.map_or(0, Entry::size),
            after: new.map_or(0, Entry::size),
        })
    };
    paths.into_iter().filter_map(one).collect()
}

fn biggest(manifest: &Manifest) -> Vec<(String, u64)> {
    let mut files: Vec<&Entry> = manifest.entries().iter().collect();
    files.sort_by_key(|entry| std::cmp::Reverse(entry.size()));
    let named = files
        .into_iter()
        .take(BIGGEST)
        .filter(|entry| entry.size() > 0);
    named
        .map(|entry| (entry.path.to_string(), entry.size()))
        .collect()
}

/// Bytes of files that one of the layers above hides.
fn shadowed(manifest: &Manifest, above: &[Arc<Manifest>]) -> u64 {
    let hidden = |entry: &&Entry| above.iter().any(|layer| hides(layer, &entry.path));
    manifest
        .entries()
        .iter()
        .filter(|entry| entry.size() > 0)
        .filter(hidden)
        .map(Entry::size)
        .sum()
}

/// Whether a layer replaces or removes what is at a path below it.
pub(crate) fn hides(layer: &Manifest, path: &ImagePath) -> bool {
    let above = |path: ImagePath| layer.get(&path).is_some_and(Entry::hides_below);
    layer.get(path).is_some() || path.ancestors().any(above)
}

/// Bytes of files whose content was seen before, in this layer or one below.
fn duplicated(manifest: &Manifest, seen: &mut HashMap<Digest, ()>) -> u64 {
    let mut bytes = 0;
    for entry in manifest.entries() {
        if let Node::File { size, digest } = &entry.node
            && *size >= SMALL
            && seen.insert(*digest, ()).is_some()
        {
            bytes += size;
        }
    }
    bytes
}

#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn summary(layers: Vec<LayerReport>) -> ImageReport {
    let sum = |of: fn(&LayerReport) -> u64| layers.iter().map(of).sum::<u64>();
    let (compressed, plain) = (sum(|layer| layer.compressed), sum(|layer| layer.plain));
    let wasted = sum(|layer| layer.shadowed) + sum(|layer| layer.duplicated);
    let efficiency = match plain {
        0 => 100.0,
        all => 100.0 * (1.0 - wasted.min(all) as f64 / all as f64),
    };
    ImageReport {
        layers,
        compressed,
        plain,
        wasted,
        efficiency,
    }
}
