//! What a compilation gives.

use std::collections::BTreeMap;

use kiln_graph::{Build, ImageRequest, Location, StepId};

use crate::value::ValueRequest;

/// What came of a compilation.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The build.
    Done(Box<Compiled>),
    /// These images must be known first; and where each is asked for.
    Needs(Vec<(ImageRequest, Option<Location>)>),
    /// What these steps write must be known first.
    Values(Box<ValueSteps>),
}

/// A compiled file.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph and the image wanted, once for each platform.
    pub build: Build,
    /// The image's layers by path, if the file says.
    pub layers: Vec<LayerRule>,
    /// What the image must keep to, if the file says.
    pub policy: Option<Policy>,
    /// Where the image goes, if the file says.
    pub settings: Settings,
    /// The directories of the context that the graph names, from the context on.
    pub directories: BTreeMap<String, String>,
    /// The signatures that its images must have.
    pub signatures: Vec<RequiredSignature>,
}

/// Paths that go into a layer of their own. (Layers by step are in the targets' histories.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRule {
    /// The layer's name.
    pub name: String,
    /// Patterns of its paths.
    pub paths: Vec<String>,
}

/// What an image must keep to. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether it only warns.
    pub warn: bool,
    /// The most that all its layers may have, compressed.
    pub max_size: Option<u64>,
    /// The most that a layer may have, compressed.
    pub max_layer_size: Option<u64>,
    /// The most that files may have which are there more than once.
    pub max_duplicates: Option<u64>,
    /// Patterns of paths that must not be there.
    pub forbid: Vec<String>,
}

/// Where an image goes, in the words of the command line's flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The image; empty for a step.
    pub image: String,
    /// `--tag`.
    pub tags: Vec<String>,
    /// `--output`.
    pub outputs: Vec<String>,
    /// `--cache-from`.
    pub cache_from: Vec<String>,
    /// `--cache-to`.
    pub cache_to: Vec<String>,
}

/// Signatures that an image must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredSignature {
    /// The image.
    pub image: ImageRequest,
    /// Where the file names it.
    pub location: Option<Location>,
    /// Who must have signed what.
    pub signers: Signers,
}

/// Who must have signed: keys, or an identity. Files are named from the context on.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signers {
    /// Files of public keys.
    pub keys: Vec<String>,
    /// How many of the keys must have signed, if it is said.
    pub threshold: Option<u32>,
    /// Whose certificate it must be.
    pub identity: Option<String>,
    /// The same as a regular expression.
    pub identity_regexp: Option<String>,
    /// The identity provider that vouches for that.
    pub issuer: Option<String>,
    /// The same as a regular expression.
    pub issuer_regexp: Option<String>,
    /// The file that says whom to believe.
    pub trusted_root: Option<String>,
    /// The file of the authorities' certificates.
    pub roots: Option<String>,
    /// The file of the transparency log's key.
    pub log: Option<String>,
    /// The file of the timestamp authority's certificates.
    pub timestamps: Option<String>,
    /// What must be signed; nothing: anything about the image.
    pub attestations: Vec<String>,
}

/// Steps that must run so that what they write is known.
#[derive(Clone, Debug)]
pub struct ValueSteps {
    /// The graph, with a target for each of them.
    pub build: Build,
    /// Which step gives which value.
    pub wanted: Vec<(ValueRequest, StepId)>,
    /// The directories of the context that the graph names, from the context on.
    pub directories: BTreeMap<String, String>,
    /// The signatures that their images must have.
    pub signatures: Vec<RequiredSignature>,
}
