//! Where a controller's groups are mounted, and which of them is this process's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::limits::Controller;
use super::{GroupPath, NoCgroups, Version, failed};

/// The hierarchy that has a controller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// This process's group, when it is below the mount.
    pub(super) own: Option<GroupPath>,
}

impl Hierarchy {
    /// Finds a controller in `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub(super) fn find(mounts: &str, own: &str, controller: Controller) -> Option<Self> {
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
                    return Some(Self {
                        version: Version::V1,
                        mount,
                        own: below_root(&group?, root),
                    });
                }
                "cgroup2" => {
                    unified = Some(Self {
                        version: Version::V2,
                        mount,
                        own: below_root(&group_of(own, str::is_empty)?, root),
                    });
                }
                _ => {}
            }
        }
        unified.filter(|found| {
            let controllers = found.mount.join("cgroup.controllers");
            let controllers = fs::read_to_string(controllers).unwrap_or_default();
            controllers.split_ascii_whitespace().any(|it| it == name)
        })
    }

    /// A group that there is, below the mount or a group of it: neither a link nor a mount leads elsewhere.
    pub(super) fn group(&self, above: &Path, group: &GroupPath) -> Result<PathBuf, NoCgroups> {
        let place = above.join(group.path());
        let is_inside = || -> io::Result<bool> {
            let (top, found) = (fs::canonicalize(&self.mount)?, fs::canonicalize(&place)?);
            let is_below = found.starts_with(&top);
            Ok(is_below && fs::metadata(top)?.dev() == fs::metadata(found)?.dev())
        };
        match is_inside() {
            Ok(true) => Ok(place),
            Ok(false) => Err(NoCgroups(format!(
                "{} leads out of the control groups at {}",
                place.display(),
                self.mount.display()
            ))),
            Err(error) => Err(failed("find the group", &place, &error)),
        }
    }
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

/// A group's path below the root of its mount: in a container the mount begins at its own group. Nothing
/// for a group that isn't below it, which is shown with `..` in another namespace.
fn below_root(group: &str, root: &str) -> Option<GroupPath> {
    let below = group.strip_prefix(root.trim_end_matches('/'))?;
    let is_below = below.is_empty() || below.starts_with('/');
    is_below.then(|| below.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 29 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        31 29 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n";

    fn at(version: Version, mount: impl Into<PathBuf>, group: &str) -> Option<Hierarchy> {
        Some(Hierarchy {
            version,
            mount: mount.into(),
            own: Some(group.parse().unwrap()),
        })
    }

    #[test]
    fn controllers_are_found_in_their_hierarchies() {
        let own = "5:cpu,cpuacct:/docker/abc/x\n4:memory:/a/b\n0::/\n";
        let memory = Hierarchy::find(V1, own, Controller::Memory);
        assert_eq!(memory, at(Version::V1, "/sys/fs/cgroup/memory", "/a/b"));
        let cpu = Hierarchy::find(V1, own, Controller::Cpu);
        assert_eq!(cpu, at(Version::V1, "/sys/fs/cgroup/cpu,cpuacct", "/x"));
        assert_eq!(Hierarchy::find(V1, own, Controller::Cpuset), None);
        assert_eq!(Hierarchy::find("", own, Controller::Cpu), None);
    }

    #[test]
    fn version_2_has_what_its_root_says() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        let mount = directory.path().display();
        let mounts = format!("30 29 0:26 / {mount} rw - cgroup2 cgroup rw\n");
        let found = Hierarchy::find(&mounts, "0::/user.slice/s\n", Controller::Memory);
        let expected = at(Version::V2, directory.path(), "/user.slice/s");
        assert_eq!(found, expected);
        let cpuset = Hierarchy::find(&mounts, "0::/\n", Controller::Cpuset);
        assert_eq!(cpuset, None);
    }

    #[test]
    fn groups_outside_of_a_mount_are_not_below_it() {
        for (group, root, below) in [
            ("/a/b", "/", Some("a/b")),
            ("/a/b", "/a", Some("b")),
            ("/a", "/a", Some("")),
            ("/ab", "/a", None),
            ("/../x", "/a", None),
            ("/../x", "/", None),
        ] {
            let below = below.map(|below| below.parse().unwrap());
            assert_eq!(below_root(group, root), below, "{group} {root}");
        }
    }

    #[test]
    fn what_leads_out_of_a_mount_is_no_group_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path().join("mount");
        fs::create_dir_all(mount.join("a/b")).unwrap();
        std::os::unix::fs::symlink(directory.path(), mount.join("link")).unwrap();
        let of = |mount: PathBuf, group: &str| {
            let hierarchy = Hierarchy {
                version: Version::V1,
                mount: mount.clone(),
                own: None,
            };
            hierarchy.group(&mount, &group.parse().unwrap())
        };
        assert_eq!(of(mount.clone(), "/a/b").unwrap(), mount.join("a/b"));
        assert_eq!(of(mount.clone(), "/").unwrap(), mount);
        for (group, says) in [("link", "leads out"), ("none", "cannot find")] {
            let error = of(mount.clone(), group).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        let other = of("/".into(), "proc/self").unwrap_err();
        assert!(other.to_string().contains("leads out"), "{other}");
    }
}
