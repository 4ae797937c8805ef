//! ext4, by `mke2fs` and `debugfs` (e2fsprogs): an empty file system, and then a script that makes each
//! file in it, in the order of their paths. `mke2fs -d` takes owners and times from a directory, and names in
//! its order: this way they are the image's, whoever runs it, and always in the same place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use kiln_graph::{Digest, Entry, ImagePath, Node, Timestamp, format_uuid};
use kiln_solve::Meter;
use kiln_tree::{TreePath, TreeRoot, host};

use super::program::Program;
use super::{below_root, newest, read_whole, refused, root_of};
use crate::output_entry::OutputEntry;
use crate::stat::{device_number, mode_of, shown};

const BLOCK: u64 = 4096;
/// The length of an inode in bytes.
const INODE: u64 = 256;
const MIB: u64 = 1 << 20;
/// The length of the journal.
const JOURNAL: u64 = 4 * MIB;
/// How much of a block of a directory is used for sure before the next one is needed, in bytes.
const SURE: u64 = BLOCK - 12 - 264;
/// What all have that mount a file system made here, whatever /etc/mke2fs.conf of this machine says.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// Writes a tree as an ext4 file system, in which no time is later than `latest`, into the empty file at
/// `to`. It has `size` bytes, or some more than the files need. `work` is an empty directory; `meter` is told
/// of the bytes that were read, and may end the writing. Returns the paths that were left out.
///
/// # Errors
/// When a file can't be read or isn't what its entry says, the size is too small, or the programs aren't
/// there or fail.
pub fn write_ext4(
    files: &[OutputEntry],
    latest: Option<Timestamp>,
    size: Option<u64>,
    (to, work): (&Path, &Path),
    meter: &Meter<'_>,
) -> io::Result<Vec<ImagePath>> {
    let space = Space::of(files);
    let size = size.map_or(space.usual(), |size| size - size % BLOCK);
    if size < space.least() {
        let text = format!(
            "{size} bytes are too few for an ext4 file system with these files: {} are needed",
            space.least()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let time = newest(files, latest);
    let file = host::open_with(File::options().write(true), to)?;
    file.set_len(0)?;
    file.set_len(size)?;
    drop(file);
    make_empty(to, work, (space.inodes(size), time), &identity(files))?;
    for (entry, place) in files {
        read_whole(entry, place, |bytes| meter.advance(bytes.len() as u64))?;
    }
    let script = work.join("script");
    let mut out = io::BufWriter::new(host::create(&script)?);
    Script {
        work,
        latest,
        out: &mut out,
    }
    .write(files, time)?;
    out.flush()?;
    fill(to, &script, meter)?;
    let all = files.iter().map(|(entry, _)| entry);
    let sockets = all.filter(|entry| matches!(entry.node, Node::Socket));
    Ok(sockets.map(|entry| entry.path.clone()).collect())
}

/// Makes an empty file system.
fn make_empty(
    to: &Path,
    work: &Path,
    (inodes, time): (u64, i64),
    identity: &Digest,
) -> io::Result<()> {
    let settings = work.join("mke2fs.conf");
    host::write(&settings, "[defaults]\n[fs_types]\n\tdefault = {\n\t}\n")?;
    let mut halves = [[0; 16]; 2];
    halves[0].copy_from_slice(&identity.as_bytes()[..16]);
    halves[1].copy_from_slice(&identity.as_bytes()[16..]);
    let [uuid, seed] = halves.map(format_uuid);
    let mut program = Program::new("mke2fs", "e2fsprogs");
    let command = program.command();
    command
        .env_remove("SOURCE_DATE_EPOCH")
        .env("MKE2FS_CONFIG", &settings)
        .env("E2FSPROGS_FAKE_TIME", time.max(1).to_string())
        .args(["-F", "-q", "-m", "0", "-T", "default", "-O", FEATURES])
        .args(["-b", &BLOCK.to_string(), "-I", &INODE.to_string()])
        .args(["-N", &inodes.to_string(), "-J"])
        .arg(format!("size={}", JOURNAL / MIB))
        .args(["-U", &uuid, "-E"])
        .arg(format!(
            "hash_seed={seed},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        ))
        .arg(to);
    program.run(|_| Ok(()), &|| Ok(())).map(drop)
}

/// Runs the script.
fn fill(to: &Path, script: &Path, meter: &Meter<'_>) -> io::Result<()> {
    let mut program = Program::new("debugfs", "e2fsprogs");
    program
        .command()
        .env_remove("SOURCE_DATE_EPOCH")
        .arg("-w")
        .arg("-f")
        .arg(script)
        .arg(to);
    let said = program.run(|_| Ok(()), &|| meter.advance(0))?;
    // It ends well whatever happened; the first line is its version.
    match said.lines().find(|line| !line.starts_with("debugfs ")) {
        None => Ok(()),
        Some(line) => Err(io::Error::other(format!("debugfs: {}", line.trim()))),
    }
}

/// Names the file system: by all that is in it.
fn identity(files: &[OutputEntry]) -> Digest {
    let manifest: kiln_graph::Manifest = files.iter().map(|(entry, _)| entry.clone()).collect();
    manifest.id().0
}

/// How much space files need.
struct Space {
    files: u64,
    blocks: u64,
}

impl Space {
    fn of(files: &[OutputEntry]) -> Self {
        let mut blocks = 0;
        let mut names: BTreeMap<ImagePath, u64> = BTreeMap::new();
        for (entry, _) in files {
            blocks += match &entry.node {
                // Large ones need a block for each 340 stretches.
                Node::File { size, .. } => size.div_ceil(BLOCK) + size.div_ceil(256 * MIB),
                Node::Symlink { target } if target.len() >= 60 => 1,
                Node::Directory { .. } => 1,
                _ => 0,
            };
            blocks += u64::from(!entry.xattrs.is_empty());
            *names.entry(parent(entry)).or_default() += room(entry);
        }
        blocks += names
            .values()
            .map(|bytes| bytes.div_ceil(SURE))
            .sum::<u64>();
        Self {
            files: files.len() as u64,
            blocks,
        }
    }

    /// The smallest size, in bytes.
    fn least(&self) -> u64 {
        let tables = (self.files + 64) * INODE;
        // Groups of 128 MiB have bitmaps and, some, copies of the superblock.
        let content = self.blocks * BLOCK + tables + JOURNAL;
        (content + content / 64 + 2 * MIB).next_multiple_of(BLOCK)
    }

    /// With some space left, in bytes.
    fn usual(&self) -> u64 {
        let least = self.least();
        (least + least / 8 + 8 * MIB).next_multiple_of(MIB)
    }

    /// How many inodes a file system of this size has.
    fn inodes(&self, size: u64) -> u64 {
        (self.files + 64).max(size / (64 << 10))
    }
}

/// The length of a name in a directory, in bytes.
fn room(entry: &Entry) -> u64 {
    let name = entry.path.file_name().unwrap_or_default().len() as u64;
    (8 + name).next_multiple_of(4)
}

/// Writes commands of `debugfs(8)`.
struct Script<'a> {
    work: &'a Path,
    latest: Option<Timestamp>,
    out: &'a mut dyn Write,
}

impl Script<'_> {
    fn write(&mut self, files: &[OutputEntry], time: i64) -> io::Result<()> {
        writeln!(self.out, "set_current_time @{}", time.max(1))?;
        writeln!(self.out, "rmdir /lost+found")?;
        let mut directory = ImagePath::root();
        let mut links: BTreeMap<ImagePath, Vec<&Entry>> = BTreeMap::new();
        for (number, (entry, place)) in below_root(files).enumerate() {
            if let Node::HardLink { .. } = entry.node {
                links.entry(parent(entry)).or_default().push(entry);
                continue;
            }
            if parent(entry) != directory {
                directory = parent(entry);
                self.go(&directory)?;
            }
            self.file(entry, place, number)?;
        }
        for (directory, links) in &links {
            self.links(directory, links)?;
        }
        self.counts(&links)?;
        for (number, (entry, _)) in files.iter().enumerate() {
            self.attributes(entry, number)?;
        }
        if !files.iter().any(|(entry, _)| entry.path.is_root()) {
            self.attributes(&root_of(files), files.len())?;
        }
        Ok(())
    }

    fn go(&mut self, directory: &ImagePath) -> io::Result<()> {
        let path = quoted(directory)?;
        self.put(&[b"cd ", &path])
    }

    /// Makes a file in the directory that is current.
    fn file(&mut self, entry: &Entry, place: &TreePath, number: usize) -> io::Result<()> {
        let name = quoted_bytes(&entry.path, entry.path.file_name().unwrap_or_default())?;
        match &entry.node {
            Node::File { .. } => {
                // The name in the store may have characters that no script can.
                let name_there = ImagePath::new(format!("/f{number}"));
                let target = place.display();
                let target = target.as_os_str().as_encoded_bytes();
                TreeRoot::at(self.work).create_symlink(&name_there, target)?;
                let source = self.work.join(format!("f{number}"));
                let source = quoted_bytes(&entry.path, source.as_os_str().as_encoded_bytes())?;
                self.put(&[b"write ", &source, b" ", &name])
            }
            Node::Symlink { target } => {
                let target = quoted_bytes(&entry.path, target)?;
                self.put(&[b"symlink ", &name, b" ", &target])
            }
            Node::Fifo => self.put(&[b"mknod ", &name, b" p"]),
            Node::CharDevice { major, minor } => self.device(entry, (b"c", *major, *minor), &name),
            Node::BlockDevice { major, minor } => self.device(entry, (b"b", *major, *minor), &name),
            Node::Directory { .. } => self.put(&[b"mkdir ", &name]),
            Node::HardLink { .. } | Node::Whiteout | Node::Socket => Ok(()),
        }
    }

    /// Makes a device node. `mknod` knows no numbers beyond 65535, so those are set afterwards, as the kernel
    /// writes them.
    fn device(
        &mut self,
        entry: &Entry,
        (kind, major, minor): (&[u8], u32, u32),
        name: &[u8],
    ) -> io::Result<()> {
        let is_large = minor > 0xffff;
        let numbers = match is_large {
            true => " 300 0".to_owned(),
            false => format!(" {major} {minor}"),
        };
        self.put(&[b"mknod ", name, b" ", kind, numbers.as_bytes()])?;
        if is_large {
            let number = device_number(major, minor);
            self.set(&entry.path, "block[1]", &number.to_string())?;
        }
        Ok(())
    }

    /// Makes further names of files in a directory. Unlike the other commands, `ln` doesn't make the
    /// directory longer.
    fn links(&mut self, directory: &ImagePath, links: &[&Entry]) -> io::Result<()> {
        let path = quoted(directory)?;
        self.put(&[b"cd ", &path])?;
        let mut left = 0;
        for entry in links {
            let Node::HardLink { to } = &entry.node else {
                continue;
            };
            if left < room(entry) {
                self.put(&[b"expand_dir ", &path])?;
                left = SURE;
            }
            left -= room(entry);
            let name = quoted_bytes(&entry.path, entry.path.file_name().unwrap_or_default())?;
            self.put(&[b"ln ", &quoted(to)?, b" ", &name])?;
        }
        Ok(())
    }

    /// Says how many names files have, which `ln` doesn't.
    fn counts(&mut self, links: &BTreeMap<ImagePath, Vec<&Entry>>) -> io::Result<()> {
        let mut counts: BTreeMap<&ImagePath, u32> = BTreeMap::new();
        for entry in links.values().flatten() {
            if let Node::HardLink { to } = &entry.node {
                *counts.entry(to).or_insert(1) += 1;
            }
        }
        for (path, count) in counts {
            self.set(path, "links_count", &count.to_string())?;
        }
        Ok(())
    }

    fn attributes(&mut self, entry: &Entry, number: usize) -> io::Result<()> {
        if matches!(
            entry.node,
            Node::HardLink { .. } | Node::Whiteout | Node::Socket
        ) {
            return Ok(());
        }
        let path = &entry.path;
        let time = shown(entry, self.latest);
        let (seconds, extra) = encoded(time);
        self.set(path, "mode", &format!("0{:o}", mode_of(entry)))?;
        for (field, id) in [("uid", entry.uid), ("gid", entry.gid)] {
            self.set(path, field, &id.to_string())?;
        }
        self.set(path, "mtime", &format!("@{seconds}"))?;
        self.set(path, "mtime_extra", &extra.to_string())?;
        for (at, (name, value)) in entry.xattrs.iter().enumerate() {
            let file = self.work.join(format!("x{number}-{at}"));
            host::write(&file, value)?;
            let file = quoted_bytes(path, file.as_os_str().as_encoded_bytes())?;
            let name = quoted_bytes(path, name.as_ref())?;
            self.put(&[b"ea_set -f ", &file, b" ", &quoted(path)?, b" ", &name])?;
        }
        Ok(())
    }

    fn set(&mut self, path: &ImagePath, field: &str, value: &str) -> io::Result<()> {
        let value = format!(" {field} {value}");
        self.put(&[b"sif ", &quoted(path)?, value.as_bytes()])
    }

    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.out.write_all(part)?;
        }
        self.out.write_all(b"\n")
    }
}

