//! A definition of a client's in place of what a frontend makes.

use kiln::{Texts, check_sources, resolve_images};
use kiln_engine::Request;
use kiln_frontend_dockerfile::ContextKind;
use kiln_graph::{ImageRequest, ImageTable, Platform};
use kiln_llb::{Compiled, LAYOUT, LlbError, Outcome, compile};
use tonic::{Code, Status};

use super::Answer;
use super::attributes::LayoutName;
use super::run::{Ready, Run, image_options};
use crate::error::BuildError;
use crate::progress::Contexts;
use crate::proto::pb::Definition;

impl Run<'_> {
    /// Builds a definition.
    pub(super) fn definition(&self, definition: &Definition) -> Result<Answer, BuildError> {
        let asked = self.request()?;
        self.lend_refs(definition)?;
        let attest = self.client.attributes.attestations()?;
        let Compiled { build, locals } = self.compile(definition, &asked)?;
        let pins = check_sources(&self.engine, &asked, &build)?;
        let mut request = Request::new(build);
        request.pins = pins;
        request.allowed = asked.allowed.clone();
        let mut lines = Contexts::new();
        // Copies of the client's directories are this build's until it ends.
        let mut kept = Vec::new();
        for (name, source) in locals {
            self.check_context(&source.directory)?;
            let (local, line) = self.client.bring_source(&source)?;
            request.contexts.insert(name.clone(), local.directory());
            lines.insert(name, line);
            kept.push(local);
        }
        self.solve(Ready {
            request,
            options: image_options(),
            texts: Texts::default(),
            source: None,
            lines: &lines,
            attest,
        })
    }

    /// Compiles a definition, asking for the images that it names.
    fn compile(
        &self,
        definition: &Definition,
        asked: &kiln::DockerfileRequest,
    ) -> Result<Compiled, BuildError> {
        let mut images = ImageTable::new();
        loop {
            match compile(definition, &Platform::host(), &images).map_err(|error| status(&error))? {
                Outcome::Done(compiled) => return Ok(*compiled),
                Outcome::Needs(wanted) => {
                    let (layouts, wanted): (Vec<_>, Vec<_>) = wanted
                        .into_iter()
                        .partition(|image| image.name.starts_with(LAYOUT));
                    for image in layouts {
                        self.layout_image(asked, image, &mut images)?;
                    }
                    let line = "load metadata for images";
                    self.progress.during(line, |_| {
                        resolve_images(&self.engine, asked, wanted, &mut images)
                    })?;
                }
            }
        }
    }
}

impl Run<'_> {
    /// Brings an image of a client's layout here, and notes it under the name that the definition has
    /// for it.
    fn layout_image(
        &self,
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
        let name = self.layout(&layout, session)?;
        // The layout is the client's own.
        let mut asked = asked.clone();
        let kind = ContextKind::Image(name.clone());
        asked.options.contexts.insert("layout".to_owned(), kind);
        let here = ImageRequest {
            name,
            platform: image.platform.clone(),
        };
        let mut found = ImageTable::new();
        resolve_images(&self.engine, &asked, vec![here.clone()], &mut found)?;
        if let Some(resolved) = found.remove(&here) {
            images.insert(image, resolved);
        }
        Ok(())
    }
}

/// What clients are told of a definition that can't be used.
pub(super) fn status(error: &LlbError) -> Status {
    let code = match error {
        LlbError::Unsupported(_) => Code::Unimplemented,
        _ => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}
