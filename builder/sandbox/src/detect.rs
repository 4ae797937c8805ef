//! What this machine allows: for `kiln doctor`.

use std::path::{Path, PathBuf};

use crate::Identity;

/// Something a build may need, and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ability {
    /// What it is, in words.
    pub name: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// What it means, and what to do when it is missing.
    pub detail: String,
}

/// What this machine allows.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// All that was looked at.
    pub all: Vec<Ability>,
}

impl Abilities {
    /// Looks at the machine, as the identity that builds run with.
    #[must_use]
    pub fn detect(identity: Identity, overlay: Result<(), String>) -> Self {
        Self {
            all: vec![
                ids(identity),
                overlay_ability(overlay),
                program("newuidmap", "rootless builds with many users", "uidmap"),
                program("pasta", "networks apart from the host's", "passt"),
                cgroup(),
            ],
        }
    }
}

fn ids(identity: Identity) -> Ability {
    let (available, detail) = match identity {
        Identity::Root => (true, "root: files can belong to anyone"),
        Identity::Subordinate => (
            true,
            "rootless with subordinate ids: files can belong to anyone",
        ),
        Identity::Single => (
            false,
            "rootless with a single id: steps that change owners seem to succeed, and the image \
             says root owns what they make. Install newuidmap (Debian: uidmap) and add a line \
             'NAME:100000:65536' to /etc/subuid and /etc/subgid",
        ),
    };
    Ability {
        name: "ids",
        available,
        detail: detail.to_owned(),
    }
}

fn overlay_ability(overlay: Result<(), String>) -> Ability {
    let (available, detail) = match overlay {
        Ok(()) => (true, "steps start without copying their root".to_owned()),
        Err(reason) => (
            false,
            format!(
                "steps copy their root, which is slower: {reason}; a kernel from 5.11 on allows it"
            ),
        ),
    };
    Ability {
        name: "overlayfs",
        available,
        detail,
    }
}

fn program(name: &'static str, purpose: &str, package: &str) -> Ability {
    match find(name) {
        Some(path) => Ability {
            name,
            available: true,
            detail: path.display().to_string(),
        },
        None => Ability {
            name,
            available: false,
            detail: format!("needed for {purpose}; install Debian's package '{package}'"),
        },
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn cgroup() -> Ability {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let detail = if unified {
        "version 2"
    } else {
        "version 1 or hybrid; kiln needs none of it"
    };
    Ability {
        name: "control groups",
        available: unified,
        detail: detail.to_owned(),
    }
}
