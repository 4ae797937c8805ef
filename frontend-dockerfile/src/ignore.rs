//! `.dockerignore` files.

/// The patterns of an ignore file in order: comments and blank lines dropped, blanks trimmed.
#[must_use]
pub fn read_ignore_file(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(clean)
        .collect()
}

/// `/a/./b/` is `a/b`, also behind a `!`.
fn clean(line: &str) -> String {
    let (not, path) = match line.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", line),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    if path.is_empty() {
        return line.to_owned();
    }
    if parts.is_empty() {
        format!("{not}.")
    } else {
        format!("{not}{}", parts.join("/"))
    }
}
