//! Paths and addresses as bake files write them.

/// A path without `.`, `..` after a name, and doubled slashes; addresses stay as they are.
pub(crate) fn clean(text: &str) -> String {
    if is_address(text) {
        return text.to_owned();
    }
    kiln_graph::clean_path(text)
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
