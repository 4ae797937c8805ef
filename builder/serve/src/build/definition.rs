//! A definition of a client's in place of what a frontend makes.

use kiln::{AttestOptions, Texts, check_sources, resolve_images};
use kiln_engine::Request;
use kiln_frontend_dockerfile::ContextKind;
use kiln_graph::{ImageRequest, ImageTable, Platform};
use kiln_llb::{Compiled, LAYOUT, Outcome, compile};
use tonic::Status;

use super::attributes::{Attributes, LayoutName};
use super::run::Run;
use super::solve::{Ready, image_options, solve};
use super::{Answer, lend};
use crate::error::{BuildError, of_definition};
use crate::progress::Contexts;
use crate::proto::pb::Definition;

/// Builds a definition.
pub(super) fn build(run: &Run<'_>, definition: &Definition) -> Result<Answer, BuildError> {
    let asked = run.request()?;
    lend::lend_results(run, definition)?;
    let attest = attestations(run)?;
    let Compiled { build, locals } = compiled(run, definition, &asked)?;
    let pins = check_sources(&run.engine, &asked, &build)?;
    let mut request = Request::new(build);
    request.pins = pins;
    request.allowed = asked.allowed.clone();
    let mut lines = Contexts::new();
    // Copies of the client's directories are this build's until it ends.
    let mut kept = Vec::new();
    for (name, source) in locals {
        _ = run.check_context(&source.directory)?;
        let (local, line) = run.client.bring_source(&source)?;
        request.contexts.insert(name.clone(), local.directory());
        lines.insert(name, line);
        kept.push(local);
    }
    solve(
        run,
        Ready {
            request,
            options: image_options(),
            texts: Texts::default(),
            source: None,
            lines: &lines,
            attest,
        },
    )
}

/// The attestations that are asked for: a frontend that solves definitions doesn't say them again.
fn attestations(run: &Run<'_>) -> Result<AttestOptions, Status> {
    let own = run.client.attributes.attestations()?;
    match own.is_empty() {
        true => Attributes(&run.job.request.known.frontend_attrs).attestations(),
        false => Ok(own),
    }
}

/// Compiles a definition, asking for the images that it names.
fn compiled(
    run: &Run<'_>,
    definition: &Definition,
    asked: &kiln::DockerfileRequest,
) -> Result<Compiled, BuildError> {
    let mut images = ImageTable::new();
    loop {
        match compile(definition, &Platform::host(), &images)
            .map_err(|error| of_definition(&error))?
        {
            Outcome::Done(compiled) => return Ok(*compiled),
            Outcome::Needs(wanted) => {
                let (layouts, wanted): (Vec<_>, Vec<_>) = wanted
                    .into_iter()
                    .partition(|image| image.name.starts_with(LAYOUT));
                for image in layouts {
                    layout_image(run, asked, image, &mut images)?;
                }
                let line = "load metadata for images";
                run.progress.during(line, |_| {
                    resolve_images(&run.engine, asked, wanted, &mut images)
                })?;
            }
        }
    }
}

/// Brings an image of a client's layout here, and notes it under the name that the definition has
/// for it.
fn layout_image(
    run: &Run<'_>,
    asked: &kiln::DockerfileRequest,
    image: ImageRequest,
    images: &mut ImageTable,
) -> Result<(), BuildError> {
    let mut parts = image.name[LAYOUT.len()..].split('#');
    let mut part = || parts.next().unwrap_or_default();
    let (reference, session, store) = (part(), part(), part());
    let mut layout = LayoutName::read(reference)?;
    if !store.is_empty() {
        store.clone_into(&mut layout.store);
    }
    let session = Some(session).filter(|session| !session.is_empty());
    let name = lend::layout(run, &layout, session)?;
    // The layout is the client's own.
    let mut asked = asked.clone();
    let kind = ContextKind::Image(name.clone());
    asked.options.contexts.insert("layout".to_owned(), kind);
    let here = ImageRequest {
        name,
        platform: image.platform.clone(),
    };
    let mut found = ImageTable::new();
    resolve_images(&run.engine, &asked, vec![here.clone()], &mut found)?;
    if let Some(resolved) = found.remove(&here) {
        images.insert(image, resolved);
    }
    Ok(())
}
