//! Looks for secrets in what a step leaves behind: as they are, and in the encodings that
//! programs store them in.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use kiln_graph::pattern::matches_deep;
use kiln_graph::{Build, Entry, ImagePath, Manifest, Node, Op, Step, Timestamp};
use kiln_tree::{Decision, Found, TreeRoot, walk};
use rayon::prelude::*;
use rustix::fs::FileType;

use crate::mask::Hidden;
use crate::{EngineError, Request};

/// How much of a file is searched at once, in bytes: what a processor's cache holds.
const CHUNK: usize = 256 << 10;
/// How much of a file one processor searches before another may take part, in bytes.
const PIECE: u64 = 8 << 20;
/// How much of each end of a long secret is looked for.
const LONG_PIECE: usize = 512;

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
    pub(crate) fn new(secrets: &[Hidden]) -> Option<Self> {
        let (mut patterns, mut texts) = (Vec::new(), Vec::new());
        for secret in secrets.iter().filter(|secret| !secret.is_short()) {
            let pieces = telling(secret.bytes()).into_iter();
            for (encoding, text) in pieces.flat_map(encodings) {
                let secret = secret.id.clone();
                patterns.push(Hit { secret, encoding });
                texts.push(text);
            }
        }
        let longest = texts.iter().map(Vec::len).max()?;
        // Only for leftmost matches there is a vectorised search.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(&texts)
            .ok()?;
        Some(Self {
            automaton,
            patterns,
            longest,
        })
    }

    fn bytes(&self, bytes: &[u8]) -> Option<&Hit> {
        let found = self.automaton.find(bytes)?;
        Some(&self.patterns[found.pattern().as_usize()])
    }

    /// Searches a file, its pieces side by side; what can't be read has nothing to hide.
    fn file(&self, file: &File) -> Option<&Hit> {
        let length = file.metadata().ok()?.len();
        let pieces = (0..length.div_ceil(PIECE)).into_par_iter();
        pieces.find_map_any(|piece| self.piece(file, piece * PIECE))
    }

    /// Searches for what begins in one piece of a file.
    fn piece(&self, file: &File, start: u64) -> Option<&Hit> {
        let end = start + PIECE + self.longest as u64 - 1;
        let mut buffer = vec![0; CHUNK + self.longest];
        let (mut at, mut kept) = (start, 0);
        while at < end {
            let count = file.read_at(&mut buffer[kept..], at).ok()?;
            if count == 0 {
                return None;
            }
            at += count as u64;
            let filled = kept + count;
            if let Some(hit) = self.bytes(&buffer[..filled]) {
                return Some(hit);
            }
            kept = filled.min(self.longest - 1);
            buffer.copy_within(filled - kept..filled, 0);
        }
        None
    }

    /// Searches an entry of a tree whose files lie in `folder`; and says where it was, without
    /// repeating a name that is the secret itself.
    fn entry(&self, entry: &Entry, folder: &TreeRoot) -> Option<(String, &Hit)> {
        if let Some(hit) = self.bytes(entry.path.relative_bytes()) {
            let above = entry
                .path
                .ancestors()
                .filter(|path| self.bytes(path.relative_bytes()).is_none());
            let above = above
                .max_by_key(|path| path.relative_bytes().len())
                .unwrap_or_default();
            return Some((format!("a name in {above}"), hit));
        }
        self.content(entry, folder)
            .map(|hit| (entry.path.to_string(), hit))
    }

    fn content(&self, entry: &Entry, folder: &TreeRoot) -> Option<&Hit> {
        let attributes = entry.xattrs.values().find_map(|value| self.bytes(value));
        let own = || match &entry.node {
            Node::File { .. } => self.file(&folder.open_file(&entry.path).ok()?),
            Node::Symlink { target } => self.bytes(target),
            _ => None,
        };
        attributes.or_else(own)
    }

    /// Searches what a step changed, and what it changed in cache volumes.
    pub(crate) fn check(&self, changed: &Changed<'_>) -> Result<(), EngineError> {
        let allowed = |path: &[u8]| {
            let is = |pattern: &String| matches_deep(pattern.trim_start_matches('/'), path);
            changed.allowed.iter().any(is)
        };
        let entries = changed.manifest.entries().par_iter();
        let leak = entries.find_map_any(|entry| {
            let found = self.entry(entry, changed.folder)?;
            (!allowed(entry.path.relative_bytes())).then_some(found)
        });
        let leak = leak.or_else(|| {
            let volumes = changed.volumes.iter();
            volumes.clone().find_map(|folder| {
                self.folder(folder, changed.started)
                    .map(|(name, hit)| (format!("{name} of a cache volume"), hit))
            })
        });
        match leak {
            None => Ok(()),
            Some((place, hit)) => Err(found(hit, &place, Some(changed.step))),
        }
    }

    /// Searches the files of a folder that changed since `started`. Other steps may change it at
    /// the same time: what is gone when it is its turn is passed over.
    fn folder(&self, folder: &TreeRoot, started: Timestamp) -> Option<(String, &Hit)> {
        let take_all = |_: &ImagePath, _: bool| Decision::Take;
        let visit = |found: &Found<'_>| {
            let name = found.path.file_name().unwrap_or_default();
            let is_new = found.stat.st_ctime >= started.seconds;
            let hit = match found.kind {
                FileType::Directory => None,
                FileType::RegularFile if is_new => {
                    self.bytes(name).or_else(|| self.file(&found.open().ok()?))
                }
                _ => self.bytes(name),
            };
            Ok(hit.map(|hit| (String::from_utf8_lossy(name).into_owned(), hit)))
        };
        let hits = walk(folder, &ImagePath::root(), &take_all, &visit);
        hits.ok()?.into_iter().next()
    }
}

