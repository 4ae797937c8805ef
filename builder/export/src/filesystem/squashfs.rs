//! squashfs, by `mksquashfs` (squashfs-tools 4.5 or later), which reads a tar: so everything in it is what
//! the image says, whoever runs it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use kiln_graph::{Entry, Timestamp};
use kiln_solve::Meter;
use kiln_tree::host;

use super::program::{Program, Stop};
use super::{newest, root_of};
use crate::output::write_root_tar;
use crate::output_entry::OutputEntry;
use crate::stat::shown;

/// How the blocks of a squashfs are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SquashfsCodec {
    /// gzip, which every kernel with squashfs reads.
    #[default]
    Gzip,
    /// zstd (Linux 4.14).
    Zstd,
    /// Nothing is compressed.
    None,
}

/// Writes a tree as a squashfs, in which no time is later than `latest`, over the file `to`. `meter` is told
/// of the bytes that were read, and may end the writing.
///
/// # Errors
/// When a file can't be read or isn't what its entry says, or mksquashfs isn't there or fails.
pub fn write_squashfs(
    files: &[OutputEntry],
    latest: Option<Timestamp>,
    codec: SquashfsCodec,
    to: &Path,
    meter: &Meter<'_>,
) -> io::Result<()> {
    let mut program = Program::new("mksquashfs", "squashfs-tools");
    let command = program.command();
    command.arg("-").arg(to);
    command.args(["-tar", "-noappend", "-no-progress", "-quiet", "-xattrs"]);
    // Inodes that aren't compressed can be corrected.
    command.args(["-noI", "-mkfs-time"]);
    command.arg(newest(files, latest).min(i64::from(u32::MAX)).to_string());
    command.env_remove("SOURCE_DATE_EPOCH");
    match codec {
        SquashfsCodec::Gzip => command.args(["-comp", "gzip"]),
        SquashfsCodec::Zstd => command.args(["-comp", "zstd"]),
        SquashfsCodec::None => command.args(["-noD", "-noF", "-noX"]),
    };
    let below: Vec<OutputEntry> = super::below_root(files).cloned().collect();
    let feed = |out: &mut dyn io::Write| write_root_tar(&below, latest, &mut meter.writer(out));
    let stop: Stop<'_> = &|| meter.advance(0);
    program.run(feed, stop)?;
    let root = root_of(files);
    let time = shown(&root, latest).seconds.clamp(0, i64::from(u32::MAX)) as u32;
    correct_root(to, &root, time)
}

/// Gives the root, which the tar doesn't describe to mksquashfs, its own attributes (Linux,
/// `fs/squashfs/squashfs_fs.h`; all numbers little-endian).
fn correct_root(image: &Path, root: &Entry, time: u32) -> io::Result<()> {
    let file = host::open_with(File::options().read(true).write(true), image)?;
    let image = Image { file };
    let reference = image.number::<8>(32)?;
    let start = image.number::<8>(64)? + (reference >> 16);
    let place = |byte: u64| start + metadata(byte + (reference & 0xffff));
    let block = image.number::<2>(start)?;
    if block & UNCOMPRESSED == 0 {
        return Err(io::Error::other("mksquashfs has compressed the inodes"));
    }
    let [uid, gid] = [root.uid, root.gid].map(|id| image.id(id));
    let mode = (root.mode & 0o7777).to_le_bytes();
    let fields = [&mode[..2], &uid?, &gid?, &time.to_le_bytes()].concat();
    for (byte, value) in (2..).zip(fields) {
        image.file.write_all_at(&[value], place(byte))?;
    }
    Ok(())
}

/// A block of metadata whose length has this bit isn't compressed.
const UNCOMPRESSED: u64 = 1 << 15;
/// The length of a block of metadata in bytes, but for the last one of a table.
const METADATA: u64 = 8192;

/// Where a byte of a table is in its blocks, each of which has its length before it.
fn metadata(byte: u64) -> u64 {
    byte / METADATA * (METADATA + 2) + 2 + byte % METADATA
}

struct Image {
    file: File,
}

impl Image {
    fn number<const N: usize>(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes[..N], at)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The place of a user's or group's number in the table of those.
    fn id(&self, id: u32) -> io::Result<[u8; 2]> {
        let blocks = self.number::<8>(48)?;
        for own in 0..self.number::<2>(26)? {
            let table = self.number::<8>(blocks + own * 4 / METADATA * 8)?;
            if self.number::<4>(table + 2 + own * 4 % METADATA)? == u64::from(id) {
                return Ok((own as u16).to_le_bytes());
            }
        }
        let text = format!("/ belongs to {id} and no other file does: mksquashfs can't write it");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}
