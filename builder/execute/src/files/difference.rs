//! What turns one tree into another, as a tree of its own: what is new or changed in the upper one, and
//! marks for what is gone. Laid over the lower one it gives the upper one.

use kiln_graph::{CopyFiles, ImagePath, Input, Manifest, Node};

use super::copy::{Changes, copy_one};
use super::place::Place;
use super::surroundings::Surroundings;
use super::{FilesError, Selected};
use crate::view::{Found, View};

/// Makes the difference in the directory that becomes the change.
pub(super) fn apply(
    lower: &View,
    upper: &View,
    around: &Surroundings<'_>,
) -> Result<Manifest, FilesError> {
    let mut place = Place::new(
        lower,
        around.directory,
        around.xattrs,
        around.give_away,
        around.now,
    );
    for path in gone(lower, upper) {
        place.remove(&path)?;
    }
    let changed = upper.below(&ImagePath::root());
    let changed = changed.into_iter().filter(|found| {
        let there = lower.get(&found.entry.path);
        let is_same = there.is_some_and(|there| is_same((lower, &there), (upper, found)));
        !found.entry.path.is_root() && !is_same
    });
    let selected = Selected {
        root: ImagePath::root(),
        name: Vec::new(),
        parents: Vec::new(),
        entries: changed.map(|found| found.entry.path.clone()).collect(),
        is_directory: true,
    };
    let changes = Changes {
        owner: None,
        chmod: None,
    };
    copy_one(
        upper,
        &selected,
        &CopyFiles::new(Input(0), "/", ImagePath::root()),
        &changes,
        around,
        &mut place,
    )?;
    place.into_manifest()
}

/// What the upper tree lacks, and what is a directory in one of them only; not what is below such.
fn gone(lower: &View, upper: &View) -> Vec<ImagePath> {
    let mut all: Vec<ImagePath> = Vec::new();
    for found in lower.below(&ImagePath::root()) {
        let path = &found.entry.path;
        if path.is_root() || all.last().is_some_and(|above| path.starts_with(above)) {
            continue;
        }
        let stays = upper
            .get(path)
            .is_some_and(|there| there.entry.is_directory() == found.entry.is_directory());
        if !stays {
            all.push(path.clone());
        }
    }
    all
}

/// Whether something is the same in both trees. Directories have no time that counts.
fn is_same(lower: (&View, &Found<'_>), upper: (&View, &Found<'_>)) -> bool {
    let (one, other) = (lower.1.entry, upper.1.entry);
    let node = |(view, found): (&View, &Found<'_>)| match &view.linked(found).node {
        Node::Directory { .. } => Node::Directory { opaque: false },
        node => node.clone(),
    };
    let is_directory = one.is_directory();
    (one.mode, one.uid, one.gid, &one.xattrs) == (other.mode, other.uid, other.gid, &other.xattrs)
        && node(lower) == node(upper)
        && (is_directory || one.mtime == other.mtime)
}