fn parent(entry: &Entry) -> ImagePath {
    entry.path.parent().unwrap_or_default()
}

/// A time as an inode has it (Linux, `Documentation/filesystems/ext4/inodes.rst`, "Inode Timestamps"): the
/// lower 32 bits of the seconds, then two more bits of them below the nanoseconds.
fn encoded(time: Timestamp) -> (u32, u32) {
    let seconds = time.seconds.clamp(0, (1 << 34) - 1 - (1 << 31));
    let low = seconds as u32;
    let epoch = ((seconds - i64::from(low.cast_signed())) >> 32) & 3;
    (low, (time.nanos << 2) | epoch as u32)
}

fn quoted(path: &ImagePath) -> io::Result<Vec<u8>> {
    let mut whole = vec![b'/'];
    whole.extend_from_slice(path.relative_bytes());
    quoted_bytes(path, &whole)
}

/// A word of a script. `path` is what is said to be at fault.
fn quoted_bytes(path: &ImagePath, text: &[u8]) -> io::Result<Vec<u8>> {
    if text.contains(&b'\n') || text.contains(&0) {
        return Err(refused(
            path,
            "has a line feed in its name: debugfs can't write it",
        ));
    }
    let mut word = vec![b'"'];
    for byte in text {
        if *byte == b'"' {
            word.push(b'"');
        }
        word.push(*byte);
    }
    word.push(b'"');
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_scripts() {
        let word = |text: &str| {
            let word = quoted_bytes(&ImagePath::new("/p"), text.as_bytes());
            word.map(|word| String::from_utf8(word).unwrap())
        };
        assert_eq!(word("a b").unwrap(), "\"a b\"");
        assert_eq!(word("a\"b").unwrap(), "\"a\"\"b\"");
        let error = word("a\nb").unwrap_err().to_string();
        assert!(error.starts_with("/p has a line feed"), "{error}");
    }

    #[test]
    fn times_of_inodes() {
        let encode = |seconds: i64, nanos: u32| encoded(Timestamp { seconds, nanos });
        assert_eq!(encode(5, 7), (5, 28));
        assert_eq!(encode(-5, 0), (0, 0));
        // 2038 and later: the kernel reads the lower half as negative, and adds the upper bits.
        assert_eq!(encode(1 << 31, 0), (1 << 31, 1));
        assert_eq!(encode((1 << 32) + 9, 1), (9, 5));
    }
}
