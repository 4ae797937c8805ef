//! Lists of names and values, from flags and files.

use std::collections::BTreeMap;
use std::path::Path;

use kiln::Error;

/// `NAME=VALUE` lines; empty ones and those that begin with `#` don't count.
pub(super) fn read_arguments(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        what: format!("--build-arg-file: cannot read {}", path.display()),
        source,
    })?;
    let mut all = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| {
            let at = format!("{}:{}", path.display(), number + 1);
            Error::Usage(format!("--build-arg-file {at}: write NAME=VALUE"))
        })?;
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(all)
}

/// Flags that are `NAME=VALUE`, or have another separator.
pub(crate) fn pairs(
    flag: &str,
    texts: &[String],
    separator: char,
) -> Result<Vec<(String, String)>, Error> {
    let pair = |text: &String| match text.split_once(separator) {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::Usage(format!(
            "{flag} {text}: write NAME{separator}VALUE"
        ))),
    };
    texts.iter().map(pair).collect()
}
