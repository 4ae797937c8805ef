//! What a step's result is filed under: its operation, and the content of what it is given.
//!
//! Key version 1: the encoding of the operation, the platform, and for each input a digest of the
//! *content* that the step can see of it: the whole tree for a root, the selected files for a
//! copy, the mounted part for a bind mount.

use kiln_cache::{KeyInput, KeyParts};
use kiln_graph::encode::Encoder;
use kiln_graph::{
    ContentDigest, CopyFiles, Digest, Exec, FileAction, Files, ImagePath, Input, MountKind, Op,
    Step, StepId, StepKey,
};

use crate::EngineError;
use crate::execute::files::{FilesError, select};
use crate::solve::snapshot::{Snapshot, StepResult};
use crate::solve::step::Shared;

/// Bumped whenever keys are made otherwise.
const KEY_VERSION: u32 = 1;

/// The key made of a step's operation and the parts found for it.
pub(crate) fn of(step: &Step, parts: &KeyParts) -> StepKey {
    let mut out = Encoder::new("kiln-key", KEY_VERSION);
    step.op.encode(&mut out);
    out.str(&step.platform.to_string());
    out.seq(&parts.inputs, |out, input| {
        out.digest(&input.content.0);
    });
    StepKey(out.finish())
}

/// What a step is given, by content.
pub(crate) fn parts(
    shared: &Shared<'_>,
    id: StepId,
    inputs: &[StepResult],
) -> Result<KeyParts, EngineError> {
    let step = shared.graph().step(id);
    let inputs = match &step.op {
        Op::Exec(exec) => exec_inputs(shared, id, exec, inputs)?,
        Op::Files(files) => file_inputs(shared, id, files, inputs)?,
        _ => Vec::new(),
    };
    let operation = crate::execute::redacted_op::operation(&shared.engine.store, &step.op)?;
    Ok(KeyParts {
        definition: shared.graph().definition(id),
        operation,
        inputs,
    })
}

fn exec_inputs(
    shared: &Shared<'_>,
    id: StepId,
    exec: &Exec,
    inputs: &[StepResult],
) -> Result<Vec<KeyInput>, EngineError> {
    let root = shared.snapshot(&inputs[exec.root.index()])?.content();
    let mut all = vec![KeyInput {
        name: "root".to_owned(),
        content: root,
    }];
    for mount in &exec.mounts {
        let (from, source) = match &mount.kind {
            MountKind::Bind { from, source, .. } => (*from, source),
            MountKind::Cache(cache) => match cache.from {
                Some(from) => (from, &cache.source),
                None => continue,
            },
            MountKind::Secret(secret) => {
                all.extend(secret_input(shared, &secret.id)?);
                continue;
            }
            _ => continue,
        };
        let content = part(shared, id, &inputs[from.index()], source)?;
        all.push(KeyInput {
            name: format!("mount {}", mount.target),
            content,
        });
    }
    Ok(all)
}

/// A secret whose change is to be noticed: hashed with a key that never leaves the store.
fn secret_input(shared: &Shared<'_>, id: &str) -> Result<Option<KeyInput>, EngineError> {
    let secrets = &shared.request.secrets;
    if !secrets.is_in_key(id) {
        return Ok(None);
    }
    let given = secrets.secret(id).map_err(|reason| EngineError::Missing {
        message: format!("the secret '{id}' can't be read: {reason}"),
        location: None,
    })?;
    let Some(value) = given else {
        return Ok(None);
    };
    let content = ContentDigest(shared.engine.store.private_digest(value.expose())?);
    let name = format!("secret {id}");
    Ok(Some(KeyInput { name, content }))
}

