//! Paths inside an image: absolute, normalised, and any bytes but NUL.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An absolute path inside an image's root, without `.`, `..`, doubled or trailing slashes.
///
/// Stored without the leading slash, so that the root is empty and joining it to a host directory
/// can't replace that directory. Ordered by its components: a directory comes directly before
/// everything below it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ImagePath(Box<[u8]>);

impl ImagePath {
    /// The root directory.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Any path text, read from the root: `..` stops there, as `chroot` does.
    #[must_use]
    pub fn new(path: impl AsRef<[u8]>) -> Self {
        Self::root().join(path)
    }

    /// This path, then another below it; an absolute `path` starts again at the root.
    #[must_use]
    pub fn resolve(&self, path: impl AsRef<[u8]>) -> Self {
        let path = path.as_ref();
        if path.starts_with(b"/") {
            Self::new(path)
        } else {
            self.join(path)
        }
    }

    /// This path, then another below it, whether or not that one starts with a slash.
    #[must_use]
    pub fn join(&self, path: impl AsRef<[u8]>) -> Self {
        let mut parts: Vec<&[u8]> = self.components().collect();
        for part in path.as_ref().split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                name => parts.push(name),
            }
        }
        Self(parts.join(&b'/').into_boxed_slice())
    }

    /// The names on the way from the root, in order.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// The directory this path is in; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// Every directory above this path, the root first; empty for the root itself.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self
            .0
            .iter()
            .enumerate()
            .filter(|&(_, &b)| b == b'/')
            .map(|(at, _)| at);
        let first = (!self.is_root()).then_some(0);
        first
            .into_iter()
            .chain(ends)
            .map(|end| Self(self.0[..end].into()))
    }

    /// The last name; `None` for the root.
    #[must_use]
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// Whether this is the root directory.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this path is `directory` or below it.
    #[must_use]
    pub fn starts_with(&self, directory: &Self) -> bool {
        directory.is_root()
            || (self.0.starts_with(&directory.0)
                && matches!(self.0.get(directory.0.len()), None | Some(b'/')))
    }

    /// What is left of this path below `directory`, without a leading slash.
    #[must_use]
    pub fn strip_prefix(&self, directory: &Self) -> Option<&[u8]> {
        if !self.starts_with(directory) {
            return None;
        }
        let rest = &self.0[directory.0.len()..];
        Some(rest.strip_prefix(b"/").unwrap_or(rest))
    }

    /// The bytes without the leading slash: what tar entries and `openat` want.
    #[must_use]
    pub fn relative_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path without the leading slash, as a host path type.
    #[must_use]
    pub fn relative(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Where this path lies when the image's root is the host directory `root`.
    ///
    /// Links in between are not looked at: use it only on trees walked from their root.
    #[must_use]
    pub fn under(&self, root: &Path) -> PathBuf {
        if self.is_root() {
            root.to_owned()
        } else {
            root.join(self.relative())
        }
    }
}

impl Ord for ImagePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Paths that lie side by side begin alike, and a stranger's may do so for kilobytes.
        let (mut one, mut two) = (&self.0[..], &other.0[..]);
        while let (Some((a, more)), Some((b, other))) =
            (one.split_first_chunk::<32>(), two.split_first_chunk())
            && a == b
        {
            (one, two) = (more, other);
        }
        let slash_first = |b: &u8| if *b == b'/' { 0 } else { u16::from(*b) + 1 };
        let (one, two) = (one.iter().map(slash_first), two.iter().map(slash_first));
        one.cmp(two)
    }
}

impl PartialOrd for ImagePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl From<&str> for ImagePath {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl Serialize for ImagePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("/{}", escape(&self.0)))
    }
}

impl<'de> Deserialize<'de> for ImagePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unescape(&text).map(Self::new).ok_or_else(|| {
            serde::de::Error::custom(format!("'{text}' is not a path as kiln stores it"))
        })
    }
}

/// Bytes are stored as text, with `%` and what is not UTF-8 as `%XX`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_normalised() {
        let cases = [
            ("", "/"),
            ("/", "/"),
            ("a//b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("../../x", "/x"),
            ("...", "/..."),
        ];
        for (given, want) in cases {
            assert_eq!(ImagePath::new(given).to_string(), want);
        }
    }

    #[test]
    fn a_directory_sorts_directly_before_what_it_holds() {
        let mut paths = ["a.b", "a/z", "a", "a-b", "a/b/c", "b"].map(ImagePath::new);
        paths.sort();
        assert_eq!(
            paths.map(|p| p.to_string()),
            ["/a", "/a/b/c", "/a/z", "/a-b", "/a.b", "/b"]
        );
    }

    #[test]
    fn relations() {
        let path = ImagePath::new("/a/b/c");
        assert_eq!(path.parent().unwrap().to_string(), "/a/b");
        assert_eq!(ImagePath::new("/a").parent(), Some(ImagePath::root()));
        assert_eq!(ImagePath::root().parent(), None);
        let above: Vec<String> = path.ancestors().map(|p| p.to_string()).collect();
        assert_eq!(above, ["/", "/a", "/a/b"]);
        assert_eq!(path.strip_prefix(&ImagePath::new("a")), Some(&b"b/c"[..]));
        assert!(!ImagePath::new("/ab").starts_with(&ImagePath::new("/a")));
        assert_eq!(path.resolve("/x"), ImagePath::new("x"));
        assert_eq!(path.resolve("x"), ImagePath::new("a/b/c/x"));
    }

    proptest! {
        #[test]
        fn any_bytes_survive_storage(bytes in proptest::collection::vec(1u8.., 0..40)) {
            let path = ImagePath::new(&bytes);
            let stored = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<ImagePath>(&stored).unwrap(), path);
        }

        #[test]
        fn order_is_that_of_components(before in "[ab/.]{0,80}", one in "[ab/. -]{0,40}", two in "[ab/. -]{0,40}") {
            let of = |rest: &str| ImagePath::new(format!("{before}{rest}"));
            let (one, two) = (of(&one), of(&two));
            prop_assert_eq!(one.cmp(&two), one.components().cmp(two.components()));
        }

        #[test]
        fn normalising_twice_changes_nothing(text in "[a./]{0,20}") {
            let path = ImagePath::new(&text);
            prop_assert_eq!(ImagePath::new(path.relative_bytes()), path);
        }
    }
}
