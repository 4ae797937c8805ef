//! Dockerfiles behind the trait that all languages have.

use kiln_graph::{Compilation, Frontend, ImageTable};

use crate::{DockerfileError, Options, Outcome, compile, parse};

/// Compiles Dockerfiles. Warnings aren't among what it gives: [`compile()`] has them.
#[derive(Clone, Debug)]
pub struct DockerfileFrontend {
    /// The file's name for messages.
    pub file: String,
    /// What is asked for beside the file.
    pub options: Options,
}

impl Default for DockerfileFrontend {
    fn default() -> Self {
        Self {
            file: "Dockerfile".to_owned(),
            options: Options::default(),
        }
    }
}

impl Frontend for DockerfileFrontend {
    type Input = str;
    type Error = DockerfileError;

    fn compile(&self, text: &str, images: &ImageTable) -> Result<Compilation, DockerfileError> {
        let file = parse(&self.file, text)?;
        Ok(match compile(&file, &self.options, images)? {
            Outcome::Done(compiled) => Compilation::Done(Box::new(compiled.build)),
            Outcome::Needs(wanted) => {
                Compilation::Needs(wanted.into_iter().map(|(image, _)| image).collect())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_a_frontend_keeps() {
        let right = "ARG BASE=busybox\nFROM $BASE AS made\nRUN echo 1 > /a\n\
                     FROM debian\nCOPY --from=made /a /b\nCOPY --from=alpine /c /d\nCMD [\"b\"]\n";
        let frontend = DockerfileFrontend::default();
        for wrong in [
            "FROM busybox\nCOPPY a b\n",
            "FROM busybox\nCOPY --from=9 a b\n",
        ] {
            kiln_graph::conformance::frontend(&frontend, right, wrong).unwrap();
        }
    }
}
