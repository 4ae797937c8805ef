//! What the user probably meant, for errors that only the whole build can tell.

use std::path::Path;

use kiln::{Error, Prepared};
use kiln_engine::{EngineError, FilesError};
use kiln_graph::pattern::Matcher;

/// A sentence to go with an error.
pub(super) fn of(error: &Error, prepared: &Prepared) -> Option<String> {
    match error {
        Error::Engine(EngineError::Files {
            source: FilesError::NotFound(path),
            ..
        }) => missing_file(path, prepared),
        _ => None,
    }
}

/// Why a file of the build context isn't there.
fn missing_file(path: &str, prepared: &Prepared) -> Option<String> {
    let context = prepared.folders.get("context")?;
    let inside = path.trim_start_matches('/');
    if context.join(inside).symlink_metadata().is_ok() {
        let patterns = prepared.options.ignore.get("context")?;
        let pattern = hiding(patterns, inside)?;
        return Some(format!(
            "{inside} is in the build context, but .dockerignore leaves it out ('{pattern}'): add '!{inside}' there"
        ));
    }
    let near = near(context, inside)?;
    Some(format!("did you mean {near}?"))
}

/// The last pattern of an ignore list that hides a path.
fn hiding<'a>(patterns: &'a [String], path: &str) -> Option<&'a str> {
    let shown = patterns.iter().rev();
    let mut own = shown.filter(|pattern| !pattern.starts_with('!'));
    let hides = |pattern: &&String| {
        let list = Matcher::new(std::slice::from_ref(*pattern));
        list.is_ok_and(|list| list.excludes(path.as_bytes()))
    };
    own.find(hides).map(String::as_str)
}

/// The name in the same directory that is nearest to a path's.
fn near(context: &Path, path: &str) -> Option<String> {
    let path = Path::new(path);
    let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
    let names = std::fs::read_dir(context.join(parent)).ok()?;
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let distance = |other: &String| strsim::damerau_levenshtein(name, other);
    let best = names.min_by_key(distance)?;
    (distance(&best) <= 2).then(|| parent.join(best).display().to_string())
}
