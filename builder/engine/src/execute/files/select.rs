//! Which files a COPY takes: sources with wildcards, exclusions, parents.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};

use kiln_graph::encode::Encoder;
use kiln_graph::pattern::{Matcher, has_wildcard, matches, matches_deep};
use kiln_graph::{ContentDigest, CopyFiles, Entry, ImagePath, Node};

use super::FilesError;
use crate::execute::view::{Found, View};

/// Bumped whenever the digest of a selection is made otherwise.
const SELECTION_VERSION: u32 = 1;

/// Follows an entry that is another name of a file before it. No path is as long, which is what else
/// could follow.
const ANOTHER_NAME: u64 = u64::MAX;

/// A file or folder that a source stands for, and what is taken of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selected {
    /// The file or folder, links followed.
    pub(crate) root: ImagePath,
    /// Its name in a destination folder; empty: its content goes there directly.
    pub(crate) name: Vec<u8>,
    /// Folders above it that are made again below the destination (`--parents`).
    pub(crate) parents: Vec<ImagePath>,
    /// What is taken, with paths relative to `root`; a folder before what it holds.
    pub(crate) entries: Vec<ImagePath>,
    /// Whether `root` is a folder.
    pub(crate) is_directory: bool,
}

/// Finds what a copy takes.
pub(crate) fn select(view: &View, copy: &CopyFiles) -> Result<Vec<Selected>, FilesError> {
    let exclude = Matcher::new(&copy.exclude)?;
    let mut all = Vec::new();
    for source in &copy.sources {
        let (pivot, pattern) = if copy.parents {
            split_pivot(source)
        } else {
            (0, clean(source))
        };
        let wildcard = has_wildcard(&pattern);
        let paths = if wildcard {
            expand(view, &pattern, copy.parents)?
        } else {
            vec![ImagePath::new(&pattern)]
        };
        for path in paths {
            let root = view.resolve(&path, true);
            let is_directory = root.is_root()
                || match view.get(&root) {
                    Some(found) => found.entry.is_directory(),
                    None if wildcard => continue,
                    None => {
                        return Err(FilesError::NotFound(format!(
                            "/{}",
                            pattern.trim_start_matches('/')
                        )));
                    }
                };
            all.push(one(view, copy, &path, root, is_directory, pivot, &exclude));
        }
    }
    Ok(all)
}

fn one(
    view: &View,
    copy: &CopyFiles,
    path: &ImagePath,
    root: ImagePath,
    is_directory: bool,
    pivot: usize,
    exclude: &Matcher,
) -> Selected {
    let mut parents = Vec::new();
    let mut name = match is_directory {
        true => Vec::new(),
        false => path.file_name().unwrap_or_default().to_vec(),
    };
    if copy.parents {
        let parts: Vec<&[u8]> = path.components().collect();
        for end in pivot + 1..parts.len() {
            parents.push(ImagePath::new(parts[..end].join(&b'/')));
        }
        name = parts.get(pivot..).unwrap_or_default().join(&b'/');
    }
    let base = if copy.parents {
        ImagePath::root()
    } else {
        root.clone()
    };
    let mut entries = Vec::new();
    for found in view.below(&root) {
        let from_base = found.entry.path.strip_prefix(&base).unwrap_or_default();
        let from_root = found.entry.path.strip_prefix(&root).unwrap_or_default();
        // What a source names itself is not tested, only what is below it.
        let excluded = !from_base.is_empty() && exclude.excludes(from_base);
        if !excluded && !matches!(found.entry.node, Node::Socket) {
            entries.push(ImagePath::new(from_root));
        }
    }
    Selected {
        root,
        name,
        parents,
        entries,
        is_directory,
    }
}

