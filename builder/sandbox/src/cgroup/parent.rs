//! The group below which steps get theirs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::hierarchy::Hierarchy;
use super::limits::Controller;
use super::{GroupPath, NoCgroups, Version, failed, put};

/// Below which group steps get theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupParent {
    /// This process's own; where that can't be divided, the top of those that it sees.
    #[default]
    Usual,
    /// A group of the machine, from the top of those that this process sees.
    Group(GroupPath),
    /// This process's own group, or one below it: never one beside or above it.
    Own(GroupPath),
}

/// Whether this process has moved from its group into a child of it.
static MOVED: Mutex<bool> = Mutex::new(false);

impl CgroupParent {
    /// The group for steps in a hierarchy, which can be divided by the controller.
    pub(super) fn divided(
        &self,
        hierarchy: &Hierarchy,
        controller: Controller,
    ) -> Result<PathBuf, NoCgroups> {
        let parent = self.group(hierarchy)?;
        if hierarchy.version == Version::V1 {
            return Ok(parent);
        }
        match self {
            Self::Group(_) => divide(&parent, controller)?,
            Self::Own(_) => divide_own(&own(hierarchy)?, &parent, controller)?,
            Self::Usual => {
                let divided = divide_own(&parent, &parent, controller);
                if let Err(error) = divided {
                    let top = divide(&hierarchy.mount, controller);
                    return top.map(|()| hierarchy.mount.clone()).map_err(|_| error);
                }
            }
        }
        Ok(parent)
    }

    /// The group for steps in a hierarchy.
    pub(super) fn group(&self, hierarchy: &Hierarchy) -> Result<PathBuf, NoCgroups> {
        match self {
            Self::Group(group) => hierarchy.group(&hierarchy.mount, group),
            Self::Own(group) if is_ours(group) => Err(NoCgroups(
                "the parent group is one that kiln made for a step or itself".to_owned(),
            )),
            Self::Own(group) => hierarchy.group(&own(hierarchy)?, group),
            Self::Usual => Ok(own(hierarchy).unwrap_or_else(|_| hierarchy.mount.clone())),
        }
    }

    /// Whether steps without limits get groups, too.
    pub(super) fn is_named(&self) -> bool {
        match self {
            Self::Usual => false,
            Self::Group(_) => true,
            Self::Own(group) => !group.is_empty(),
        }
    }
}

/// The name of the group that this process moves to, and how those of its steps begin.
pub(super) fn leaf_name() -> String {
    format!("kiln-{}", std::process::id())
}

/// Whether a group is of a step, or this process's leaf.
fn is_ours(group: &GroupPath) -> bool {
    let name = leaf_name();
    group.path().iter().any(|part| {
        let rest = part.to_str().and_then(|part| part.strip_prefix(&name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

/// The group that this process was started in.
fn own(hierarchy: &Hierarchy) -> Result<PathBuf, NoCgroups> {
    let outside = || {
        let mount = hierarchy.mount.display();
        NoCgroups(format!("this process's group is not below {mount}"))
    };
    let group = hierarchy.own.as_ref().ok_or_else(outside)?;
    let mut own = hierarchy.mount.join(group.path());
    let moved = *MOVED.lock().unwrap_or_else(PoisonError::into_inner);
    if hierarchy.version == Version::V2 && moved && own.ends_with(leaf_name()) {
        _ = own.pop();
    }
    Ok(own)
}

/// Makes this process's own group, and those between it and the parent of steps, give the controller to
/// their children. A group with processes in it can't.
fn divide_own(own: &Path, parent: &Path, controller: Controller) -> Result<(), NoCgroups> {
    let mut moved = MOVED.lock().unwrap_or_else(PoisonError::into_inner);
    let leaf = own.join(leaf_name());
    let left = match *moved {
        true => Ok(()),
        false => leave(&leaf),
    };
    let has_left = left.is_ok();
    let mut between: Vec<&Path> = parent.ancestors().collect();
    between.retain(|group| group.starts_with(own));
    let mut down = between.into_iter().rev();
    let divided = left.and_then(|()| down.try_for_each(|group| divide(group, controller)));
    if divided.is_err() {
        // The group stays as it was, unless it is divided already.
        let back = put(&own.join("cgroup.procs"), &std::process::id().to_string());
        _ = fs::remove_dir(&leaf);
        *moved = has_left && back.is_err();
    } else {
        *moved = true;
    }
    divided
}

/// Moves this process into a child of its group.
fn leave(leaf: &Path) -> Result<(), NoCgroups> {
    match fs::create_dir(leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("make the group", leaf, &error));
        }
        _ => {}
    }
    let procs = leaf.join("cgroup.procs");
    put(&procs, &std::process::id().to_string()).map_err(|error| failed("move to", &procs, &error))
}

fn divide(group: &Path, controller: Controller) -> Result<(), NoCgroups> {
    let file = group.join("cgroup.subtree_control");
    let name = controller.name();
    put(&file, &format!("+{name}"))
        .map_err(|error| failed(&format!("write +{name} to"), &file, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(mount: &Path, own: Option<&str>) -> Hierarchy {
        Hierarchy {
            version: Version::V1,
            mount: mount.to_owned(),
            own: own.map(|own| own.parse().unwrap()),
        }
    }

    #[test]
    fn own_groups_are_below_the_processs() {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path();
        for group in ["server/builds", "builds"] {
            fs::create_dir_all(mount.join(group)).unwrap();
        }
        let inside = hierarchy(mount, Some("/server"));
        let group = |text: &str| text.parse::<GroupPath>().unwrap();
        let of = |parent: CgroupParent| parent.group(&inside).map_err(|error| error.to_string());
        assert_eq!(of(CgroupParent::Usual), Ok(mount.join("server")));
        let builds = of(CgroupParent::Group(group("/builds")));
        assert_eq!(builds, Ok(mount.join("builds")));
        let builds = of(CgroupParent::Own(group("/builds")));
        assert_eq!(builds, Ok(mount.join("server/builds")));
        assert_eq!(of(CgroupParent::Own(group(""))), Ok(mount.join("server/")));
        let step = format!("kiln-{}-0", std::process::id());
        let refused = of(CgroupParent::Own(group(&step))).unwrap_err();
        assert!(refused.contains("kiln made"), "{refused}");
        let outside = hierarchy(mount, None);
        assert!(CgroupParent::Own(group("builds")).group(&outside).is_err());
        assert_eq!(
            CgroupParent::Usual.group(&outside).ok().as_deref(),
            Some(mount)
        );
    }
}
