//! Whether results can be written where they are wanted: found out before anything is built.

use std::fs::{File, create_dir, remove_dir, remove_file};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Tries to make a file beside `path`, for what is written there later.
///
/// # Errors
/// Why none can be made.
pub(crate) fn check_file(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "it is a directory"));
    }
    let probe = aside(path);
    File::create(&probe)?;
    remove_file(&probe)
}

/// Where a file is written before it is whole.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".kiln-{}", std::process::id()));
    name.into()
}

/// Tries to make a directory with all above it, and something in it.
///
/// # Errors
/// Why it can't be made or written.
pub(crate) fn check_directory(path: &Path) -> io::Result<()> {
    let missing = path
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty());
    let missing: Vec<&Path> = missing.take_while(|above| !above.exists()).collect();
    let mut made = Vec::new();
    let mut tried = Ok(());
    for folder in missing.iter().rev() {
        tried = create_dir(folder);
        if tried.is_err() {
            break;
        }
        made.push(folder);
    }
    let tried = tried.and_then(|()| check_file(&path.join("probe")));
    for folder in made.iter().rev() {
        _ = remove_dir(folder);
    }
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        check_file(&at("f")).unwrap();
        check_directory(&at("a/b/c")).unwrap();
        check_directory(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(at("file"), "").unwrap();
        check_file(&at("file")).unwrap();
        assert!(check_file(folder.path()).is_err());
        assert!(check_file(&at("no/such/f")).is_err());
        assert!(check_directory(&at("file/below")).is_err());
        assert!(check_directory(&at("file")).is_err());
        assert!(check_directory(Path::new("/proc/nowhere/x")).is_err());
    }
}
