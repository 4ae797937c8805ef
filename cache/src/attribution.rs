//! Whose disk space it is: what each of some users of the store uses, and what only it uses.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use kiln_tree::host;
use rayon::prelude::*;

use crate::usage::measure_all;
use crate::{BuildRecord, Kind, Store, StoreError};

/// The disk space of one user, in bytes. Blocks that several files share count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// All that it uses.
    pub uses: u64,
    /// What nothing else in the store uses: what would be free without it.
    pub alone: u64,
}

/// Disk space by user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Of each user, in the order asked for.
    pub shares: Vec<Share>,
    /// Of what no user uses, in bytes.
    pub rest: u64,
    /// Of the whole store, in bytes.
    pub total: u64,
}

/// Who uses a block: a user by its number, or what nobody claims.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    One(usize),
    Nobody,
}

impl Store {
    /// What each of some sets of paths in the store takes of the disk.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn attribute(&self, users: &[HashSet<PathBuf>]) -> Result<Attribution, StoreError> {
        let mut places: Vec<(By, PathBuf)> = Vec::new();
        for (number, paths) in users.iter().enumerate() {
            places.extend(paths.iter().map(|path| (By::One(number), path.clone())));
        }
        let claimed: HashSet<_> = places.iter().map(|(_, path)| path.as_path()).collect();
        let rest = measure_all(self.root(), &claimed);
        let measured: Vec<_> = places
            .par_iter()
            .map(|(by, path)| (*by, measure_all(path, &HashSet::new())))
            .collect();
        let mut blocks: HashMap<(u64, u64), (u64, Vec<By>)> = HashMap::new();
        for (by, found) in measured.into_iter().chain([(By::Nobody, rest)]) {
            for (id, bytes) in found.blocks {
                let (_, users) = blocks.entry(id).or_insert_with(|| (bytes, Vec::new()));
                if !users.contains(&by) {
                    users.push(by);
                }
            }
        }
        Ok(sums(users.len(), blocks.into_values()))
    }

    /// All that a build has in the store, as paths in it: what its steps added, the layers of its
    /// base images, its log.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn paths_of_build(&self, build: &BuildRecord) -> Result<HashSet<PathBuf>, StoreError> {
        let mut paths = HashSet::from([self.path("logs").join(&build.id)]);
        for step in &build.steps {
            let mut trees = step.trees.clone();
            for layer in &step.layers {
                trees.extend(self.layers().id(layer)?);
            }
            let record = step.key.map(|key| self.records().path_of(&key));
            paths.extend(
                trees
                    .iter()
                    .map(|tree| self.trees().directory(tree))
                    .chain(record),
            );
        }
        paths.retain(|path| host::exists(path));
        Ok(paths)
    }

    /// The blobs of the images that have names, and the cache volumes.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn paths_of_images_and_volumes(
        &self,
    ) -> Result<(HashSet<PathBuf>, HashSet<PathBuf>), StoreError> {
        let blobs = self
            .images()
            .all()?
            .into_iter()
            .flat_map(|image| image.blobs);
        let blobs = blobs.map(|digest| self.blobs().path_of(&digest));
        let volumes = host::read_dir(self.path(Kind::Volume.place().0));
        let volumes = volumes.into_iter().flatten().flatten();
        Ok((
            blobs.filter(|path| host::exists(path)).collect(),
            volumes.map(|entry| entry.path()).collect(),
        ))
    }
}

fn sums(users: usize, blocks: impl Iterator<Item = (u64, Vec<By>)>) -> Attribution {
    let mut all = Attribution {
        shares: vec![Share::default(); users],
        ..Attribution::default()
    };
    for (bytes, by) in blocks {
        all.total += bytes;
        for user in &by {
            match user {
                By::One(number) => all.shares[*number].uses += bytes,
                By::Nobody => {}
            }
        }
        match by[..] {
            [By::One(number)] => all.shares[number].alone += bytes,
            [By::Nobody] => all.rest += bytes,
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;

    #[test]
    fn shared_blocks_are_nobodys_alone() {
        let (_directory, store) = scratch_store();
        let file = |name: &str, bytes: usize| {
            let path = store.path("logs").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, vec![1; bytes]).unwrap();
            path
        };
        let (first, second) = (file("a/1", 40_960), file("b/1", 8192));
        std::fs::hard_link(&first, second.with_file_name("shared")).unwrap();
        let unclaimed = file("c/1", 4096);
        let directory = |path: &PathBuf| HashSet::from([path.parent().unwrap().to_owned()]);
        let found = store
            .attribute(&[directory(&first), directory(&second)])
            .unwrap();
        let blocks = |paths: &[&PathBuf]| -> u64 {
            let one = |path: &&PathBuf| {
                let about = std::fs::metadata(path).unwrap();
                std::os::unix::fs::MetadataExt::blocks(&about) * 512
            };
            paths.iter().map(one).sum()
        };
        let parent = first.parent().unwrap().to_owned();
        let own = blocks(&[&parent]);
        assert_eq!(found.shares[0].alone, own);
        assert_eq!(found.shares[0].uses, own + blocks(&[&first]));
        let other = blocks(&[&second.parent().unwrap().to_owned(), &second]);
        assert_eq!(found.shares[1].alone, other);
        assert_eq!(found.shares[1].uses, other + blocks(&[&first]));
        assert!(found.rest >= blocks(&[&unclaimed]));
        assert_eq!(found.total, store.usage().unwrap().total());
    }
}
