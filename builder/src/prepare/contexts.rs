//! The contexts of a request, brought to this machine.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_engine::{Engine, Solved};
use kiln_graph::{ImagePath, parse_bool};

use crate::context::Fetcher;
use crate::{DockerfileRequest, Error};

/// The contexts of a request, on this machine.
#[derive(Debug)]
pub(super) struct Contexts {
    pub(super) directories: BTreeMap<String, PathBuf>,
    /// The build file's text, when the main context is nothing else.
    pub(super) text: Option<String>,
    /// When contexts were made, of those that say it, in seconds since 1970.
    pub(super) times: BTreeMap<String, i64>,
    pub(super) kept: Vec<Arc<Solved>>,
}

pub(super) fn fetch_all(engine: &Engine, request: &DockerfileRequest) -> Result<Contexts, Error> {
    let fetcher = Fetcher::new(engine, request);
    let mut all = Contexts {
        directories: BTreeMap::new(),
        text: None,
        times: BTreeMap::new(),
        kept: Vec::new(),
    };
    let main = ("context".to_owned(), &request.context);
    let named = request
        .contexts
        .iter()
        .map(|(name, from)| (name.clone(), from));
    for (name, from) in std::iter::once(main).chain(named) {
        let keep_git_dir = name == "context" && keeps_git_dir(request)?;
        let mut fetched = fetcher.fetch(from, keep_git_dir)?;
        if name == "context" {
            all.text = fetched.text;
            fetched.directory = inside(fetched.directory, &request.context_directory)?;
        }
        if let Some(time) = fetched.time {
            all.times.insert(name.clone(), time);
        }
        all.directories.insert(name, fetched.directory);
        all.kept.extend(fetched.kept.map(Arc::new));
    }
    Ok(all)
}

/// A directory of a context. A link on the way could lead out of it.
fn inside(context: PathBuf, directory: &ImagePath) -> Result<PathBuf, Error> {
    let mut path = context;
    for name in directory.components() {
        path.push(std::ffi::OsStr::from_bytes(name));
        let about = std::fs::symlink_metadata(&path);
        if !about.is_ok_and(|about| about.is_dir()) {
            let text = format!("the build context has no directory {directory}");
            return Err(Error::Usage(text));
        }
    }
    Ok(path)
}

/// Whether the main context's `.git` is wanted, as BuildKit is told.
fn keeps_git_dir(request: &DockerfileRequest) -> Result<bool, Error> {
    const NAME: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
    match request.options.build_args.get(NAME).map(String::as_str) {
        None | Some("") => Ok(false),
        Some(value) => parse_bool(value)
            .ok_or_else(|| Error::Usage(format!("the build argument {NAME}={value}: use 1 or 0"))),
    }
}
