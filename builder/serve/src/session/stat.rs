//! What a client says of one file (`fsutil.types.Stat`), checked.
//!
//! `mode` is Go's `os.FileMode`: a kind in the high bits, and permissions below.

use kiln_graph::{ImagePath, Timestamp};

use crate::proto::fsutil::Stat;

const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const FIFO: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const CHARACTER: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;
const IRREGULAR: u32 = 1 << 19;
const PERMISSIONS: u32 = 0o777;

/// Paths and names are no longer (Linux, `limits.h`).
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

/// One file of a client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// Where it is.
    pub(super) path: ImagePath,
    /// Permission bits as `st_mode` has them.
    pub(super) mode: u32,
    /// When it was changed.
    pub(super) time: Timestamp,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file with as many bytes.
    File(u64),
    /// Another name of a file that came before.
    HardLink(ImagePath),
    Directory,
    Symlink(Vec<u8>),
    /// A device, pipe or socket, which no context needs.
    Special,
}

/// Why a client's file isn't taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadStat {
    /// A path that leaves the directory, or isn't written in the one way there is.
    #[error("invalid path {0:?}")]
    Path(String),
    #[error("{0}: negative size {1}")]
    Size(String, i64),
    #[error("{0}: unknown kind of file (mode {1:#x})")]
    Mode(String, u32),
}

impl Described {
    /// Checks one file's description.
    pub(super) fn of(stat: &Stat) -> Result<Self, BadStat> {
        let path = clean(&stat.path)?;
        Ok(Self {
            mode: permissions(stat.mode),
            time: timestamp(stat.mod_time),
            kind: kind(stat)?,
            path,
        })
    }

    /// Whether the client can be asked for bytes of it.
    pub(super) fn has_data(&self) -> bool {
        matches!(self.kind, Kind::File(_))
    }
}

fn kind(stat: &Stat) -> Result<Kind, BadStat> {
    let kinds = DIRECTORY | SYMLINK | DEVICE | FIFO | SOCKET | CHARACTER | IRREGULAR;
    match stat.mode & kinds {
        0 if !stat.linkname.is_empty() => clean(&stat.linkname).map(Kind::HardLink),
        0 => match u64::try_from(stat.size) {
            Ok(size) => Ok(Kind::File(size)),
            Err(_) => Err(BadStat::Size(stat.path.clone(), stat.size)),
        },
        DIRECTORY => Ok(Kind::Directory),
        SYMLINK => match stat.linkname.is_empty() || stat.linkname.contains('\0') {
            true => Err(BadStat::Path(stat.linkname.clone())),
            false => Ok(Kind::Symlink(stat.linkname.clone().into_bytes())),
        },
        FIFO | SOCKET | DEVICE => Ok(Kind::Special),
        mode if mode == DEVICE | CHARACTER => Ok(Kind::Special),
        _ => Err(BadStat::Mode(stat.path.clone(), stat.mode)),
    }
}

/// A path that is relative, and written in the one way there is.
fn clean(text: &str) -> Result<ImagePath, BadStat> {
    let is_name = |part: &str| {
        !matches!(part, "" | "." | "..") && part.len() <= MAX_NAME && !part.contains('\0')
    };
    match text.len() < MAX_PATH && text.split('/').all(is_name) {
        true => Ok(ImagePath::new(text)),
        false => Err(BadStat::Path(text.to_owned())),
    }
}

fn permissions(mode: u32) -> u32 {
    let special = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];
    let special = special.iter().filter(|(go, _)| mode & go != 0);
    special.fold(mode & PERMISSIONS, |all, (_, bit)| all | bit)
}

/// Permission bits of `st_mode` as Go has them.
fn go_permissions(mode: u32) -> u32 {
    let special = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];
    let special = special.iter().filter(|(_, bit)| mode & bit != 0);
    special.fold(mode & PERMISSIONS, |all, (go, _)| all | go)
}

const BILLION: i64 = 1_000_000_000;

fn timestamp(nanos: i64) -> Timestamp {
    let rest = nanos.rem_euclid(BILLION);
    Timestamp {
        seconds: nanos.div_euclid(BILLION),
        nanos: u32::try_from(rest).unwrap_or_default(),
    }
}

/// A file of a result's as a client is told of it; nothing for what can't be told.
pub(crate) fn stat_of(entry: &kiln_graph::Entry) -> Option<Stat> {
    use kiln_graph::Node;
    let (kind, size, link) = match &entry.node {
        Node::File { size, .. } => (0, i64::try_from(*size).ok()?, String::new()),
        Node::HardLink { to } => (0, 0, relative(to)),
        Node::Directory { .. } => (DIRECTORY, 0, String::new()),
        Node::Symlink { target } => {
            let target = String::from_utf8_lossy(target).into_owned();
            (SYMLINK, i64::try_from(target.len()).ok()?, target)
        }
        Node::Fifo => (FIFO, 0, String::new()),
        Node::CharDevice { .. } => (DEVICE | CHARACTER, 0, String::new()),
        Node::BlockDevice { .. } => (DEVICE, 0, String::new()),
        Node::Socket | Node::Whiteout => return None,
    };
    let (major, minor) = match entry.node {
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => (major, minor),
        _ => (0, 0),
    };
    Some(Stat {
        path: relative(&entry.path),
        mode: kind | go_permissions(entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        size,
        mod_time: entry.mtime.seconds.saturating_mul(BILLION) + i64::from(entry.mtime.nanos),
        linkname: link,
        devmajor: major.into(),
        devminor: minor.into(),
        xattrs: std::collections::HashMap::new(),
    })
}

fn relative(path: &ImagePath) -> String {
    String::from_utf8_lossy(path.relative_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(path: &str, mode: u32) -> Stat {
        Stat {
            path: path.to_owned(),
            mode,
            ..Stat::default()
        }
    }

    #[test]
    fn modes_are_those_of_go() {
        let read = |mode| Described::of(&stat("a", mode)).unwrap();
        let cases = [
            (2_147_484_141, 0o755, Kind::Directory),
            (33_554_852, 0o644, Kind::Special),
            (8_389_101, 0o4755, Kind::File(0)),
            (0o600 | STICKY | SETGID, 0o3600, Kind::File(0)),
        ];
        for (mode, permissions, kind) in cases {
            let read = read(mode);
            assert_eq!((read.mode, &read.kind), (permissions, &kind));
            assert_eq!(
                go_permissions(permissions),
                mode & (PERMISSIONS | SETUID | SETGID | STICKY)
            );
        }
    }

    #[test]
    fn paths_stay_inside() {
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b"] {
            assert!(Described::of(&stat(bad, 0o644)).is_err(), "{bad}");
        }
        let long = "x".repeat(256);
        assert!(Described::of(&stat(&long, 0o644)).is_err());
        let mut link = stat("a", SYMLINK | 0o777);
        assert!(Described::of(&link).is_err());
        link.linkname = "../../etc/passwd".to_owned();
        assert!(Described::of(&link).is_ok());
        let mut hard = stat("a", 0o644);
        hard.linkname = "../b".to_owned();
        assert!(Described::of(&hard).is_err());
        let mut sized = stat("a", 0o644);
        sized.size = -1;
        assert!(Described::of(&sized).is_err());
    }

    #[test]
    fn times_before_1970() {
        let time = timestamp(-1);
        assert_eq!((time.seconds, time.nanos), (-1, 999_999_999));
    }
}
