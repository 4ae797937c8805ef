//! Copies of clients' directories, kept from one build to the next so that only files that changed
//! travel.
//!
//! ```text
//! <store>/contexts/<digest of the key>-<number>/
//!     lock        locked by the build that uses the copy; others take the next number
//!     boot        the start of the machine in which it was written last
//!     files/      the directory
//!     incoming/   files that aren't whole
//! ```
//!
//! A file is taken to be unchanged when its kind, size, mode, time and link are what the client says.
//! What may have been lost by a power cut is thrown away: a copy of another start of the machine
//! isn't used.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_graph::{Digest, Entry, ImagePath, Node};
use kiln_tree::{TreeRoot, host};
use rustix::fs::{FileType, FlockOperation, Stat};

use super::receive::{ReceiveError, Target};
use super::stat::{Described, Kind};

/// What wasn't used for this long is removed.
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// All mirrors of a store.
#[derive(Debug)]
pub(crate) struct Mirrors {
    root: PathBuf,
    boot: String,
}

impl Mirrors {
    /// The mirrors in a store's directory.
    pub(crate) fn of(store: &Path) -> Self {
        let boot = host::read_to_string("/proc/sys/kernel/random/boot_id");
        Self {
            root: store.join("contexts"),
            boot: boot.unwrap_or_default().trim().to_owned(),
        }
    }

    /// A mirror for what a key stands for, that nobody else uses.
    pub(crate) fn lease(&self, key: &str) -> io::Result<Mirror> {
        let name = Digest::of(key.as_bytes()).to_string();
        let mut number = 0;
        loop {
            let place = self.root.join(format!("{name}-{number}"));
            if let Some(mirror) = self.take(&place)? {
                return Ok(mirror);
            }
            number += 1;
        }
    }

    fn take(&self, place: &Path) -> io::Result<Option<Mirror>> {
        host::create_dir_all(place)?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        host::set_permissions(place, private)?;
        let Some(lock) = locked(place)? else {
            return Ok(None);
        };
        if !is_at(&lock, &place.join("lock")) {
            // It was removed before it was locked.
            return self.take(place);
        }
        let boot = place.join("boot");
        if host::read_to_string(&boot).ok().as_deref() != Some(self.boot.as_str()) {
            kiln_tree::remove_all(&place.join("files"));
            host::write(&boot, &self.boot)?;
        }
        kiln_tree::remove_all(&place.join("incoming"));
        host::create_dir_all(place.join("files"))?;
        host::create_dir_all(place.join("incoming"))?;
        Ok(Some(Mirror {
            place: place.to_owned(),
            _lock: lock,
        }))
    }

    /// Removes mirrors that nobody uses and that are older than `age`; all when there is none given.
    /// Returns how many bytes they had.
    pub(crate) fn prune(&self, age: Option<Duration>) -> u64 {
        let Ok(all) = host::read_dir(&self.root) else {
            return 0;
        };
        let now = SystemTime::now();
        let is_old = |path: &Path| {
            let used = host::metadata(path.join("boot")).and_then(|about| about.modified());
            let unused = used.ok().and_then(|used| now.duration_since(used).ok());
            age.is_none_or(|age| unused.is_none_or(|unused| unused >= age))
        };
        let mut freed = 0;
        for place in all.flatten().map(|entry| entry.path()) {
            if is_old(&place)
                && let Ok(Some(_lock)) = locked(&place)
            {
                freed += size_of(&place.join("files"));
                kiln_tree::remove_all(&place);
            }
        }
        freed
    }

    /// Removes what wasn't used for long.
    pub(crate) fn expire(&self) {
        _ = self.prune(Some(MAX_AGE));
    }
}

