//! What a worker is asked to run: the file `order.json` among an action's inputs. Format 1.
//!
//! The action's inputs are
//!
//! ```text
//! kiln-step          the program: kiln itself, which runs as a worker's helper under this name
//! order.json         an [`Order`]
//! blobs/<SHA-256>    manifests and layers of the trees, and layers of images
//! ```
//!
//! and, when the program is linked dynamically, its interpreter and libraries at the paths where
//! they are looked for, for workers whose action sees the inputs as its root. The program runs the
//! steps in their order, each on the results of those before it, and leaves the directory `out`
//! (see [`crate::report`]). The trees and layers have the form of shared caches ([`kiln_share`]).

use std::collections::BTreeMap;

use kiln_execute::DefaultNetwork;
use kiln_graph::{BlobDigest, ImageLayer, Step, TreeId, WorkerProperties};
use kiln_share::RemoteTree;
use kiln_solve::{LayerRef, Snapshot};
use serde::{Deserialize, Serialize};

/// Bumped whenever older kilns would misunderstand an order. To a worker the helper comes with each
/// action, so both sides are of one version, and the number tells a mix-up from a damaged file; a node
/// ([`crate::ClusterNode`]) has its own kiln, and says that it knows another version.
pub(crate) const VERSION: u32 = 1;

/// The order's name among the inputs.
pub(crate) const ORDER: &str = "order.json";
/// The helper's name among the inputs, under which the program is executed.
pub(crate) const HELPER: &str = "kiln-step";
/// The directory of blobs, among inputs and outputs.
pub(crate) const BLOBS: &str = "blobs";

/// Steps to be run one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) version: u32,
    pub(crate) ids: OrderedIds,
    /// The network of steps that don't say which they want.
    pub(crate) network: OrderedNetwork,
    /// The trees that [`OrderedLayer::Tree`] names.
    pub(crate) trees: Vec<RemoteTree>,
    pub(crate) steps: Vec<OrderedStep>,
}

/// How many times larger files are than the layers that hold them, generously.
const COMPRESSION: u64 = 5;

impl Order {
    /// The layers of images that its roots are made of; one may come several times.
    pub(crate) fn image_layers(&self) -> impl Iterator<Item = &ImageLayer> {
        let inputs = self.steps.iter().flat_map(|step| &step.inputs);
        let layers = inputs.flat_map(OrderedInput::layers);
        layers.filter_map(|layer| match layer {
            OrderedLayer::Image(layer) => Some(layer),
            OrderedLayer::Tree(_) => None,
        })
    }

    /// About how many bytes its roots have once they are unpacked.
    pub(crate) fn unpacked(&self) -> u64 {
        let images = self.image_layers().map(|layer| (layer.blob, layer.size));
        let trees = self.trees.iter().map(|tree| &tree.layer);
        let trees = trees.map(|layer| (layer.blob, layer.size));
        let distinct: BTreeMap<BlobDigest, u64> = images.chain(trees).collect();
        let packed = distinct.into_values().fold(0, u64::saturating_add);
        packed.saturating_mul(COMPRESSION)
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderedStep {
    pub(crate) step: Step,
    pub(crate) inputs: Vec<OrderedInput>,
    /// Whether somebody wants to know what it writes to its standard output.
    pub(crate) keep_output: bool,
}

/// What a step is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderedInput {
    /// A stack of layers, lowest first.
    Layers(Vec<OrderedLayer>),
    /// The result of a step that was ordered before it, by its position.
    Step(usize),
}

/// One layer of a root filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderedLayer {
    /// A tree.
    Tree(TreeId),
    /// A layer of an image, whose blob is among the inputs.
    Image(ImageLayer),
}

/// Which ids steps are to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderedIds {
    /// All: a worker with one runs nothing.
    All,
    /// As many as the worker has. Where that is one, steps fail that would give another result with
    /// all of them.
    Same,
    /// One, as where they come from.
    One,
}

/// The network of steps that don't say which they want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderedNetwork {
    /// The worker's own.
    Worker,
    /// Loopback only.
    None,
    /// One of its own, connected to the worker's.
    Sandbox,
}

impl From<DefaultNetwork> for OrderedNetwork {
    fn from(network: DefaultNetwork) -> Self {
        match network {
            DefaultNetwork::Host => Self::Worker,
            DefaultNetwork::None => Self::None,
            DefaultNetwork::Sandbox => Self::Sandbox,
        }
    }
}

impl From<OrderedNetwork> for DefaultNetwork {
    fn from(network: OrderedNetwork) -> Self {
        match network {
            OrderedNetwork::Worker => Self::Host,
            OrderedNetwork::None => Self::None,
            OrderedNetwork::Sandbox => Self::Sandbox,
        }
    }
}

impl OrderedInput {
    /// The layers that it names.
    pub(crate) fn layers(&self) -> &[OrderedLayer] {
        match self {
            Self::Layers(layers) => layers,
            Self::Step(_) => &[],
        }
    }

    /// A root filesystem.
    pub(crate) fn of_snapshot(snapshot: &Snapshot) -> Self {
        let layer = |layer: &LayerRef| match layer {
            LayerRef::Tree(id) => OrderedLayer::Tree(*id),
            LayerRef::Image { layer, .. } => OrderedLayer::Image(layer.clone()),
        };
        Self::Layers(snapshot.layers().iter().map(layer).collect())
    }
}

/// What an image's layers are called on a worker, which fetches none.
pub(crate) const IMAGE: &str = "the base image";

/// The root filesystem of some layers.
pub(crate) fn snapshot_of(layers: &[OrderedLayer]) -> Snapshot {
    let layer = |layer: &OrderedLayer| match layer {
        OrderedLayer::Tree(id) => LayerRef::Tree(*id),
        OrderedLayer::Image(layer) => LayerRef::Image {
            layer: layer.clone(),
            image: IMAGE.into(),
        },
    };
    Snapshot::new(layers.iter().map(layer).collect())
}

/// A step as a worker gets it: without what only concerns this machine.
pub(crate) fn for_worker(step: &Step) -> Step {
    Step {
        location: None,
        remote: WorkerProperties::none(),
        ..step.clone()
    }
}