/// The content of a result below a path.
fn part(
    shared: &Shared<'_>,
    id: StepId,
    result: &StepResult,
    path: &ImagePath,
) -> Result<ContentDigest, EngineError> {
    match result {
        StepResult::Folder(folder) => Ok(folder.content(path)),
        StepResult::Snapshot(snapshot) if path.is_root() => Ok(snapshot.content()),
        StepResult::Snapshot(snapshot) => {
            let memo = memo_key("part", snapshot.content(), &path.to_string());
            if let Some(known) = known_part(shared, id, "part", snapshot, &memo)? {
                return Ok(known);
            }
            let view = shared.outline(result)?;
            let mut out = Encoder::new("kiln-part", KEY_VERSION);
            out.seq(view.below(&view.resolve(path, true)), |out, found| {
                out.path(&found.entry.path);
                view.linked(&found).encode_attributes(out);
            });
            let content = ContentDigest(out.finish());
            shared.engine.store.put_memo("part", &memo, &content)?;
            shared.note_part(id, memo, content);
            Ok(content)
        }
    }
}

/// What is known of a part without its files: here, or by a remote.
fn known_part(
    shared: &Shared<'_>,
    id: StepId,
    kind: &str,
    snapshot: &Snapshot,
    memo: &Digest,
) -> Result<Option<ContentDigest>, EngineError> {
    let store = &shared.engine.store;
    let known = match store.memo(kind, memo)? {
        Some(known) => Some(known),
        None => shared.distant_part(snapshot, memo)?,
    };
    if let Some(content) = known {
        shared.note_part(id, *memo, content);
    }
    Ok(known)
}

fn memo_key(kind: &str, content: ContentDigest, what: &str) -> Digest {
    let mut out = Encoder::new("kiln-memo-key", KEY_VERSION);
    out.str(kind).digest(&content.0).str(what);
    out.finish()
}

fn file_inputs(
    shared: &Shared<'_>,
    id: StepId,
    files: &Files,
    inputs: &[StepResult],
) -> Result<Vec<KeyInput>, EngineError> {
    let mut all = Vec::new();
    if let Some(base) = files.base {
        let content = shared.snapshot(&inputs[base.index()])?.content();
        all.push(KeyInput {
            name: "base".to_owned(),
            content,
        });
    }
    for action in &files.actions {
        if let FileAction::Copy(copy) = action {
            let content = selection(shared, id, copy, &inputs[copy.from.index()])
                .map_err(|error| located(error, shared.graph().step(id)))?;
            all.push(KeyInput {
                name: format!("files {}", copy.sources.join(" ")),
                content,
            });
        }
    }
    Ok(all)
}

fn located(error: SelectionError, step: &Step) -> EngineError {
    match error {
        SelectionError::Files(source) => EngineError::Files {
            location: step.location.clone(),
            source,
        },
        SelectionError::Engine(error) => *error,
    }
}

enum SelectionError {
    Files(FilesError),
    Engine(Box<EngineError>),
}

impl<E: Into<EngineError>> From<E> for SelectionError {
    fn from(error: E) -> Self {
        Self::Engine(Box::new(error.into()))
    }
}

fn selection(
    shared: &Shared<'_>,
    id: StepId,
    copy: &CopyFiles,
    from: &StepResult,
) -> Result<ContentDigest, SelectionError> {
    let memo = match from {
        StepResult::Folder(_) => None,
        StepResult::Snapshot(snapshot) => {
            let what = serde_json::to_string(&CopyFiles {
                from: Input(0),
                ..copy.clone()
            });
            let what = what.unwrap_or_default();
            let memo = memo_key("selection", snapshot.content(), &what);
            if let Some(known) = known_part(shared, id, "selection", snapshot, &memo)? {
                return Ok(known);
            }
            Some(memo)
        }
    };
    let view = shared.outline(from)?;
    let selected = select(&view, copy).map_err(SelectionError::Files)?;
    let content = crate::execute::files::digest(&view, copy, &selected);
    if let Some(memo) = &memo {
        shared.engine.store.put_memo("selection", memo, &content)?;
        shared.note_part(id, *memo, content);
    }
    Ok(content)
}
