//! A solved build, and what can be made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_attest::Inventory;
use kiln_attest::artifact::Artifact;
use kiln_attest::provenance::{Dependency, Given};
use kiln_attest::sbom::Subject;
use kiln_cache::{Session, Store};
use kiln_execute::{DefaultNetwork, EngineError, Snapshotter, keyed_volume};
use kiln_export::{
    Built, DeltaMaker, Exported, Exports, Image, ImageOptions, OutputEntry, Shipper,
    Unreproducible, assemble, compare, extract, files_of, packages,
};
use kiln_graph::{BlobDigest, Build, CacheMount, ImagePath, StepId, Target, Timestamp};
use kiln_image::{ArchiveImage, Client, Descriptor, Reference};
use kiln_sandbox::Selection;
use kiln_solve::{EventSink, LayerRef, Outcome, Snapshot, Solution, StepResult};

/// A solved build: the result of every step that was needed.
#[derive(Debug)]
pub struct Solved {
    pub(crate) trees: Snapshotter,
    pub(crate) selection: Selection,
    pub(crate) build: Build,
    pub(crate) volume_keys: BTreeMap<String, String>,
    pub(crate) solution: Solution,
    /// When the build began.
    pub(crate) started: Timestamp,
    pub(crate) exports: Exports,
    /// Keeps what was used from being collected while outputs are made.
    pub(crate) _session: Session,
}

impl Solved {
    /// The name of a cache volume of a step, without what it is tied to.
    #[must_use]
    pub fn volume_name(&self, step: StepId, cache: &CacheMount) -> String {
        let inputs = self.build.graph.inputs(step);
        let from = cache.from.and_then(|from| inputs.get(from.index()));
        let filling = from.and_then(|from| self.solution.results.get(from));
        cache.volume(filling.map(StepResult::content))
    }

    /// The name that a cache volume has with what it is tied to.
    #[must_use]
    pub fn keyed_volume_name(&self, plain: &str, cache: &CacheMount) -> String {
        let key = self.volume_keys.get(&cache.id).map(String::as_str);
        keyed_volume(plain, key)
    }

    /// What a step of [`crate::Request::outputs`] wrote to its standard output, with secrets masked.
    #[must_use]
    pub fn written(&self, step: StepId) -> Option<&str> {
        self.solution.outputs.get(&step).map(String::as_str)
    }

    /// The build that was solved.
    #[must_use]
    pub fn build(&self) -> &Build {
        &self.build
    }

