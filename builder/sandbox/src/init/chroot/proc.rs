//! `/proc` without mounts: copies of what the container's says of the machine, and the little of
//! `/proc/self` that needs no process.
#![expect(clippy::disallowed_methods, reason = "files of /proc of the machine")]

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, mknodat, openat, symlinkat};

use super::super::fail::{Context as _, Failure};
use super::guest::{Guests, below, write_below};
use super::relay::{Relays, Stream};

const COPIED: &[&str] = &[
    "cpuinfo",
    "devices",
    "filesystems",
    "loadavg",
    "meminfo",
    "partitions",
    "self/cgroup",
    "self/gid_map",
    "self/uid_map",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/fs/file-max",
    "sys/fs/nr_open",
    "sys/fs/pipe-max-size",
    "sys/kernel/cap_last_cap",
    "sys/kernel/domainname",
    "sys/kernel/hostname",
    "sys/kernel/msgmax",
    "sys/kernel/ngroups_max",
    "sys/kernel/osrelease",
    "sys/kernel/ostype",
    "sys/kernel/overflowgid",
    "sys/kernel/overflowuid",
    "sys/kernel/pid_max",
    "sys/kernel/random/boot_id",
    "sys/kernel/random/entropy_avail",
    "sys/kernel/random/uuid",
    "sys/kernel/shmall",
    "sys/kernel/shmmax",
    "sys/kernel/shmmni",
    "sys/kernel/threads-max",
    "sys/kernel/version",
    "sys/net/core/somaxconn",
    "sys/net/ipv4/ip_local_port_range",
    "sys/vm/max_map_count",
    "sys/vm/overcommit_memory",
    "uptime",
    "version",
    "vmstat",
];

const WRITTEN: &[(&str, &str)] = &[
    ("self/mounts", "root / rootfs rw 0 0\n"),
    ("self/mountinfo", "1 1 0:1 / / rw - rootfs root rw\n"),
];

const LINKS: &[(&str, &str)] = &[("self/mounts", "mounts"), ("self", "thread-self")];

/// Brings `/proc` into the root. What a command writes to `/proc/self/fd/1` and `2`, which
/// `/dev/stdout` and `/dev/stderr` lead to, is relayed.
pub(super) fn bring(
    guests: &mut Guests,
    relays: &mut Relays,
    terminal: bool,
) -> Result<(), Failure> {
    let what = "make /proc";
    let proc = guests.directory(Path::new("/proc"), 0o755)?;
    for path in COPIED {
        if let Ok(text) = std::fs::read(Path::new("/proc").join(path)) {
            write_below(&proc, Path::new(path), &text).context(what)?;
        }
    }
    for (path, text) in WRITTEN {
        write_below(&proc, Path::new(path), text.as_bytes()).context(what)?;
    }
    for (points_to, path) in LINKS {
        symlinkat(*points_to, &proc, *path).context(what)?;
    }
    let (streams, _) = below(&proc, Path::new("self/fd/0")).context(what)?;
    let input = if terminal { "/dev/tty" } else { "/dev/null" };
    symlinkat(input, &streams, "0").context(what)?;
    for (name, stream) in [("1", Stream::Stdout), ("2", Stream::Stderr)] {
        match terminal {
            true => symlinkat("/dev/tty", &streams, name).context(what)?,
            false => relays.stream(pipe(&streams, name).context(what)?, stream),
        }
    }
    Ok(())
}

/// A named pipe, opened for both so that neither side waits for the other.
fn pipe(directory: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    mknodat(
        directory,
        name,
        FileType::Fifo,
        Mode::from_raw_mode(0o622),
        0,
    )?;
    openat(
        directory,
        name,
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
