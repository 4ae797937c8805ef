//! Steps where overlayfs can't be mounted: the root is copied before, and compared afterwards.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use kiln_cache::scan::upper::{self, UpperOptions};
use kiln_cache::{Sharing, Staging, share};
use kiln_graph::{Entry, ImagePath, Manifest, Node, Timestamp};
use rayon::prelude::*;
use rustix::fs::{CWD, FileType, Mode};

use crate::EngineError;
use crate::engine::Engine;
use crate::files::{make_whiteout, set_attributes};
use crate::view::View;

/// Copies files into an empty folder with all their attributes. Where a step may write, nothing
/// may be linked.
pub(crate) fn copy_out(
    files: &[(Entry, PathBuf)],
    folder: &Path,
    give_away: bool,
    sharing: Sharing,
) -> io::Result<()> {
    for (entry, _) in files.iter().filter(|(entry, _)| entry.is_directory()) {
        std::fs::create_dir(entry.path.under(folder))?;
    }
    files
        .par_iter()
        .with_min_len(16)
        .try_for_each(|(entry, host)| copy_one(entry, host, folder, give_away, sharing))?;
    for (entry, _) in files {
        if let Node::HardLink { to } = &entry.node {
            std::fs::hard_link(to.under(folder), entry.path.under(folder))?;
        }
    }
    for (entry, _) in files.iter().rev().filter(|(entry, _)| entry.is_directory()) {
        set_attributes(entry, &entry.path.under(folder), give_away)?;
    }
    Ok(())
}

