//! Where a worker's store is: in the action's directory, or in memory where overlayfs can't be used
//! there. It is removed on all ways out; a helper that is killed leaves it to the worker, which
//! removes the action's directory.

use std::path::{Path, PathBuf};

use kiln_sandbox::Identity;
use kiln_tree::{host, remove_all};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const NAME: &str = "kiln-scratch";

/// File systems that overlayfs can't write to (`statfs(2)`).
const FUSE: u64 = 0x6573_5546;
const OVERLAYFS: u64 = 0x794c_7630;

/// A directory that goes with the value.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    is_mounted: bool,
}

impl Scratch {
    pub(super) fn new(identity: Identity) -> Result<Self, String> {
        let path = std::env::current_dir().map(|directory| directory.join(NAME));
        let path = path.map_err(|error| error.to_string())?;
        let fail = |error| format!("{} can't be made: {error}", path.display());
        host::create_dir_all(&path).map_err(fail)?;
        // The machine's root has no mounts of its own here, which would go with the process.
        let may_mount = identity.is_in_user_namespace();
        let is_mounted = may_mount && needs_memory(&path) && mount_memory(&path);
        Ok(Self { path, is_mounted })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_mounted {
            _ = unmount(&self.path, UnmountFlags::DETACH);
        }
        remove_all(&self.path);
    }
}

fn needs_memory(path: &Path) -> bool {
    let kind = rustix::fs::statfs(path).map(|about| about.f_type);
    let kind = kind.ok().and_then(|kind| u64::try_from(kind).ok());
    kind.is_some_and(|kind| matches!(kind, FUSE | OVERLAYFS))
}

fn mount_memory(path: &Path) -> bool {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", path, "tmpfs", flags, Some(c"mode=0700")).is_ok()
}
