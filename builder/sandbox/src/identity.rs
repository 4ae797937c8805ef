//! Which ids kiln has to give away: the machine's root has all; others get a user namespace with
//! their subordinate ids, or with their own single id.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{getegid, geteuid, getpid};

use crate::SandboxError;
use crate::capability::is_admin;

/// Which ids there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// All of them: the machine's root, with the capability to mount.
    Root,
    /// Root and the subordinate ids of a user namespace.
    Subordinate,
    /// One id, seen as root in a user namespace. Files can't be given away.
    Single,
}

impl Identity {
    /// Whether mounts are made in a user namespace.
    #[must_use]
    pub fn is_in_user_namespace(self) -> bool {
        self != Self::Root
    }
}

/// Moves this process into a user namespace and a mount namespace in which it is root, unless it
/// is the machine's root already. To be called before there are threads.
///
/// # Errors
/// When the system allows no user namespaces.
pub fn enter_user_namespace() -> Result<Identity, SandboxError> {
    if geteuid().is_root() && is_admin() {
        return Ok(Identity::Root);
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let mut mapper = Mapper::start().map_err(SandboxError::NoUserNamespace)?;
    // SAFETY: unshare takes an integer; the caller has no other threads.
    let done = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) };
    if done != 0 {
        return Err(SandboxError::NoUserNamespace(io::Error::last_os_error()));
    }
    let identity = if mapper.map_subordinate().unwrap_or(false) {
        Identity::Subordinate
    } else {
        map_single(uid, gid).map_err(SandboxError::NoUserNamespace)?;
        Identity::Single
    };
    become_root(identity).map_err(SandboxError::NoUserNamespace)?;
    Ok(identity)
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
    ranges.into_iter().find(|(_, count)| *count >= 65_535)
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
}
