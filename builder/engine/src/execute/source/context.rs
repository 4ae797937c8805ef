//! Folders of the user's: what a build needs of them, scanning, and bringing parts into the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kiln_cache::Tree;
use kiln_cache::scan::context::{Decision, Selection, scan};
use kiln_graph::pattern::{Matcher, has_wildcard};
use kiln_graph::{
    ContextSource, CopyFiles, Entry, FileAction, Graph, ImagePath, Manifest, MountKind, Node, Op,
};
use kiln_tree::{TreeRoot, set_file_attributes};
use rayon::prelude::*;

use crate::engine::Engine;
use crate::execute::files::{FilesError, copy_file};
use crate::execute::view::{Layer, View};
use crate::solve::snapshot::{Folder, StepResult};
use crate::solve::step::{Done, Shared};
use crate::{EngineError, Outcome};

/// The subtrees of each context that the graph's steps name.
#[derive(Debug, Default)]
pub(crate) struct ContextNeeds(BTreeMap<String, BTreeSet<ImagePath>>);

impl ContextNeeds {
    pub(crate) fn of(graph: &Graph) -> Self {
        let mut needs = Self::default();
        for id in graph.ids() {
            let step = graph.step(id);
            let named = match &step.op {
                Op::Files(files) => copies(&files.actions),
                Op::Exec(exec) => {
                    let binds = exec.mounts.iter().filter_map(|mount| match &mount.kind {
                        MountKind::Bind { from, source, .. } => Some((*from, source.clone())),
                        MountKind::Cache(cache) => Some((cache.from?, cache.source.clone())),
                        _ => None,
                    });
                    binds.chain([(exec.root, ImagePath::root())]).collect()
                }
                other => other
                    .inputs()
                    .into_iter()
                    .map(|input| (input, ImagePath::root()))
                    .collect(),
            };
            for (input, path) in named {
                if let Op::Context(context) = &graph.step(graph.input(id, input)).op {
                    needs
                        .0
                        .entry(context.name.clone())
                        .or_default()
                        .insert(path);
                }
            }
        }
        needs
    }

    /// The subtrees needed of a context, none inside of another.
    fn roots(&self, context: &str) -> Vec<ImagePath> {
        let Some(paths) = self.0.get(context) else {
            return vec![ImagePath::root()];
        };
        let mut roots: Vec<ImagePath> = Vec::new();
        for path in paths {
            if !roots.last().is_some_and(|last| path.starts_with(last)) {
                roots.push(path.clone());
            }
        }
        roots
    }
}

fn copies(actions: &[FileAction]) -> Vec<(kiln_graph::Input, ImagePath)> {
    let mut all = Vec::new();
    for action in actions {
        if let FileAction::Copy(copy) = action {
            all.extend(
                copy.sources
                    .iter()
                    .map(|source| (copy.from, fixed_part(copy, source))),
            );
        }
    }
    all
}

/// The part of a source before its first wildcard.
fn fixed_part(copy: &CopyFiles, source: &str) -> ImagePath {
    if copy.parents {
        return ImagePath::root();
    }
    let parts = source.split('/').take_while(|part| !has_wildcard(part));
    ImagePath::new(parts.collect::<Vec<_>>().join("/"))
}

impl Shared<'_> {
    pub(crate) fn scan_context(&self, context: &ContextSource) -> Result<Done, EngineError> {
        let missing = |message: String| EngineError::Missing {
            message,
            location: None,
        };
        let path = self.request.contexts.get(&context.name).ok_or_else(|| {
            missing(format!(
                "no folder was given for the context '{}': give --build-context {}=FOLDER",
                context.name, context.name
            ))
        })?;
        let matcher = Matcher::new(&context.ignore)
            .map_err(|error| missing(format!(".dockerignore: {error}")))?;
        let roots = self.needs.roots(&context.name);
        let mut manifest = self.scan(path, &matcher, &roots)?;
        if roots.iter().any(|root| !root.is_root()) && leads_outside(&manifest, &roots) {
            manifest = self.scan(path, &matcher, &[ImagePath::root()])?;
        }
        let folder = Folder {
            root: TreeRoot::at(path),
            manifest: Arc::new(manifest),
        };
        Ok(Done {
            result: StepResult::Folder(Arc::new(folder)),
            outcome: Outcome::Ran,
            filed: None,
        })
    }

    fn scan(
        &self,
        path: &Path,
        matcher: &Matcher,
        roots: &[ImagePath],
    ) -> Result<Manifest, EngineError> {
        let filter = |path: &ImagePath, is_directory: bool| {
            let bytes = path.relative_bytes();
            if matcher.is_empty() || !matcher.excludes(bytes) {
                Decision::Take
            } else if is_directory && matcher.may_include_below(bytes) {
                Decision::Skip
            } else {
                Decision::SkipAll
            }
        };
        let scanned = scan(
            &self.engine.store,
            path,
            &Selection {
                roots,
                filter: &filter,
            },
        )?;
        Ok(with_parents(scanned, &TreeRoot::at(path)))
    }

    /// Copies a part of a user's folder into the store, where it can be mounted.
    pub(crate) fn import(&self, folder: &Folder, part: &ImagePath) -> Result<Tree, EngineError> {
        import(self.engine, folder, part)
    }
}

