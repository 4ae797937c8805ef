//! Looks for secrets in what a step leaves behind: as they are, and in the encodings that
//! programs store them in.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use kiln_graph::pattern::matches_deep;
use kiln_graph::{Entry, ImagePath, Manifest, Node, Step, Timestamp};
use kiln_tree::{Decision, Found, TreeError, TreePath, TreeRoot, walk};
use rayon::prelude::*;
use rustix::fs::FileType;

use crate::EngineError;
use crate::run::encoding::{encodings, telling};
use crate::run::mask::Hidden;
use crate::view::View;

/// How much of a file is searched at once, in bytes: what a processor's cache holds.
const CHUNK: usize = 256 << 10;
/// How much of a file one processor searches before another may take part, in bytes.
const PIECE: u64 = 8 << 20;

/// A secret that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    secret: String,
    encoding: &'static str,
}

/// Looks for some secrets in all encodings at once.
pub(crate) struct Finder {
    automaton: AhoCorasick,
    /// What each pattern is: which secret, how encoded.
    patterns: Vec<Hit>,
    longest: usize,
}

impl Finder {
    /// A finder, unless there is nothing to look for.
    ///
    /// # Errors
    /// When the secrets can't be looked for.
    pub(crate) fn new(secrets: &[Hidden]) -> Result<Option<Self>, EngineError> {
        let (mut patterns, mut texts) = (Vec::new(), Vec::new());
        for secret in secrets.iter().filter(|secret| !secret.is_short()) {
            let pieces = telling(secret.bytes()).into_iter();
            for (encoding, text) in pieces.flat_map(encodings) {
                let secret = secret.id.clone();
                patterns.push(Hit { secret, encoding });
                texts.push(text);
            }
        }
        let Some(longest) = texts.iter().map(Vec::len).max() else {
            return Ok(None);
        };
        // Only for leftmost matches there is a vectorised search.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(&texts)
            .map_err(|error| unsearched("what steps leave behind", &error))?;
        Ok(Some(Self {
            automaton,
            patterns,
            longest,
        }))
    }

    pub(super) fn bytes(&self, bytes: &[u8]) -> Option<&Hit> {
        let found = self.automaton.find(bytes)?;
        Some(&self.patterns[found.pattern().as_usize()])
    }

    /// Searches a file, its pieces side by side.
    fn file(&self, file: &File) -> std::io::Result<Option<&Hit>> {
        let length = file.metadata()?.len();
        let pieces = (0..length.div_ceil(PIECE)).into_par_iter();
        let hit = pieces.find_map_any(|piece| self.piece(file, piece * PIECE).transpose());
        hit.transpose()
    }

    /// Searches for what begins in one piece of a file.
    fn piece(&self, file: &File, start: u64) -> std::io::Result<Option<&Hit>> {
        let end = start + PIECE + self.longest as u64 - 1;
        let mut buffer = vec![0; CHUNK + self.longest];
        let (mut at, mut kept) = (start, 0);
        while at < end {
            let count = file.read_at(&mut buffer[kept..], at)?;
            if count == 0 {
                return Ok(None);
            }
            at += count as u64;
            let filled = kept + count;
            if let Some(hit) = self.bytes(&buffer[..filled]) {
                return Ok(Some(hit));
            }
            kept = filled.min(self.longest - 1);
            buffer.copy_within(filled - kept..filled, 0);
        }
        Ok(None)
    }

    /// Searches an entry of a tree whose content lies at `content`; and says where it was, without
    /// repeating a name that is the secret itself.
    fn entry(
        &self,
        entry: &Entry,
        content: &TreePath,
    ) -> Result<Option<(String, &Hit)>, EngineError> {
        if let Some(hit) = self.bytes(entry.path.relative_bytes()) {
            let above = entry
                .path
                .ancestors()
                .filter(|path| self.bytes(path.relative_bytes()).is_none());
            let above = above
                .max_by_key(|path| path.relative_bytes().len())
                .unwrap_or_default();
            return Ok(Some((format!("a name in {above}"), hit)));
        }
        let hit = self.content(entry, content)?;
        Ok(hit.map(|hit| (entry.path.to_string(), hit)))
    }

    fn content(&self, entry: &Entry, content: &TreePath) -> Result<Option<&Hit>, EngineError> {
        let hit = entry.xattrs.values().find_map(|value| self.bytes(value));
        match &entry.node {
            _ if hit.is_some() => Ok(hit),
            Node::File { .. } => {
                let hit = content.open_file().and_then(|file| self.file(&file));
                hit.map_err(|error| unsearched(&entry.path.to_string(), &error))
            }
            Node::Symlink { target } => Ok(self.bytes(target)),
            _ => Ok(None),
        }
    }

