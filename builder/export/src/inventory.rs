//! What packages images hold: trees are looked at once, and what was found is kept with them.

use std::sync::Arc;

use kiln_attest::sbom::{Subject, SubjectLayer};
use kiln_attest::{DETECT_VERSION, Inventory, Layer, ReadSeek, TreeEvidence, detect};
use kiln_execute::{EngineError, Snapshotter, now, parallel};
use kiln_graph::encode::Encoder;
use kiln_graph::{Digest, Entry, ImageConfig, ImagePath, LayerOrigin, Manifest, Platform, Target};
use kiln_solve::{EventSink, LayerRef, Snapshot};
use kiln_tree::TreeRoot;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::assemble::Image;
use crate::built::Built;
use crate::image_options::ImageOptions;
use crate::inspect::{find_image, hides};
use crate::layering::{LayerPlanner, PlannedLayer};

/// The files of a tree.
struct TreeFiles(TreeRoot);

impl kiln_attest::Files for TreeFiles {
    fn open(&self, entry: &Entry) -> std::io::Result<Box<dyn ReadSeek + '_>> {
        Ok(Box::new(self.0.open_file(&entry.path)?))
    }
}

/// The packages of an image in the store, a registry or an archive, and what they are told with.
///
/// # Errors
/// When the image can't be had or unpacked.
pub fn image_packages(
    trees: &Snapshotter,
    name: &str,
    platform: &Platform,
    events: &dyn EventSink,
) -> Result<(Subject, Inventory), EngineError> {
    let image = find_image(trees, name, platform)?;
    let made_by = image.config.history.iter().filter(|line| !line.empty_layer);
    let made_by = made_by.map(|line| line.created_by.clone());
    let made_by = made_by.chain(std::iter::repeat(String::new()));
    let subject_layer = |(layer, step): (&kiln_graph::ImageLayer, String)| SubjectLayer {
        diff_id: Some(layer.diff_id),
        step,
        location: None,
    };
    let subject = Subject {
        name: name.to_owned(),
        digest: Some(image.manifest),
        created: created(&image.config),
        layers: image
            .layers
            .iter()
            .zip(made_by)
            .map(subject_layer)
            .collect(),
    };
    let snapshot = Snapshot::of_image(&image.layers, name);
    Ok((subject, inventory(trees, snapshot.layers(), events)?))
}

/// The packages of a stack of layers.
pub(crate) fn inventory(
    trees: &Snapshotter,
    layers: &[LayerRef],
    events: &dyn EventSink,
) -> Result<Inventory, EngineError> {
    let mut key = Encoder::new("kiln-inventory", DETECT_VERSION);
    key.seq(layers, |out, layer| {
        out.digest(&evidence_key(layer));
    });
    let key = key.finish();
    if let Some(known) = trees.store.memos().get::<Inventory>("inventory", &key)? {
        return Ok(known);
    }
    let evidence = parallel::map(layers, |layer| evidence(trees, layer, events))?;
    let stack = trees.trees(&Snapshot::new(layers.to_vec()), events)?;
    let manifests = stack.iter().map(kiln_cache::Tree::manifest);
    let manifests: Vec<Arc<Manifest>> = manifests.collect::<Result<_, _>>()?;
    let hide = |manifest: &Arc<Manifest>| {
        let manifest = manifest.clone();
        move |path: &ImagePath| hides(&manifest, path)
    };
    let hide: Vec<_> = manifests.iter().map(hide).collect();
    let stack = evidence.iter().zip(&hide);
    let stack: Vec<Layer<'_>> = stack
        .map(|(evidence, hides)| Layer { evidence, hides })
        .collect();
    let inventory = Inventory::merge(&stack);
    trees.store.memos().put("inventory", &key, &inventory)?;
    Ok(inventory)
}

