//! What a file on a web server is, before a build uses it: for policies, and for clients that ask.

use kiln::Error;
use kiln_engine::{Engine, Pin, Request};
use kiln_graph::{
    BlobDigest, Build, HttpRequest, HttpSource, ImageConfig, Op, Platform, Step, Target,
};
use tonic::Status;

use super::run::Run;
use crate::error::BuildError;

/// The digest of a file, which is fetched for it and stays in the store.
pub(super) fn checksum(engine: &Engine, url: &str) -> Result<BlobDigest, Error> {
    let source = Op::Http(HttpSource {
        url: url.to_owned(),
        checksum: None,
        file_name: None,
        request: HttpRequest::default(),
    });
    let mut build = Build::default();
    let step = Step::plain(url, source, Platform::host());
    let root = build.graph.add(step, Vec::new());
    let root = root.map_err(|error| Error::Defect(error.to_string()))?;
    build.targets.push(Target {
        platform: Platform::host(),
        root,
        config: ImageConfig::scratch(&Platform::host()),
        history: Vec::new(),
    });
    match engine.pin(&Request::new(build), root)? {
        Some(Pin::Checksum(sum)) => Ok(sum),
        _ => Err(Error::Defect(format!("{url} has no digest"))),
    }
}

/// The digest of a file that the client asks about.
pub(super) fn file(run: &Run<'_>, url: &str) -> Result<BlobDigest, BuildError> {
    let wanted = run.check_context(url)?;
    let line = format!("[internal] load metadata for {url}");
    let found = run.progress.during(&line, |_| checksum(&run.engine, url));
    let found = found.map_err(|error| match error {
        Error::Defect(text) => BuildError::from(Status::internal(text)),
        other => other.into(),
    })?;
    match wanted.filter(|wanted| *wanted != found) {
        None => Ok(found),
        Some(wanted) => {
            let text = format!("digest mismatch {found}: the policy wants {wanted}");
            Err(Status::unknown(text).into())
        }
    }
}
