//! What happened in a build: `builds/<id>` in the form of `memo`, format 1, and `logs/<id>/<n>`
//! with all that the build's step `n` wrote. Ids sort by time. Only the latest builds are kept.

use std::path::PathBuf;

use kiln_graph::{BlobDigest, Location, StepKey, TreeId};
use kiln_tree::host;
use serde::{Deserialize, Serialize};

use crate::checked_text::read_checked;
use crate::error::Context as _;
use crate::{Store, StoreError};

/// How many builds are remembered.
const KEPT: usize = 200;

/// How a step of a build went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It was run.
    Ran,
    /// Its result was there already.
    Cached,
    /// It failed.
    Failed,
    /// It was stopped.
    Cancelled,
    /// It was never begun.
    Waiting,
}

/// One step of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltStep {
    /// Its name.
    pub name: String,
    /// Where the build file asks for it.
    pub location: Option<Location>,
    /// Whether it is one of the author's instructions.
    pub instruction: bool,
    /// The steps it is made from, by their position in the build.
    pub inputs: Vec<usize>,
    /// How it went.
    pub outcome: StepOutcome,
    /// What its result is filed under.
    pub key: Option<StepKey>,
    /// The trees that it added or fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trees: Vec<TreeId>,
    /// The layers of a base image: digests of the uncompressed tars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<BlobDigest>,
    /// When it began, in milliseconds after the build did.
    pub began: u64,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// Where it ran, if it could run elsewhere; nothing for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Why it ran here, if it could not run elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_here: Option<String>,
    /// How long it waited for a worker there, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
    /// How many bytes it wrote to its log.
    pub log: u64,
    /// Processor time of its commands, in milliseconds.
    #[serde(default)]
    pub cpu: u64,
    /// The most memory that one of its processes had at once, in bytes.
    #[serde(default)]
    pub memory: u64,
}

/// Something that was transferred, compressed or written in a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltTransfer {
    /// What.
    pub name: String,
    /// When it began, in milliseconds after the build did.
    pub began: u64,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// How many bytes it was.
    pub bytes: u64,
}

/// A build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// Its id.
    pub id: String,
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// Whether it succeeded.
    pub ok: bool,
    /// The error, in words.
    pub error: Option<String>,
    /// What identifies the build: builds of the same file, context and target have the same.
    pub subject: String,
    /// The build file and context, for people.
    pub title: String,
    /// The steps, in the graph's order.
    pub steps: Vec<BuiltStep>,
    /// What was fetched, sent and written.
    #[serde(default)]
    pub transfers: Vec<BuiltTransfer>,
    /// What was asked for, in the words of whoever asked; without credentials.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub plan: serde_json::Value,
}

impl BuildRecord {
    /// How many of the author's steps had their results already, and how many there are.
    #[must_use]
    pub fn cached(&self) -> (usize, usize) {
        let steps: Vec<&BuiltStep> = self.steps.iter().filter(|step| step.instruction).collect();
        let cached = steps
            .iter()
            .filter(|step| step.outcome == StepOutcome::Cached);
        (cached.count(), steps.len())
    }
}

/// The builds that a store remembers; [`Store::builds`] has them.
#[derive(Clone, Copy, Debug)]
pub struct Builds<'a>(&'a Store);

impl Store {
    /// The builds that it remembers.
    #[must_use]
    pub fn builds(&self) -> Builds<'_> {
        Builds(self)
    }
}

impl Builds<'_> {
    /// Remembers a build, and forgets the oldest ones.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn put(&self, build: &BuildRecord) -> Result<(), StoreError> {
        self.0
            .put_checked(&self.0.path("builds").join(&build.id), build)?;
        let ids = self.ids();
        for old in ids.iter().rev().skip(KEPT) {
            _ = host::remove_file(self.0.path("builds").join(old));
            _ = host::remove_dir_all(self.0.path("logs").join(old));
        }
        Ok(())
    }

    fn ids(&self) -> Vec<String> {
        let entries = host::read_dir(self.0.path("builds")).into_iter().flatten();
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        ids.sort();
        ids
    }

    /// The builds that are remembered, the latest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn all(&self) -> Result<Vec<BuildRecord>, StoreError> {
        let mut builds = Vec::new();
        for id in self.ids().iter().rev() {
            builds.extend(self.get(id)?);
        }
        Ok(builds)
    }

    /// One build.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn get(&self, id: &str) -> Result<Option<BuildRecord>, StoreError> {
        let text = read_checked(&self.0.path("builds").join(id))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// The file that takes what a step of a build writes.
    ///
    /// # Errors
    /// When its directory can't be made.
    pub fn step_log(&self, build: &str, step: usize) -> Result<PathBuf, StoreError> {
        let directory = self.0.path("logs").join(build);
        host::create_dir_all(&directory).context("create the directory", &directory)?;
        Ok(directory.join(step.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;

    #[test]
    fn the_latest_builds_are_kept() {
        let (_directory, store) = scratch_store();
        let build = |number: usize| BuildRecord {
            id: format!("{number:06}"),
            began: 0,
            took: 0,
            ok: true,
            error: None,
            subject: String::new(),
            title: String::new(),
            steps: Vec::new(),
            transfers: Vec::new(),
            plan: serde_json::Value::Null,
        };
        for number in 0..KEPT + 3 {
            store.builds().put(&build(number)).unwrap();
        }
        // What an earlier version kept of the command is ignored.
        let mut old = serde_json::to_value(build(KEPT + 2)).unwrap();
        old["command"] = serde_json::json!({ "folder": "/", "flags": [] });
        let old: BuildRecord = serde_json::from_value(old).unwrap();
        assert_eq!(old, build(KEPT + 2));
        let builds = store.builds().all().unwrap();
        assert_eq!(builds.len(), KEPT);
        assert_eq!(builds[0], build(KEPT + 2));
        assert_eq!(store.builds().get("000002").unwrap(), None);
    }
}
