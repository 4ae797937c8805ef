//! Which files a COPY takes: sources with wildcards, exclusions, parents.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};

use kiln_graph::encode::Encoder;
use kiln_graph::pattern::{Matcher, has_wildcard, matches};
use kiln_graph::{ContentDigest, CopyFiles, Entry, ImagePath, Node, clean_below_root};

use super::{FilesError, parents};
use crate::view::{Found, View};

/// Bumped whenever the digest of a selection is made otherwise.
const SELECTION_VERSION: u32 = 1;

/// Follows an entry that is another name of a file before it. No path is as long, which is what else
/// could follow.
const ANOTHER_NAME: u64 = u64::MAX;

/// A file or directory that a source stands for, and what is taken of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selected {
    /// The file or directory, links followed.
    pub(crate) root: ImagePath,
    /// Its name in a destination directory; empty: its content goes there directly.
    pub(crate) name: Vec<u8>,
    /// Which of the entries are directories that are taken only for what is below them, in path order.
    pub(crate) parents: Vec<ImagePath>,
    /// What is taken, with paths relative to `root`; a directory before what it holds.
    pub(crate) entries: Vec<ImagePath>,
    /// Whether `root` is a directory.
    pub(crate) is_directory: bool,
}

/// Finds what a copy takes.
pub(crate) fn select(view: &View, copy: &CopyFiles) -> Result<Vec<Selected>, FilesError> {
    let exclude = Matcher::new(&copy.exclude)?;
    let include = match copy.include.is_empty() {
        true => None,
        false => Some(Matcher::new(&copy.include)?),
    };
    let mut all = Vec::new();
    for source in &copy.sources {
        if copy.parents {
            all.append(&mut parents::select(view, source, &exclude)?);
            continue;
        }
        let pattern = clean_below_root(source);
        let paths = match has_wildcard(&pattern) {
            true => expand(view, &pattern)?,
            false => vec![ImagePath::new(&pattern)],
        };
        for path in paths {
            let root = followed(view, &path)?;
            let mut one = one(view, root, (include.as_ref(), &exclude))?;
            if !one.is_directory || copy.keep_name {
                one.name = path.file_name().unwrap_or_default().to_vec();
            }
            all.push(one);
        }
    }
    Ok(all)
}

/// Where a source lies, links followed; also a link that a wildcard matched must lead somewhere.
pub(super) fn followed(view: &View, path: &ImagePath) -> Result<ImagePath, FilesError> {
    let root = view.resolve(path, true);
    if root.is_root() {
        return Ok(root);
    }
    match view.get(&root).map(|found| &found.entry.node) {
        None => Err(FilesError::NotFound(path.to_string())),
        Some(Node::Symlink { .. }) => Err(FilesError::LinkLoop { path: path.clone() }),
        Some(_) => Ok(root),
    }
}

fn one(
    view: &View,
    root: ImagePath,
    (include, exclude): (Option<&Matcher>, &Matcher),
) -> Result<Selected, FilesError> {
    let found = view.get(&root);
    let is_directory = root.is_root() || found.is_some_and(|found| found.entry.is_directory());
    // What a source names itself is not tested, only what is below it.
    let (entries, parents) = gather(view, &root, |_, path| {
        let is_included = include.is_none_or(|include| include.excludes(path));
        Ok(path.is_empty() || is_included && !exclude.excludes(path))
    })?;
    Ok(Selected {
        root,
        name: Vec::new(),
        parents,
        entries,
        is_directory,
    })
}

/// What is taken below a directory, and which of it are directories that are taken only for what is
/// below them. `takes` is asked with paths relative to the directory.
pub(super) fn gather(
    view: &View,
    root: &ImagePath,
    takes: impl Fn(&Found<'_>, &[u8]) -> Result<bool, FilesError>,
) -> Result<(Vec<ImagePath>, Vec<ImagePath>), FilesError> {
    let mut entries = Vec::new();
    let mut parents = Vec::new();
    let mut above: Vec<ImagePath> = Vec::new();
    for found in view.below(root) {
        let path = found.entry.path.strip_prefix(root).unwrap_or_default();
        let relative = ImagePath::new(path);
        above.retain(|directory| relative.starts_with(directory));
        if found.entry.node != Node::Socket && takes(&found, path)? {
            entries.extend_from_slice(&above);
            parents.append(&mut above);
            entries.push(relative);
        } else if found.entry.is_directory() && !relative.is_root() {
            above.push(relative);
        }
    }
    Ok((entries, parents))
}

/// The paths that a pattern matches, in path order. As in BuildKit, links are followed up to the
/// first wildcard; from there on only directories are searched, not links to some.
pub(super) fn expand(view: &View, pattern: &str) -> Result<Vec<ImagePath>, FilesError> {
    // A bad pattern is an error even where nothing is compared with it.
    matches(pattern, b"")?;
    // Each with where it lies.
    let mut at = vec![(ImagePath::root(), ImagePath::root())];
    let mut is_fixed = true;
    for part in pattern.split('/') {
        is_fixed &= !has_wildcard(part);
        let mut next = Vec::new();
        for (path, place) in &at {
            let below = |name: &[u8]| (path.join(name), place.join(name));
            if has_wildcard(part) {
                for name in view.names(place) {
                    if matches(part, &name)? {
                        next.push(below(&name));
                    }
                }
                continue;
            }
            let (path, place) = below(part.replace('\\', "").as_bytes());
            let place = match is_fixed {
                true => view.resolve(&place, true),
                false => place,
            };
            let is_there = place.is_root() || view.get(&place).is_some();
            next.extend(is_there.then_some((path, place)));
        }
        // A wildcard may match nothing, but the directory before it is named.
        if is_fixed && next.is_empty() {
            return Err(FilesError::NotFound(format!("/{pattern}")));
        }
        at = next;
    }
    Ok(at.into_iter().map(|(path, _)| path).collect())
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
