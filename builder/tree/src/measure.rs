//! How much of the disk a directory uses.

use rayon::prelude::*;

use kiln_graph::ImagePath;

use crate::walk::one_directory;
use crate::{Decision, Found, TreeRoot};

/// What uses the disk.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Device, inode and bytes of every file and directory.
    pub blocks: Vec<((u64, u64), u64)>,
}

/// What lies at and below the directory `root`, without what `skip` names. What can't be read
/// counts as nothing.
#[must_use]
pub fn measure(root: &TreeRoot, skip: &(dyn Fn(&ImagePath) -> bool + Sync)) -> Measured {
    let block = |stat: &rustix::fs::Stat| {
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        ((stat.st_dev, stat.st_ino), bytes)
    };
    let mut blocks: Vec<_> = root.stat(&ImagePath::root()).iter().map(block).collect();
    let filter = |path: &ImagePath, _: bool| match skip(path) {
        true => Decision::SkipAll,
        false => Decision::Take,
    };
    let visit = |found: &Found<'_>| Ok(Some(block(&found.stat)));
    let mut level = vec![ImagePath::root()];
    while !level.is_empty() {
        let opened = level.into_par_iter().filter_map(|path| {
            let one = one_directory(root, &path, &filter, &visit);
            one.ok()
        });
        let opened: Vec<_> = opened.collect();
        level = Vec::new();
        for directory in opened {
            blocks.extend(directory.visited);
            level.extend(directory.below);
        }
    }
    Measured { blocks }
}
