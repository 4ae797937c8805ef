//! Opens a store, or makes one.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use kiln_tree::host;

use crate::error::Context as _;
use crate::store::{Options, Store};
use crate::{StoreError, marks, owner, pending, staging};

const VERSION: u32 = 1;
const VERSION_PREFIX: &str = "kiln-store ";

impl Store {
    /// Where the store is unless the user says otherwise: `$KILN_ROOT`, else `/var/lib/kiln` for
    /// the machine's root and `$XDG_DATA_HOME/kiln` (`~/.local/share/kiln`) for others.
    ///
    /// # Errors
    /// When there is no home directory to choose one in.
    pub fn default_root(is_machine_root: bool) -> Result<PathBuf, StoreError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(root) = variable("KILN_ROOT") {
            return Ok(root.into());
        }
        if is_machine_root {
            return Ok("/var/lib/kiln".into());
        }
        let data = variable("XDG_DATA_HOME").map(PathBuf::from);
        let home = variable("HOME").map(|home| Path::new(&home).join(".local/share"));
        Ok(data.or(home).ok_or(StoreError::NoHome)?.join("kiln"))
    }

    /// Opens the store in the directory `root`, making it when there is none.
    ///
    /// # Errors
    /// When the directory can't be used, is something else, or was written by a newer kiln.
    pub fn open(root: &Path, options: Options) -> Result<Self, StoreError> {
        owner::check(root, options.xattrs)?;
        check_version(root)?;
        let root = host::canonicalize(root).context("open the store", root)?;
        make_private(&root)?;
        marks::check(&root, options.xattrs)?;
        let store = Self::at(root, options, pending::boot_id());
        store.recover()?;
        Ok(store)
    }

    fn recover(&self) -> Result<(), StoreError> {
        pending::check_unsettled(self)?;
        self.volumes().bring_back()?;
        staging::remove_dead(self)
    }
}

fn check_version(root: &Path) -> Result<(), StoreError> {
    let path = root.join("version");
    let text = match host::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return create(root),
        Err(error) => return Err(error).context("read", &path),
    };
    let number = text
        .strip_prefix(VERSION_PREFIX)
        .and_then(|n| n.trim().parse::<u32>().ok());
    match number {
        Some(found) if found <= VERSION => Ok(()),
        Some(found) => Err(StoreError::Newer {
            path: root.to_owned(),
            found,
            known: VERSION,
        }),
        None => Err(StoreError::NotAStore {
            path: root.to_owned(),
            reason: format!("its version file says {text:?}"),
        }),
    }
}

/// Whether a directory without a version is neither empty, nor a new file system, nor a store whose
/// making was interrupted: then nothing in it, not even its mode, is touched.
fn holds_other_things(root: &Path) -> bool {
    let own = ["tmp", "locks", "sessions", "pending", "lost+found"];
    let names = host::read_dir(root).into_iter().flatten().flatten();
    let mut names = names.map(|entry| entry.file_name());
    names.any(|name| !own.iter().any(|own| name == *own))
}

/// Lets nobody else in: trees hold what images bring, setuid programs and device nodes too.
fn make_private(root: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt as _;
    let about = host::metadata(root).context("look at", root)?;
    let mode = about.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let private = std::fs::Permissions::from_mode(mode & 0o700);
    host::set_permissions(root, private).context("make private", root)
}

fn create(root: &Path) -> Result<(), StoreError> {
    host::create_dir_all(root).context("create the store", root)?;
    if holds_other_things(root) {
        // Another process may have made the store meanwhile: its version comes before all else.
        if host::exists(root.join("version")) {
            return check_version(root);
        }
        return Err(StoreError::NotAStore {
            path: root.to_owned(),
            reason: "the directory isn't empty and has no version file".to_owned(),
        });
    }
    make_private(root)?;
    for part in ["tmp", "locks", "sessions", "pending"] {
        let directory = root.join(part);
        host::create_dir_all(&directory).context("create the directory", &directory)?;
    }
    let aside = root.join("tmp").join(staging::temp_name());
    // Nothing marks the version as unsettled, and without it the directory is no store.
    host::create(&aside)
        .and_then(|mut file| {
            file.write_all(format!("{VERSION_PREFIX}{VERSION}\n").as_bytes())?;
            file.sync_all()
        })
        .context("write", &aside)?;
    host::rename(&aside, root.join("version")).context("write", root)
}
