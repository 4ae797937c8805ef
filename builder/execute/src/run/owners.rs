//! Whether what a command did with one user id would be another thing with all of them, beyond what it
//! was seen to ask for. Files of others look like root's then, so copies of them become root's.

use std::collections::BTreeSet;

use kiln_graph::{Digest, Entry, ImagePath, Manifest, Node};

use crate::view::View;

const SET_GROUP_ID: u32 = 0o2000;

/// Whether a new file is a copy of one that belongs to others, or lies in a directory that gives
/// its group to what is made in it.
pub(super) fn may_differ(changes: &Manifest, base: &View) -> bool {
    let root = ImagePath::root();
    let before = base.below(&root);
    let foreign: BTreeSet<Digest> = before
        .iter()
        .filter(|found| is_foreign(found.entry))
        .filter_map(|found| content(found.entry))
        .collect();
    let is_new = |entry: &&Entry| entry.node != Node::Whiteout && base.get(&entry.path).is_none();
    changes.entries().iter().filter(is_new).any(|entry| {
        let is_copy = content(entry).is_some_and(|digest| foreign.contains(&digest));
        is_copy || inherits_a_group(&entry.path, base)
    })
}

fn is_foreign(entry: &Entry) -> bool {
    (entry.uid, entry.gid) != (0, 0)
}

/// What a file contains; nothing of empty files, which are all alike.
fn content(entry: &Entry) -> Option<Digest> {
    match &entry.node {
        Node::File { size, digest } if *size > 0 => Some(*digest),
        _ => None,
    }
}

/// Whether the nearest directory above that was there before gives its group away.
fn inherits_a_group(path: &ImagePath, base: &View) -> bool {
    let above = path.ancestors();
    let nearest = above.filter_map(|above| base.get(&above)).last();
    nearest.is_some_and(|found| found.entry.mode & SET_GROUP_ID != 0 && found.entry.gid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_entry::{directory, file};
    use crate::view::Layer;
    use kiln_tree::TreeRoot;
    use std::sync::Arc;

    fn view(entries: Vec<Entry>) -> View {
        View::new(vec![Layer {
            manifest: Arc::new(entries.into_iter().collect()),
            root: TreeRoot::at("/none"),
        }])
    }

    #[test]
    fn copies_of_others_files_and_inherited_groups_are_noticed() {
        let of = |mut entry: Entry, gid: u32, mode: u32| {
            (entry.gid, entry.mode) = (gid, mode);
            entry
        };
        let base = view(vec![
            directory(""),
            of(file("shadow", "secret"), 42, 0o640),
            file("own", "mine"),
            of(file("empty", ""), 42, 0o640),
            of(directory("mail"), 8, 0o2775),
            of(directory("usual"), 8, 0o755),
        ]);
        let differs = |entries: Vec<Entry>| may_differ(&entries.into_iter().collect(), &base);
        assert!(differs(vec![file("copy", "secret")]));
        assert!(differs(vec![directory("mail"), file("mail/new", "x")]));
        let deep = vec![
            directory("mail"),
            directory("mail/a"),
            file("mail/a/b", "x"),
        ];
        assert!(differs(deep));
        for unchanged in [
            vec![file("copy", "mine"), file("e", "")],
            vec![directory("usual"), file("usual/new", "x")],
            vec![of(file("shadow", "secret"), 42, 0o600)],
            vec![],
        ] {
            assert!(!differs(unchanged.clone()), "{unchanged:?}");
        }
    }
}
