//! Paths and addresses as bake files write them.

/// A path without `.`, `..` after a name, and doubled slashes; addresses stay as they are.
pub(crate) fn clean(text: &str) -> String {
    if is_address(text) {
        return text.to_owned();
    }
    let absolute = text.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if absolute => {}
            other => parts.push(other),
        }
    }
    match (absolute, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

fn is_address(text: &str) -> bool {
    let prefixes = [
        "target:",
        "service:",
        "docker-image:",
        "oci-layout:",
        "git@",
        "github.com/",
    ];
    text == "-" || text.contains("://") || prefixes.iter().any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_addresses_are_not() {
        for (text, want) in [
            ("", "."),
            ("./", "."),
            ("./a//b/../c/", "a/c"),
            ("../a", "../a"),
            ("/../a/.", "/a"),
            (
                "https://x.example//a.git#main:./b",
                "https://x.example//a.git#main:./b",
            ),
            ("target:a", "target:a"),
            ("-", "-"),
        ] {
            assert_eq!(clean(text), want, "{text}");
        }
    }
}
