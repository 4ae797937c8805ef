//! Finds what is installed in one tree, by what installers leave behind: databases of
//! distributions, metadata of language packages, notes in programs. Lock files and build files
//! say what was wanted, not what is there, so they are not read.
//!
//! Each tree is looked at by itself, so that what was found can be kept as long as the tree: an
//! image that shares its base with another pays for its own layers only. What the layers of one
//! image hide from each other is [`crate::Inventory`]'s business.

mod apk;
mod composer;
mod dotnet;
mod dpkg;
mod elf;
mod gem;
mod golang;
mod jar;
mod npm;
mod os_release;
mod python;
mod reading;
mod rpm;
mod stanza;
mod zip;

use std::io::Read as _;

use kiln_graph::{Entry, ImagePath, Node};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub(crate) use npm::is_module_root;
pub(crate) use reading::Reading;
pub use reading::{Claim, ReadSeek};

/// Bumped whenever the same files give something else.
pub const DETECT_VERSION: u32 = 4;

/// Metadata in text is no longer, in bytes.
const MAX_TEXT: u64 = 64 << 20;
/// Metadata in JSON is no longer, in bytes: read, it takes many times as much memory.
const MAX_JSON: u64 = 16 << 20;
/// No database of an honest image is larger, in bytes.
const MAX_DATABASE: u64 = 1 << 30;

/// Opens regular files of a tree.
pub trait Files: Sync {
    /// Opens the file that an entry of the tree stands for.
    ///
    /// # Errors
    /// When it can't be opened.
    fn open(&self, entry: &Entry) -> std::io::Result<Box<dyn ReadSeek + '_>>;
}

/// What one path of a tree says about packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The path.
    pub path: ImagePath,
    /// What it says.
    pub claim: Claim,
}

/// Something that may hold packages but can't be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Warning {
    /// The path.
    pub path: ImagePath,
    /// What is wrong with it.
    pub reason: String,
}

/// What one tree says about packages, in path order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeEvidence {
    /// What was found.
    pub evidence: Vec<Evidence>,
    /// What couldn't be read.
    pub warnings: Vec<Warning>,
}

/// Finds what is installed in a tree.
#[must_use]
pub fn detect(entries: &[Entry], files: &dyn Files) -> TreeEvidence {
    let found: Vec<(ImagePath, Reading)> = entries
        .par_iter()
        .filter_map(|entry| Some((entry.path.clone(), look_at(entry, files)?)))
        .collect();
    let mut tree = TreeEvidence::default();
    for (path, reading) in found {
        let warning = |reason| Warning {
            path: path.clone(),
            reason,
        };
        tree.warnings
            .extend(reading.problems.into_iter().map(warning));
        tree.evidence
            .extend(reading.claim.map(|claim| Evidence { path, claim }));
    }
    tree
}

fn look_at(entry: &Entry, files: &dyn Files) -> Option<Reading> {
    let path = entry.path.to_string();
    match &entry.node {
        Node::File { .. } | Node::HardLink { .. } => {
            let detector = Detector::of(&path, entry)?;
            match files.open(entry) {
                Ok(mut file) => detector.read(&path, &mut *file),
                Err(error) => Some(Reading::problem(format!("it can't be opened: {error}"))),
            }
        }
        Node::Symlink { target } => dpkg::link(&entry.path, target).map(Reading::of),
        _ => None,
    }
}

/// What reads a file, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detector {
    Apk,
    Composer,
    Copyright,
    DotNet,
    Dpkg,
    Elf,
    Gem,
    Jar,
    Npm,
    OsRelease,
    Python,
    Rpm,
}

impl Detector {
    fn of(path: &str, entry: &Entry) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let ends = |tail: &str| path.ends_with(tail);
        Some(match name {
            "status" if ends("/var/lib/dpkg/status") => Self::Dpkg,
            "copyright" if dpkg::is_copyright(path) => Self::Copyright,
            "installed" if ends("/lib/apk/db/installed") => Self::Apk,
            "package.json" => Self::Npm,
            "installed.json" if ends("/composer/installed.json") => Self::Composer,
            "os-release" if matches!(path, "/etc/os-release" | "/usr/lib/os-release") => {
                Self::OsRelease
            }
            _ if dpkg::is_status_file(path) => Self::Dpkg,
            _ if rpm::is_database(path) => Self::Rpm,
            _ if python::is_metadata(path) => Self::Python,
            _ if gem::is_specification(path) => Self::Gem,
            _ if name.ends_with(".deps.json") => Self::DotNet,
            _ if jar::is_archive(name) => Self::Jar,
            _ if entry.mode & 0o111 != 0 || name.contains(".so") => Self::Elf,
            _ => return None,
        })
    }

    fn read(self, path: &str, file: &mut dyn ReadSeek) -> Option<Reading> {
        let reading = match self {
            Self::Elf => return elf::read(file),
            Self::Jar => return Some(jar::read(path, file)),
            Self::Rpm => match bytes(file, MAX_DATABASE) {
                Ok(bytes) => rpm::read(path, &bytes),
                Err(reason) => Reading::problem(reason),
            },
            _ => match bytes(file, self.longest()) {
                Ok(bytes) => self.read_text(path, &bytes),
                Err(reason) => Reading::problem(reason),
            },
        };
        Some(reading)
    }

    /// How long metadata in text may be.
    fn longest(self) -> u64 {
        match self {
            Self::Composer | Self::DotNet | Self::Npm => MAX_JSON,
            _ => MAX_TEXT,
        }
    }

    fn read_text(self, path: &str, bytes: &[u8]) -> Reading {
        let text = &*String::from_utf8_lossy(bytes);
        match self {
            Self::Apk => apk::read(text),
            Self::Composer => composer::read(text),
            Self::Copyright => dpkg::copyright(text),
            Self::DotNet => dotnet::read(text),
            Self::Dpkg => dpkg::status(path, text),
            Self::Gem => gem::read(text),
            Self::Npm => npm::read(path, text),
            Self::OsRelease => os_release::read(text),
            Self::Python => python::read(path, text),
            Self::Elf | Self::Jar | Self::Rpm => Reading::default(),
        }
    }
}

fn bytes(file: &mut dyn ReadSeek, max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = file.take(max + 1).read_to_end(&mut bytes);
    match read {
        Ok(read) if read as u64 > max => Err(format!("it is larger than {max} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("it can't be read: {error}")),
    }
}
