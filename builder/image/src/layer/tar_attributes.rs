//! What the header and the PAX records of an entry of a tar say of a file: owner, mode, time, extended
//! attributes.

use std::io::{self, Read};

use kiln_graph::{Entry, ImagePath, Timestamp, UnixId};

const XATTR: &str = "SCHILY.xattr.";
/// Attributes by which overlayfs is told to show other files: none of a layer's business.
const OVERLAY: [&str; 2] = ["trusted.overlay.", "user.overlay."];

/// An owner's number. To system calls 4294967295 means "as it is": whoever unpacks.
fn owner(number: u64) -> io::Result<u32> {
    let id = u32::try_from(number).ok().map(UnixId::try_from);
    match id {
        Some(Ok(id)) => Ok(id.get()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an entry's owner is {number}: uids and gids must be in range 0-2147483647"),
        )),
    }
}

fn owner_in_text(text: &str) -> io::Result<u32> {
    let id: Result<UnixId, _> = text.parse();
    let id = id.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(id.get())
}

/// The entry's attributes; its node is a directory's for now.
pub(super) fn attributes(
    entry: &mut tar::Entry<'_, impl Read>,
    path: ImagePath,
) -> io::Result<Entry> {
    let header = entry.header();
    let mut meta = Entry {
        mode: header.mode()? & 0o7777,
        uid: owner(header.uid()?)?,
        gid: owner(header.gid()?)?,
        ..Entry::directory(path)
    };
    meta.mtime.seconds = header.mtime()?.cast_signed();
    let Some(records) = entry.pax_extensions()? else {
        return Ok(meta);
    };
    for record in records {
        let record = record?;
        let Ok(key) = record.key() else { continue };
        let text = record.value().unwrap_or_default();
        match key {
            "mtime" => meta.mtime = parse_time(text).unwrap_or(meta.mtime),
            "uid" => meta.uid = owner_in_text(text)?,
            "gid" => meta.gid = owner_in_text(text)?,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR)
                    && !OVERLAY.iter().any(|own| name.starts_with(own))
                {
                    meta.xattrs
                        .insert(name.into(), record.value_bytes().to_vec());
                }
            }
        }
    }
    Ok(meta)
}

/// Seconds with a fraction, maybe negative.
fn parse_time(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    let (seconds, nanos): (i64, u32) = (whole.parse().ok()?, digits.parse().ok()?);
    if whole.starts_with('-') && nanos > 0 {
        return Some(Timestamp {
            seconds: seconds.checked_sub(1)?,
            nanos: 1_000_000_000 - nanos,
        });
    }
    Some(Timestamp { seconds, nanos })
}
