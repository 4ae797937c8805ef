//! What a step's result is filed under: its operation, and the content of what it is given.
//!
//! Key version 1: the encoding of the operation (with the network that the user gave, where that isn't the
//! host's), the platform, and for each input a digest of the
//! *content* that the step can see of it: the whole tree for a root, the selected files for a
//! copy, the mounted part for a bind mount.

use kiln_graph::encode::Encoder;
use kiln_graph::{ContentDigest, Exec, FileAction, Files, ImagePath, MountKind, Op, Step, StepKey};

use crate::backend::{Contents, GivenContent, Part};
use crate::snapshot::{LayerRef, Snapshot, StepResult};

/// Bumped whenever keys are made otherwise.
const KEY_VERSION: u32 = 1;

/// A key, and what it is made of.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) key: StepKey,
    pub(crate) inputs: Vec<GivenContent>,
    /// The parts of results among them.
    pub(crate) parts: Vec<Part>,
}

/// The key of a step that is given these results.
pub(crate) fn of<E>(
    contents: &dyn Contents<E>,
    step: &Step,
    given: &[StepResult],
) -> Result<Key, E> {
    let mut maker = Maker {
        contents,
        step,
        given,
        inputs: Vec::new(),
        parts: Vec::new(),
    };
    match &step.op {
        Op::Exec(exec) => maker.exec(exec)?,
        Op::Files(files) => maker.files(files)?,
        _ => {}
    }
    Ok(Key {
        key: encode(step, &maker.inputs),
        inputs: maker.inputs,
        parts: maker.parts,
    })
}

/// A result as a root filesystem: a directory of the user's is copied into the store first.
pub(crate) fn snapshot_of<E>(
    contents: &dyn Contents<E>,
    result: &StepResult,
) -> Result<Snapshot, E> {
    match result {
        StepResult::Snapshot(snapshot) => Ok(snapshot.clone()),
        StepResult::Directory(directory) => {
            let tree = contents.import(directory)?;
            Ok(Snapshot::new(vec![LayerRef::Tree(tree)]))
        }
    }
}

fn encode(step: &Step, inputs: &[GivenContent]) -> StepKey {
    let mut out = Encoder::new("kiln-key", KEY_VERSION);
    step.op.encode(&mut out);
    out.str(&step.platform.to_string());
    out.seq(inputs, |out, input| {
        out.digest(&input.content.0);
    });
    StepKey(out.finish())
}

/// Gathers what a step is given, by content.
struct Maker<'a, E> {
    contents: &'a dyn Contents<E>,
    step: &'a Step,
    given: &'a [StepResult],
    inputs: Vec<GivenContent>,
    parts: Vec<Part>,
}

impl<E> Maker<'_, E> {
    fn exec(&mut self, exec: &Exec) -> Result<(), E> {
        let root = self.whole(&self.given[exec.root.index()])?;
        self.add("root".to_owned(), root);
        for mount in &exec.mounts {
            let (from, source) = match &mount.kind {
                MountKind::Bind { from, source, .. } => (*from, source),
                MountKind::Cache(cache) => match cache.from {
                    Some(from) => (from, &cache.source),
                    None => continue,
                },
                MountKind::Secret(secret) => {
                    if let Some(content) = self.contents.secret(&secret.id)? {
                        self.add(format!("secret {}", secret.id), content);
                    }
                    continue;
                }
                _ => continue,
            };
            let content = self.part(&self.given[from.index()], source)?;
            self.add(format!("mount {}", mount.target), content);
        }
        Ok(())
    }

    fn files(&mut self, files: &Files) -> Result<(), E> {
        if let Some(base) = files.base {
            let content = self.whole(&self.given[base.index()])?;
            self.add("base".to_owned(), content);
        }
        for action in &files.actions {
            match action {
                FileAction::Copy(copy) => {
                    let from = &self.given[copy.from.index()];
                    let part = self.contents.selection(self.step, copy, from)?;
                    self.note(part);
                    self.add(format!("files {}", copy.sources.join(" ")), part.content);
                }
                FileAction::Difference { lower, upper } => {
                    for (name, input) in [("lower", lower), ("upper", upper)] {
                        let content = self.whole(&self.given[input.index()])?;
                        self.add(name.to_owned(), content);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, content: ContentDigest) {
        self.inputs.push(GivenContent { name, content });
    }

    fn note(&mut self, part: Part) {
        if part.name.is_some() && !self.parts.contains(&part) {
            self.parts.push(part);
        }
    }

    /// The content of a result as a root filesystem.
    fn whole(&self, result: &StepResult) -> Result<ContentDigest, E> {
        Ok(snapshot_of(self.contents, result)?.content())
    }

    /// The content of a result below a path.
    fn part(&mut self, result: &StepResult, path: &ImagePath) -> Result<ContentDigest, E> {
        match result {
            StepResult::Directory(directory) => Ok(directory.content(path)),
            StepResult::Snapshot(snapshot) if path.is_root() => Ok(snapshot.content()),
            StepResult::Snapshot(snapshot) => {
                let part = self.contents.part(snapshot, path)?;
                self.note(part);
                Ok(part.content)
            }
        }
    }
}
