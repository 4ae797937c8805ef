//! Limits of the command's resources (`setrlimit`).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Does something with each limit of a step: its name, its soft and its hard value.
///
/// # Errors
/// When there is no limit of a name, or the system refuses it.
pub(super) fn each_limit(
    wanted: &[(String, u64, u64)],
    set: fn(Resource, Rlimit) -> io::Result<()>,
) -> io::Result<()> {
    for (name, soft, hard) in wanted {
        let resource = resource(name).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("unknown limit '{name}'"),
            )
        })?;
        let finite = |limit: u64| (limit != u64::MAX).then_some(limit);
        let limit = Rlimit {
            current: finite(*soft),
            maximum: finite(*hard),
        };
        set(resource, limit)?;
    }
    Ok(())
}

/// Sets a limit.
pub(super) fn set_limit(resource: Resource, limit: Rlimit) -> io::Result<()> {
    Ok(setrlimit(resource, limit)?)
}

/// Raises what only a process with all its capabilities can raise: the hard limit.
pub(super) fn raise(resource: Resource, wanted: Rlimit) -> io::Result<()> {
    let mut limit = getrlimit(resource);
    let unlimited = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if unlimited(wanted.maximum) <= unlimited(limit.maximum) {
        return Ok(());
    }
    limit.maximum = wanted.maximum;
    set_limit(resource, limit)
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}