fn clean(source: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// `a/./b`: the number of components before the pivot, and the path without it.
fn split_pivot(source: &str) -> (usize, String) {
    let inside = source.trim_start_matches("./").trim_start_matches('/');
    match inside.split_once("/./") {
        Some((before, after)) => {
            let before = clean(before);
            let count = before.split('/').filter(|part| !part.is_empty()).count();
            (count, format!("{before}/{}", clean(after)))
        }
        None => (0, clean(inside)),
    }
}

/// The paths that a pattern matches, in path order.
fn expand(view: &View, pattern: &str, deep: bool) -> Result<Vec<ImagePath>, FilesError> {
    // A bad pattern is an error even where nothing is compared with it.
    matches(pattern, b"")?;
    if deep && pattern.contains("**") {
        let all = view.below(&ImagePath::root());
        let paths = all.iter().map(|found| &found.entry.path);
        return Ok(paths
            .filter(|path| matches_deep(pattern, path.relative_bytes()))
            .cloned()
            .collect());
    }
    let mut at = vec![ImagePath::root()];
    let mut is_fixed = true;
    for part in pattern.split('/') {
        is_fixed &= !has_wildcard(part);
        let mut next = Vec::new();
        for folder in &at {
            if has_wildcard(part) {
                let real = view.resolve(folder, true);
                for name in view.names(&real) {
                    if matches(part, &name)? {
                        next.push(folder.join(&name));
                    }
                }
            } else {
                let path = folder.join(part.replace('\\', ""));
                let real = view.resolve(&path, true);
                next.extend(view.get(&real).map(|_| path));
            }
        }
        // A wildcard may match nothing, but the directory before it is named.
        if is_fixed && next.is_empty() && !deep {
            return Err(FilesError::NotFound(format!("/{pattern}")));
        }
        at = next;
    }
    Ok(at)
}

/// The identity of what a copy takes: all that decides its result but times, and owners and modes
/// that it replaces.
pub(crate) fn digest(view: &View, copy: &CopyFiles, selected: &[Selected]) -> ContentDigest {
    let mut out = Encoder::new("kiln-selection", SELECTION_VERSION);
    out.seq(selected, |out, selected| {
        out.bytes(&selected.name).bool(selected.is_directory);
        out.seq(&selected.parents, |out, parent| {
            out.path(parent);
        });
        // What is taken comes in the order of what is there: no need to search for each path.
        let below = view.below(&selected.root);
        let is_link = |found: &&Found<'_>| matches!(found.entry.node, Node::HardLink { .. });
        let mut names = below.iter().find(is_link).map(|_| BTreeMap::new());
        let mut there = below.iter();
        out.seq(&selected.entries, |out, path| {
            out.path(path);
            let wanted = path.relative_bytes();
            let found =
                there.find(|found| found.entry.path.strip_prefix(&selected.root) == Some(wanted));
            out.option(found, |out, found| {
                encode(view, found, copy, out);
                if let Some(names) = &mut names {
                    encode_link(view, found, path, names, out);
                }
            });
        });
    });
    ContentDigest(out.finish())
}

/// Of another name of a file that is taken as well: which one. Others add nothing.
fn encode_link(
    view: &View,
    found: &Found<'_>,
    path: &ImagePath,
    names: &mut BTreeMap<(usize, ImagePath), ImagePath>,
    out: &mut Encoder,
) {
    let is_file = matches!(found.entry.node, Node::File { .. } | Node::HardLink { .. });
    if !is_file {
        return;
    }
    match names.entry(view.file_of(found)) {
        Occupied(first) => {
            out.u64(ANOTHER_NAME).path(first.get());
        }
        Vacant(place) => _ = place.insert(path.clone()),
    }
}

fn encode(view: &View, found: &Found<'_>, copy: &CopyFiles, out: &mut Encoder) {
    let entry = found.entry;
    let (uid, gid) = match copy.owner {
        Some(_) => (0, 0),
        None => (entry.uid, entry.gid),
    };
    let node = match &view.linked(found).node {
        Node::Directory { .. } => Node::Directory { opaque: false },
        node => node.clone(),
    };
    let entry = Entry {
        path: ImagePath::root(),
        mode: entry.mode,
        uid,
        gid,
        mtime: entry.mtime,
        mtime_counts: false,
        xattrs: entry.xattrs.clone(),
        node,
    };
    entry.encode_attributes(out);
}
