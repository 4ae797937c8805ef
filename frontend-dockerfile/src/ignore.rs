//! `.dockerignore` files.

use kiln_graph::clean_path;

/// The patterns of an ignore file in order: comments and blank lines dropped, blanks trimmed.
#[must_use]
pub fn read_ignore_file(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(pattern)
        .collect()
}

/// `/a/./b/` is `a/b`, also behind a `!`; a path that leads out of the context stays so, and matches
/// nothing.
fn pattern(line: &str) -> String {
    let (not, path) = match line.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", line),
    };
    if path.is_empty() {
        return line.to_owned();
    }
    let path = clean_path(path);
    let relative = path.strip_prefix('/').filter(|path| !path.is_empty());
    format!("{not}{}", relative.unwrap_or(&path))
}