    /// Searches what a step changed, and what it changed in cache volumes. What the step began with
    /// is no leak when it is found again.
    pub(crate) fn check(&self, changed: &Changed<'_>) -> Result<(), EngineError> {
        let allowed = |path: &[u8]| {
            let is = |pattern: &String| matches_deep(pattern.trim_start_matches('/'), path);
            changed.allowed.iter().any(is)
        };
        let leaked = |entry: &Entry| {
            if allowed(entry.path.relative_bytes()) {
                return Ok(None);
            }
            let content = TreePath {
                root: changed.directory.clone(),
                path: entry.path.clone(),
            };
            self.unless_known(self.entry(entry, &content)?, &changed.base)
        };
        let entries = changed.manifest.entries().par_iter();
        let mut leak = entries.find_map_any(|entry| leaked(entry).transpose());
        if leak.is_none() {
            let mut volumes = changed.volumes.iter();
            leak = volumes.find_map(|directory| self.volume(directory, changed).transpose());
        }
        match leak.transpose()? {
            None => Ok(()),
            Some((place, hit)) => Err(found(hit, &place, Some(changed.step))),
        }
    }

    /// What was found, unless the step's root had that secret before.
    fn unless_known<'f>(
        &'f self,
        found: Option<(String, &'f Hit)>,
        base: &Base<'_>,
    ) -> Result<Option<(String, &'f Hit)>, EngineError> {
        match found {
            Some((_, hit)) if base.has(self, hit)? => Ok(None),
            other => Ok(other),
        }
    }

    /// Searches the files of a volume that changed since the step started.
    fn volume(
        &self,
        directory: &TreeRoot,
        changed: &Changed<'_>,
    ) -> Result<Option<(String, &Hit)>, EngineError> {
        let fail = |reason: &dyn std::fmt::Display| unsearched("a cache volume", reason);
        let take_all = |_: &ImagePath, _: bool| Decision::Take;
        let visit = |found: &Found<'_>| {
            let found = self
                .volume_file(found, changed.started)
                .map_err(|e| fail(&e));
            Ok(found.transpose())
        };
        for _ in 0..MAX_WALKS {
            let hits = match walk(directory, &ImagePath::root(), &take_all, &visit) {
                Ok(hits) => hits,
                // Other steps may remove directories at the same time.
                Err(TreeError::Io { source, .. }) if is_gone(&source) => continue,
                Err(error) => return Err(fail(&error)),
            };
            for hit in hits {
                let leak = self.unless_known(Some(hit?), &changed.base)?;
                if leak.is_some() {
                    return Ok(leak);
                }
            }
            return Ok(None);
        }
        Err(fail(&"other steps remove its directories all the time"))
    }

    /// Searches one thing in a volume.
    fn volume_file(
        &self,
        found: &Found<'_>,
        started: Timestamp,
    ) -> std::io::Result<Option<(String, &Hit)>> {
        let name = found.path.file_name().unwrap_or_default();
        if let Some(hit) = self.bytes(name) {
            return Ok(Some(("a name in a cache volume".to_owned(), hit)));
        }
        let hit = match found.kind {
            FileType::RegularFile if found.stat.st_ctime >= started.seconds => match found.open() {
                Ok(file) => self.file(&file)?,
                Err(error) if is_gone(&error) => None,
                Err(error) => return Err(error),
            },
            FileType::Symlink => match found.read_link() {
                Ok(target) => self.bytes(&target),
                Err(error) if is_gone(&error) => None,
                Err(error) => return Err(error),
            },
            _ => None,
        };
        let name = String::from_utf8_lossy(name);
        Ok(hit.map(|hit| (format!("{name} of a cache volume"), hit)))
    }
}

/// How often a volume is looked through from its root when directories go meanwhile.
const MAX_WALKS: usize = 20;

/// Whether something was removed, or replaced, since its name was read.
fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), InvalidInput | NotADirectory | NotFound)
}

/// What a step started from.
pub(crate) struct Base<'a> {
    view: &'a View,
    /// Which secrets are known to be in it, or not.
    known: Mutex<BTreeMap<String, bool>>,
}

