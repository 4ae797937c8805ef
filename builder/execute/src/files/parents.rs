//! What a COPY with `--parents` takes: one copy of a tree, of what a pattern matches in it. As in
//! BuildKit, the directory before the pivot (`/./`) is found through links, but what is taken of it
//! is taken as it is: a link that the pattern names is copied as a link, and none is followed on the
//! way.

use kiln_graph::pattern::{Matcher, has_wildcard};
use kiln_graph::{ImagePath, Node, clean_below_root};

use super::FilesError;
use super::select::{Selected, expand, followed, gather};
use crate::view::{Found, View};

/// What one source of a copy stands for.
pub(super) fn select(
    view: &View,
    source: &str,
    exclude: &Matcher,
) -> Result<Vec<Selected>, FilesError> {
    let (before, pattern) = source.split_once("/./").unwrap_or(("", source));
    let (pivot, pattern) = (clean_below_root(before), clean_below_root(pattern));
    let wanted = match pattern.is_empty() {
        true => None,
        false => Some(Matcher::new(&[&pattern])?),
    };
    let mut all = Vec::new();
    for root in pivots(view, &pivot)? {
        all.push(taken(view, root, wanted.as_ref(), exclude)?);
    }
    let must_exist = !has_wildcard(&pivot) && !has_wildcard(&pattern);
    if must_exist && all.iter().all(|selected| selected.entries.is_empty()) {
        let path = ImagePath::new(clean_below_root(source));
        return Err(FilesError::NotFound(path.to_string()));
    }
    Ok(all)
}

/// The directories that the part before the pivot names.
fn pivots(view: &View, pivot: &str) -> Result<Vec<ImagePath>, FilesError> {
    if pivot.is_empty() {
        return Ok(vec![ImagePath::root()]);
    }
    let paths = match has_wildcard(pivot) {
        true => expand(view, pivot)?,
        false => vec![ImagePath::new(pivot)],
    };
    let roots = paths.iter().map(|path| view.resolve(path, true));
    Ok(roots.collect())
}

/// What is taken of one directory: what matches, all below it, and the directories above it.
fn taken(
    view: &View,
    root: ImagePath,
    wanted: Option<&Matcher>,
    exclude: &Matcher,
) -> Result<Selected, FilesError> {
    let (entries, parents) = gather(view, &root, |found, path| {
        let is_wanted = wanted.is_none_or(|wanted| wanted.excludes(path));
        if path.is_empty() || !is_wanted || exclude.excludes(path) {
            return Ok(false);
        }
        if wanted.is_some() {
            refuse_dangling(view, found)?;
        }
        Ok(true)
    })?;
    Ok(Selected {
        root,
        name: Vec::new(),
        parents,
        entries,
        is_directory: true,
    })
}

/// BuildKit follows the links at the top of a tree to know what changed, so they must lead somewhere.
fn refuse_dangling(view: &View, found: &Found<'_>) -> Result<(), FilesError> {
    let is_at_top = found.entry.path.components().count() == 1;
    match &found.entry.node {
        Node::Symlink { .. } if is_at_top => followed(view, &found.entry.path).map(drop),
        _ => Ok(()),
    }
}
