//! Lists of patterns, as in `.dockerignore`.

use kiln_graph::clean_below_root;
use kiln_graph::pattern::Matcher;

/// A pattern as the graph has it, `/a/./b/` being `a/b`.
pub(crate) fn clean(pattern: &str) -> Result<String, String> {
    let (not, path) = match pattern.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", pattern.trim()),
    };
    let path = clean_below_root(path);
    if path.is_empty() {
        return Err(format!("'{pattern}' names no path"));
    }
    let cleaned = format!("{not}{path}");
    match Matcher::new(&[&cleaned]) {
        Ok(_) => Ok(cleaned),
        Err(error) => Err(error.to_string()),
    }
}

/// What leaves out all but the paths given.
pub(crate) fn only(included: &[String]) -> Vec<String> {
    let all = (!included.is_empty()).then(|| "*".to_owned());
    let kept = included.iter().map(|pattern| format!("!{pattern}"));
    all.into_iter().chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_cleaned() {
        let cases = [
            ("/a/./b/", Some("a/b")),
            ("! /a", Some("!a")),
            ("a/../b", Some("b")),
            ("**/*.o", Some("**/*.o")),
            ("/", None),
            ("", None),
            ("[a", None),
        ];
        for (pattern, want) in cases {
            assert_eq!(clean(pattern).ok().as_deref(), want, "{pattern}");
        }
        assert_eq!(only(&["a".to_owned()]), ["*", "!a"]);
        assert!(only(&[]).is_empty());
    }
}
