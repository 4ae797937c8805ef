//! Which way steps are run: the strongest that the user wants and the machine allows. Some
//! refusals show only when a step is prepared; then the next weaker way is taken, once for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Isolation, Privileges, SandboxError, Ways};

/// The way that steps are run. Cheap to clone; clones change together.
#[derive(Clone, Debug)]
pub struct Selection {
    privileges: Privileges,
    refused: Arc<Refused>,
}

/// What steps were refused.
#[derive(Debug, Default)]
struct Refused {
    proc: AtomicBool,
    namespaces: AtomicBool,
    /// Whether it was said what a chroot means.
    chroot_said: AtomicBool,
}

/// What to do after a step could not be prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Give up: there is no other way.
    None,
    /// Try again, for there is another way. The text says what changes, where nobody said it yet.
    Retry(Option<String>),
}

impl Selection {
    /// What this process may do, before anything was tried.
    #[must_use]
    pub fn new(privileges: Privileges) -> Self {
        Self {
            privileges,
            refused: Arc::default(),
        }
    }

    /// What this process may do.
    #[must_use]
    pub fn privileges(&self) -> &Privileges {
        &self.privileges
    }

    /// How the next step is run.
    ///
    /// # Errors
    /// When none can be run here.
    pub fn ways(&self) -> Result<Ways, SandboxError> {
        if self.refused.namespaces.load(Ordering::SeqCst) {
            return Ok(Ways::CHROOT);
        }
        let ways = self.privileges.ways()?;
        Ok(Ways {
            shared_proc: ways.shared_proc || self.refused.proc.load(Ordering::SeqCst),
            ..ways
        })
    }

    /// What a build is to say, once, of a weaker way that nobody asked for.
    #[must_use]
    pub fn notice(&self, ways: Ways) -> Option<&'static str> {
        let unasked = ways.isolation == Isolation::Chroot && self.privileges.may_fall_back();
        let first = || !self.refused.chroot_said.swap(true, Ordering::SeqCst);
        (unasked && first()).then_some(CHROOT_SAYS)
    }

    /// Takes note of what a step was refused that was run in these ways.
    #[must_use]
    pub fn fall_back(&self, ways: Ways, error: &SandboxError) -> Fallback {
        let once = |flag: &AtomicBool, text: String| {
            Fallback::Retry((!flag.swap(true, Ordering::SeqCst)).then_some(text))
        };
        match error.obstacle() {
            Some(Obstacle::Proc) if !ways.shared_proc => once(
                &self.refused.proc,
                "a /proc of their own is refused to steps here: they see the processes of kiln's container; 'kiln doctor' says more"
                    .to_owned(),
            ),
            Some(Obstacle::Namespaces)
                if ways.isolation == Isolation::Namespaces && self.privileges.may_fall_back() =>
            {
                once(&self.refused.namespaces, error.to_string())
            }
            _ => Fallback::None,
        }
    }
}

/// What a build says once when its steps have no namespaces.
const CHROOT_SAYS: &str = "steps run in a chroot without namespaces: they have their own files, but share processes, network and host name with kiln's container, have only a small /proc, and can't use sudo; 'kiln doctor' says more";

/// What the machine refused to a step's preparation, where there may be another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// A new `/proc`.
    Proc,
    /// Namespaces, or mounts in them.
    Namespaces,
}

impl SandboxError {
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        let Self::Setup { what, errno, .. } = self else {
            return None;
        };
        // What fails in the command's own process has no number here.
        let refused = matches!(
            *errno,
            0 | libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EINVAL | libc::ENOSPC
        );
        match what.as_str() {
            "mount /proc" if refused => Some(Obstacle::Proc),
            "make namespaces" | "make mounts private" | "mount the root" if refused => {
                Some(Obstacle::Namespaces)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, IsolationChoice};

    fn selection(can_chroot: bool) -> Selection {
        Selection::new(Privileges {
            identity: Identity::Root,
            choice: IsolationChoice::Auto,
            refusal: None,
            can_chroot,
            in_own_namespaces: false,
        })
    }

    fn refused(what: &str) -> SandboxError {
        SandboxError::Setup {
            what: what.to_owned(),
            reason: "Operation not permitted".to_owned(),
            errno: libc::EPERM,
        }
    }

    #[test]
    fn weaker_ways_are_taken_in_order_and_said_once() {
        let selection = selection(true);
        let first = selection.ways().unwrap();
        assert_eq!(first, Ways::NAMESPACES);
        for said in [true, false] {
            let done = selection.fall_back(first, &refused("mount /proc"));
            assert!(matches!(done, Fallback::Retry(text) if text.is_some() == said));
        }
        let second = selection.ways().unwrap();
        assert!(second.shared_proc && second.isolation == Isolation::Namespaces);
        assert_eq!(
            selection.fall_back(second, &refused("mount /proc")),
            Fallback::None,
            "no loop"
        );
        let done = selection.fall_back(second, &refused("make namespaces"));
        assert!(matches!(done, Fallback::Retry(Some(_))));
        assert_eq!(selection.ways().unwrap(), Ways::CHROOT);
        assert_eq!(selection.notice(second), None);
        assert_eq!(selection.notice(Ways::CHROOT), Some(CHROOT_SAYS));
        assert_eq!(selection.notice(Ways::CHROOT), None);
        let again = selection.fall_back(Ways::CHROOT, &refused("make namespaces"));
        assert_eq!(again, Fallback::None);
    }

    #[test]
    fn other_failures_and_other_users_change_nothing() {
        let failed = refused("make namespaces");
        let selection = selection(false);
        assert_eq!(
            selection.fall_back(Ways::NAMESPACES, &failed),
            Fallback::None
        );
        let full = SandboxError::Setup {
            what: "mount /proc".to_owned(),
            reason: String::new(),
            errno: libc::ENOMEM,
        };
        assert_eq!(selection.fall_back(Ways::NAMESPACES, &full), Fallback::None);
    }
}
