//! Limits on what a step uses, by control groups (`cgroups(7)`): each step has a group of its own, below
//! one that kiln may divide.
//!
//! In version 2 a group with processes in it can't be divided. So kiln moves itself into a child of its
//! own group first, which works where nobody else is in it (a systemd scope with `Delegate=yes`); root,
//! whose group is shared with the shell it was started from, makes groups below the top instead. In
//! version 1 each controller has a hierarchy of its own, and any group can be divided.

#![expect(
    clippy::disallowed_methods,
    reason = "files of the kernel's own file systems"
)]

mod hierarchy;
mod limits;
mod parent;
mod path;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hierarchy::Hierarchy;
use limits::Controller;
pub use limits::{Limits, Swap};
pub use parent::CgroupParent;
pub use path::{BadGroupPath, GroupPath};

/// Which version of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Where groups for steps are made.
#[derive(Debug)]
pub struct Cgroups {
    limits: Limits,
    version: Version,
    /// The group below which each controller's are made; in version 2 it is the same one.
    parents: Vec<(Controller, PathBuf)>,
}

/// Why steps can't be limited here.
#[derive(Debug, thiserror::Error)]
#[error(
    "steps can't be limited here: {0}. Limit the whole build instead: 'systemd-run --scope -p MemoryMax=2G -p CPUQuota=200% kiln build …' (with --user for a user), or the container that it runs in"
)]
pub struct NoCgroups(String);

impl Cgroups {
    /// Finds out whether and where steps can be limited. `None` when nothing is limited and steps have no
    /// parent of their own.
    ///
    /// # Errors
    /// When the machine has no control groups, or this process may make none.
    pub fn new(limits: Limits, parent: &CgroupParent) -> Result<Option<Self>, NoCgroups> {
        if limits.is_empty() && !parent.is_named() {
            return Ok(None);
        }
        let mounts = read("/proc/self/mountinfo")?;
        let own = read("/proc/self/cgroup")?;
        let find = |controller| Hierarchy::find(&mounts, &own, controller);
        let found = match limits.is_empty() {
            true => placed(parent, find)?,
            false => limited(&limits, parent, find)?,
        };
        let cgroups = Self {
            limits,
            version: found.0,
            parents: found.1,
        };
        // What is refused is said before the first step.
        cgroups.group().map(drop)?;
        Ok(Some(cgroups))
    }

    /// Makes the group of a step.
    ///
    /// # Errors
    /// When it can't be made, or the kernel refuses a limit.
    pub fn group(&self) -> Result<Group, NoCgroups> {
        let (name, group) = self.make()?;
        for (controller, parent) in &self.parents {
            if (self.version, *controller) == (Version::V1, Controller::Cpuset) {
                inherit_sets(parent, &parent.join(&name))?;
            }
        }
        for setting in self.limits.settings(self.version) {
            let mut parents = self.parents.iter();
            let parent = parents.find(|(controller, _)| *controller == setting.controller);
            let Some((_, parent)) = parent else { continue };
            let file = parent.join(&name).join(setting.file);
            match put(&file, &setting.value) {
                Ok(()) => {}
                Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format!("write {} to", setting.value);
                    return Err(failed(&what, &file, &error));
                }
            }
        }
        Ok(group)
    }

    /// Makes directories of a new name, one in each hierarchy.
    fn make(&self) -> Result<(String, Group), NoCgroups> {
        // Builds beside each other in this process count together.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", parent::leaf_name());
            match self.directories(&name) {
                Ok(group) => return Ok((name, group)),
                // Of a process of another namespace, or one that was killed.
                Err((error, _)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err((error, directory)) => {
                    return Err(failed("make the group", &directory, &error));
                }
            }
        }
    }

    fn directories(&self, name: &str) -> Result<Group, (io::Error, PathBuf)> {
        let mut group = Group::default();
        for (_, parent) in &self.parents {
            let directory = parent.join(name);
            if group.directories.contains(&directory) {
                continue;
            }
            fs::create_dir(&directory).map_err(|error| (error, directory.clone()))?;
            group.directories.push(directory);
        }
        Ok(group)
    }
}

/// The groups of each controller that steps get theirs below.
type Parents = (Version, Vec<(Controller, PathBuf)>);

