//! What this machine allows: for `kiln doctor`.
#![expect(
    clippy::disallowed_methods,
    reason = "programs and control groups of the machine"
)]

use std::path::{Path, PathBuf};

use crate::landlock::{self, Support};
use crate::{Identity, Isolation, SandboxError, Selection, Ways};

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
    /// Looks at the machine, as what builds run as. What is refused to a step that is prepared must
    /// have been tried before.
    #[must_use]
    pub fn detect(selection: &Selection, overlay: Result<(), String>) -> Self {
        Self {
            all: vec![
                isolation(selection),
                ids(selection.privileges().identity),
                overlay_ability(overlay),
                program("newuidmap", "rootless builds with many users", "uidmap"),
                program("pasta", "networks apart from the host's", "passt"),
                cgroup(),
                landlock(),
            ],
        }
    }
}

fn isolation(selection: &Selection) -> Ability {
    let (available, detail) = match selection.ways() {
        Ok(ways) => (ways == Ways::NAMESPACES, cost(ways, selection)),
        Err(error @ SandboxError::NoNamespaces(_)) => {
            (false, format!("none; builds without RUN work. {error}"))
        }
        Err(error) => (false, error.to_string()),
    };
    Ability {
        name: "isolation",
        available,
        detail,
    }
}

/// What a way of running steps keeps apart, and which setting would give a stronger one.
fn cost(ways: Ways, selection: &Selection) -> String {
    match (ways.isolation, ways.shared_proc) {
        (Isolation::Namespaces, false) => {
            "namespaces: steps have their own files, processes, devices and host name, and a network \
             of their own where they ask for one"
                .to_owned()
        }
        (Isolation::Namespaces, true) => {
            "namespaces with the container's /proc: steps have their own files, devices and host \
             name, but see the processes of kiln's container. For a /proc of their own set \
             securityContext.procMount to Unmasked in Kubernetes, or give Docker --security-opt \
             systempaths=unconfined"
                .to_owned()
        }
        (Isolation::Chroot, _) => {
            let why = selection.privileges().refusal().map(ToString::to_string);
            let why = why.unwrap_or_else(|| "namespaces can't be made".to_owned());
            format!(
                "chroot: steps have their own files, but share processes, network, devices' names \
                 and host name with kiln's container; /proc is a small copy without processes, \
                 /dev/shm has no limit, sudo and other set-user-ID programs give no privileges, \
                 --network none can't be had, and cache mounts are used by one step at a time. For \
                 namespaces: {why}"
            )
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
        Identity::Confined => (
            true,
            "root of a container that may not mount: files can belong to anyone",
        ),
        Identity::Plain => (
            false,
            "an ordinary user without a user namespace: images say who owns what, files on the \
             disk don't",
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
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

fn landlock() -> Ability {
    let (available, detail) = match landlock::support() {
        Support::FilesAndScopes => (
            true,
            "a step reaches files below its root only, and no abstract socket of the machine",
        ),
        Support::Files => (
            false,
            "a step reaches files below its root only, but abstract sockets of the machine where \
             it has the machine's network: a kernel from 6.12 on forbids that",
        ),
        Support::None => (
            false,
            "a step that is passed a descriptor reaches what lies around its file: don't build \
             strangers' files beside other builds; a kernel from 5.19 on forbids that, where \
             Landlock isn't switched off",
        ),
    };
    Ability {
        name: "landlock",
        available,
        detail: detail.to_owned(),
    }
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