fn copy_one(
    entry: &Entry,
    host: &Path,
    folder: &Path,
    give_away: bool,
    sharing: Sharing,
) -> io::Result<()> {
    let target = entry.path.under(folder);
    let (kind, device) = match &entry.node {
        Node::Directory { .. } | Node::HardLink { .. } | Node::Whiteout | Node::Socket => {
            return Ok(());
        }
        Node::File { .. } => {
            // A link has the attributes already; one that can't be made is a copy.
            if sharing == Sharing::HardLink && std::fs::hard_link(host, &target).is_ok() {
                return Ok(());
            }
            share(host, &target, Sharing::ContentOnly)?;
            return set_attributes(entry, &target, give_away);
        }
        Node::Symlink { target: points_to } => {
            let points_to: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(points_to);
            std::os::unix::fs::symlink(points_to, &target)?;
            return set_attributes(entry, &target, give_away);
        }
        Node::Fifo => (FileType::Fifo, 0),
        Node::CharDevice { major, minor } => (
            FileType::CharacterDevice,
            rustix::fs::makedev(*major, *minor),
        ),
        Node::BlockDevice { major, minor } => {
            (FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
        }
    };
    match rustix::fs::mknodat(CWD, &target, kind, Mode::from_raw_mode(0o600), device) {
        // A user namespace makes no devices.
        Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => set_attributes(entry, &target, give_away),
    }
}

impl Engine {
    /// What a step changed in a copy of `base`: the changed files are moved into a folder of
    /// their own, as overlayfs would have left them.
    pub(crate) fn changes_of_copy(
        &self,
        copy: &Staging,
        base: &View,
        started: Timestamp,
        owner: &(dyn Fn(&ImagePath, u32, u32) -> (u32, u32) + Sync),
    ) -> Result<(Staging, Manifest), EngineError> {
        let xattrs = self.store.xattrs();
        let after = upper::scan(
            copy.fs(),
            &UpperOptions {
                xattrs,
                started,
                owner,
            },
        )?;
        let before: Manifest = base.flatten().into_iter().map(|(entry, _)| entry).collect();
        let changes = difference(&before, &after);
        let staging = self.store.staging()?;
        self.move_changes(&changes, copy.fs(), staging.fs())
            .map_err(|source| EngineError::Output {
                what: "what the step changed".to_owned(),
                source,
            })?;
        Ok((staging, changes))
    }

    fn move_changes(&self, changes: &Manifest, from: &Path, to: &Path) -> io::Result<()> {
        for entry in changes.entries() {
            let target = entry.path.under(to);
            match &entry.node {
                Node::Directory { opaque } => {
                    std::fs::create_dir(&target)?;
                    if *opaque {
                        let flags = rustix::fs::XattrFlags::empty();
                        rustix::fs::lsetxattr(&target, self.store.xattrs().opaque(), b"y", flags)?;
                    }
                }
                Node::Whiteout => make_whiteout(&target)?,
                _ => std::fs::rename(entry.path.under(from), &target)?,
            }
        }
        for entry in changes
            .entries()
            .iter()
            .rev()
            .filter(|entry| entry.is_directory())
        {
            set_attributes(entry, &entry.path.under(to), self.gives_away())?;
        }
        Ok(())
    }
}

/// What must lie over `before` to show `after`.
fn difference(before: &Manifest, after: &Manifest) -> Manifest {
    let mut changed: Vec<Entry> = Vec::new();
    let mut kept_groups: BTreeSet<ImagePath> = BTreeSet::new();
    for entry in after.entries() {
        let was = before.get(&entry.path);
        let group = match &entry.node {
            Node::HardLink { to } => to.clone(),
            _ => entry.path.clone(),
        };
        let same = was.is_some_and(|was| is_same(was, entry));
        if !same || kept_groups.contains(&group) {
            kept_groups.insert(group);
            let mut entry = entry.clone();
            let replaces = was.is_some_and(|was| !was.is_directory());
            if let Node::Directory { opaque } = &mut entry.node {
                *opaque = replaces;
            }
            changed.push(entry);
        }
    }
    changed.extend(
        before
            .entries()
            .iter()
            .filter(|was| is_removed(was, before, after))
            .map(|was| Entry {
                mode: 0,
                node: Node::Whiteout,
                ..Entry::directory(was.path.clone())
            }),
    );
    with_first_names(with_folders(changed, after), after)
}

fn is_same(was: &Entry, is: &Entry) -> bool {
    let folders = was.is_directory() && is.is_directory();
    let attributes =
        (was.mode, was.uid, was.gid, &was.xattrs) == (is.mode, is.uid, is.gid, &is.xattrs);
    attributes && (folders || (was.node == is.node && was.mtime == is.mtime))
}

/// Whether a path is gone while its folder is still there.
fn is_removed(was: &Entry, before: &Manifest, after: &Manifest) -> bool {
    let parent = was.path.parent().filter(|parent| !parent.is_root());
    let folder_stays = parent.is_none_or(|parent| {
        let is_folder =
            |manifest: &Manifest| manifest.get(&parent).is_some_and(Entry::is_directory);
        is_folder(before) && is_folder(after)
    });
    folder_stays && after.get(&was.path).is_none()
}

/// A hard link needs its first name in the same tree.
fn with_first_names(changed: Manifest, after: &Manifest) -> Manifest {
    let missing: Vec<Entry> = changed
        .entries()
        .iter()
        .filter_map(|entry| match &entry.node {
            Node::HardLink { to } if changed.get(to).is_none() => after.get(to).cloned(),
            _ => None,
        })
        .collect();
    if missing.is_empty() {
        return changed;
    }
    with_folders(
        changed.into_entries().into_iter().chain(missing).collect(),
        after,
    )
}

fn with_folders(changed: Vec<Entry>, after: &Manifest) -> Manifest {
    let mut folders: BTreeSet<ImagePath> = BTreeSet::new();
    for entry in &changed {
        folders.extend(entry.path.ancestors().filter(|above| !above.is_root()));
    }
    for entry in &changed {
        folders.remove(&entry.path);
    }
    let folders = folders
        .iter()
        .filter_map(|folder| after.get(folder).cloned());
    folders.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::Digest;

    fn file(path: &str, content: &str) -> Entry {
        let node = Node::File {
            size: content.len() as u64,
            digest: Digest::of(content.as_bytes()),
        };
        Entry {
            node,
            ..Entry::directory(path.into())
        }
    }

    fn folder(path: &str) -> Entry {
        Entry::directory(path.into())
    }

    #[test]
    fn what_overlayfs_would_have_left() {
        let before = [
            folder("/d"),
            file("/d/a", "1"),
            file("/d/b", "1"),
            folder("/gone"),
            file("/gone/x", ""),
            file("/f", ""),
        ];
        let after = [
            folder("/d"),
            file("/d/a", "1"),
            file("/d/b", "2"),
            folder("/f"),
            file("/f/new", ""),
        ];
        let changes = difference(&before.into_iter().collect(), &after.into_iter().collect());
        let shown: Vec<String> = changes
            .entries()
            .iter()
            .map(|entry| match &entry.node {
                Node::Whiteout => format!("-{}", entry.path),
                Node::Directory { opaque: true } => format!("!{}", entry.path),
                _ => entry.path.to_string(),
            })
            .collect();
        assert_eq!(shown, ["/d", "/d/b", "!/f", "/f/new", "-/gone"]);
    }
}
