//! Sources of graphs that no build file was compiled to: images by their names, held to the rules and checks
//! of a request.

use std::path::Path;

use kiln_engine::{Engine, Pins};
use kiln_graph::{Build, ImageRequest, ImageTable};

use super::base_image::BaseImages;
use crate::context::Given;
use crate::lock::Locker;
use crate::{DockerfileRequest, Error};

/// Finds images out, as a request says, and adds them to those that are known.
///
/// # Errors
/// When one can't be had, or may not be used.
pub fn resolve_images(
    engine: &Engine,
    request: &DockerfileRequest,
    wanted: Vec<ImageRequest>,
    images: &mut ImageTable,
) -> Result<(), Error> {
    let (given, locker) = (Given::of(request), Locker::default());
    let base = BaseImages::new(engine, request, &given, &locker, Path::new(""));
    let asked = wanted.into_iter().map(|image| (image, None));
    base.add_to(images, asked.collect())
}

/// Whether what a graph fetches by git and HTTP may be used, as a request says. Gives the digests that files must
/// have.
///
/// # Errors
/// When something may not.
pub fn check_sources(
    engine: &Engine,
    request: &DockerfileRequest,
    build: &Build,
) -> Result<Pins, Error> {
    let (given, locker) = (Given::of(request), Locker::default());
    let base = BaseImages::new(engine, request, &given, &locker, Path::new(""));
    let mut pins = Pins::default();
    base.guard().build(build, &mut pins)?;
    Ok(pins)
}
