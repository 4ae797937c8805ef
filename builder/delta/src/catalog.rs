//! The files that a difference may refer to, and which of them is most like a new one.

use std::collections::HashMap;

use kiln_graph::Digest;

use crate::format::MAX_PATH;

/// A regular file of the old image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldEntry {
    /// Its path from the root, without a slash before it.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Of its content.
    pub digest: Digest,
}

/// The regular files of the old image.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: Vec<OldEntry>,
    by_path: HashMap<String, usize>,
    by_digest: HashMap<Digest, usize>,
    /// By path without versions.
    by_stem: HashMap<String, Vec<usize>>,
    /// By file name without versions.
    by_name: HashMap<String, Vec<usize>>,
}

impl FromIterator<OldEntry> for Catalog {
    /// Files that no reader could name are left out, and empty ones.
    fn from_iter<I: IntoIterator<Item = OldEntry>>(entries: I) -> Self {
        let usable = |entry: &OldEntry| {
            entry.size > 0 && (1..=MAX_PATH).contains(&(entry.path.len() as u64))
        };
        let mut catalog = Self {
            entries: entries.into_iter().filter(usable).collect(),
            ..Self::default()
        };
        catalog.entries.sort_by(|a, b| a.path.cmp(&b.path));
        for (at, entry) in catalog.entries.iter().enumerate() {
            catalog.by_path.insert(entry.path.clone(), at);
            catalog.by_digest.entry(entry.digest).or_insert(at);
            let stem = stem(&entry.path);
            catalog
                .by_name
                .entry(file_name(&stem).to_owned())
                .or_default()
                .push(at);
            catalog.by_stem.entry(stem).or_default().push(at);
        }
        catalog
    }
}

impl Catalog {
    /// A file with just this content.
    pub(crate) fn same(&self, digest: &Digest) -> Option<&OldEntry> {
        self.by_digest.get(digest).map(|at| &self.entries[*at])
    }

    /// The file that is most likely an earlier version: of the same path, else of the same path but
    /// for versions in it, else of the same file name but for versions; of several the one whose
    /// size is nearest.
    pub(crate) fn nearest(&self, path: &str, size: u64) -> Option<&OldEntry> {
        if let Some(at) = self.by_path.get(path) {
            return Some(&self.entries[*at]);
        }
        let stem = stem(path);
        let alike = self
            .by_stem
            .get(&stem)
            .or_else(|| self.by_name.get(file_name(&stem)))?;
        let entries = alike.iter().map(|at| &self.entries[*at]);
        entries.min_by_key(|entry| entry.size.abs_diff(size))
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// A path with each version or digest in it replaced: `lib/libfoo.so.1.2.3` is `lib/libfoo.so.#`,
/// `chunk-5f3a9c01.js` is `chunk-#.js`.
fn stem(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for part in path.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (word, end) = match part.strip_suffix(|c: char| !c.is_ascii_alphanumeric()) {
            Some(word) => (word, &part[word.len()..]),
            None => (part, ""),
        };
        match is_version(word) {
            true if out.ends_with("#.") => _ = out.pop(),
            true => out.push('#'),
            false => out.push_str(word),
        }
        out.push_str(end);
    }
    out
}

/// A number, or at least eight hexadecimal digits of which one is decimal.
fn is_version(word: &str) -> bool {
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let is_hex = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    has_digit && (is_hex || word.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_no_part_of_a_stem() {
        for (path, want) in [
            ("usr/lib/libfoo.so.1.2.3", "usr/lib/libfoo.so.#"),
            ("usr/lib/libfoo.so.2", "usr/lib/libfoo.so.#"),
            (
                "django-5.1.4.dist-info/METADATA",
                "django-#.dist-info/METADATA",
            ),
            ("chunk-5f3a9c01.js", "chunk-#.js"),
            ("bin/x86_64", "bin/x86_#"),
            ("deadbeef.js", "deadbeef.js"),
            ("", ""),
        ] {
            assert_eq!(stem(path), want, "{path}");
        }
    }

    #[test]
    fn the_nearest_is_of_the_same_path_or_of_another_version() {
        let entry = |(path, size): (&str, u64)| OldEntry {
            path: path.to_owned(),
            size,
            digest: Digest::of(path.as_bytes()),
        };
        let files = [
            ("a/x", 10),
            ("lib/libz.so.1", 100),
            ("lib/libz.so.3", 900),
            ("other/tool.py", 5),
            ("empty", 0),
        ];
        let catalog: Catalog = files.map(entry).into_iter().collect();
        let nearest = |path, size| catalog.nearest(path, size).map(|entry| &*entry.path);
        assert_eq!(nearest("a/x", 10_000), Some("a/x"));
        assert_eq!(nearest("lib/libz.so.2", 700), Some("lib/libz.so.3"));
        assert_eq!(nearest("lib/libz.so.2", 300), Some("lib/libz.so.1"));
        assert_eq!(nearest("new/place/tool.py", 5), Some("other/tool.py"));
        assert_eq!(nearest("empty", 1), None);
        assert_eq!(
            catalog.same(&Digest::of(b"a/x")).map(|entry| &*entry.path),
            Some("a/x")
        );
    }
}
