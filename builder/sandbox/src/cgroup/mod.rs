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

mod limits;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use limits::Controller;
pub use limits::{Limits, Swap};

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
    next: AtomicU64,
}

/// Why steps can't be limited here.
#[derive(Debug, thiserror::Error)]
#[error(
    "steps can't be limited here: {0}. Limit the whole build instead: 'systemd-run --scope -p MemoryMax=2G -p CPUQuota=200% kiln build …' (with --user for a user), or the container that it runs in"
)]
pub struct NoCgroups(String);

impl Cgroups {
    /// Finds out whether and where steps can be limited; `below` names a group to use, as
    /// `--cgroup-parent` does.
    ///
    /// # Errors
    /// When the machine has no control groups, or this process may make none.
    pub fn new(limits: Limits, below: Option<&str>) -> Result<Self, NoCgroups> {
        let mounts = read("/proc/self/mountinfo")?;
        let own = read("/proc/self/cgroup")?;
        let mut parents = Vec::new();
        let mut version = Version::V1;
        for controller in limits.controllers() {
            let (found, parent) = match hierarchy(&mounts, &own, controller) {
                Some((Version::V1, mount, group)) => {
                    (Version::V1, at(&mount, below.unwrap_or(&group)))
                }
                Some((Version::V2, mount, group)) => {
                    (Version::V2, divisible(&mount, &group, below, controller)?)
                }
                None => {
                    let name = controller.name();
                    return Err(NoCgroups(format!(
                        "there is no control group with the controller '{name}' here"
                    )));
                }
            };
            version = found;
            parents.push((controller, parent));
        }
        let cgroups = Self {
            limits,
            version,
            parents,
            next: AtomicU64::new(0),
        };
        // What is refused is said before the first step.
        cgroups.group().map(drop)?;
        Ok(cgroups)
    }

    /// Makes the group of a step.
    ///
    /// # Errors
    /// When it can't be made, or the kernel refuses a limit.
    pub fn group(&self) -> Result<Group, NoCgroups> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("kiln-{}-{number}", std::process::id());
        let mut group = Group::default();
        for (_, parent) in &self.parents {
            let directory = parent.join(&name);
            match fs::create_dir(&directory) {
                Ok(()) => group.directories.push(directory),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("make the group", &directory, &error)),
            }
        }
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
            match fs::write(&file, &setting.value) {
                Ok(()) => {}
                Err(_) if setting.optional => {}
                Err(error) => {
                    let what = format!("write {} to", setting.value);
                    return Err(failed(&what, &file, &error));
                }
            }
        }
        Ok(group)
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
        directories.try_for_each(|directory| {
            fs::write(directory.join("cgroup.procs"), process.to_string())
        })
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

fn failed(what: &str, path: &Path, error: &io::Error) -> NoCgroups {
    NoCgroups(format!("cannot {what} {}: {error}", path.display()))
}

fn at(mount: &Path, group: &str) -> PathBuf {
    mount.join(group.trim_start_matches('/'))
}

/// The hierarchy that has a controller: its version, where it is mounted, and this process's group in
/// it (`/proc/PID/cgroup`), as seen from there.
fn hierarchy(
    mounts: &str,
    own: &str,
    controller: Controller,
) -> Option<(Version, PathBuf, String)> {
    let name = controller.name();
    let mut unified = None;
    for line in mounts.lines() {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = right.split_ascii_whitespace();
        let (kind, options) = (fields.next()?, fields.nth(1).unwrap_or_default());
        let mut left = left.split_ascii_whitespace().skip(3);
        let (root, mount) = (left.next()?, PathBuf::from(left.next()?));
        let has = || options.split(',').any(|option| option == name);
        match kind {
            "cgroup" if has() => {
                let group = group_of(own, |controllers| {
                    controllers.split(',').any(|it| it == name)
                });
                return Some((Version::V1, mount, below_root(&group?, root)));
            }
            "cgroup2" => {
                let group = group_of(own, str::is_empty)?;
                unified = Some((Version::V2, mount, below_root(&group, root)));
            }
            _ => {}
        }
    }
    let (version, mount, group) = unified?;
    let controllers = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let has = controllers.split_ascii_whitespace().any(|it| it == name);
    has.then_some((version, mount, group))
}

