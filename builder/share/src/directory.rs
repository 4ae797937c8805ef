//! A remote in a directory: `entries/<name>` and `blobs/sha256/<hex>`, each written aside and
//! renamed, so that any number of builds may write at once.

use std::fs::{DirEntry, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use kiln_graph::BlobDigest;

use crate::{Remote, RemoteBlob, RemoteError};

/// A directory that stores share.
#[derive(Clone, Debug)]
pub struct DirectoryRemote {
    directory: PathBuf,
    swept: Arc<Once>,
}

/// What begins with this is being written, or was when its writer was killed.
const ASIDE: &str = ".kiln-";
/// After this time nobody writes it any more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

impl DirectoryRemote {
    /// The remote in a directory, which is made when something is written.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            swept: Arc::new(Once::new()),
        }
    }

    fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }

    fn fail(&self, error: &std::io::Error) -> RemoteError {
        RemoteError::of_directory(error).at(&self.directory.display().to_string())
    }

    /// Removes what killed writers left, once.
    fn sweep(&self) {
        self.swept.call_once(|| {
            for part in ["entries", "blobs/sha256"] {
                let entries = std::fs::read_dir(self.directory.join(part));
                for entry in entries.into_iter().flatten().flatten() {
                    if is_abandoned(&entry) {
                        _ = std::fs::remove_file(entry.path());
                    }
                }
            }
        });
    }

    /// Makes a file visible at once. Its name aside is random: other machines may write here too.
    fn place(
        path: &Path,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent)?;
        let mut aside = tempfile::Builder::new()
            .prefix(ASIDE)
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(parent)?;
        fill(aside.as_file_mut())?;
        aside.persist(path)?;
        Ok(())
    }
}

fn is_abandoned(entry: &DirEntry) -> bool {
    let is_aside = entry
        .file_name()
        .as_encoded_bytes()
        .starts_with(ASIDE.as_bytes());
    let written = || entry.metadata().and_then(|about| about.modified()).ok();
    is_aside && written().is_some_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED))
}

impl Remote for DirectoryRemote {
    fn name(&self) -> String {
        self.directory.display().to_string()
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        match std::fs::read(self.directory.join("entries").join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.fail(&error)),
        }
    }

    fn put(&self, name: &str, entry: &[u8], blobs: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        self.sweep();
        let mut sent = 0;
        for blob in blobs {
            let path = self.blob_path(&blob.digest);
            let there = std::fs::metadata(&path).is_ok_and(|about| about.len() == blob.size);
            if !there {
                let copy =
                    |aside: &mut File| std::io::copy(&mut File::open(blob.path)?, aside).map(drop);
                Self::place(&path, copy).map_err(|error| self.fail(&error))?;
                sent += blob.size;
            }
        }
        let path = self.directory.join("entries").join(name);
        Self::place(&path, |aside| aside.write_all(entry)).map_err(|error| self.fail(&error))?;
        Ok(sent + entry.len() as u64)
    }

    fn blob(
        &self,
        digest: &BlobDigest,
        _size: u64,
        out: &mut dyn Write,
    ) -> Result<(), RemoteError> {
        File::open(self.blob_path(digest))
            .and_then(|mut file| std::io::copy(&mut file, &mut { out }))
            .map(drop)
            .map_err(|error| self.fail(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_comes_back_and_is_sent_once() {
        let directory = tempfile::tempdir().unwrap();
        let remote = DirectoryRemote::new(directory.path().join("cache"));
        assert_eq!(remote.entry("a"), Ok(None));
        let file = directory.path().join("f");
        std::fs::write(&file, b"content").unwrap();
        let digest = BlobDigest::of(b"content");
        let blob = RemoteBlob {
            digest,
            size: 7,
            path: &file,
        };
        assert_eq!(remote.put("a", b"12", &[blob]), Ok(9));
        assert_eq!(remote.put("b", b"12", &[blob]), Ok(2));
        assert_eq!(remote.entry("a"), Ok(Some(b"12".to_vec())));
        let mut out = Vec::new();
        remote.blob(&digest, 7, &mut out).unwrap();
        assert_eq!(out, b"content");
    }

    #[test]
    fn what_killed_writers_left_goes_after_a_day() {
        let directory = tempfile::tempdir().unwrap();
        let entries = directory.path().join("entries");
        std::fs::create_dir(&entries).unwrap();
        for (name, age) in [(".kiln-old", 2), (".kiln-new", 0), ("old", 2)] {
            let file = File::create(entries.join(name)).unwrap();
            let age = ABANDONED * age;
            file.set_modified(std::time::SystemTime::now() - age)
                .unwrap();
        }
        let remote = DirectoryRemote::new(directory.path().to_owned());
        assert_eq!(remote.put("a", b"1", &[]), Ok(1));
        let names = std::fs::read_dir(&entries).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".kiln-new", "a", "old"]);
    }
}
