//! Cache volumes as a step has them: taken, filled, and which part of one is mounted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_cache::{Staging, VolumeSharing};
use kiln_graph::{CacheMount, Entry, Exec, ImagePath, MountKind, Node, Sharing};
use kiln_sandbox::Place;
use kiln_tree::{TreePath, TreeRoot, copy_tree};

use super::held::Held;
use super::mounts::{MountPlanner, source_of};
use crate::EngineError;
use crate::view::View;

impl MountPlanner<'_> {
    /// The directories of a step's volumes, in the order of its mounts.
    ///
    /// All are found before one is held: to find one may mean to copy another, and so to wait until no
    /// step uses that. They are taken in the order of their names: steps that want the same ones, in
    /// whatever order, never wait for each other in a circle. One that is mounted twice is taken once,
    /// as the strictest of its mounts wants it.
    pub(super) fn take_volumes(
        &self,
        exec: &Exec,
        held: &mut Held,
    ) -> Result<Vec<PathBuf>, EngineError> {
        let mut wanted: BTreeMap<String, (Sharing, &CacheMount)> = BTreeMap::new();
        let mut names = Vec::new();
        let caches = exec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Cache(cache) => Some(cache),
            _ => None,
        });
        for cache in caches {
            let filling = cache.from.map(|from| self.job.input(from).content());
            let name = self.volumes.find(cache, filling, self.job.cancel)?;
            let taken = wanted.entry(name.clone()).or_insert((cache.sharing, cache));
            if strictness(cache.sharing) > strictness(taken.0) {
                taken.0 = cache.sharing;
            }
            names.push(name);
        }
        let mut directories = BTreeMap::new();
        for (name, (sharing, cache)) in wanted {
            let directory = self.take_volume(&name, sharing, cache, held)?;
            directories.insert(name, directory);
        }
        let directories = names
            .iter()
            .filter_map(|name| directories.get(name).cloned());
        Ok(directories.collect())
    }

    fn take_volume(
        &self,
        name: &str,
        sharing: Sharing,
        cache: &CacheMount,
        held: &mut Held,
    ) -> Result<PathBuf, EngineError> {
        let sharing = match sharing {
            // What is moved into a root is in no other.
            Sharing::Shared if held.lends() => VolumeSharing::Locked,
            Sharing::Shared => VolumeSharing::Shared,
            Sharing::Private => VolumeSharing::Private,
            Sharing::Locked => VolumeSharing::Locked,
        };
        let begin = |staging: &Staging| self.begin_volume(cache, staging.root());
        let stop = || self.job.cancel.is_cancelled();
        let mut volume = self
            .trees
            .store
            .volumes()
            .take(name, sharing, &stop, begin)?;
        if let Some(into) = held.root.clone() {
            volume.lend(&into)?;
        }
        let directory = volume.path().to_owned();
        held.volumes.push(volume);
        Ok(directory)
    }

    /// What of a volume is mounted: all of one that is filled with a directory, the only file of one that is filled
    /// with a file, or the source inside of one that isn't filled.
    pub(super) fn part_of_volume(
        &self,
        cache: &CacheMount,
        volume: PathBuf,
        held: &Held,
    ) -> Result<Place, EngineError> {
        let Some(inside) = self.path_in_volume(cache)? else {
            return Ok(volume.into());
        };
        let source = &cache.source;
        if held.lends() {
            let text = format!(
                "cache mount: \"{source}\" of a volume needs mounts, and there are none here"
            );
            return Err(self.impossible(text));
        }
        let part = TreeRoot::at(&volume).join(inside);
        if part.root.stat(&part.path).is_err() {
            let text = format!(
                "cache mount: \"{source}\": not found in the volume '{}'",
                cache.id
            );
            return Err(self.impossible(text));
        }
        Ok(source_of(&part))
    }

    /// Where in a volume that lies which is mounted; `None`: all of it is.
    fn path_in_volume(&self, cache: &CacheMount) -> Result<Option<ImagePath>, EngineError> {
        let source = &cache.source;
        match cache.from {
            _ if source.is_root() => Ok(None),
            None => Ok(Some(source.clone())),
            Some(from) => {
                let view = self.trees.view(self.job.input(from), self.job.events)?;
                let path = view.resolve(source, true);
                let file = view.get(&path).filter(|found| !found.entry.is_directory());
                Ok(file.and(path.file_name()).map(ImagePath::new))
            }
        }
    }

    /// Makes an empty directory what a new cache volume begins with. What is filled with a directory of
    /// another tree has that directory's owner and mode; what is filled with a file has that file only.
    fn begin_volume(&self, cache: &CacheMount, to: &TreeRoot) -> Result<(), EngineError> {
        let output = |source| EngineError::Output {
            what: format!("cache volume {}", cache.id),
            source,
        };
        let give_away = self.trees.gives_away;
        let root = ImagePath::root();
        if let Some(from) = cache.from {
            let view = self.trees.view(self.job.input(from), self.job.events)?;
            let path = view.resolve(&cache.source, true);
            let (files, own) = self.filling(&view, &path)?;
            copy_tree(&files, to, give_away, kiln_tree::Sharing::ContentOnly).map_err(output)?;
            if let Some(own) = own {
                return to.set_attributes(&own, give_away).map_err(output);
            }
        }
        if give_away {
            to.set_owner(&root, cache.uid.get(), cache.gid.get())
                .map_err(output)?;
        }
        to.set_mode(&root, cache.mode).map_err(output)
    }

    /// What of another tree a volume is filled with; and the directory itself, where it is one and not a root.
    fn filling(&self, view: &View, path: &ImagePath) -> Result<Filling, EngineError> {
        let refuse = |why: &str| Err(self.impossible(format!("cache mount: \"{path}\": {why}")));
        if path.is_root() {
            return Ok((files_below(view, path), None));
        }
        match view.get(path).map(|found| found.entry) {
            Some(own) if own.is_directory() => {
                let own = own.clone().seen_from(path);
                Ok((files_below(view, path), Some(own)))
            }
            Some(Entry {
                node: Node::File { .. } | Node::HardLink { .. },
                ..
            }) => {
                let above = path.parent().unwrap_or_else(ImagePath::root);
                let files = view.one_tree_below(path).into_iter();
                let seen = files.map(|(entry, place)| (entry.seen_from(&above), place));
                Ok((seen.collect(), None))
            }
            Some(_) => refuse("is neither a file nor a directory"),
            None => refuse("not found in its source"),
        }
    }
}

/// Files to fill a volume with, and what the volume's own directory is like.
type Filling = (Vec<(Entry, TreePath)>, Option<Entry>);

/// How much a sharing keeps others away.
fn strictness(sharing: Sharing) -> u8 {
    match sharing {
        Sharing::Shared => 0,
        Sharing::Private => 1,
        Sharing::Locked => 2,
    }
}

/// What a directory of an image holds, as a tree of its own.
fn files_below(view: &View, directory: &ImagePath) -> Vec<(Entry, TreePath)> {
    let files = view.one_tree_below(directory).into_iter();
    let files = files.filter(|(entry, _)| entry.path != *directory);
    files
        .map(|(entry, place)| (entry.seen_from(directory), place))
        .collect()
}