/// Copies a part of a user's folder into the store.
pub(crate) fn import(
    engine: &Engine,
    folder: &Folder,
    part: &ImagePath,
) -> Result<Tree, EngineError> {
    let owned_by_root = |entry: &Entry| Entry {
        uid: 0,
        gid: 0,
        ..entry.clone()
    };
    let whole = View::new(vec![Layer {
        manifest: folder.manifest.clone(),
        root: folder.root.clone(),
    }]);
    let wanted = whole.one_tree_below(part);
    let manifest: Manifest = wanted
        .iter()
        .map(|(entry, _)| owned_by_root(entry))
        .collect();
    if let Some(tree) = engine.store.tree(&manifest.id())? {
        return Ok(tree);
    }
    let staging = engine.store.staging()?;
    let imported = import_entries(engine, &manifest, &folder.root, staging.root(), part);
    imported.map_err(|source| EngineError::Files {
        location: None,
        source,
    })?;
    Ok(engine.store.commit(staging, manifest)?)
}

/// A folder that is left out but holds something that isn't must still be there.
fn with_parents(manifest: Manifest, root: &TreeRoot) -> Manifest {
    let mut missing = BTreeSet::new();
    let mut last = None;
    for entry in manifest.entries() {
        let parent = entry.path.parent();
        // What lies beside each other has the same folder, and a folder that is there sees to those
        // above it.
        if parent != last {
            let above = std::iter::successors(parent.clone(), ImagePath::parent);
            let above = above.take_while(|above| !above.is_root() && manifest.get(above).is_none());
            missing.extend(above);
            last = parent;
        }
    }
    if missing.is_empty() {
        return manifest;
    }
    let made = missing.into_iter().map(|folder| {
        let stat = root.stat(&folder);
        let mode = stat.map_or(0o755, |stat| stat.st_mode & 0o7777);
        Entry {
            mode,
            ..Entry::directory(folder)
        }
    });
    let made: Vec<Entry> = made.collect();
    made.into_iter().chain(manifest.into_entries()).collect()
}

/// Whether links in what was scanned may point to what was not.
fn leads_outside(manifest: &Manifest, roots: &[ImagePath]) -> bool {
    manifest.entries().iter().any(|entry| match &entry.node {
        Node::Symlink { target } => {
            let folder = entry.path.parent().unwrap_or_default();
            let target = folder.resolve(target);
            !roots
                .iter()
                .any(|root| target.starts_with(root) && *root != entry.path)
        }
        _ => false,
    })
}

fn import_entries(
    engine: &Engine,
    manifest: &Manifest,
    from: &TreeRoot,
    to: &TreeRoot,
    part: &ImagePath,
) -> Result<(), FilesError> {
    let fail = |entry: &Entry, source| FilesError::Io {
        action: "copy",
        path: entry.path.clone(),
        source,
    };
    for above in part.ancestors().filter(|above| !above.is_root()) {
        _ = to.create_directory(&above);
    }
    let (folders, others): (Vec<&Entry>, Vec<&Entry>) = manifest
        .entries()
        .iter()
        .partition(|entry| entry.is_directory());
    for folder in &folders {
        let made = to.create_directory(&folder.path);
        made.map_err(|e| fail(folder, e))?;
    }
    let give_away = engine.gives_away();
    others
        .par_iter()
        .with_min_len(16)
        .try_for_each(|entry| import_one(entry, from, to, give_away).map_err(|e| fail(entry, e)))?;
    for entry in &others {
        if let Node::HardLink { to: first } = &entry.node {
            let linked = to.link(&entry.path, &to.join(first.clone()));
            linked.map_err(|e| fail(entry, e))?;
        }
    }
    for folder in folders.iter().rev() {
        let set = to.set_attributes(folder, give_away);
        set.map_err(|e| fail(folder, e))?;
    }
    Ok(())
}

fn import_one(
    entry: &Entry,
    from: &TreeRoot,
    to: &TreeRoot,
    give_away: bool,
) -> std::io::Result<()> {
    match &entry.node {
        Node::Symlink { target } => {
            to.create_symlink(&entry.path, target)?;
            to.set_attributes(entry, give_away)
        }
        Node::File { .. } => {
            let copy = copy_file(entry, &from.join(entry.path.clone()), to, true)?;
            set_file_attributes(&copy, entry, give_away)
        }
        _ => Ok(()),
    }
}
