//! A root of its own for a command, without a single mount: for the root of a container that may
//! neither mount nor make namespaces.
//!
//! The root is a copy that belongs to the command. What others mount is brought into it for the
//! time of the command, in place of what the image has there, and taken out again before anybody
//! looks at what has changed: see [`guest`]. Landlock holds the command in its root, for a root
//! with CAP_SYS_CHROOT leaves any chroot; without Landlock that capability is taken away.

mod device;
mod guest;
mod proc;
mod relay;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{chroot, fchdir, umask};

use self::guest::Guests;
use self::relay::Relays;
use super::command::Inside;
use super::fail::{Context as _, Failure, check};
use crate::capability::{Capabilities, Capability};
use crate::filter::{self, Policy};
use crate::spec::{Mount, MountKind, Network, Root};
use crate::{Spec, landlock};

/// A root with all that was brought into it.
pub(crate) struct Prepared {
    guests: Guests,
    relays: Relays,
    /// The container's `/dev/null`.
    null: OwnedFd,
}

/// Brings into the root what the command is to see.
pub(crate) fn prepare(spec: &Spec) -> Result<Prepared, Failure> {
    let (directory, aside) = places(&spec.root)?;
    if spec.network != Network::Host {
        let reason = "without namespaces there is only the container's own; leave --network out, or see 'kiln doctor' for what gives steps namespaces";
        return Err(Failure::new("give the step a network of its own", reason));
    }
    let null = openat(
        CWD,
        "/dev/null",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context("open /dev/null")?;
    let before = umask(Mode::empty());
    let mut guests = Guests::new(open(directory)?, open(&aside)?);
    let mut relays = Relays::default();
    let brought = bring(spec, &mut guests, &mut relays);
    umask(before);
    match brought {
        Ok(()) => Ok(Prepared {
            guests,
            relays,
            null,
        }),
        Err(failure) => {
            // What was lent must not stay in a root that is thrown away.
            guests.leave()?;
            Err(failure)
        }
    }
}

fn bring(spec: &Spec, guests: &mut Guests, relays: &mut Relays) -> Result<(), Failure> {
    device::bring(guests)?;
    proc::bring(guests, relays, spec.terminal)?;
    drop(guests.directory(Path::new("/sys"), 0o555)?);
    for mount in &spec.mounts {
        bring_one(mount, guests, relays)?;
    }
    Ok(())
}

fn bring_one(mount: &Mount, guests: &mut Guests, relays: &mut Relays) -> Result<(), Failure> {
    let target = &mount.target;
    match &mount.kind {
        MountKind::Bind { source, .. } if guest::is_socket(&source.path()) => {
            relays.socket(guests.socket(target)?, source.path());
            Ok(())
        }
        MountKind::Bind { source, .. } => guests.lend(target, source.path()),
        MountKind::Tmpfs { mode, .. } => guests.directory(target, *mode).map(drop),
        MountKind::File {
            content,
            mode,
            uid,
            gid,
        } => guests.file(target, content, *mode, (uid.get(), gid.get())),
        MountKind::Overlay { .. } => Err(stacked(target)),
    }
}

fn stacked(target: &Path) -> Failure {
    let what = format!("bring a stack of directories to {}", target.display());
    Failure::new(what, "without mounts there are only copies")
}

/// The directory that is the root, and an empty one beside it.
fn places(root: &Root) -> Result<(&Path, PathBuf), Failure> {
    match root {
        Root::Directory(directory) => Ok((directory, directory.with_file_name("work"))),
        Root::Overlay { upper, .. } => Err(stacked(upper)),
    }
}

fn open(directory: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, directory, flags, Mode::empty()).context("open the root")
}

impl Inside for Prepared {
    fn enter(&self, _: &Spec) -> Result<(), Failure> {
        let enter = || -> std::io::Result<()> {
            fchdir(self.guests.root())?;
            chroot(".")?;
            std::env::set_current_dir("/")
        };
        enter().context("change the root")
    }

    /// Once its files are served no process may be forked.
    fn join(&self) -> Result<(), Failure> {
        let reason =
            "without namespaces there is one; 'kiln doctor' says what gives steps namespaces";
        Err(Failure::new("start another command in the root", reason))
    }

    fn confine(&self, spec: &Spec) -> Result<Option<OwnedFd>, Failure> {
        if spec.insecure {
            Capabilities::ALL.limit().context("set capabilities")?;
            return Ok(None);
        }
        let kept = Capabilities::DEFAULT.without(Capability::SysChroot);
        give_up_new_privileges().context("give up new privileges")?;
        let output = std::io::stdout();
        let terminal = spec.terminal.then(|| output.as_fd());
        landlock::confine(self.guests.root().as_fd(), terminal.as_slice())
            .context("confine the step with Landlock")?;
        let policy = Policy {
            capabilities: Some(kept),
            owner_calls: spec.owner_calls,
            tracing: false,
        };
        let told = filter::install(policy).context("install the system call filter")?;
        kept.limit().context("set capabilities")?;
        Ok(told)
    }

    fn null(&self) -> &OwnedFd {
        &self.null
    }
}

/// Without CAP_SYS_ADMIN the kernel takes filters and Landlock rules only from whoever gives up
/// set-user-ID programs.
fn give_up_new_privileges() -> std::io::Result<()> {
    // SAFETY: prctl with PR_SET_NO_NEW_PRIVS takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

impl Prepared {
    /// Starts what serves the command from outside. No process may be forked afterwards.
    pub(crate) fn serve(&mut self) -> Result<(), Failure> {
        self.relays.start().context("serve the step's files")
    }

    /// Takes out of the root what was brought into it. The command, and all that it started, must
    /// have ended.
    pub(crate) fn leave(self) -> Result<(), Failure> {
        self.relays.finish();
        self.guests.leave()
    }
}