    /// The store that the build was solved in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.trees.store
    }

    /// The way to fetch and send images that the build was solved with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.trees.client
    }

    /// The directory that holds the files of a step whose result is one tree: a source, or files put
    /// together from nothing. Nobody may write there; it stays as long as `self` does.
    ///
    /// # Errors
    /// When the step's result is more than one tree, or is gone.
    pub fn directory(&self, step: StepId) -> Result<PathBuf, EngineError> {
        let snapshot = self.snapshot(step)?;
        match snapshot.layers() {
            [LayerRef::Tree(id)] => match self.trees.store.trees().get(id)? {
                Some(tree) => Ok(tree.fs()),
                None => Err(no_directory()),
            },
            [] => Ok(self.trees.store.trees().empty()?.fs()),
            _ => Err(no_directory()),
        }
    }

    /// The latest modification time among the files of a step whose result is one tree, in seconds
    /// since 1970; nothing when it has none.
    ///
    /// # Errors
    /// When the step's result is more than one tree, or is gone.
    pub fn latest_time(&self, step: StepId) -> Result<Option<i64>, EngineError> {
        let snapshot = self.snapshot(step)?;
        let [LayerRef::Tree(id)] = snapshot.layers() else {
            return Err(no_directory());
        };
        let tree = self.trees.store.trees().get(id)?.ok_or_else(no_directory)?;
        let manifest = tree.manifest()?;
        let times = manifest.entries().iter().map(|entry| entry.mtime.seconds);
        Ok(times.max().filter(|seconds| *seconds > 0))
    }

    /// A directory of the store for a file that is needed for a moment; the caller removes it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn scratch_directory(&self) -> Result<PathBuf, EngineError> {
        Ok(self.trees.store.scratch_directory()?)
    }

    /// Makes the image of one target.
    ///
    /// # Errors
    /// When layers can't be read, compressed or stored.
    pub fn image(
        &self,
        target: &Target,
        options: &ImageOptions,
        events: &dyn EventSink,
    ) -> Result<Image, EngineError> {
        assemble(self.built(), target, options, events)
    }

    /// The files of a target's root.
    ///
    /// # Errors
    /// When layers can't be fetched or read.
    pub fn root_files(
        &self,
        target: &Target,
        events: &dyn EventSink,
    ) -> Result<Vec<OutputEntry>, EngineError> {
        let root = self.solution.results.get(&target.root);
        files_of(&self.trees, root, events)
    }

    /// The files at a path of a step's result: what a directory holds, or a file by its name; links
    /// on the way are followed. Nothing where there is nothing.
    ///
    /// # Errors
    /// When layers can't be fetched or read.
    pub fn files_at(
        &self,
        step: StepId,
        path: &ImagePath,
        events: &dyn EventSink,
    ) -> Result<Option<Vec<OutputEntry>>, EngineError> {
        extract(&self.trees, &self.snapshot(step)?, path, events)
    }

    /// Brings all layers of images into the store.
    ///
    /// # Errors
    /// When one can't be fetched.
    pub fn bring(&self, images: &[Image], events: &dyn EventSink) -> Result<(), EngineError> {
        Shipper(&self.trees).bring(images, events)
    }

    /// Everything that an archive of images needs.
    ///
    /// # Errors
    /// When layers can't be fetched.
    pub fn archive(
        &self,
        images: &[Image],
        names: &[String],
        events: &dyn EventSink,
    ) -> Result<ArchiveImage, EngineError> {
        Shipper(&self.trees).archive(images, names, events)
    }

    /// What names all images: the only one's manifest, or an index, whose bytes are given.
    ///
    /// # Errors
    /// When the index can't be stored.
    pub fn top(&self, images: &[Image]) -> Result<(Descriptor, Option<Vec<u8>>), EngineError> {
        Shipper(&self.trees).top(images)
    }

    /// Gives images a name in the store. Layers that images of registries have may stay there; others are
    /// brought.
    ///
    /// # Errors
    /// When a layer can't be fetched, or the store can't be written.
    pub fn tag(
        &self,
        images: &[Image],
        name: &str,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        Shipper(&self.trees).tag(images, name, events)
    }

    /// Sends images to a registry.
    ///
    /// # Errors
    /// When the registry doesn't take them.
    pub fn push(
        &self,
        images: &[Image],
        to: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        Shipper(&self.trees).push(images, to, events)
    }

    /// Makes differences between images.
    #[must_use]
    pub fn deltas(&self) -> DeltaMaker<'_> {
        DeltaMaker(&self.trees)
    }

    /// The steps whose own changes differ from those in another solution of the same build.
    ///
    /// # Errors
    /// When the trees can't be read.
    pub fn compare(
        &self,
        other: &Self,
        events: &dyn EventSink,
    ) -> Result<Vec<Unreproducible>, EngineError> {
        compare(self.built(), other.built(), events)
    }

    /// Waits until the remotes of the request have the build's results, and says for each, in the
    /// request's order, what was sent. Afterwards there is nothing more to say.
    ///
    /// # Errors
    /// For each remote: when it can't be written, or trees can't be read.
    pub fn exported(&mut self) -> Vec<Result<Exported, EngineError>> {
        std::mem::take(&mut self.exports).finish()
    }

    /// Puts an attestation beside an image: from now on an index names both.
    ///
    /// # Errors
    /// When it can't be stored.
    pub fn attest(&self, image: &mut Image, attestation: Artifact) -> Result<(), EngineError> {
        kiln_export::attest(&self.trees.store, image, attestation)
    }

    /// Sends a referrer of a manifest that a registry has. Where the registry lists no referrers, it
    /// is sent only `with_tag`: clients then find it in an index under that tag. Returns whether it
    /// was sent.
    ///
    /// # Errors
    /// When the registry can't be reached or doesn't take it.
    pub fn attach(
        &self,
        to: &Reference,
        subject: &BlobDigest,
        artifact: &Artifact,
        with_tag: bool,
    ) -> Result<bool, EngineError> {
        kiln_export::attach(&self.trees, to, subject, artifact, with_tag)
    }

    /// The packages of a target's root, and what they are told with: the image that was made of it,
    /// if one was, and its name.
    ///
    /// # Errors
    /// When its layers can't be fetched or read.
    pub fn packages(
        &self,
        target: &Target,
        image: Option<&Image>,
        options: &ImageOptions,
        name: &str,
        events: &dyn EventSink,
    ) -> Result<(Subject, Inventory), EngineError> {
        packages(self.built(), target, image, options, name, events)
    }

    /// The steps that the targets need, in the order of the graph.
    #[must_use]
    pub fn needed_steps(&self) -> Vec<StepId> {
        kiln_export::needed_steps(&self.build)
    }

    /// The images, commits and files that the build took from elsewhere, with their digests.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn dependencies(&self) -> Result<Vec<Dependency>, EngineError> {
        kiln_export::dependencies(self.built())
    }

    /// The names of the local contexts that the targets need.
    #[must_use]
    pub fn contexts_used(&self) -> Vec<String> {
        kiln_export::contexts_used(&self.build)
    }

    /// The secrets and the SSH agents that steps were given.
    #[must_use]
    pub fn given(&self) -> (Vec<Given>, Vec<Given>) {
        kiln_export::given(&self.build)
    }

    /// Whether no command could reach anything but its inputs: neither a network, nor a volume that
    /// outlives builds, nor an agent. `network` is that of steps that don't say which they want. A
    /// result that was there already may have been made with another, or without namespaces, which
    /// can't take the network away.
    #[must_use]
    pub fn is_hermetic(
        &self,
        network: DefaultNetwork,
        outcome: &dyn Fn(StepId) -> Option<Outcome>,
    ) -> bool {
        kiln_export::is_hermetic(&self.build, &self.selection, network, outcome)
    }

    fn built(&self) -> Built<'_> {
        Built {
            trees: &self.trees,
            build: &self.build,
            solution: &self.solution,
            started: self.started,
        }
    }

    /// The files of a step, brought into the store.
    pub(crate) fn brought(
        &self,
        step: StepId,
        events: &dyn EventSink,
    ) -> Result<Snapshot, EngineError> {
        let snapshot = self.snapshot(step)?;
        let trees = self.trees.trees(&snapshot, events)?;
        let trees: Vec<_> = trees.iter().map(|tree| LayerRef::Tree(tree.id())).collect();
        Ok(Snapshot::new(trees))
    }

    fn snapshot(&self, step: StepId) -> Result<Snapshot, EngineError> {
        let result = self.solution.results.get(&step);
        self.trees.snapshot_or_scratch(result)
    }
}

fn no_directory() -> EngineError {
    EngineError::Defect("the step's result is not one directory of the store".to_owned())
}
