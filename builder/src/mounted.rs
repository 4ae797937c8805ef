//! Images that are mounted on directories of the machine, for other programs: one read-only tree below
//! one directory for changes, however many layers the image has.

use std::path::{Path, PathBuf};

use kiln_cache::MountRecord;
use kiln_engine::{Engine, EventSink};
use kiln_graph::Platform;
use kiln_sandbox::{MountReach, RootMount, SandboxError, mount_namespace, unmount};
use kiln_tree::host;

use crate::Error;

/// How an image is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Nothing in it can be changed.
    pub read_only: bool,
    /// Programs in it may change users, as `su` does.
    pub allow_setuid: bool,
    /// Only children of this process are to see it. An ordinary user's mounts reach nobody else.
    pub for_children: bool,
}

/// Mounts an image on an empty directory. What is changed there is kept until it is unmounted.
///
/// # Errors
/// When the image can't be had, the directory isn't empty, or this process may not mount.
pub fn mount_image(
    engine: &Engine,
    name: &str,
    platform: &Platform,
    directory: &Path,
    options: MountOptions,
    events: &dyn EventSink,
) -> Result<MountRecord, Error> {
    check_reach(engine, options)?;
    let directory = usable(engine, directory)?;
    let store = engine.store();
    let _kept = store.session()?;
    let tree = engine.images().tree(name, platform, events)?;
    let mount = store
        .mounts()
        .begin(name, &directory, tree.id(), own_namespace()?)?;
    let attached = attach(engine, &tree, &mount, options);
    if attached.is_err() {
        store.mounts().end(&mount)?;
    }
    attached.map(|()| mount)
}

fn attach(
    engine: &Engine,
    tree: &kiln_cache::Tree,
    mount: &MountRecord,
    options: MountOptions,
) -> Result<(), Error> {
    let store = engine.store();
    let changes = match options.read_only {
        true => None,
        false => Some(store.mounts().changes(mount)?),
    };
    if let Some(changes) = &changes {
        // An overlay's root is that of the changes.
        engine.images().dress_root(tree, &changes.upper)?;
    }
    let (lower, empty) = (tree.fs(), store.trees().empty()?.fs());
    let changes = changes
        .as_ref()
        .map(|changes| (changes.upper.path(), changes.work.as_path()));
    let root = RootMount {
        lower: &lower,
        empty: &empty,
        changes,
        allow_setuid: options.allow_setuid,
    };
    Ok(root.attach(&mount.directory)?)
}

/// Unmounts the image that is mounted on a directory, and drops what was changed in it. With `forget`,
/// one that was mounted in a mount namespace that has ended is only forgotten.
///
/// # Errors
/// When no image is mounted there, or a program still uses it.
pub fn unmount_image(engine: &Engine, directory: &Path, forget: bool) -> Result<(), Error> {
    let directory = full_path(directory)?;
    let mounts = mounted_images(engine)?;
    let here = own_namespace()?;
    let on_it = mounts.iter().filter(|mount| mount.directory == directory);
    let (own, other): (Vec<_>, Vec<_>) = on_it.partition(|mount| mount.namespace == here);
    match (own.last(), other.last()) {
        (Some(mount), _) => {
            unmount(&directory).map_err(Error::file("unmount", &directory))?;
            Ok(engine.store().mounts().end(mount)?)
        }
        (None, Some(mount)) if forget => Ok(engine.store().mounts().end(mount)?),
        (None, Some(mount)) => Err(Error::MountedElsewhere {
            image: mount.image.clone(),
            directory,
        }),
        (None, None) => Err(Error::NotMounted { directory }),
    }
}

/// The images that are mounted, sorted by their directories. Those that others have unmounted in this
/// mount namespace are forgotten.
///
/// # Errors
/// When the store can't be read or written.
pub fn mounted_images(engine: &Engine) -> Result<Vec<MountRecord>, Error> {
    let here = own_namespace()?;
    let points = mount_points()?;
    let mut mounted = Vec::new();
    for mount in engine.store().mounts().all()? {
        match mount.namespace == here && !points.contains(&mount.directory) {
            true => engine.store().mounts().end(&mount)?,
            false => mounted.push(mount),
        }
    }
    Ok(mounted)
}

fn check_reach(engine: &Engine, options: MountOptions) -> Result<(), Error> {
    match (
        engine.selection().privileges().mount_reach(),
        options.for_children,
    ) {
        (MountReach::Others, _) | (MountReach::Children, true) => Ok(()),
        (MountReach::Children, false) => Err(SandboxError::NoMounts(
            "what an ordinary user mounts is seen by this process and its children only",
        )
        .into()),
        (MountReach::Nobody, _) => {
            Err(SandboxError::NoMounts("neither mounts nor user namespaces are allowed").into())
        }
    }
}

/// The full path of a directory that an image can be mounted on.
fn usable(engine: &Engine, directory: &Path) -> Result<PathBuf, Error> {
    let directory = full_path(directory)?;
    let wrong = |why: &str| Error::Usage(format!("{} {why}", directory.display()));
    let store = engine.store().root();
    if store.starts_with(&directory) || directory.starts_with(store) {
        return Err(wrong("is where kiln's store is: name another directory"));
    }
    let mut inside = host::read_dir(&directory).map_err(Error::file("read", &directory))?;
    if inside.next().is_some() {
        return Err(wrong("isn't empty: what is in it would be hidden"));
    }
    let here = own_namespace()?;
    let mounts = mounted_images(engine)?;
    let mut on_it = mounts.iter().filter(|mount| mount.directory == directory);
    match on_it.any(|mount| mount.namespace == here) {
        true => Err(wrong("has an image mounted on it")),
        false => Ok(directory),
    }
}

fn full_path(directory: &Path) -> Result<PathBuf, Error> {
    host::canonicalize(directory).map_err(Error::file("open", directory))
}

fn own_namespace() -> Result<u64, Error> {
    let path = Path::new("/proc/self/ns/mnt");
    mount_namespace().map_err(Error::file("read", path))
}

/// What is mounted somewhere in this mount namespace (`proc_pid_mountinfo(5)`).
fn mount_points() -> Result<Vec<PathBuf>, Error> {
    let path = Path::new("/proc/self/mountinfo");
    let text = host::read(path).map_err(Error::file("read", path))?;
    Ok(points(&text))
}

fn points(text: &[u8]) -> Vec<PathBuf> {
    let lines = text.split(|byte| *byte == b'\n');
    let fields = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    fields.map(unescaped).collect()
}

/// A path in which spaces, tabs, line feeds and backslashes are three octal digits behind a backslash.
fn unescaped(mut field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let mut path = Vec::with_capacity(field.len());
    while let [first, rest @ ..] = field {
        let digits = rest.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(code.unwrap_or(*first));
        field = if code.is_some() { &rest[3..] } else { rest };
    }
    std::ffi::OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read() {
        let text = b"22 1 8:1 / / rw - ext4 /dev/a rw\n30 22 0:5 / /a\\040b\\134c rw shared:1 - overlay overlay rw\n";
        let want = ["/", "/a b\\c"].map(PathBuf::from);
        assert_eq!(points(text), want);
        assert_eq!(unescaped(b"/a\\9b\\04"), Path::new("/a\\9b\\04"));
    }
}
