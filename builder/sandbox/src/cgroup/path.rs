//! Names of control groups, as users and clients write them.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// A group by its path below another one, which it doesn't lead out of. It may be written with a slash before
/// it; the empty path is the other group itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPath(PathBuf);

/// A path that doesn't name a group below another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write the path of a control group, such as 'builds/small', without '..'")]
pub struct BadGroupPath;

impl GroupPath {
    /// The path, which is relative and has names only.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it is the other group itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.as_os_str().is_empty()
    }
}

impl FromStr for GroupPath {
    type Err = BadGroupPath;

    fn from_str(text: &str) -> Result<Self, BadGroupPath> {
        let mut path = PathBuf::new();
        for part in Path::new(text).components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => path.push(name),
                _ => return Err(BadGroupPath),
            }
        }
        match text.contains(char::is_control) {
            true => Err(BadGroupPath),
            false => Ok(Self(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn groups_lie_below() {
        for (text, path) in [
            ("builds", "builds"),
            ("/a/b/", "a/b"),
            ("//a/./b", "a/b"),
            ("a..b/..c", "a..b/..c"),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(text.parse(), Ok(GroupPath(path.into())), "{text}");
        }
        for text in ["..", "/..", "a/../b", "a/..", "../../tmp/x", "a\0b", "a\nb"] {
            let error = text.parse::<GroupPath>().unwrap_err();
            assert!(error.to_string().contains("without '..'"), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_leads_out(text in "[./a\\\\]{0,12}") {
            if let Ok(group) = text.parse::<GroupPath>() {
                let mut parts = group.path().components();
                prop_assert!(parts.all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
