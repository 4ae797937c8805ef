//! A lock while a build file is read: what it says, and what was asked for.

use std::sync::{Mutex, PoisonError};

use kiln_engine::{Engine, Pin, Pins, Request};
use kiln_graph::{BlobDigest, Build, GitSource, HttpSource, Op, StepId, is_commit};

use super::Lock;
use crate::{Error, SignatureRule};

/// What is done about something that can change and isn't locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Open {
    /// It is asked for.
    #[default]
    Ask,
    /// It is asked for and noted, to be locked.
    Learn,
    /// It is an error.
    Refuse,
}

/// A lock in use.
#[derive(Debug, Default)]
pub struct Locker {
    lock: Lock,
    open: Open,
    used: Mutex<Lock>,
}

impl Locker {
    /// A lock, with what is done about what it lacks.
    #[must_use]
    pub fn new(lock: Lock, open: Open) -> Self {
        Self {
            lock,
            open,
            used: Mutex::default(),
        }
    }

    pub(crate) fn is_required(&self) -> bool {
        self.open == Open::Refuse
    }

    /// What an image's name is locked to.
    pub(crate) fn image(&self, name: &str) -> Option<BlobDigest> {
        if !super::is_mutable(name) {
            return None;
        }
        let (_, digest) = super::find(&self.lock.images, name)?;
        let digest = *digest;
        self.note_image(name, digest);
        Some(digest)
    }

    /// The signatures that an image must have, however its name is spelled.
    pub(crate) fn signature(&self, name: &str) -> Option<&SignatureRule> {
        super::find(&self.lock.signatures, name).map(|(_, rule)| rule)
    }

    /// Notes what an image's name stands for.
    pub(crate) fn note_image(&self, name: &str, digest: BlobDigest) {
        if super::is_mutable(name) {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.images.insert(name.to_owned(), digest);
        }
    }

    /// Gives a build the commits and checksums that are locked; learns the others, or refuses
    /// them, as is wanted.
    ///
    /// # Errors
    /// When a source can't be asked for, or isn't locked and has to be.
    pub(crate) fn settle(&self, engine: &Engine, request: &mut Request) -> Result<(), Error> {
        request.pins = self.lock.sources.clone();
        if self.open == Open::Ask {
            return Ok(());
        }
        for step in self.open_sources(&request.build) {
            if self.open == Open::Refuse {
                return Err(refused(&request.build, step));
            }
            let pin = engine.pin(request, step)?;
            match (&request.build.graph.step(step).op, pin) {
                (Op::Git(source), Some(Pin::Commit(commit))) => self.note_git(source, commit),
                (Op::Http(source), Some(Pin::Checksum(sum))) => self.note_http(source, sum),
                _ => {}
            }
        }
        // What was learned counts from now on.
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        request.pins.git.extend(used.sources.git.clone());
        request.pins.http.extend(used.sources.http.clone());
        Ok(())
    }

    /// What was asked for, with what it stands for.
    #[must_use]
    pub fn into_used(self) -> Lock {
        self.used
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the sources that a build needs and are locked. The others that can change come back.
    fn open_sources(&self, build: &Build) -> Vec<StepId> {
        let roots: Vec<StepId> = build.targets.iter().map(|target| target.root).collect();
        let needed = build.graph.needed_for(&roots).into_iter();
        let is_open = |id: &StepId| match &build.graph.step(*id).op {
            Op::Git(source) => !self.has_git(source),
            Op::Http(source) => !self.has_http(source),
            _ => false,
        };
        needed.filter(is_open).collect()
    }

    /// Notes the commit that a branch or tag stands for.
    fn note_git(&self, source: &GitSource, commit: String) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.sources.git.insert(Pins::git_key(source), commit);
    }

    /// Notes the digest of a file.
    fn note_http(&self, source: &HttpSource, checksum: BlobDigest) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.sources.http.insert(Pins::http_key(source), checksum);
    }

    fn has_git(&self, source: &GitSource) -> bool {
        if is_commit(&source.reference) {
            return true;
        }
        let commit = self.lock.sources.git.get(&Pins::git_key(source));
        if let Some(commit) = commit {
            self.note_git(source, commit.clone());
        }
        commit.is_some()
    }

    fn has_http(&self, source: &HttpSource) -> bool {
        if source.checksum.is_some() {
            return true;
        }
        let checksum = self.lock.sources.http.get(&Pins::http_key(source));
        if let Some(checksum) = checksum {
            self.note_http(source, *checksum);
        }
        checksum.is_some()
    }
}

fn refused(build: &Build, step: StepId) -> Error {
    let step = build.graph.step(step);
    let what = match &step.op {
        Op::Git(source) => format!("the git repository {}", source.remote),
        Op::Http(source) => format!("the file {}", source.url),
        _ => step.name.to_string(),
    };
    Error::NotLocked {
        what,
        location: step.location.clone(),
    }
}
