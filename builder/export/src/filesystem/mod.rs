//! Root file systems in one file, for virtual machines and initramfs: cpio is written here, squashfs and
//! ext4 by the machine's own `mksquashfs` and by `mke2fs` and `debugfs`. Owners, devices and attributes are
//! the image's, whoever runs them, and the same tree gives the same bytes.

mod cpio;
mod ext4;
mod program;
mod squashfs;

use std::io;

use kiln_graph::{Entry, ImagePath, Node, Timestamp};
use kiln_tree::TreePath;

use crate::output_entry::OutputEntry;
use crate::stat::shown;

pub use cpio::write_cpio;
pub use ext4::write_ext4;
pub use program::missing_program;
pub use squashfs::{SquashfsCodec, write_squashfs};

/// What can't be in a file system of some kind.
fn refused(path: &ImagePath, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{path} {why}"))
}

/// The time of a file system itself: the latest of its files, which the same tree always has.
fn newest(files: &[OutputEntry], latest: Option<Timestamp>) -> i64 {
    let times = files.iter().map(|(entry, _)| shown(entry, latest).seconds);
    times.max().unwrap_or(0).max(0)
}

/// The entry of the root, where the image says something of it.
fn root_of(files: &[OutputEntry]) -> Entry {
    let own = files.iter().find(|(entry, _)| entry.path.is_root());
    own.map_or_else(
        || Entry::directory(ImagePath::root()),
        |(entry, _)| entry.clone(),
    )
}

/// All files but the root.
fn below_root(files: &[OutputEntry]) -> impl Iterator<Item = &OutputEntry> {
    files.iter().filter(|(entry, _)| !entry.path.is_root())
}

/// Reads all of a file, which must be what its entry says, in pieces.
fn read_whole(
    entry: &Entry,
    place: &TreePath,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    use io::Read as _;
    let Node::File { size, digest } = entry.node else {
        return Ok(());
    };
    let changed = || io::Error::from(kiln_image::layer::ContentChanged(entry.path.to_string()));
    let mut content = place.open_file()?.take(size);
    let (mut hash, mut left) = (blake3::Hasher::new(), size);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = content.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        left -= count as u64;
        each(&buffer[..count])?;
    }
    match left == 0 && kiln_graph::Digest::from(hash.finalize()) == digest {
        true => Ok(()),
        false => Err(changed()),
    }
}
