//! Which ids kiln has to give away: the machine's root has all; others get a user namespace with
//! their subordinate ids, or with their own single id. Where there are no user namespaces, the root
//! of a container still has those of its container, and a user has no other.
#![expect(
    clippy::disallowed_methods,
    reason = "files of /proc and /etc of the machine"
)]

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{getegid, geteuid, getpid};

use crate::SandboxError;
use crate::capability::{Capabilities, Capability};
use crate::isolation::{Isolation, IsolationChoice, Privileges};
use crate::mount_attributes::make_private;
use crate::refusal::Refusal;

/// Which ids there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// All of them: the machine's root, with the capability to mount.
    Root,
    /// Root and many more ids of a user namespace.
    Subordinate,
    /// One id, seen as root in a user namespace. Files can't be given away.
    Single,
    /// The root of a container that may neither mount nor make namespaces. Files can be given away.
    Confined,
    /// An ordinary user where no namespaces can be made. Files can't be given away.
    Plain,
}

impl Identity {
    /// Whether mounts are made in a user namespace.
    #[must_use]
    pub fn is_in_user_namespace(self) -> bool {
        matches!(self, Self::Subordinate | Self::Single)
    }

    /// Whether files can be given to any owner.
    #[must_use]
    pub fn gives_away(self) -> bool {
        matches!(self, Self::Root | Self::Subordinate | Self::Confined)
    }
}

/// Moves this process into a user namespace and a mount namespace in which it is root, unless it
/// is a root that may mount already, or the machine refuses: then it stays where it is, and no
/// step needs to know unless it runs something. To be called before there are threads.
///
/// # Errors
/// When a namespace was made but can't be used, or a process with threads would need one.
pub fn enter_user_namespace(choice: IsolationChoice) -> Result<Privileges, SandboxError> {
    let permitted = Capabilities::permitted().unwrap_or(Capabilities::NONE);
    let root = geteuid().is_root();
    let privileges = |identity, refusal, can_chroot| Privileges {
        identity,
        choice,
        refusal,
        can_chroot: can_chroot && permitted.has(Capability::SysChroot),
        in_own_namespaces: false,
    };
    if root && permitted.has(Capability::SysAdmin) {
        return Ok(privileges(identity_of_root(), None, true));
    }
    let outside = || match root && permitted.has(Capability::Chown) {
        true => Identity::Confined,
        false => Identity::Plain,
    };
    if choice == IsolationChoice::Only(Isolation::Chroot) {
        return Ok(privileges(outside(), None, root));
    }
    if has_threads() {
        return Err(SandboxError::HasThreads);
    }
    match make_user_namespace() {
        Ok(identity) => Ok(Privileges {
            in_own_namespaces: true,
            ..privileges(identity, None, false)
        }),
        Err(Refused::Before(error)) => Ok(privileges(outside(), Some(Refusal::of(&error)), root)),
        Err(Refused::After(error)) => Err(SandboxError::NoNamespaces(Refusal::of(&error))),
    }
}

fn has_threads() -> bool {
    let threads = std::fs::read_dir("/proc/self/task");
    threads.is_ok_and(|threads| threads.count() > 1)
}

/// A root with the capability to mount: the machine's own, or that of a container with a user
/// namespace of its own.
fn identity_of_root() -> Identity {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    match ids_of_map(&map) {
        None | Some(u32::MAX) => Identity::Root,
        Some(ids) if ids >= ENOUGH_IDS => Identity::Subordinate,
        Some(_) => Identity::Single,
    }
}

/// The ids that images may use, besides root.
const ENOUGH_IDS: u32 = 65_535;

/// How many ids a `/proc/PID/uid_map` has (`user_namespaces(7)`).
fn ids_of_map(map: &str) -> Option<u32> {
    let counts = map.lines().map(|line| line.split_ascii_whitespace().nth(2));
    let counts: Option<Vec<u32>> = counts.map(|count| count?.parse().ok()).collect();
    let counts = counts.filter(|counts| !counts.is_empty())?;
    Some(counts.into_iter().fold(0, u32::saturating_add))
}

/// Whether this process is in another user namespace than the machine's first.
pub(crate) fn is_in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map");
    map.is_ok_and(|map| is_of_a_user_namespace(&map))
}

fn is_of_a_user_namespace(map: &str) -> bool {
    ids_of_map(map).is_some_and(|ids| ids != u32::MAX)
}

/// When a user namespace was refused.
enum Refused {
    /// Nothing has changed.
    Before(io::Error),
    /// This process is in one that it can't use.
    After(io::Error),
}

fn make_user_namespace() -> Result<Identity, Refused> {
    // A namespace that turns out to be useless can't be left again.
    try_in_a_child().map_err(Refused::Before)?;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let mut mapper = Mapper::start().map_err(Refused::Before)?;
    unshare().map_err(Refused::Before)?;
    let identity = if mapper.map_subordinate().unwrap_or(false) {
        Identity::Subordinate
    } else {
        map_single(uid, gid).map_err(Refused::After)?;
        Identity::Single
    };
    become_root(identity).map_err(Refused::After)?;
    Ok(identity)
}

/// Gives a process that may mount a mount namespace, whose mounts nobody else sees and which goes with
/// it. To be called before there are threads.
///
/// # Errors
/// When it may not, or has threads.
pub fn own_mounts() -> io::Result<()> {
    if has_threads() {
        return Err(io::Error::other("the process has threads"));
    }
    // SAFETY: unshare takes an integer; there are no other threads.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    make_private()
}

