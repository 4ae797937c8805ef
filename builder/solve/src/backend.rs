//! What the solver asks of others. Whoever runs steps elsewhere, brings sources from another place or
//! keeps results in one implements one of these traits. `E` is the error of them all.

use std::any::Any;
use std::time::Duration;

use kiln_graph::{
    ContentDigest, CopyFiles, DefinitionDigest, Digest, Graph, ImagePath, Input, Step, StepId,
    StepKey, TreeId,
};

use crate::cancel::Cancel;
use crate::event::{EventSink, Outcome};
use crate::snapshot::{Directory, Snapshot, StepResult};
use crate::usable::Usable;

/// What the solver must be able to make and tell of errors.
pub trait StepError: std::error::Error + Send + Sized {
    /// The error of a build that was cancelled.
    fn cancelled() -> Self;

    /// Whether it is that.
    fn is_cancelled(&self) -> bool;

    /// Whether whoever asked for the solution begins again for it, without what led to it: it is told as no failure of
    /// the step.
    fn begins_again(&self) -> bool {
        false
    }

    /// The failures of a build that goes on after the first: two or more.
    fn several(errors: Vec<Self>) -> Self;
}

/// A step to be run, or a source to be fetched.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Which step.
    pub id: StepId,
    /// Its definition with everything below it.
    pub definition: DefinitionDigest,
    /// What it does.
    pub step: &'a Step,
    /// The results it is made from, in the order of its inputs.
    pub inputs: &'a [StepResult],
    /// Whether somebody wants to know what it writes to its standard output.
    pub keep_output: bool,
    /// What comes after it, where that is known.
    pub ahead: Option<&'a dyn Ahead>,
    /// Is told what happens.
    pub events: &'a dyn EventSink,
    /// Stops it.
    pub cancel: &'a Cancel,
}

impl<'a> Job<'a> {
    /// A step by itself, which nothing comes after.
    #[must_use]
    pub fn alone(
        graph: &'a Graph,
        id: StepId,
        inputs: &'a [StepResult],
        events: &'a dyn EventSink,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            id,
            definition: graph.definition(id),
            step: graph.step(id),
            inputs,
            keep_output: false,
            ahead: None,
            events,
            cancel,
        }
    }

    /// One of the results that the step is made from.
    #[must_use]
    pub fn input(&self, input: Input) -> &'a StepResult {
        &self.inputs[input.index()]
    }
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

/// What a build needs after a step: for executors that run several steps at once.
pub trait Ahead: Sync {
    /// The steps that follow one: each is built on the one before it, from which nothing else is made
    /// that the build needs, and has whatever else it is made from.
    fn chain(&self, id: StepId) -> Vec<Following<'_>>;
}

/// A step that follows another.
#[derive(Clone, Debug)]
pub struct Following<'a> {
    /// Which step.
    pub id: StepId,
    /// Its definition with everything below it.
    pub definition: DefinitionDigest,
    /// What it does.
    pub step: &'a Step,
    /// What it is made from, in the order of its inputs.
    pub inputs: Vec<FollowingInput>,
    /// See [`Job::keep_output`].
    pub keep_output: bool,
}

/// What a step is made from that follows another.
#[derive(Clone, Debug)]
pub enum FollowingInput {
    /// The step before it.
    Before,
    /// A result that is there.
    Result(StepResult),
}

/// What came of a step that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The tree of its changes, which the store has.
    pub tree: TreeId,
    /// What it wrote to its standard output, when [`Job::keep_output`] says so.
    pub stdout: Option<String>,
    /// How long it ran, where that isn't how long its execution took here.
    pub took: Option<Duration>,
}

/// Runs steps of one kind: commands, or file operations. Called from many threads at once.
///
/// An executor adds nothing of its own: what a step gives is what it changed, so that a step which writes the
/// same again gives the same tree, whether one before it failed or others run beside it. What steps are made
/// from stays as it is. Of events it tells its own job's: what the step writes, uses and where it runs; that
/// one was started and how it ended the solver says. `kiln::conformance::executor` tries one.
pub trait Executor<E>: Send + Sync {
    /// How many steps it runs at once, where it keeps to a limit of its own: they then take none of the
    /// solver's slots ([`crate::SolveOptions::jobs`]).
    fn slots(&self) -> Option<usize> {
        None
    }

    /// Brings here what the step needs, before its time is counted.
    ///
    /// # Errors
    /// When it can't be had.
    fn prepare(&self, _job: &Job<'_>) -> Result<(), E> {
        Ok(())
    }

