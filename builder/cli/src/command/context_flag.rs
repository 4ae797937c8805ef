//! `--build-context NAME=SOURCE`.

use std::collections::BTreeMap;

use kiln::{ContextFrom, Error};
use kiln_frontend_dockerfile::ContextKind;
use kiln_graph::address::IMAGE_SCHEME;
use kiln_image::ImageName;

/// What a source is; one that is no image is added to the contexts.
pub(super) fn context_kind(
    name: &str,
    source: &str,
    contexts: &mut BTreeMap<String, ContextFrom>,
) -> Result<ContextKind, Error> {
    if let Some(image) = source.strip_prefix(IMAGE_SCHEME) {
        return Ok(ContextKind::Image(image.to_owned()));
    }
    if let Ok(ImageName::Layout { .. } | ImageName::Archive { .. } | ImageName::Daemon(_)) =
        source.parse()
    {
        return Ok(ContextKind::Image(source.to_owned()));
    }
    if let Some(stage) = source.strip_prefix("target:") {
        return Ok(ContextKind::Target(stage.to_owned()));
    }
    let from = ContextFrom::from(source);
    if let ContextFrom::Directory(directory) = &from
        && !directory.is_dir()
    {
        return Err(Error::Usage(format!(
            "--build-context {name}={source}: there is no such directory"
        )));
    }
    contexts.insert(name.to_owned(), from);
    Ok(ContextKind::Local)
}