impl<'a> Base<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        Self {
            view,
            known: Mutex::default(),
        }
    }

    /// Whether a secret that was found was there before.
    fn has(&self, finder: &Finder, hit: &Hit) -> Result<bool, EngineError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = known().get(&hit.secret).copied();
        if let Some(noted) = noted {
            return Ok(noted);
        }
        let files = self.view.flatten();
        let is_same = |entry: &Entry, content: &TreePath| -> Result<Option<_>, EngineError> {
            let found = finder.entry(entry, content)?;
            Ok(found.filter(|(_, other)| other.secret == hit.secret))
        };
        // The lock is not held here: this thread may take up another search while it waits.
        let found = files.par_iter();
        let found = found.find_map_any(|(entry, content)| is_same(entry, content).transpose());
        let found = found.transpose()?.is_some();
        known().insert(hit.secret.clone(), found);
        Ok(found)
    }
}

pub(super) fn unsearched(place: &str, reason: &dyn std::fmt::Display) -> EngineError {
    EngineError::Search {
        place: place.to_owned(),
        reason: reason.to_string(),
    }
}

/// What a step changed.
pub(crate) struct Changed<'a> {
    pub(crate) step: &'a Step,
    pub(crate) manifest: &'a Manifest,
    pub(crate) directory: &'a TreeRoot,
    pub(crate) base: Base<'a>,
    pub(crate) volumes: &'a [TreeRoot],
    pub(crate) started: Timestamp,
    /// Paths in which the user wants secrets.
    pub(crate) allowed: &'a [String],
}

pub(super) fn found(hit: &Hit, place: &str, step: Option<&Step>) -> EngineError {
    EngineError::Leak {
        secret: hit.secret.clone(),
        encoding: hit.encoding,
        place: place.to_owned(),
        name: step.map(|step| step.name.to_string()).unwrap_or_default(),
        location: step.and_then(|step| step.location.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::encoding::LONG_PIECE;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    fn finder(value: &str) -> Finder {
        let finder = Finder::new(&[Hidden::new("token", value.as_bytes())]);
        finder.unwrap().unwrap()
    }

    #[test]
    fn every_encoding_at_every_alignment() {
        let value = "s3cr/t+v?lue~";
        let finder = finder(value);
        for shift in 0..7 {
            for after in 0..4 {
                let text = format!("{}{value}{}", "x".repeat(shift), "y".repeat(after));
                for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                    let text = engine.encode(&text);
                    let hit = finder.bytes(text.as_bytes()).map(|hit| hit.encoding);
                    assert_eq!(hit, Some("as base64"), "{text}");
                }
                let hit = finder.bytes(hex::encode(&text).as_bytes()).cloned();
                assert_eq!(hit.map(|hit| hit.encoding), Some("as hexadecimal"));
                assert!(finder.bytes(text.as_bytes()).is_some());
            }
        }
        let escaped = "%22s3cr%2Ft%2Bv%3Flue~%22".replace('~', "%7E");
        assert!(finder.bytes(escaped.as_bytes()).is_some(), "{escaped}");
        assert!(finder.bytes(b"s3cr/t+v?lu").is_none());
    }

    #[test]
    fn files_are_searched_across_chunks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let finder = finder("hunter2");
        let (piece, length) = (8 << 20, (8 << 20) + 3 * CHUNK);
        for at in [
            0,
            CHUNK - 3,
            CHUNK,
            2 * CHUNK + 5,
            piece - 3,
            piece,
            length - 7,
        ] {
            let mut bytes = vec![b'.'; length];
            bytes[at..at + 7].copy_from_slice(b"hunter2");
            std::fs::write(&path, &bytes).unwrap();
            let found = finder.file(&File::open(&path).unwrap()).unwrap();
            assert!(found.is_some(), "{at}");
        }
        std::fs::write(&path, vec![b'.'; length]).unwrap();
        let found = finder.file(&File::open(&path).unwrap()).unwrap();
        assert!(found.is_none());
        let directory = File::open(directory.path()).unwrap();
        assert!(finder.file(&directory).is_err());
    }

    #[test]
    fn of_long_secrets_the_ends_are_looked_for() {
        let value: String = (0..20_000).map(|n| format!("{n:x}")).collect();
        let finder = finder(&value);
        assert!(finder.longest < 4 * LONG_PIECE);
        for text in [value.clone(), STANDARD_NO_PAD.encode(format!("ab{value}"))] {
            assert!(finder.bytes(text.as_bytes()).is_some());
        }
        assert!(finder.bytes(&value.as_bytes()[..LONG_PIECE - 1]).is_none());
    }

    #[test]
    fn short_secrets_are_not_searched_for() {
        let finder = Finder::new(&[Hidden::new("pin", b"1234\n")]);
        assert!(finder.unwrap().is_none());
    }
}
