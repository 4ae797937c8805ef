//! Puts an image's own layers onto another base, without running anything.

use std::collections::BTreeMap;

use kiln_execute::{EngineError, Snapshotter, view_of};
use kiln_graph::{Entry, ImageLayer, ImagePath, Node, Platform};
use kiln_image::{Reference, Resolved};
use kiln_solve::EventSink;

use crate::inspect::{by_path, find_image, image_trees};
use crate::new_tag::NewTag;

/// How many paths are named that make a rebase unsafe.
const NAMED: usize = 20;

/// An image to be put onto another base.
#[derive(Clone, Debug)]
pub struct Rebase<'a> {
    /// The image.
    pub image: &'a str,
    /// The base it was built on.
    pub from: &'a str,
    /// The base it is to have.
    pub onto: &'a str,
    /// The name of the result in the store.
    pub name: &'a Reference,
    /// For which platform.
    pub platform: &'a Platform,
    /// Whether paths that the image took over from its old base, and that the new one has
    /// otherwise, are no hindrance.
    pub force: bool,
}

/// Puts an image's own layers onto another base, and tags the result.
///
/// # Errors
/// When the image isn't built on the base, or replaces files that differ between the bases:
/// it may hold what was made from the old ones, such as a package database.
pub fn rebase(
    trees: &Snapshotter,
    rebase: &Rebase<'_>,
    events: &dyn EventSink,
) -> Result<(), EngineError> {
    let find = |name| find_image(trees, name, rebase.platform);
    let (image, from, onto) = (find(rebase.image)?, find(rebase.from)?, find(rebase.onto)?);
    let is_base = from.layers.len() <= image.layers.len()
        && from
            .layers
            .iter()
            .zip(&image.layers)
            .all(|(a, b)| a.diff_id == b.diff_id);
    if !is_base {
        let (image, from) = (rebase.image, rebase.from);
        return Err(refused(format!(
            "{image} is not built on {from}: its lowest layers are others"
        )));
    }
    if !rebase.force {
        check(trees, rebase, &image, &from, &onto, events)?;
    }
    let own = &image.layers[from.layers.len()..];
    for (layers, name) in [(&onto.layers[..], rebase.onto), (own, rebase.image)] {
        for layer in layers {
            trees.blob(layer, name, events)?;
        }
    }
    let mut config = image.config.clone();
    config.rootfs.diff_ids = onto
        .layers
        .iter()
        .chain(own)
        .map(|layer| layer.diff_id)
        .collect();
    let lines = from.config.history.len().min(config.history.len());
    let kept = config.history.split_off(lines);
    config.history = onto.config.history.iter().cloned().chain(kept).collect();
    let layers: Vec<&ImageLayer> = onto.layers.iter().chain(own).collect();
    let base_name = "org.opencontainers.image.base.name".to_owned();
    let tag = NewTag {
        name: rebase.name,
        platform: rebase.platform,
        annotations: [(base_name, rebase.onto.to_owned())].into(),
    };
    tag.write(&trees.store, &config, &layers)
}

/// Refuses when a file that the image replaces differs between the bases.
fn check(
    trees: &Snapshotter,
    rebase: &Rebase<'_>,
    image: &Resolved,
    from: &Resolved,
    onto: &Resolved,
    events: &dyn EventSink,
) -> Result<(), EngineError> {
    let files = |name, image| -> Result<BTreeMap<ImagePath, Entry>, EngineError> {
        let view = view_of(&image_trees(trees, name, image, events)?)?;
        Ok(by_path(view.flatten()))
    };
    let (old, new) = (files(rebase.from, from)?, files(rebase.onto, onto)?);
    let trees = image_trees(trees, rebase.image, image, events)?;
    let mut unsafe_paths = Vec::new();
    for tree in &trees[from.layers.len()..] {
        for entry in tree.manifest()?.entries() {
            let (before, now) = (old.get(&entry.path), new.get(&entry.path));
            let is_directory = matches!(entry.node, Node::Directory { opaque: false });
            if !is_directory && before.is_some() && Entry::change(before, now).is_some() {
                unsafe_paths.push(entry.path.to_string());
            }
        }
    }
    if unsafe_paths.is_empty() {
        return Ok(());
    }
    let count = unsafe_paths.len();
    unsafe_paths.truncate(NAMED);
    Err(refused(format!(
        "it isn't safe: {} replaces {count} files of its base that {} has otherwise, so they may hold what was made from the old ones: {}; build it again, or give --force",
        rebase.image,
        rebase.onto,
        unsafe_paths.join(", ")
    )))
}

fn refused(message: String) -> EngineError {
    EngineError::Refused(message)
}
