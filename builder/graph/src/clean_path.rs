//! Paths in text, shortened.

/// A path as Go's `filepath.Clean` writes it: without `.`, doubled slashes, and `..` after a name; an
/// empty one is `.`.
#[must_use]
pub fn clean_path(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    match (is_absolute, parts(path, is_absolute).join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

/// The same for a path that begins at a root, whether it says so or not: without the slash, and without
/// what would lead out. The root itself is empty.
#[must_use]
pub fn clean_below_root(path: &str) -> String {
    parts(path, true).join("/")
}

fn parts(path: &str, from_root: bool) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if from_root => {}
            part => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (text, clean, below_root) in [
            ("", ".", ""),
            ("./", ".", ""),
            ("/", "/", ""),
            ("./a//b/../c/", "a/c", "a/c"),
            ("../a", "../a", "a"),
            ("../../a/..", "../..", ""),
            ("/../a/.", "/a", "a"),
            ("a/../../b", "../b", "b"),
            ("**/*.o", "**/*.o", "**/*.o"),
        ] {
            assert_eq!(clean_path(text), clean, "{text}");
            assert_eq!(clean_below_root(text), below_root, "{text}");
        }
    }
}
