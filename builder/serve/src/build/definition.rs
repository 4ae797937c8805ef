//! A definition of a client's in place of what a frontend makes.

use kiln::{Texts, check_sources, resolve_images};
use kiln_engine::Request;
use kiln_graph::{ImageTable, Platform};
use kiln_llb::{Compiled, LlbError, Outcome, compile};
use tonic::{Code, Status};

use super::Answer;
use super::run::{Ready, Run, image_options};
use crate::error::BuildError;
use crate::progress::Contexts;
use crate::proto::pb::Definition;

impl Run<'_> {
    /// Builds a definition.
    pub(super) fn definition(&self, definition: &Definition) -> Result<Answer, BuildError> {
        let asked = self.request()?;
        let attest = self.client.attributes.attestations()?;
        let Compiled { build, locals } = self.compile(definition, &asked)?;
        check_sources(&self.engine, &asked, &build)?;
        let mut request = Request::new(build);
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
                    let line = "load metadata for images";
                    self.progress.during(line, |_| {
                        resolve_images(&self.engine, asked, wanted, &mut images)
                    })?;
                }
            }
        }
    }
}

fn status(error: &LlbError) -> Status {
    let code = match error {
        LlbError::Unsupported(_) => Code::Unimplemented,
        _ => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}
