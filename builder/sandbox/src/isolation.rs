//! How steps are kept apart from the machine: what the user wants, what the machine allows, and
//! what that leaves.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::{Identity, SandboxError};

/// A way to keep a step apart from the machine. The stronger is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A root of its own, and nothing else: it shares processes, network and devices with the
    /// container that kiln runs in.
    Chroot,
    /// Namespaces of its own.
    Namespaces,
}

impl Isolation {
    /// What `--isolation` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chroot => "chroot",
            Self::Namespaces => "namespaces",
        }
    }
}

impl FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "chroot" => Ok(Self::Chroot),
            "namespaces" => Ok(Self::Namespaces),
            other => Err(format!("isolation '{other}': use namespaces or chroot")),
        }
    }
}

/// Which isolation the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationChoice {
    /// The strongest that the machine allows.
    #[default]
    Auto,
    /// This one.
    Only(Isolation),
}

impl FromStr for IsolationChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            // "default" is Docker's word, "oci" and "rootless" are Buildah's.
            "auto" | "default" | "oci" | "rootless" => Ok(Self::Auto),
            other => other
                .parse()
                .map(Self::Only)
                .map_err(|_| format!("isolation '{other}': use auto, namespaces or chroot")),
        }
    }
}

/// How the next step is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ways {
    /// How it is kept apart.
    pub isolation: Isolation,
    /// Whether it sees the `/proc` of kiln's own container, and so has no process namespace.
    pub shared_proc: bool,
}

impl Ways {
    /// Namespaces of every kind.
    pub const NAMESPACES: Self = Self {
        isolation: Isolation::Namespaces,
        shared_proc: false,
    };
    /// A root of its own.
    pub const CHROOT: Self = Self {
        isolation: Isolation::Chroot,
        shared_proc: true,
    };
}

/// What this process may do, found before there were threads.
#[derive(Clone, Debug)]
pub struct Privileges {
    /// Which ids there are.
    pub identity: Identity,
    pub(crate) choice: IsolationChoice,
    /// Why there are no namespaces.
    pub(crate) refusal: Option<Refusal>,
    /// Whether this is a root that may change its root.
    pub(crate) can_chroot: bool,
    /// Whether this process is in namespaces that it made for itself.
    pub(crate) in_own_namespaces: bool,
}

/// Who sees what this process mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountReach {
    /// Everybody in the mount namespace that it was started in, also when it has ended.
    Others,
    /// It and its children, as long as they run.
    Children,
    /// Nobody: it may not mount.
    Nobody,
}

impl Privileges {
    /// How steps are run first.
    ///
    /// # Errors
    /// When they can't be run here, or not as the user wants.
    pub fn ways(&self) -> Result<Ways, SandboxError> {
        use IsolationChoice::{Auto, Only};
        match (self.choice, &self.refusal) {
            (Auto | Only(Isolation::Namespaces), None) => Ok(Ways::NAMESPACES),
            (Only(Isolation::Chroot), _) | (Auto, Some(_)) if self.can_chroot => Ok(Ways::CHROOT),
            (Only(Isolation::Chroot), _) => Err(SandboxError::NoChroot),
            (_, Some(refusal)) => Err(SandboxError::NoNamespaces(refusal.clone())),
        }
    }

    /// Who sees what this process mounts.
    #[must_use]
    pub fn mount_reach(&self) -> MountReach {
        match self.identity {
            Identity::Confined | Identity::Plain => MountReach::Nobody,
            _ if self.in_own_namespaces => MountReach::Children,
            _ => MountReach::Others,
        }
    }

    /// Why steps have no namespaces, if it is known that they have none.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Whether steps may be run in a chroot instead.
    pub(crate) fn may_fall_back(&self) -> bool {
        self.can_chroot && self.choice == IsolationChoice::Auto
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_that_is_allowed_and_wanted() {
        let refused = Some(Refusal::of_errno(libc::EPERM));
        let ways = |choice: &str, refusal: &Option<Refusal>, can_chroot| {
            Privileges {
                identity: Identity::Confined,
                choice: choice.parse().unwrap(),
                refusal: refusal.clone(),
                can_chroot,
                in_own_namespaces: false,
            }
            .ways()
            .map_err(|error| error.to_string())
        };
        assert_eq!(ways("auto", &None, true), Ok(Ways::NAMESPACES));
        assert_eq!(ways("auto", &refused, true), Ok(Ways::CHROOT));
        assert_eq!(ways("chroot", &None, true), Ok(Ways::CHROOT));
        assert_eq!(ways("namespaces", &None, true), Ok(Ways::NAMESPACES));
        assert!(ways("namespaces", &refused, true).is_err());
        assert!(ways("auto", &refused, false).is_err());
        assert!(ways("chroot", &None, false).is_err());
        assert!("podman".parse::<IsolationChoice>().is_err());
        assert!(Isolation::Chroot < Isolation::Namespaces);
    }
}
