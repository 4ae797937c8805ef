//! From a directory with a build file to a solved build.

mod compile;
mod contexts;
mod epoch;
mod opened;
mod prepared;
mod request;

use kiln_engine::{Engine, Request, Solved};

pub use opened::{Opened, open_build_file};
pub use prepared::{CheckedFile, Prepared};
pub use request::{Assume, BuildFileText, Configure, DockerfileRequest, Locking, Pull};

use crate::{Error, Texts};

/// A failure, with the texts that it may be in.
pub type Located = Box<(Error, Texts)>;

/// Reads and compiles a Dockerfile, fetching contexts and asking registries about base images.
///
/// # Errors
/// When it can't be read or compiled, or something it needs can't be had.
pub fn prepare(engine: &Engine, request: &DockerfileRequest) -> Result<Prepared, Located> {
    let plain = |error: Error| Box::new((error, Texts::default()));
    let opened = open_build_file(engine, request).map_err(plain)?;
    opened.prepare(engine, request)
}

/// Builds a Dockerfile. `prepare_request` may change the engine's request before it is solved.
///
/// # Errors
/// When anything fails.
pub fn build_dockerfile(
    engine: &Engine,
    request: &DockerfileRequest,
    prepare_request: impl FnOnce(&mut Request),
) -> Result<Solved, Error> {
    let prepared = prepare(engine, request).map_err(|failed| failed.0)?;
    let mut request = prepared.request();
    prepare_request(&mut request);
    Ok(engine.solve(request)?)
}