/// This process's group in the hierarchy whose controllers fit.
fn group_of(own: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
    let mut lines = own.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    lines
        .find(|(controllers, _)| fits(controllers))
        .map(|(_, group)| group.to_owned())
}

/// A group's path below the root of its mount: in a container the mount begins at its own group.
fn below_root(group: &str, root: &str) -> String {
    match group.strip_prefix(root.trim_end_matches('/')) {
        Some(below) if below.is_empty() || below.starts_with('/') => below.to_owned(),
        _ => "/".to_owned(),
    }
}

/// A group of version 2 that can be divided by a controller.
fn divisible(
    mount: &Path,
    group: &str,
    below: Option<&str>,
    controller: Controller,
) -> Result<PathBuf, NoCgroups> {
    if let Some(below) = below {
        let parent = at(mount, below);
        return divide(&parent, controller).map(|()| parent);
    }
    let own = at(mount, group);
    let leaf = own.join(format!("kiln-{}", std::process::id()));
    let moved = leave(&own, &leaf).and_then(|()| divide(&own, controller));
    if moved.is_ok() {
        return Ok(own);
    }
    // The group stays as it was.
    _ = fs::write(own.join("cgroup.procs"), std::process::id().to_string());
    _ = fs::remove_dir(&leaf);
    match divide(mount, controller) {
        Ok(()) => Ok(mount.to_owned()),
        Err(_) => moved.map(|()| own),
    }
}

/// Moves this process from its group into a child of it.
fn leave(own: &Path, leaf: &Path) -> Result<(), NoCgroups> {
    if own.ends_with(format!("kiln-{}", std::process::id())) {
        return Ok(());
    }
    match fs::create_dir(leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("make the group", leaf, &error));
        }
        _ => {}
    }
    let procs = leaf.join("cgroup.procs");
    fs::write(&procs, std::process::id().to_string())
        .map_err(|error| failed("move to", &procs, &error))
}

fn divide(group: &Path, controller: Controller) -> Result<(), NoCgroups> {
    let file = group.join("cgroup.subtree_control");
    let name = controller.name();
    fs::write(&file, format!("+{name}"))
        .map_err(|error| failed(&format!("write +{name} to"), &file, &error))
}

/// A new cpuset of version 1 has no processors and no memory, and takes no process before it has.
fn inherit_sets(parent: &Path, group: &Path) -> Result<(), NoCgroups> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = fs::read_to_string(parent.join(file)).unwrap_or_default();
        let file = group.join(file);
        fs::write(&file, value.trim()).map_err(|error| failed("write", &file, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 29 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        31 29 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn controllers_are_found_in_their_hierarchies() {
        let own = "5:cpu,cpuacct:/docker/abc/x\n4:memory:/a/b\n0::/\n";
        let memory = hierarchy(V1, own, Controller::Memory);
        let at = |path: &str, group: &str| Some((Version::V1, path.into(), group.to_owned()));
        assert_eq!(memory, at("/sys/fs/cgroup/memory", "/a/b"));
        let cpu = hierarchy(V1, own, Controller::Cpu);
        assert_eq!(cpu, at("/sys/fs/cgroup/cpu,cpuacct", "/x"));
        assert_eq!(hierarchy(V1, own, Controller::Cpuset), None);
        assert_eq!(hierarchy("", own, Controller::Cpu), None);
    }

    #[test]
    fn version_2_has_what_its_root_says() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        let mount = directory.path().display();
        let mounts = format!("30 29 0:26 / {mount} rw - cgroup2 cgroup rw\n");
        let found = hierarchy(&mounts, "0::/user.slice/s\n", Controller::Memory);
        let expected = (
            Version::V2,
            directory.path().to_owned(),
            "/user.slice/s".to_owned(),
        );
        assert_eq!(found, Some(expected));
        assert_eq!(hierarchy(&mounts, "0::/\n", Controller::Cpuset), None);
    }

    #[test]
    fn groups_outside_of_a_mount_are_its_top() {
        assert_eq!(below_root("/a/b", "/"), "/a/b");
        assert_eq!(below_root("/a/b", "/a"), "/b");
        assert_eq!(below_root("/ab", "/a"), "/");
        assert_eq!(below_root("/../x", "/a"), "/");
    }
}