fn unshare() -> io::Result<()> {
    // SAFETY: unshare takes an integer; the callers have no other threads.
    match unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a user namespace in a child, and there what a step needs: AppArmor lets a namespace be made
/// whose map (Ubuntu from 23.10 on) or mounts (Docker's profile) it then refuses.
fn try_in_a_child() -> io::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    // SAFETY: the caller has no other threads, so the child may go on as usual.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let done = unshare()
            .and_then(|()| map_single(uid, gid))
            .and_then(|()| make_private());
        let errno = done.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EPERM), |()| 0);
        // SAFETY: ends the child at once, without the parent's exit handlers.
        unsafe { libc::_exit(errno) }
    }
    let mut status = 0;
    // SAFETY: the status lives until the call returns.
    if child < 0 || unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    match libc::WEXITSTATUS(status) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn become_root(identity: Identity) -> io::Result<()> {
    if identity == Identity::Subordinate {
        // SAFETY: these take integers, and an empty list of groups.
        let failed = unsafe {
            libc::setgroups(0, std::ptr::null()) != 0
                || libc::setresgid(0, 0, 0) != 0
                || libc::setresuid(0, 0, 0) != 0
        };
        if failed {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn map_single(uid: u32, gid: u32) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))
}

/// A child left outside of the namespace, which runs `newuidmap` and `newgidmap` on its parent.
struct Mapper {
    go: std::fs::File,
    answer: std::fs::File,
}

impl Mapper {
    fn start() -> io::Result<Self> {
        let (go_read, go_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (answer_read, answer_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let parent = getpid();
        // SAFETY: the caller has no other threads, so the child may go on as usual.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop((go_write, answer_read));
                let done = serve(go_read, parent.as_raw_nonzero().get());
                _ = std::fs::File::from(answer_write).write_all(&[u8::from(done)]);
                // SAFETY: ends the child at once, without the parent's exit handlers.
                unsafe { libc::_exit(0) }
            }
            _ => Ok(Self {
                go: go_write.into(),
                answer: answer_read.into(),
            }),
        }
    }

    fn map_subordinate(&mut self) -> io::Result<bool> {
        self.go.write_all(b"1")?;
        let mut answer = [0];
        self.answer.read_exact(&mut answer)?;
        // SAFETY: waits for the one child there is.
        unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        Ok(answer == [1])
    }
}

fn serve(go: OwnedFd, parent: i32) -> bool {
    let mut byte = [0];
    if std::fs::File::from(go).read_exact(&mut byte).is_err() {
        return false;
    }
    let may_map = Capabilities::permitted().is_ok_and(|all| all.has(Capability::SetUid));
    if may_map && geteuid().is_root() {
        return map_all(parent).is_ok();
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let name = user_name(uid);
    let maps = [
        ("newgidmap", "/etc/subgid", gid),
        ("newuidmap", "/etc/subuid", uid),
    ];
    maps.into_iter().all(|(program, file, own)| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let Some((start, count)) = subordinate_range(&text, &name, uid) else {
            return false;
        };
        let numbers = [0, own, 1, 1, start, count].map(|number| number.to_string());
        let status = Command::new(program)
            .arg(parent.to_string())
            .args(numbers)
            .status();
        status.is_ok_and(|status| status.success())
    })
}

/// Gives a namespace all ids of this one, each as itself: what a container's root may do.
fn map_all(process: i32) -> io::Result<()> {
    for kind in ["gid_map", "uid_map"] {
        let own = std::fs::read_to_string(format!("/proc/self/{kind}"))?;
        std::fs::write(format!("/proc/{process}/{kind}"), same_ids(&own))?;
    }
    Ok(())
}

/// The map of a namespace below one with the map `own`.
fn same_ids(own: &str) -> String {
    let lines = own.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (first, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    });
    lines.collect()
}

fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut lines = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid));
    line.map(|fields| fields[0].to_owned()).unwrap_or_default()
}

/// The first range of `/etc/subuid` or `/etc/subgid` (`subuid(5)`) of a user with at least the
/// 65,535 ids that images may use.
pub(crate) fn subordinate_range(text: &str, name: &str, uid: u32) -> Option<(u32, u32)> {
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let mine = owner == name || owner.parse() == Ok(uid);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)).filter(|_| mine)
    });
    ranges.into_iter().find(|(_, count)| *count >= ENOUGH_IDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_name_or_number_and_large_enough() {
        let text = "a:100000:65536\nb:200000:10\n1002:300000:65536\nbroken\n";
        assert_eq!(subordinate_range(text, "a", 1000), Some((100_000, 65_536)));
        assert_eq!(subordinate_range(text, "b", 1001), None);
        assert_eq!(subordinate_range(text, "c", 1002), Some((300_000, 65_536)));
    }

    #[test]
    fn maps_are_counted_and_passed_on() {
        let map = "         0     100000      65536\n     70000     300000       1000\n";
        assert_eq!(ids_of_map(map), Some(66_536));
        assert_eq!(ids_of_map("0 0 4294967295\n"), Some(u32::MAX));
        assert_eq!(ids_of_map(""), None);
        assert_eq!(ids_of_map("broken\n"), None);
        assert!(is_of_a_user_namespace(map));
        assert!(!is_of_a_user_namespace("0 0 4294967295\n") && !is_of_a_user_namespace(""));
        assert_eq!(same_ids(map), "0 0 65536\n70000 70000 1000\n");
    }
}
