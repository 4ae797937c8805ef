//! Finds and reads the build file of a context, and its ignore list.

pub(crate) mod base_image;
mod graph_sources;
mod inside;
pub(crate) mod kiln_toml;
mod texts;

use std::path::{Component, Path, PathBuf};

use kiln_frontend_dockerfile::{DockerfileError, read_ignore_file};

pub use base_image::compile_dockerfile;
pub use graph_sources::{check_sources, resolve_images};
pub(crate) use inside::below;
pub use inside::read as read_inside;
pub use texts::Texts;

use crate::context::{read_text, text_of};
use crate::{ContextFrom, DockerfileRequest, Error};

/// The names that a build file may have, in the order they are looked for.
const NAMES: [&str; 4] = ["kiln.toml", "Dockerfile", "dockerfile", "Containerfile"];

/// The build file of a directory, if there is one: `kiln.toml`, `Dockerfile`, `dockerfile` or
/// `Containerfile`.
#[must_use]
pub fn in_directory(context: &Path) -> Option<PathBuf> {
    let candidates = NAMES.map(|name| context.join(name));
    candidates.into_iter().find(|path| path.exists())
}

/// A file that the user named is read wherever it leads; any other only inside of the context.
pub(crate) fn read(
    request: &DockerfileRequest,
    context: &Path,
    path: &Path,
) -> Result<String, Error> {
    if let (true, Some(text)) = (path == Path::new("-"), &request.input) {
        return Ok(text.clone());
    }
    let is_here = matches!(request.context, ContextFrom::Directory(_));
    match path.strip_prefix(context) {
        Ok(inside) if request.file.is_none() || !is_here => {
            text_of(path, inside::read(context, inside))
        }
        _ => read_text(path),
    }
}

pub(crate) fn find(request: &DockerfileRequest, context: &Path) -> Result<PathBuf, Error> {
    if let Some(file) = &request.file {
        let is_here = matches!(request.context, ContextFrom::Directory(_));
        if !is_here && file != Path::new("-") {
            return Ok(below(context, file));
        }
        let lower = file.with_file_name("dockerfile");
        let fall_back = file.ends_with("Dockerfile") && !file.exists() && lower.exists();
        return Ok(if fall_back { lower } else { file.clone() });
    }
    if !context.is_dir() {
        let text = format!("the build context {} is not a directory", context.display());
        return Err(DockerfileError::whole(text)
            .with_help("give the directory that holds the Dockerfile")
            .into());
    }
    in_directory(context).ok_or_else(|| Error::NoBuildFile {
        context: context.to_owned(),
    })
}

/// Whether the user named the build file: then it may lead out of the context, and so do the files beside it.
pub(crate) fn is_named(request: &DockerfileRequest) -> bool {
    request.file.is_some() && matches!(request.context, ContextFrom::Directory(_))
}

/// A file that belongs to the build file: in the context only what is inside of it, unless the path of a build
/// file that the user named leads out.
pub(crate) fn read_beside(context: &Path, path: &Path, is_named: bool) -> std::io::Result<Vec<u8>> {
    let leads_up = |inside: &Path| inside.components().any(|part| part == Component::ParentDir);
    match path.strip_prefix(context) {
        Ok(inside) if !is_named || !leads_up(inside) => inside::read(context, inside),
        _ => std::fs::read(path),
    }
}

/// The ignore file named after the build file, else the context's own: `.dockerignore` before
/// `.containerignore`, but beside a Containerfile.
pub(crate) fn ignore_list(
    request: &DockerfileRequest,
    context: &Path,
    file: &Path,
) -> Result<Vec<String>, Error> {
    let mut own = file.as_os_str().to_owned();
    own.push(".dockerignore");
    let mut shared = [".dockerignore", ".containerignore"];
    if file.file_name().is_some_and(|name| name == "Containerfile") {
        shared.reverse();
    }
    let shared = shared.map(|name| context.join(name));
    for path in std::iter::once(PathBuf::from(own)).chain(shared) {
        let read = read_beside(context, &path, is_named(request));
        match read {
            Ok(bytes) => return Ok(read_ignore_file(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(Error::file("read", &path)(error)),
        }
    }
    Ok(Vec::new())
}