/// What one layer's tree says.
fn evidence(
    trees: &Snapshotter,
    layer: &LayerRef,
    events: &dyn EventSink,
) -> Result<TreeEvidence, EngineError> {
    let key = evidence_key(layer);
    if let Some(known) = trees.store.memos().get::<TreeEvidence>("evidence", &key)? {
        return Ok(known);
    }
    let stack = trees.trees(&Snapshot::new(vec![layer.clone()]), events)?;
    let mut found = TreeEvidence::default();
    for tree in &stack {
        found = detect(tree.manifest()?.entries(), &TreeFiles(tree.root()));
    }
    trees.store.memos().put("evidence", &key, &found)?;
    Ok(found)
}

/// Names what a layer says: of a base image's layer that was never fetched, too.
fn evidence_key(layer: &LayerRef) -> Digest {
    let mut out = Encoder::new("kiln-evidence", DETECT_VERSION);
    match layer {
        LayerRef::Image { layer, .. } => out.tag(0).blob(&layer.diff_id),
        LayerRef::Tree(id) => out.tag(1).digest(&id.0),
    };
    out.finish()
}

/// The packages of a target's root, and what they are told with: the image that was made of it,
/// if one was, and its name.
///
/// # Errors
/// When its layers can't be fetched or read.
pub fn packages(
    built: Built<'_>,
    target: &Target,
    image: Option<&Image>,
    options: &ImageOptions,
    name: &str,
    events: &dyn EventSink,
) -> Result<(Subject, Inventory), EngineError> {
    let planner = LayerPlanner::of(built);
    let snapshot = planner.snapshot(target)?;
    let inventory = inventory(built.trees, snapshot.layers(), events)?;
    let config = image.and_then(|image| serde_json::from_slice::<ImageConfig>(&image.config).ok());
    let diff_ids = config.as_ref().map(|config| config.rootfs.diff_ids.clone());
    let diff_ids = diff_ids.unwrap_or_default();
    let created = config.as_ref().map(created);
    let (planned, _) = planner.plan(target, &options.plan, events)?;
    let mut layers = subject_layers(planner, target, snapshot.layers().len());
    let mut at = 0;
    for (planned, diff_id) in planned.iter().zip(&diff_ids) {
        let PlannedLayer::Stack { layers: stack, .. } = planned else {
            break;
        };
        for layer in layers.iter_mut().skip(at).take(stack.len()) {
            layer.diff_id = Some(*diff_id);
        }
        at += stack.len();
    }
    let subject = Subject {
        name: name.to_owned(),
        digest: image.map(|image| image.descriptor.digest),
        created: options.epoch.or(created).unwrap_or_else(|| now().seconds),
        layers,
    };
    Ok((subject, inventory))
}

/// The steps that made the layers of a target's root, lowest first.
fn subject_layers(planner: LayerPlanner<'_>, target: &Target, count: usize) -> Vec<SubjectLayer> {
    let mut layers = Vec::new();
    for line in &target.history {
        let layer = match line.layer {
            LayerOrigin::Step(step) => {
                let step = planner.graph.step(step);
                let place = |at: &kiln_graph::Location| format!("{}:{}", at.file, at.line);
                SubjectLayer {
                    diff_id: None,
                    step: step.name.to_string(),
                    location: step.location.as_ref().map(place),
                }
            }
            LayerOrigin::Base | LayerOrigin::None => SubjectLayer {
                step: line.created_by.clone(),
                ..SubjectLayer::default()
            },
        };
        layers.extend(std::iter::repeat_n(layer, planner.count_of(line.layer)));
    }
    // Layers that no line speaks of come first.
    let unspoken = count.saturating_sub(layers.len());
    layers.splice(0..0, std::iter::repeat_n(SubjectLayer::default(), unspoken));
    layers.truncate(count);
    layers
}

/// When an image was made, in seconds since 1970.
fn created(config: &ImageConfig) -> i64 {
    let text = config.created.as_deref().unwrap_or_default();
    OffsetDateTime::parse(text, &Rfc3339).map_or(0, OffsetDateTime::unix_timestamp)
}
