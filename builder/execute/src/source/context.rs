//! Directories of the user's: what a build needs of them, and scanning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::Store;
use kiln_cache::scan::context::{Decision, Selection, directory, scan};
use kiln_graph::pattern::{Matcher, has_wildcard};
use kiln_graph::{
    ContextSource, CopyFiles, Entry, FileAction, Graph, ImagePath, Manifest, MountKind, Node, Op,
};
use kiln_solve::{Directory, Outcome, ResolvedSource, StepResult};
use kiln_tree::TreeRoot;

use crate::{EngineError, Needed};

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

/// Scans the directories that a build was given by name.
#[derive(Debug)]
pub struct ContextResolver<'a> {
    store: &'a Store,
    directories: &'a BTreeMap<String, PathBuf>,
    needs: ContextNeeds,
}

impl<'a> ContextResolver<'a> {
    /// A resolver for the contexts of a graph.
    #[must_use]
    pub fn new(
        store: &'a Store,
        graph: &Graph,
        directories: &'a BTreeMap<String, PathBuf>,
    ) -> Self {
        Self {
            store,
            directories,
            needs: ContextNeeds::of(graph),
        }
    }

    /// What the graph's steps need of a context.
    pub(crate) fn resolve(&self, context: &ContextSource) -> Result<ResolvedSource, EngineError> {
        let path = self
            .directories
            .get(&context.name)
            .ok_or_else(|| EngineError::NotGiven {
                what: Needed::Context(context.name.clone()),
                location: None,
            })?;
        let matcher = Matcher::new(&context.ignore).map_err(|error| EngineError::Impossible {
            message: format!(".dockerignore: {error}"),
            location: None,
        })?;
        let roots = self.needs.roots(&context.name);
        let mut manifest = self.scan(path, &matcher, &roots)?;
        if roots.iter().any(|root| !root.is_root()) && leads_outside(&manifest, &roots) {
            manifest = self.scan(path, &matcher, &[ImagePath::root()])?;
        }
        let directory = Directory {
            root: path.clone(),
            manifest: Arc::new(manifest),
        };
        Ok(ResolvedSource {
            result: StepResult::Directory(Arc::new(directory)),
            outcome: Outcome::Ran,
            revision: None,
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
            self.store,
            path,
            &Selection {
                roots,
                filter: &filter,
            },
        )?;
        Ok(with_parents(scanned, &TreeRoot::at(path)))
    }
}

/// A directory that is left out but holds something that isn't must still be there.
fn with_parents(manifest: Manifest, root: &TreeRoot) -> Manifest {
    let mut missing = BTreeSet::new();
    let mut last = None;
    for entry in manifest.entries() {
        let parent = entry.path.parent();
        // What lies beside each other has the same directory, and a directory that is there sees to those
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
    let made = missing.into_iter().map(|path| {
        // What is gone meanwhile is made as builders make parents.
        let found = directory(root, &path).ok().flatten();
        found.unwrap_or_else(|| Entry::directory(path))
    });
    let made: Vec<Entry> = made.collect();
    made.into_iter().chain(manifest.into_entries()).collect()
}

/// Whether links in what was scanned may point to what was not.
fn leads_outside(manifest: &Manifest, roots: &[ImagePath]) -> bool {
    manifest.entries().iter().any(|entry| match &entry.node {
        Node::Symlink { target } => {
            let directory = entry.path.parent().unwrap_or_default();
            let target = directory.resolve(target);
            !roots
                .iter()
                .any(|root| target.starts_with(root) && *root != entry.path)
        }
        _ => false,
    })
}
