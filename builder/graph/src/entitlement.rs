//! What a build may do beyond what every build may: only with the user's word (`--allow`), named
//! as BuildKit names it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One thing that the user allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entitlement {
    /// Steps may have the host's network by saying so (`network.host`).
    NetworkHost,
    /// Steps may have all capabilities by saying so (`security.insecure`).
    SecurityInsecure,
    /// The build file may name image archives, layouts and git repositories of this machine that
    /// lie below a directory (`fs.read=DIR`).
    Read(PathBuf),
    /// The build file may say that results are written below a directory (`fs.write=DIR`).
    Write(PathBuf),
    /// The build file may name shared caches, whose results are believed (`cache`).
    Cache,
}

/// A word that is no entitlement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' can't be allowed: use network.host, security.insecure, fs.read=DIR, fs.write=DIR or cache"
)]
pub struct BadEntitlement(String);

impl FromStr for Entitlement {
    type Err = BadEntitlement;

    fn from_str(text: &str) -> Result<Self, BadEntitlement> {
        match text.split_once('=') {
            None if text == "network.host" => Ok(Self::NetworkHost),
            None if text == "security.insecure" => Ok(Self::SecurityInsecure),
            None if text == "cache" => Ok(Self::Cache),
            Some(("fs.write", directory)) if !directory.is_empty() => {
                Ok(Self::Write(directory.into()))
            }
            Some(("fs.read", directory)) if !directory.is_empty() => {
                Ok(Self::Read(directory.into()))
            }
            _ => Err(BadEntitlement(text.to_owned())),
        }
    }
}

/// All that the user allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// Whether steps may have the host's network by saying so.
    pub network_host: bool,
    /// Whether steps may have all capabilities by saying so.
    pub security_insecure: bool,
    /// Directories whose archives and repositories the build file may name.
    pub read: Vec<PathBuf>,
    /// Directories that the build file may have results written to.
    pub write: Vec<PathBuf>,
    /// Whether the build file may name shared caches.
    pub cache: bool,
}

impl Entitlements {
    /// Allows one more thing.
    pub fn allow(&mut self, entitlement: Entitlement) {
        match entitlement {
            Entitlement::NetworkHost => self.network_host = true,
            Entitlement::SecurityInsecure => self.security_insecure = true,
            Entitlement::Read(directory) => self.read.push(directory),
            Entitlement::Write(directory) => self.write.push(directory),
            Entitlement::Cache => self.cache = true,
        }
    }

    /// Whether a path, without links or `..`, lies in a directory that may be read; the directories
    /// are taken as they are.
    #[must_use]
    pub fn may_read(&self, path: &Path) -> bool {
        self.read
            .iter()
            .any(|directory| path.starts_with(directory))
    }

    /// The same of a directory that may be written to.
    #[must_use]
    pub fn may_write(&self, path: &Path) -> bool {
        self.write
            .iter()
            .any(|directory| path.starts_with(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let mut all = Entitlements::default();
        for word in [
            "network.host",
            "security.insecure",
            "fs.read=/srv/git",
            "fs.write=/out",
            "cache",
        ] {
            all.allow(word.parse().unwrap());
        }
        assert!(all.cache && all.may_write(Path::new("/out/a")));
        assert!(!all.may_write(Path::new("/srv/git/a")) && !all.may_read(Path::new("/out/a")));
        assert!(all.network_host && all.security_insecure);
        assert!(all.may_read(Path::new("/srv/git/a")) && !all.may_read(Path::new("/srv/gitx")));
        for word in [
            "",
            "network",
            "network.host=x",
            "fs.read",
            "fs.read=",
            "fs.write",
            "cache=x",
            "device",
        ] {
            assert!(word.parse::<Entitlement>().is_err(), "{word}");
        }
    }
}