/// What a step changed.
pub(crate) struct Changed<'a> {
    pub(crate) step: &'a Step,
    pub(crate) manifest: &'a Manifest,
    pub(crate) folder: &'a TreeRoot,
    pub(crate) volumes: &'a [TreeRoot],
    pub(crate) started: Timestamp,
    /// Paths in which the user wants secrets.
    pub(crate) allowed: &'a [String],
}

fn found(hit: &Hit, place: &str, step: Option<&Step>) -> EngineError {
    EngineError::Leak {
        secret: hit.secret.clone(),
        encoding: hit.encoding,
        place: place.to_owned(),
        name: step.map(|step| step.name.to_string()).unwrap_or_default(),
        location: step.and_then(|step| step.location.clone()),
    }
}

/// What of a value is looked for: all of it, or the two ends of one so long (a bundle of
/// certificates) that an automaton for all of it would cost more than the search.
fn telling(value: &[u8]) -> Vec<&[u8]> {
    match value.len() {
        length if length <= 2 * LONG_PIECE => vec![value],
        length => vec![&value[..LONG_PIECE], &value[length - LONG_PIECE..]],
    }
}

/// The ways a value may be written, each with a name.
fn encodings(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![("as it is", value.to_vec())];
    for (name, engine) in [
        ("as base64", STANDARD_NO_PAD),
        ("as base64", URL_SAFE_NO_PAD),
    ] {
        for shift in 0..3 {
            all.push((name, base64_inside(&engine, value, shift)));
        }
    }
    all.push(("as hexadecimal", hex::encode(value).into_bytes()));
    all.push(("as hexadecimal", hex::encode_upper(value).into_bytes()));
    for kept in ["-._~", "-._*"] {
        let text = percent(value, kept);
        all.push(("URL-encoded", text.replace("%20", "+").into_bytes()));
        all.push(("URL-encoded", text.to_lowercase().into_bytes()));
        all.push(("URL-encoded", text.into_bytes()));
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all.dedup_by(|a, b| a.1 == b.1);
    all.retain(|(_, text)| text.len() >= crate::mask::SHORTEST);
    all
}

/// Percent-encoding (RFC 3986; HTML forms keep other signs, and write a blank as `+`).
fn percent(value: &[u8], kept: &str) -> String {
    let mut text = String::new();
    for &byte in value {
        match char::from(byte) {
            c if c.is_ascii_alphanumeric() || kept.contains(c) => text.push(c),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The characters that a value certainly becomes when it stands `shift` bytes behind a multiple
/// of three: those that no neighbour has a part in.
fn base64_inside(engine: &impl base64::Engine, value: &[u8], shift: usize) -> Vec<u8> {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(value);
    let text = engine.encode(&bytes).into_bytes();
    let first = (shift * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    text.get(first..last).unwrap_or_default().to_vec()
}

/// The secrets that the steps of a build name.
pub(crate) fn named(build: &Build) -> Vec<&str> {
    let steps = build.graph.steps();
    let mounts = steps.filter_map(|(_, step)| match &step.op {
        Op::Exec(exec) => Some(exec.mounts.iter()),
        _ => None,
    });
    let mut ids: Vec<&str> = mounts
        .flatten()
        .filter_map(|mount| match &mount.kind {
            kiln_graph::MountKind::Secret(secret) => Some(secret.id.as_str()),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Searches the configurations and histories of the images that are wanted.
pub(crate) fn check_configurations(request: &Request) -> Result<(), EngineError> {
    let ids = named(&request.build);
    let given = ids.iter().filter_map(|id| {
        let value = request.secrets.secret(id).ok()??;
        Some(Hidden::new(id, value.expose()))
    });
    let secrets: Vec<Hidden> = given.collect();
    let Some(finder) = Finder::new(&secrets) else {
        return Ok(());
    };
    for target in &request.build.targets {
        let config = serde_json::to_vec(&target.config).unwrap_or_default();
        if let Some(hit) = finder.bytes(&config) {
            return Err(found(hit, "the image's configuration", None));
        }
        let lines = target.history.iter();
        if let Some(hit) = lines
            .filter_map(|line| finder.bytes(line.created_by.as_bytes()))
            .next()
        {
            return Err(found(hit, "the image's history", None));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    fn finder(value: &str) -> Finder {
        Finder::new(&[Hidden::new("token", value.as_bytes())]).unwrap()
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
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
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
            assert!(finder.file(&File::open(&path).unwrap()).is_some(), "{at}");
        }
        std::fs::write(&path, vec![b'.'; length]).unwrap();
        assert!(finder.file(&File::open(&path).unwrap()).is_none());
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
        assert!(Finder::new(&[Hidden::new("pin", b"1234\n")]).is_none());
    }
}
