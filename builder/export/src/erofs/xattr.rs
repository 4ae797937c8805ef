//! Extended attributes behind an inode: a header of 12 bytes, then an entry for each (length of the
//! name, what it begins with, length of the value, name, value), filled up to 4 bytes.

use std::collections::BTreeMap;

const HEADER: usize = 12;
const ALIGNMENT: usize = 4;
/// The most that an inode can count, in bytes.
const MAX: usize = HEADER + ALIGNMENT * (u16::MAX as usize - 1);

/// What names begin with, and its number.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// All attributes of an inode; nothing when it has none. What the format has no place for is left out:
/// names that begin with something else, and what is longer than its numbers.
pub(super) fn encoded(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    for (name, value) in xattrs {
        let prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        let Some((prefix, number)) = prefix else {
            continue;
        };
        let rest = &name[prefix.len()..];
        let (Ok(name_size), Ok(size)) = (u8::try_from(rest.len()), u16::try_from(value.len()))
        else {
            continue;
        };
        if out.len() + rest.len() + value.len() + 8 > MAX {
            continue;
        }
        out.extend([name_size, *number]);
        out.extend(size.to_le_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    }
    match out.len() {
        HEADER => Vec::new(),
        _ => out,
    }
}

/// How an inode counts its attributes.
pub(super) fn count(encoded: &[u8]) -> u16 {
    match encoded.len() {
        0 => 0,
        size => ((size - HEADER) / ALIGNMENT + 1) as u16,
    }
}
