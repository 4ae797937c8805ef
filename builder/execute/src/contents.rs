//! Says what results contain, for keys: from manifests, and what was found once is remembered.

use kiln_graph::encode::Encoder;
use kiln_graph::{ContentDigest, CopyFiles, Digest, ImagePath, Input, Step, TreeId};
use kiln_solve::{Contents, Directory, EventSink, Part, Snapshot, StepResult};

use crate::EngineError;
use crate::files::{self, select};
use crate::import::import;
use crate::secret::{SecretProvider, unreadable};
use crate::shared::SharedSources;
use crate::snapshotter::Snapshotter;

/// Bumped whenever digests of parts are made otherwise.
const PART_VERSION: u32 = 1;

/// Reads what results contain.
pub struct ContentReader<'a> {
    /// Brings trees here.
    pub trees: &'a Snapshotter,
    /// Know parts of results whose files are not here.
    pub shared: &'a SharedSources,
    /// Secrets whose change is to run steps again.
    pub secrets: &'a dyn SecretProvider,
    /// Is told of transfers.
    pub events: &'a dyn EventSink,
}

impl std::fmt::Debug for ContentReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentReader").finish_non_exhaustive()
    }
}

impl Contents<EngineError> for ContentReader<'_> {
    fn import(&self, directory: &Directory) -> Result<TreeId, EngineError> {
        Ok(import(self.trees, directory, &ImagePath::root())?.id())
    }

    fn part(&self, snapshot: &Snapshot, path: &ImagePath) -> Result<Part, EngineError> {
        let memo = memo_key("part", snapshot.content(), &path.to_string());
        self.remembered("part", snapshot, memo, || {
            let result = StepResult::Snapshot(snapshot.clone());
            let view = self.trees.outline(&result, self.events)?;
            let mut out = Encoder::new("kiln-part", PART_VERSION);
            out.seq(view.below(&view.resolve(path, true)), |out, found| {
                out.path(&found.entry.path);
                view.linked(&found).encode_attributes(out);
            });
            Ok(ContentDigest(out.finish()))
        })
    }

    fn selection(
        &self,
        step: &Step,
        copy: &CopyFiles,
        from: &StepResult,
    ) -> Result<Part, EngineError> {
        let find = || -> Result<ContentDigest, EngineError> {
            let view = self.trees.outline(from, self.events)?;
            let selected = select(&view, copy).map_err(|source| EngineError::Files {
                location: step.location.clone(),
                source,
            })?;
            Ok(files::digest(&view, copy, &selected))
        };
        match from {
            StepResult::Directory(_) => Ok(Part {
                content: find()?,
                name: None,
            }),
            StepResult::Snapshot(snapshot) => {
                let what = serde_json::to_string(&CopyFiles {
                    from: Input(0),
                    ..copy.clone()
                });
                let memo = memo_key("selection", snapshot.content(), &what.unwrap_or_default());
                self.remembered("selection", snapshot, memo, find)
            }
        }
    }

    /// Hashed with a key that never leaves the store.
    fn secret(&self, id: &str) -> Result<Option<ContentDigest>, EngineError> {
        if !self.secrets.is_in_key(id) {
            return Ok(None);
        }
        let given = self.secrets.secret(id);
        let given = given.map_err(unreadable(id, None))?;
        match given {
            Some(value) => {
                let digest = self.trees.store.private_digest(value.expose())?;
                Ok(Some(ContentDigest(digest)))
            }
            None => Ok(None),
        }
    }
}

impl ContentReader<'_> {
    /// What is known of a part here or, when its files are not, elsewhere; else what `find` finds.
    fn remembered(
        &self,
        kind: &str,
        snapshot: &Snapshot,
        name: Digest,
        find: impl FnOnce() -> Result<ContentDigest, EngineError>,
    ) -> Result<Part, EngineError> {
        let store = &self.trees.store;
        let known = match store.memos().get(kind, &name)? {
            Some(known) => Some(known),
            None => self.elsewhere(snapshot, &name)?,
        };
        let content = match known {
            Some(known) => known,
            None => {
                let found = find()?;
                store.memos().put(kind, &name, &found)?;
                found
            }
        };
        let name = Some(name);
        Ok(Part { content, name })
    }

    /// Shared caches are asked only when the files of the result aren't all here.
    fn elsewhere(
        &self,
        snapshot: &Snapshot,
        part: &Digest,
    ) -> Result<Option<ContentDigest>, EngineError> {
        if self.shared.is_empty() || self.trees.is_here(snapshot)? {
            return Ok(None);
        }
        Ok(self.shared.part(part))
    }
}

fn memo_key(kind: &str, content: ContentDigest, what: &str) -> Digest {
    let mut out = Encoder::new("kiln-memo-key", PART_VERSION);
    out.str(kind).digest(&content.0).str(what);
    out.finish()
}
