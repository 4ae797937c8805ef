//! The words for a target's build.

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use kiln::Error;
use kiln_bake::Target;

/// The flag for the build file: one in the context, or the text that the target has itself, which its
/// build reads from standard input.
pub(super) fn file_flag(target: &Target) -> Option<String> {
    match target.text("dockerfile-inline") {
        Some(_) => Some("--file=-".to_owned()),
        None => build_file(target).map(|path| format!("--file={}", path.display())),
    }
}

/// A target's own build file, as the standard input of its build.
pub(super) fn input(text: &str) -> Result<Stdio, Error> {
    let written = || -> std::io::Result<std::fs::File> {
        let mut file = tempfile::tempfile()?;
        file.write_all(text.as_bytes())?;
        file.rewind()?;
        Ok(file)
    };
    let file = written().map_err(Error::file("write", &std::env::temp_dir()))?;
    Ok(file.into())
}

/// The build file that a target names; without a Dockerfile, it takes the one that its directory has.
pub(super) fn build_file(target: &Target) -> Option<PathBuf> {
    let context = Path::new(target.text("context").unwrap_or("."));
    let file = target.text("dockerfile").filter(|file| !file.is_empty());
    let file = file.unwrap_or("Dockerfile");
    let path = match context.is_dir() {
        true => context.join(file),
        false => PathBuf::from(file),
    };
    let is_default = file == "Dockerfile" && context.is_dir() && !path.exists();
    (!is_default).then_some(path)
}

/// A target's lists as flags.
pub(super) fn lists(target: &Target, flags: &[(&str, &str)]) -> Vec<String> {
    let mut words = Vec::new();
    for (attribute, flag) in flags {
        let given = target.list(attribute);
        words.extend(given.iter().map(|value| format!("--{flag}={value}")));
    }
    words
}

/// Lists that say where a result goes.
pub(super) const OUTPUTS: &[(&str, &str)] = &[
    ("tags", "tag"),
    ("output", "output"),
    ("cache-to", "cache-to"),
    ("annotations", "annotation"),
    ("attest", "attest"),
];
pub(super) const LISTS: &[(&str, &str)] = &[
    ("platforms", "platform"),
    ("cache-from", "cache-from"),
    ("secret", "secret"),
    ("ssh", "ssh"),
    ("no-cache-filter", "no-cache-filter"),
    ("ulimits", "ulimit"),
];
pub(super) const MAPS: &[(&str, &str)] = &[
    ("args", "build-arg"),
    ("labels", "label"),
    ("extra-hosts", "add-host"),
    ("contexts", "build-context"),
];
pub(super) const TEXTS: &[(&str, &str)] = &[
    ("target", "target"),
    ("network", "network"),
    ("shm-size", "shm-size"),
];
