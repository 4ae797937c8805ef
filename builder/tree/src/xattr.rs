//! Extended attributes, by descriptor: those that only hold something (`O_PATH`) have no calls of
//! their own, which then answer EBADF.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The longest value and the longest list of names that Linux allows, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// A path that names what a descriptor holds, whatever it is: for calls that refuse `O_PATH`
/// descriptors. The kernel jumps to the held object; no directory is walked. Good only as long as
/// the descriptor is open.
pub(crate) struct HeldPath<'fd> {
    path: String,
    _held: BorrowedFd<'fd>,
}

impl<'fd> HeldPath<'fd> {
    pub(crate) fn of(held: &'fd impl AsFd) -> Self {
        let held = held.as_fd();
        Self {
            path: format!("/proc/self/fd/{}", held.as_raw_fd()),
            _held: held,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.path
    }
}

/// Attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The attributes whose names `wanted` takes.
pub(crate) fn all(held: &impl AsFd, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Xattrs> {
    let mut all = Xattrs::new();
    for name in names(held)?.into_iter().filter(|name| wanted(name)) {
        all.extend(value(held, &name)?.map(|value| (name, value)));
    }
    Ok(all)
}

/// The names of what a descriptor holds; none where the file system has no attributes.
fn names(held: &impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut few = [0u8; 64];
    match list(held, &mut few) {
        Ok(count) => return Ok(split(&few[..count])),
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error.into()),
    }
    let mut all = vec![0; MAX_VALUE];
    let count = list(held, &mut all)?;
    Ok(split(&all[..count]))
}

fn list(held: &impl AsFd, names: &mut [u8]) -> rustix::io::Result<usize> {
    match rustix::fs::flistxattr(held, &mut *names) {
        Err(Errno::BADF) => rustix::fs::listxattr(HeldPath::of(held).as_str(), names),
        other => other,
    }
}

fn split(names: &[u8]) -> Vec<Vec<u8>> {
    let names = names.split(|&b| b == 0).filter(|name| !name.is_empty());
    names.map(<[u8]>::to_vec).collect()
}

/// A value; nothing when it is gone or not for us to read.
fn value(held: &impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_VALUE];
    let read = match rustix::fs::fgetxattr(held, name, &mut value) {
        Err(Errno::BADF) => rustix::fs::getxattr(HeldPath::of(held).as_str(), name, &mut value),
        other => other,
    };
    match read {
        Ok(count) => {
            value.truncate(count);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn set(held: &impl AsFd, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    let flags = XattrFlags::empty();
    match rustix::fs::fsetxattr(held, name, value, flags) {
        Err(Errno::BADF) => rustix::fs::setxattr(HeldPath::of(held).as_str(), name, value, flags),
        other => other,
    }
}
