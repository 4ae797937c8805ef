//! `kiln.conf`: TOML, read from `$KILN_CONFIG`, else from `/etc/kiln/kiln.conf` and then
//! `$XDG_CONFIG_HOME/kiln/kiln.conf` (`~/.config/kiln/kiln.conf`), the later one winning.
//!
//! ```toml
//! executor = "grpcs://cluster.example,instance=main"   # where steps run, as --executor has it
//! executor-required = false           # whether steps fail that it can't run
//! [registries."docker.io"]
//! mirrors = ["mirror.example/hub"]    # asked first
//! [registries."registry.example:5000"]
//! http = true                         # speaks plain HTTP
//! ca = "/etc/ssl/example.pem"         # trusted besides the usual authorities
//! insecure = true                     # its certificate isn't checked
//! [gc]                                # after each build
//! max-storage = "50GB"                # a cap
//! min-free = "10GB"                   # left free on the disk
//! keep = "30d"                        # what was used since then stays, unless a cap needs it
//! ```

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kiln_cache::PruneOptions;
use kiln_image::Registries;
use serde::Deserialize;

use crate::{Error, file_text};

/// What the user set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// How registries are spoken to.
    #[serde(default)]
    pub registries: Registries,
    /// A cluster that runs steps, as `--executor` names it.
    #[serde(default)]
    pub executor: Option<String>,
    /// Whether steps fail that it can't run.
    #[serde(default)]
    pub executor_required: bool,
    /// What goes from the store by itself.
    #[serde(default)]
    pub gc: GcPolicy,
}

/// What goes from the store after a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GcPolicy {
    /// The most the store may hold: `50GB`.
    pub max_storage: Option<String>,
    /// What must be left free on its disk.
    pub min_free: Option<String>,
    /// What was not used for this long goes: `30d`.
    pub keep: Option<String>,
}

impl GcPolicy {
    /// What is to be pruned; `None` when the user set nothing.
    ///
    /// # Errors
    /// When a size or age can't be read.
    pub fn options(&self) -> Result<Option<PruneOptions>, Error> {
        if *self == Self::default() {
            return Ok(None);
        }
        let wrong = |reason| Error::Usage(format!("kiln.conf, [gc]: {reason}"));
        let size = |text: &Option<String>| text.as_deref().map(kiln_graph::parse_size).transpose();
        Ok(Some(PruneOptions {
            all: false,
            older_than: self
                .keep
                .as_deref()
                .map(kiln_graph::parse_duration)
                .transpose()
                .map_err(wrong)?,
            keep_storage: size(&self.max_storage).map_err(wrong)?,
            min_free: size(&self.min_free).map_err(wrong)?,
            dry_run: false,
        }))
    }
}

/// Registries that the command line speaks of.
static GIVEN: OnceLock<Registries> = OnceLock::new();

impl Config {
    /// Adds settings of registries to those that are read from files, once in a process: what the
    /// command line says of them.
    pub fn add_registries(registries: Registries) {
        _ = GIVEN.set(registries);
    }

    /// Reads the files that are there.
    ///
    /// # Errors
    /// When one can't be read or understood.
    pub fn load() -> Result<Self, Error> {
        let mut config = Self::from_files()?;
        config
            .registries
            .extend(GIVEN.get().cloned().into_iter().flatten());
        Ok(config)
    }

    fn from_files() -> Result<Self, Error> {
        if let Some(path) = std::env::var_os("KILN_CONFIG").filter(|path| !path.is_empty()) {
            return Self::read(Path::new(&path));
        }
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        let own = std::env::var_os("XDG_CONFIG_HOME")
            .filter(|directory| !directory.is_empty())
            .map(PathBuf::from)
            .or(home);
        let mut config = Self::default();
        for directory in [Some(PathBuf::from("/etc")), own].into_iter().flatten() {
            let path = directory.join("kiln/kiln.conf");
            if path.exists() {
                config.add(Self::read(&path)?);
            }
        }
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let text = file_text(path)?;
        toml::from_str(&text).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
    }

    fn add(&mut self, other: Self) {
        self.registries.extend(other.registries);
        let take = |own: &mut Option<String>, other: Option<String>| {
            if other.is_some() {
                *own = other;
            }
        };
        take(&mut self.executor, other.executor);
        self.executor_required |= other.executor_required;
        take(&mut self.gc.max_storage, other.gc.max_storage);
        take(&mut self.gc.min_free, other.gc.min_free);
        take(&mut self.gc.keep, other.gc.keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_errors_and_later_files_win() {
        let read = |text: &str| toml::from_str::<Config>(text);
        assert!(read("[gc]\nmax_storage = '1GB'\n").is_err());
        let mut config = read("[gc]\nmax-storage = '1GB'\nkeep = '1d'\n").unwrap();
        config.add(read("[gc]\nkeep = '2d'\n[registries.'a.example']\nhttp = true\n").unwrap());
        assert_eq!(config.gc.max_storage.as_deref(), Some("1GB"));
        assert_eq!(config.gc.keep.as_deref(), Some("2d"));
        assert!(config.registries["a.example"].http);
    }
}
