//! What a build gave, said at its end: the image's name, digest and size, where it is, and what can
//! be done with it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::human::format_size;
use serde::Serialize;

use kiln::{BuildOutcome, Error};

/// The registry of the names of bake targets that are only others' contexts.
pub(super) const LINKS: &str = "bake.invalid";

/// What `--metadata-file` says, in the form of buildx.
pub(crate) fn metadata(outcome: &BuildOutcome) -> serde_json::Value {
    let names: BTreeSet<&String> = outcome.stored.iter().chain(&outcome.pushed).collect();
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let mut metadata = serde_json::json!({
        "containerimage.config.digest": outcome.id,
        "containerimage.digest": outcome.digest,
        "containerimage.descriptor": outcome.descriptor,
        "image.name": names.join(","),
    });
    for (name, provenance) in &outcome.provenance {
        metadata[name] = provenance.clone();
    }
    metadata
}

/// Writes a file for `--metadata-file`.
pub(crate) fn write_metadata(path: &Path, metadata: &impl Serialize) -> Result<(), Error> {
    let written = serde_json::to_string_pretty(metadata)
        .map_err(std::io::Error::from)
        .and_then(|text| std::fs::write(path, text + "\n"));
    written.map_err(Error::file("write", path))
}

/// What a build gave, for people.
pub(crate) fn text(result: &BuildOutcome) -> String {
    let mut out = String::new();
    let mut line = |what: &str, text: &str| _ = writeln!(out, "{what:<9}{text}");
    if let (Some(digest), Some(id)) = (result.digest, result.id) {
        let plural = if result.layers == 1 { "" } else { "s" };
        let about = format!(
            "{}, {} layer{plural}, {} compressed",
            result.platforms.join(" "),
            result.layers,
            format_size(result.size)
        );
        line("image", &about);
        line("id", &id.to_string());
        line("digest", &digest.to_string());
    }
    for name in result.stored.iter().filter(|name| !is_link(name)) {
        line("stored", name);
    }
    for name in &result.pushed {
        line("pushed", name);
    }
    if result.loaded {
        line("loaded", "into the Docker daemon");
    }
    for file in &result.files {
        line("written", file);
    }
    if let Some(next) = next(result) {
        line("next", &next);
    }
    out.truncate(out.trim_end().len());
    out
}

/// Whether a name is kiln's own, for what a bake makes others from.
pub(super) fn is_link(name: &str) -> bool {
    let rest = name.strip_prefix(LINKS);
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// What can be done with the result.
fn next(result: &BuildOutcome) -> Option<String> {
    if result.stored.iter().any(|name| is_link(name)) {
        return None;
    }
    if let (Some(name), Some(digest)) = (result.pushed.first(), result.digest) {
        let name = name.split_once('@').map_or(name.as_str(), |(name, _)| name);
        let pinned = without_tag(name);
        return Some(format!("this image stays at {pinned}@{digest}"));
    }
    if result.loaded {
        let id = result.image_id().map(|id| id.hex()[..12].to_owned());
        let name = result.stored.first().cloned().or(id)?;
        return Some(format!("docker run --rm {name}"));
    }
    if let Some(name) = result.stored.first().filter(|_| result.files.is_empty()) {
        return Some(format!(
            "'kiln image push {name}' sends it to its registry; --load also gives it to Docker"
        ));
    }
    let is_nowhere = result.files.is_empty() && result.stored.is_empty();
    is_nowhere.then(|| {
        "the result is only in the build cache: -t NAME keeps it as an image, -o DIRECTORY writes its files, --load gives it to Docker, --push sends it to a registry"
            .to_owned()
    })
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln::BlobDigest;

    fn image() -> BuildOutcome {
        BuildOutcome {
            digest: Some(BlobDigest::from_sha256([1; 32])),
            id: Some(BlobDigest::from_sha256([2; 32])),
            platforms: vec!["linux/amd64".to_owned()],
            layers: 2,
            size: 4_400_000,
            ..BuildOutcome::default()
        }
    }

    #[test]
    fn a_context_of_others_goes_nowhere() {
        let mut link = image();
        link.stored = vec![format!("{LINKS}/0123/tool:latest")];
        let text = text(&link);
        assert!(!text.contains(LINKS) && !text.contains("next"), "{text}");
    }

    #[test]
    fn says_what_is_where_and_what_comes_next() {
        let names = || vec!["r.example:5000/a:1".to_owned()];
        let results = [
            BuildOutcome::default(),
            BuildOutcome {
                stored: names(),
                ..image()
            },
            BuildOutcome {
                pushed: names(),
                ..image()
            },
            BuildOutcome {
                stored: names(),
                loaded: true,
                ..image()
            },
            BuildOutcome {
                files: vec!["out.tar".to_owned()],
                ..image()
            },
        ];
        let texts: Vec<String> = results.iter().map(text).collect();
        insta::assert_snapshot!(texts.join("\n\n"), @r"
        next     the result is only in the build cache: -t NAME keeps it as an image, -o DIRECTORY writes its files, --load gives it to Docker, --push sends it to a registry

        image    linux/amd64, 2 layers, 4.20 MiB compressed
        id       sha256:0202020202020202020202020202020202020202020202020202020202020202
        digest   sha256:0101010101010101010101010101010101010101010101010101010101010101
        stored   r.example:5000/a:1
        next     'kiln image push r.example:5000/a:1' sends it to its registry; --load also gives it to Docker

        image    linux/amd64, 2 layers, 4.20 MiB compressed
        id       sha256:0202020202020202020202020202020202020202020202020202020202020202
        digest   sha256:0101010101010101010101010101010101010101010101010101010101010101
        pushed   r.example:5000/a:1
        next     this image stays at r.example:5000/a@sha256:0101010101010101010101010101010101010101010101010101010101010101

        image    linux/amd64, 2 layers, 4.20 MiB compressed
        id       sha256:0202020202020202020202020202020202020202020202020202020202020202
        digest   sha256:0101010101010101010101010101010101010101010101010101010101010101
        stored   r.example:5000/a:1
        loaded   into the Docker daemon
        next     docker run --rm r.example:5000/a:1

        image    linux/amd64, 2 layers, 4.20 MiB compressed
        id       sha256:0202020202020202020202020202020202020202020202020202020202020202
        digest   sha256:0101010101010101010101010101010101010101010101010101010101010101
        written  out.tar
        ");
    }
}