/// The bytes of the files in a directory.
pub(crate) fn size_of(directory: &Path) -> u64 {
    let Ok(all) = host::read_dir(directory) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match host::symlink_metadata(entry.path()) {
        Ok(about) if about.is_dir() => size_of(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    all.flatten().map(size).sum()
}

/// Whether an open file is the one at a path.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), host::symlink_metadata(path)) {
        (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn locked(place: &Path) -> io::Result<Option<File>> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    let file = host::open_with(&options, place.join("lock"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A mirror that is in use, until this is dropped.
#[derive(Debug)]
pub(crate) struct Mirror {
    place: PathBuf,
    _lock: File,
}

impl Mirror {
    /// The directory that mirrors the client's.
    pub(crate) fn files(&self) -> PathBuf {
        self.place.join("files")
    }

    /// Makes the mirror what the client will say.
    pub(super) fn update(&self) -> io::Result<Update> {
        let files = TreeRoot::at(self.files());
        let known = names(&files, &ImagePath::root())?;
        // Its time says when it was used last.
        let boot = host::read(self.place.join("boot"))?;
        host::write(self.place.join("boot"), boot)?;
        Ok(Update {
            incoming: TreeRoot::at(self.place.join("incoming")),
            files,
            unseen: vec![known],
            open: HashMap::new(),
            links: Vec::new(),
            directories: Vec::new(),
            received: 0,
        })
    }
}

type Names = HashSet<Vec<u8>>;

fn names(root: &TreeRoot, directory: &ImagePath) -> io::Result<Names> {
    Ok(root.names(directory)?.into_iter().collect())
}

/// A mirror that is being brought up to date.
#[derive(Debug)]
pub(super) struct Update {
    files: TreeRoot,
    incoming: TreeRoot,
    /// What of each open directory the client hasn't named; the root's is the first.
    unseen: Vec<Names>,
    /// Files that are coming.
    open: HashMap<u32, File>,
    /// Directories, which get their mode and time when all that is in them is there.
    directories: Vec<Described>,
    /// Names of files that have another, made at the end.
    links: Vec<(Described, ImagePath)>,
    /// Bytes of files.
    pub(super) received: u64,
}

impl Update {
    /// Removes what is there under a name.
    fn make_room(&self, path: &ImagePath) -> io::Result<()> {
        match self.files.find(path)? {
            Some(_) => self.files.remove(path),
            None => Ok(()),
        }
    }

    fn directory(&mut self, entry: &Described) -> io::Result<()> {
        let found = self.files.find(&entry.path)?;
        let is_directory = found.is_some_and(|stat| is(&stat, FileType::Directory));
        if is_directory {
            let known = names(&self.files, &entry.path)?;
            self.unseen.push(known);
            return Ok(());
        }
        self.make_room(&entry.path)?;
        self.files.create_directory(&entry.path)?;
        self.unseen.push(Names::new());
        Ok(())
    }

    fn symlink(&mut self, entry: &Described, target: &[u8]) -> io::Result<()> {
        let same = self
            .files
            .read_link(&entry.path)
            .is_ok_and(|own| own == target);
        if !same {
            self.make_room(&entry.path)?;
            self.files.create_symlink(&entry.path, target)?;
        }
        self.files.set_time(&entry.path, entry.time)
    }

    /// Whether the file's bytes are wanted.
    fn file(&mut self, entry: &Described, size: u64) -> io::Result<bool> {
        let Some(stat) = self.files.find(&entry.path)? else {
            return Ok(true);
        };
        if is_same(&stat, entry, size) {
            return Ok(false);
        }
        if !is(&stat, FileType::RegularFile) {
            self.files.remove(&entry.path)?;
        }
        Ok(true)
    }

    fn attributes(&self, entry: &Described) -> Entry {
        Entry {
            path: entry.path.clone(),
            mode: entry.mode,
            uid: 0,
            gid: 0,
            mtime: entry.time,
            mtime_counts: false,
            xattrs: BTreeMap::new(),
            node: Node::Directory { opaque: false },
        }
    }

    fn coming(&mut self, id: u32) -> io::Result<&mut File> {
        use std::collections::hash_map::Entry::{Occupied, Vacant};
        match self.open.entry(id) {
            Occupied(open) => Ok(open.into_mut()),
            Vacant(free) => Ok(free.insert(self.incoming.create_file(&aside(id))?)),
        }
    }

    /// Makes the second name of a file.
    fn link(&self, entry: &Described, first: &ImagePath) -> Result<(), ReceiveError> {
        let Some(target) = self
            .files
            .find(first)?
            .filter(|stat| is(stat, FileType::RegularFile))
        else {
            let text = format!(
                "{} is another name of {first}, which is no file",
                entry.path
            );
            return Err(ReceiveError::Protocol(text));
        };
        if let Some(own) = self.files.find(&entry.path)? {
            if (own.st_dev, own.st_ino) == (target.st_dev, target.st_ino) {
                return Ok(());
            }
            self.files.remove(&entry.path)?;
        }
        Ok(self
            .files
            .link(&entry.path, &self.files.join(first.clone()))?)
    }
}

/// The name of a file that isn't whole.
fn aside(id: u32) -> ImagePath {
    ImagePath::new(id.to_string())
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn is_same(stat: &Stat, entry: &Described, size: u64) -> bool {
    is(stat, FileType::RegularFile)
        && u64::try_from(stat.st_size) == Ok(size)
        && stat.st_mode & 0o7777 == entry.mode
        && kiln_tree::timestamp(stat) == entry.time
}

impl Target for Update {
    fn entry(&mut self, entry: &Described) -> Result<bool, ReceiveError> {
        if entry.kind == Kind::Special {
            return Ok(false);
        }
        if let (Some(unseen), Some(name)) = (self.unseen.last_mut(), entry.path.file_name()) {
            unseen.remove(name);
        }
        match &entry.kind {
            Kind::Directory => self.directory(entry)?,
            Kind::Symlink(target) => self.symlink(entry, target)?,
            Kind::HardLink(first) => self.links.push((entry.clone(), first.clone())),
            Kind::File(size) => return Ok(self.file(entry, *size)?),
            Kind::Special => {}
        }
        Ok(false)
    }

    fn leave(&mut self, directory: &Described) -> Result<(), ReceiveError> {
        for name in self.unseen.pop().unwrap_or_default() {
            self.files.remove(&directory.path.join(name))?;
        }
        self.directories.push(directory.clone());
        Ok(())
    }

    fn data(&mut self, id: u32, _: &Described, bytes: &[u8]) -> Result<(), ReceiveError> {
        self.received += bytes.len() as u64;
        Ok(self.coming(id)?.write_all(bytes)?)
    }

    fn whole(&mut self, id: u32, file: &Described) -> Result<(), ReceiveError> {
        let attributes = self.attributes(file);
        kiln_tree::set_file_attributes(self.coming(id)?, &attributes, false)?;
        self.open.remove(&id);
        let place = self.files.join(file.path.clone());
        Ok(self.incoming.rename(&aside(id), &place)?)
    }

    fn finish(&mut self) -> Result<(), ReceiveError> {
        for name in self.unseen.pop().unwrap_or_default() {
            self.files.remove(&ImagePath::root().join(name))?;
        }
        for (entry, first) in std::mem::take(&mut self.links) {
            self.link(&entry, &first)?;
        }
        for directory in &self.directories {
            let stat = self.files.stat(&directory.path)?;
            let time = kiln_tree::timestamp(&stat);
            if stat.st_mode & 0o7777 != directory.mode || time != directory.time {
                let attributes = self.attributes(directory);
                self.files.set_attributes(&attributes, false)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of the tests' own")]
mod tests {
    use super::super::receive::receive;
    use super::super::receive::tests::{DIRECTORY, Script, data, end, entry, fin};
    use super::*;
    use crate::proto::fsutil::Packet;

    fn send(mirror: &Mirror, packets: Vec<Packet>) -> (Result<(), ReceiveError>, usize) {
        let mut script = Script {
            packets: packets.into(),
            ..Script::default()
        };
        let done = receive(&mut script, &mut mirror.update().unwrap());
        let asked = script
            .sent
            .iter()
            .filter(|packet| **packet != fin())
            .count();
        (done, asked)
    }

    fn timed(path: &str, time: i64, size: i64) -> Packet {
        let mut packet = entry(path, 0o640, size);
        if let Some(stat) = &mut packet.stat {
            stat.mod_time = time;
        }
        packet
    }

    fn linked(path: &str, to: &str, mode: u32) -> Packet {
        let mut packet = entry(path, mode, 0);
        if let Some(stat) = &mut packet.stat {
            stat.linkname = to.to_owned();
        }
        packet
    }

    #[test]
    fn only_what_changed_travels_and_what_is_gone_goes() {
        let store = tempfile::tempdir().unwrap();
        let mirror = Mirrors::of(store.path()).lease("k").unwrap();
        let files = mirror.files();
        let (done, asked) = send(
            &mirror,
            vec![
                timed("a", 5_000_000_007, 3),
                entry("d", DIRECTORY, 0),
                timed("d/old", 1, 1),
                linked("l", "a", 1 << 27 | 0o777),
                linked("second", "a", 0o640),
                end(),
                data(0, b"abc"),
                data(2, b"x"),
                data(2, b""),
                data(0, b""),
                fin(),
            ],
        );
        done.unwrap();
        assert_eq!(asked, 2);
        assert_eq!(std::fs::read(files.join("second")).unwrap(), b"abc");
        let again = vec![
            timed("a", 5_000_000_007, 3),
            entry("d", DIRECTORY, 0),
            timed("d/new", 1, 1),
            end(),
            data(2, b"y"),
            data(2, b""),
            fin(),
        ];
        let (done, asked) = send(&mirror, again);
        done.unwrap();
        assert_eq!(asked, 1);
        let mut left: Vec<_> = std::fs::read_dir(&files)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["a", "d"]);
        assert!(!files.join("d/old").exists() && files.join("d/new").exists());
        let (done, asked) = send(
            &mirror,
            vec![
                timed("a", 6, 3),
                end(),
                data(0, b"ABC"),
                data(0, b""),
                fin(),
            ],
        );
        done.unwrap();
        assert_eq!(
            (asked, std::fs::read(files.join("a")).unwrap()),
            (1, b"ABC".to_vec())
        );
    }

    #[test]
    fn a_client_writes_nowhere_else() {
        let store = tempfile::tempdir().unwrap();
        let outside = store.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("f"), "safe").unwrap();
        let mirror = Mirrors::of(store.path()).lease("k").unwrap();
        let target = outside.display().to_string();
        // A link that takes a directory's place is no way out.
        let link = || linked("d", &target, 1 << 27 | 0o777);
        send(&mirror, vec![link(), end(), fin()]).0.unwrap();
        let below = vec![
            link(),
            timed("d/f", 1, 1),
            end(),
            data(1, b"!"),
            data(1, b""),
            fin(),
        ];
        assert!(send(&mirror, below).0.is_err());
        let through = vec![
            entry("d", DIRECTORY, 0),
            timed("d/f", 1, 1),
            end(),
            data(1, b"!"),
            data(1, b""),
            fin(),
        ];
        send(&mirror, through).0.unwrap();
        // Nor is a second name for a file outside.
        for to in ["../../outside/f", "d", "gone"] {
            let hard = vec![
                entry("d", DIRECTORY, 0),
                linked("h", to, 0o644),
                end(),
                fin(),
            ];
            assert!(send(&mirror, hard).0.is_err(), "{to}");
        }
        assert_eq!(std::fs::read(outside.join("f")).unwrap(), b"safe");
    }

    #[test]
    fn a_mirror_in_use_is_nobody_elses() {
        let store = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::of(store.path());
        let first = mirrors.lease("k").unwrap();
        let second = mirrors.lease("k").unwrap();
        assert_ne!(first.files(), second.files());
        std::fs::write(first.files().join("f"), "12345").unwrap();
        assert_eq!(mirrors.prune(None), 0);
        let files = first.files();
        drop(first);
        assert_eq!(mirrors.prune(Some(MAX_AGE)), 0);
        assert_eq!((mirrors.prune(None), files.exists()), (5, false));
    }

    #[test]
    fn a_mirror_of_before_a_power_cut_is_not_believed() {
        let store = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::of(store.path());
        let files = mirrors.lease("k").unwrap().files();
        std::fs::write(files.join("f"), "").unwrap();
        assert!(mirrors.lease("k").unwrap().files().join("f").exists());
        let boot = files.parent().unwrap().join("boot");
        std::fs::write(boot, "another").unwrap();
        assert!(!mirrors.lease("k").unwrap().files().join("f").exists());
    }
}
