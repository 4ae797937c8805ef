//! The root: mounts it and everything in it, enters it, cleans up afterwards.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::process::{pivot_root, umask};

use super::command::Inside;
use super::fail::{Context as _, Failure, check};
use super::mount::{attach, clone_of, new_file_system};
use super::seal::seal;
use super::target::Targets;
use super::{device, mask, mount, overlay, place};
use crate::capability::Capabilities;
use crate::filter::{self, Policy};
use crate::mount_attributes::{make_private, make_read_only, without_devices};
use crate::spec::{Network, Root};
use crate::{Spec, landlock};

/// A mounted root, with all that was made in it for mounts.
pub(crate) struct Prepared {
    targets: Targets,
    proc: OwnedFd,
    system: System,
}

/// Mounts that show the machine. What is masked in them is found from them, not by a path that an
/// image could bend.
struct System {
    sys: OwnedFd,
    /// `/dev/null`, opened before anything of an image was mounted: whatever may be mounted over it
    /// is neither opened nor used as a mask.
    null: OwnedFd,
}

/// Mounts the root with everything in it but `/proc`.
pub(crate) fn prepare(spec: &Spec) -> Result<Prepared, Failure> {
    let before = umask(Mode::empty());
    make_private().context("make mounts private")?;
    rustix::system::sethostname(spec.hostname.as_bytes()).context("set the host name")?;
    if spec.network == Network::None {
        bring_loopback_up().context("bring up the loopback interface")?;
    }
    let mut targets = Targets::new(mount_root(spec)?);
    let proc = targets.open_plain(Path::new("/proc"))?;
    let system = mount_system(spec, &mut targets)?;
    for wanted in &spec.mounts {
        mount::mount(wanted, &mut targets, spec)?;
    }
    umask(before);
    Ok(Prepared {
        targets,
        proc,
        system,
    })
}

impl Inside for Prepared {
    /// Mounts `/proc`, hides what is to be hidden, and makes this the root of the whole mount
    /// namespace. To be done by a process of the new process namespace, for that is the one that
    /// a new `/proc` shows; and while the old root is still there, for a user namespace may only
    /// mount `/proc` where one is visible already.
    fn enter(&self, spec: &Spec) -> Result<(), Failure> {
        let proc = proc(spec.ways.shared_proc)?;
        attach(&proc, &self.proc).context("attach /proc")?;
        if !spec.insecure {
            mask::mask(&proc, &self.system.sys, &self.system.null)?;
        }
        enter(self.targets.root()).context("enter the root")
    }

    /// The root of the mount namespace is there already, and `/proc` in it.
    fn join(&self) -> Result<(), Failure> {
        let enter = || -> std::io::Result<()> {
            rustix::process::fchdir(self.targets.root())?;
            rustix::process::chroot(".")?;
            std::env::set_current_dir("/")
        };
        enter().context("enter the root")
    }

    fn confine(&self, spec: &Spec) -> Result<Option<OwnedFd>, Failure> {
        let capabilities = match spec.insecure {
            true => Capabilities::ALL,
            false => Capabilities::DEFAULT,
        };
        if !spec.insecure {
            let output = std::io::stdout();
            let terminal = spec.terminal.then(|| output.as_fd());
            landlock::confine(self.targets.root().as_fd(), terminal.as_slice())
                .context("confine the step with Landlock")?;
        }
        let policy = Policy {
            capabilities: (!spec.insecure).then_some(capabilities),
            owner_calls: spec.owner_calls,
            tracing: true,
        };
        let told = filter::install(policy).context("install the system call filter")?;
        capabilities.limit().context("set capabilities")?;
        Ok(told)
    }

    fn null(&self) -> &OwnedFd {
        &self.system.null
    }
}

impl Prepared {
    /// Makes what the command could write read-only, unmounts what lies in the root and removes the
    /// mount points that were made for it. The command, and all that it started, must have ended.
    pub(crate) fn leave(mut self) -> Result<(), Failure> {
        seal(self.targets.writable())?;
        for target in self.targets.opened().iter().rev() {
            _ = unmount(target, UnmountFlags::DETACH);
        }
        self.targets.clean_up();
        seal([self.targets.root()])
    }
}

/// A `/proc` of the new process namespace; or the container's own, with what is masked in it, for a
/// user namespace gets no other where some is masked.
fn proc(shared: bool) -> Result<OwnedFd, Failure> {
    if shared {
        let opened = open_path(Path::new("/proc"));
        return opened
            .and_then(|proc| clone_of(&proc))
            .context("bind the container's /proc");
    }
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    new_file_system("proc", &[], quiet).context("mount /proc")
}

/// Mounts the root over the directory that takes its changes: nobody outside sees it.
fn mount_root(spec: &Spec) -> Result<OwnedFd, Failure> {
    let (mount, place) = match &spec.root {
        Root::Overlay {
            lowers,
            upper,
            work,
        } => {
            let places = Some((upper.as_path(), work.as_path()));
            (
                overlay::open(lowers, places, spec.in_user_namespace)?,
                upper,
            )
        }
        Root::Directory(directory) => {
            let opened = place::open(&directory.clone().into()).context("open the root")?;
            (clone_of(&opened).context("open the root")?, directory)
        }
    };
    if !spec.insecure {
        without_devices(&mount).context("forbid devices in the root")?;
    }
    attach(&mount, open_path(place).context("open the root")?).context("mount the root")?;
    Ok(mount)
}

fn open_path(path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn mount_system(spec: &Spec, targets: &mut Targets) -> Result<System, Failure> {
    let place = targets.open_plain(Path::new("/sys"))?;
    let sys = system(spec.insecure).context("mount /sys")?;
    attach(&sys, place).context("mount /sys")?;
    let nodes = device::nodes(&targets.open_plain(Path::new("/dev"))?)?;
    // Over the nodes, which so can't be reached but by those that are put into it.
    let place = targets.open_plain(Path::new("/dev"))?;
    let dev = device::mount(&place, &nodes, spec)?;
    let null = openat(
        &dev,
        "null",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context("open /dev/null")?;
    Ok(System { sys, null })
}

/// `/sys`; a user namespace that doesn't own the network can only show the host's.
fn system(writable: bool) -> std::io::Result<OwnedFd> {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if !writable {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    if let Ok(mount) = new_file_system("sysfs", &[], attributes) {
        return Ok(mount);
    }
    let host = match open_path(Path::new("/sys")) {
        Ok(host) => host,
        // A worker's own sandbox may show none.
        Err(rustix::io::Errno::NOENT) => return Ok(new_file_system("tmpfs", &[], attributes)?),
        Err(error) => return Err(error.into()),
    };
    let mount = clone_of(&host)?;
    if !writable {
        make_read_only(&mount)?;
    }
    Ok(mount)
}

fn enter(root: &OwnedFd) -> std::io::Result<()> {
    rustix::process::fchdir(root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

/// netdevice(7); the type that C libraries give it differs.
const SIOCSIFFLAGS: libc::Ioctl = 0x8914;

fn bring_loopback_up() -> std::io::Result<()> {
    // SAFETY: socket takes integers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(socket)?;
    // SAFETY: an ifreq of zeros is a valid one; the name is then set and stays terminated.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: the request lives until the call returns, and SIOCSIFFLAGS reads an ifreq.
    let done = check(unsafe { libc::ioctl(socket, SIOCSIFFLAGS, &raw const request) });
    // SAFETY: the descriptor is this function's own.
    unsafe { libc::close(socket) };
    done
}
