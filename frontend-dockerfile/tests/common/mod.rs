//! Images for whoever asks for them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "these are tests"
)]

use kiln_frontend_dockerfile::{
    Checked, Compiled, DockerfileError, ImageTable, Options, Outcome, ResolvedImage, check,
    compile, parse, parse_partial,
};
use kiln_graph::{BlobDigest, ImageConfig, ImageRequest, ImageSource};

/// An image that sets PATH and BASE; one called `unknown` can't be asked.
fn image(request: &ImageRequest) -> ResolvedImage {
    let mut config = ImageConfig::scratch(&request.platform);
    config.config.env = vec!["PATH=/bin".to_owned(), "BASE=1".to_owned()];
    ResolvedImage {
        source: ImageSource {
            name: request.name.clone(),
            manifest: BlobDigest::from_sha256([0; 32]),
            layers: Vec::new(),
        },
        config,
        is_known: request.name != "unknown",
    }
}

fn know<T>(images: &mut ImageTable, requests: Vec<(ImageRequest, T)>) {
    for (request, _) in requests {
        let found = image(&request);
        images.insert(request, found);
    }
}

/// What is wrong with a file.
pub(crate) fn checked(text: &str, options: &Options) -> Checked {
    let (file, unread) = parse_partial("Dockerfile", text);
    let mut images = ImageTable::new();
    loop {
        match check(&file, unread.as_ref(), options, &images) {
            Outcome::Done(checked) => return *checked,
            Outcome::Needs(requests) => know(&mut images, requests),
        }
    }
}

/// A compiled file.
pub(crate) fn compiled(text: &str, options: &Options) -> Result<Compiled, DockerfileError> {
    let file = parse("Dockerfile", text)?;
    let mut images = ImageTable::new();
    loop {
        match compile(&file, options, &images)? {
            Outcome::Done(compiled) => return Ok(*compiled),
            Outcome::Needs(requests) => know(&mut images, requests),
        }
    }
}
