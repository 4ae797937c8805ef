//! Extended attributes, by descriptor: those that only hold something (`O_PATH`) have no calls of
//! their own, which then answer EBADF.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::held::HeldPath;

/// The longest value and the longest list of names that Linux allows, in bytes.
const MAX_VALUE: usize = 64 * 1024;

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
        Err(Errno::BADF) => HeldPath::of(held).list_xattrs(names),
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
        Err(Errno::BADF) => HeldPath::of(held).xattr(name, &mut value),
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
    match rustix::fs::fsetxattr(held, name, value, XattrFlags::empty()) {
        Err(Errno::BADF) => HeldPath::of(held).set_xattr(name, value),
        other => other,
    }
}