    /// Runs a step, and puts what it changed into the store.
    ///
    /// # Errors
    /// When it fails, isn't of the executor's kind, or can't be run: with the place that [`Step::location`]
    /// says. When the job was cancelled, with [`StepError::cancelled`] and soon; unless it ended before.
    fn execute(&self, job: &Job<'_>) -> Result<Executed, E>;
}

/// A source's files.
#[derive(Clone, Debug)]
pub struct ResolvedSource {
    /// The files.
    pub result: StepResult,
    /// Whether nothing had to be brought ([`Outcome::Cached`]) or something had ([`Outcome::Ran`]).
    pub outcome: Outcome,
    /// What a name that can change, such as a branch, turned out to stand for.
    pub revision: Option<String>,
}

/// Brings the files of sources: contexts, git repositories, downloads. Called from many threads at
/// once.
///
/// A source that hasn't changed has the same content and revision, and its files are what the result's
/// manifest says until the build ends. `kiln::conformance::source` tries one.
pub trait SourceResolver<E>: Send + Sync {
    /// The files of the source that the job's step is.
    ///
    /// # Errors
    /// When they can't be had, or the step is no source that this one brings. When the job was cancelled,
    /// with [`StepError::cancelled`], unless it ended before.
    fn resolve(&self, job: &Job<'_>) -> Result<ResolvedSource, E>;
}

/// A step's own part of its result, and what it is filed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// The step's key.
    pub key: StepKey,
    /// The trees that the step adds to what it is built on, lowest first.
    pub added: Vec<TreeId>,
    /// How long the step ran; zero when it isn't known.
    pub took: Duration,
    /// When it ended, in seconds since 1970; 0 when it isn't known.
    pub created: u64,
    /// What it wrote to its standard output, if that was kept.
    pub stdout: Option<String>,
}

/// One input of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenContent {
    /// What it is, in words.
    pub name: String,
    /// What it contains.
    pub content: ContentDigest,
}

/// What a new result was made of.
#[derive(Debug)]
pub struct Origin<'a> {
    /// The step.
    pub step: &'a Step,
    /// Its definition with everything below it.
    pub definition: DefinitionDigest,
    /// What its key was made of beside its operation.
    pub inputs: Vec<GivenContent>,
}

/// Results of steps on this machine.
pub trait ResultStore<E>: Sync {
    /// The result that is filed under a key, if its trees are all there; they stay as long as the
    /// build.
    ///
    /// # Errors
    /// When the store can't be read.
    fn result(&self, key: &StepKey) -> Result<Option<Filed>, E>;

    /// Files a result; one that is there under the same key is replaced.
    ///
    /// # Errors
    /// When the store can't be written.
    fn file(&self, filed: &Filed, origin: Origin<'_>) -> Result<(), E>;

    /// Waits until nobody else runs the step of a key, and keeps others from it until what is
    /// returned is dropped. `stop` is asked from time to time whether to give up.
    ///
    /// # Errors
    /// When the store can't be locked, or `stop` said so.
    fn lock(&self, key: &StepKey, stop: &dyn Fn() -> bool) -> Result<Box<dyn Any>, E>;
}

/// What a part of a result contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it contains.
    pub content: ContentDigest,
    /// What is known of it elsewhere is filed under this; nothing for directories of the user's.
    pub name: Option<Digest>,
}

/// Says what results contain, for keys.
pub trait Contents<E>: Sync {
    /// Copies a directory of the user's into the store.
    ///
    /// # Errors
    /// When it can't be read.
    fn import(&self, directory: &Directory) -> Result<TreeId, E>;

    /// What a root filesystem contains below a path, links on the way followed.
    ///
    /// # Errors
    /// When its manifests can't be had.
    fn part(&self, snapshot: &Snapshot, path: &ImagePath) -> Result<Part, E>;

    /// What a copy takes from a result.
    ///
    /// # Errors
    /// When there is nothing to be copied, or the manifests can't be had.
    fn selection(&self, step: &Step, copy: &CopyFiles, from: &StepResult) -> Result<Part, E>;

    /// A digest of a secret whose change is to run steps again, that nobody can guess the secret
    /// from; nothing for other secrets.
    ///
    /// # Errors
    /// When the secret can't be read.
    fn secret(&self, id: &str) -> Result<Option<ContentDigest>, E>;
}

/// Results of other machines. Nothing of it stops a build: what fails is said in a warning.
pub trait SharedCaches: Sync {
    /// A result that others have.
    fn find(&self, key: &StepKey, usable: Usable) -> Option<Filed>;

    /// Offers a result to others, with the parts of other results that its key is made of. Doesn't
    /// wait until they have it.
    fn offer(&self, id: StepId, step: &Step, filed: &Filed, parts: &[Part]);
}

/// No shared caches at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSharedCaches;

impl SharedCaches for NoSharedCaches {
    fn find(&self, _: &StepKey, _: Usable) -> Option<Filed> {
        None
    }

    fn offer(&self, _: StepId, _: &Step, _: &Filed, _: &[Part]) {}
}

/// All that a solver works with.
pub struct Backend<'a, E> {
    /// Results of this machine.
    pub store: &'a dyn ResultStore<E>,
    /// Says what results contain.
    pub contents: &'a dyn Contents<E>,
    /// Runs commands.
    pub commands: &'a dyn Executor<E>,
    /// Carries out file operations.
    pub files: &'a dyn Executor<E>,
    /// Fetches sources.
    pub sources: &'a dyn SourceResolver<E>,
    /// Results of other machines.
    pub shared: &'a dyn SharedCaches,
}

impl<E> Clone for Backend<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Backend<'_, E> {}

impl<E> std::fmt::Debug for Backend<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}