/// The parents of steps that are limited.
fn limited(
    limits: &Limits,
    parent: &CgroupParent,
    find: impl Fn(Controller) -> Option<Hierarchy>,
) -> Result<Parents, NoCgroups> {
    let mut parents = Vec::new();
    let mut version = Version::V1;
    for controller in limits.controllers() {
        let name = controller.name();
        let missing = || {
            let text = format!("there is no control group with the controller '{name}' here");
            NoCgroups(text)
        };
        let hierarchy = find(controller).ok_or_else(missing)?;
        version = hierarchy.version;
        parents.push((controller, parent.divided(&hierarchy, controller)?));
    }
    Ok((version, parents))
}

/// The parents of steps that are only put below a group, in each hierarchy that has it.
fn placed(
    parent: &CgroupParent,
    find: impl Fn(Controller) -> Option<Hierarchy>,
) -> Result<Parents, NoCgroups> {
    let mut parents = Vec::new();
    let mut version = Version::V1;
    let mut refusal = NoCgroups("there are no control groups here".to_owned());
    for controller in [Controller::Cpu, Controller::Cpuset, Controller::Memory] {
        let Some(hierarchy) = find(controller) else {
            continue;
        };
        version = hierarchy.version;
        match parent.group(&hierarchy) {
            Ok(found) => parents.push((controller, found)),
            Err(error) => refusal = error,
        }
    }
    match parents.is_empty() {
        true => Err(refusal),
        false => Ok((version, parents)),
    }
}

/// A step's group. Dropped, it is removed.
#[derive(Debug, Default)]
pub struct Group {
    directories: Vec<PathBuf>,
}

impl Group {
    /// Moves a process into the group; what it starts from then on is in it as well.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn add(&self, process: u32) -> io::Result<()> {
        let mut directories = self.directories.iter();
        directories
            .try_for_each(|directory| put(&directory.join("cgroup.procs"), &process.to_string()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in &self.directories {
            // The last process may still be on its way out.
            for _ in 0..50 {
                match fs::remove_dir(directory) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    _ => break,
                }
            }
        }
    }
}

fn read(path: &str) -> Result<String, NoCgroups> {
    fs::read_to_string(path).map_err(|error| failed("read", Path::new(path), &error))
}

/// Writes to a file that the kernel made.
fn put(file: &Path, value: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(file)?;
    file.write_all(value.as_bytes())
}

fn failed(what: &str, path: &Path, error: &io::Error) -> NoCgroups {
    NoCgroups(format!("cannot {what} {}: {error}", path.display()))
}

/// A new cpuset of version 1 has no processors and no memory, and takes no process before it has.
fn inherit_sets(parent: &Path, group: &Path) -> Result<(), NoCgroups> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = fs::read_to_string(parent.join(file)).unwrap_or_default();
        let file = group.join(file);
        put(&file, value.trim()).map_err(|error| failed("write", &file, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited_in(directory: &Path) -> Cgroups {
        Cgroups {
            limits: Limits {
                memory: Some(100 << 20),
                ..Limits::default()
            },
            version: Version::V1,
            parents: vec![(Controller::Memory, directory.to_owned())],
        }
    }

    #[test]
    fn what_is_no_group_limits_nothing_and_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let error = limited_in(directory.path()).group().unwrap_err();
        let error = error.to_string();
        assert!(error.contains("memory.limit_in_bytes"), "{error}");
        let left = fs::read_dir(directory.path()).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn no_two_steps_have_one_group() {
        let directory = tempfile::tempdir().unwrap();
        let of = || limited_in(directory.path());
        let (one, other) = (of(), of());
        let (first, _first) = one.make().unwrap();
        let (second, _second) = other.make().unwrap();
        assert_ne!(first, second);
        // Names that are taken are passed over.
        let number: u64 = second.rsplit('-').next().unwrap().parse().unwrap();
        for next in 1..20 {
            let taken = format!("{}-{}", parent::leaf_name(), number + next);
            fs::create_dir_all(directory.path().join(taken)).unwrap();
        }
        let (third, group) = one.make().unwrap();
        assert!(directory.path().join(third).exists());
        drop(group);
    }
}
