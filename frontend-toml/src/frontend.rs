//! kiln.toml files behind the trait that all languages have.

use kiln_graph::{Compilation, Frontend, ImageTable};

use crate::{Included, Options, Outcome, TomlError, compile, parse};

/// Compiles kiln.toml files that stand by themselves: one that includes others, or has texts with outputs of
/// steps which the options don't give, is an error. [`compile()`] asks for these as well.
#[derive(Clone, Debug)]
pub struct TomlFrontend {
    /// The file's name for messages.
    pub file: String,
    /// What is asked for beside the file.
    pub options: Options,
}

impl Default for TomlFrontend {
    fn default() -> Self {
        Self {
            file: "kiln.toml".to_owned(),
            options: Options::default(),
        }
    }
}

impl Frontend for TomlFrontend {
    type Input = str;
    type Error = TomlError;

    fn compile(&self, text: &str, images: &ImageTable) -> Result<Compilation, TomlError> {
        let none = |_: &Included<'_>| Err("it can't be included here".to_owned());
        let file = parse(&self.file, text, &none)?;
        match compile(&file, &self.options, images)? {
            Outcome::Done(compiled) => Ok(Compilation::Done(Box::new(compiled.build))),
            Outcome::Needs(wanted) => Ok(Compilation::Needs(
                wanted.into_iter().map(|(image, _)| image).collect(),
            )),
            Outcome::Values(_) => Err(TomlError::whole(
                "a text needs the output of a step, which isn't known here",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_a_frontend_keeps() {
        let right = "version = 1\n[steps.made]\nfrom = 'busybox:1'\nrun = 'echo 1 > /a'\n\
                     [steps.final]\nfrom = 'debian:12'\n\
                     copy = [{ from = 'made', paths = ['/a'], to = '/b' }]\n\
                     [images.i]\nfrom = 'final'\n";
        let frontend = TomlFrontend::default();
        for wrong in [
            "version = 1\n[images.i]\nfrum = 'x'\n",
            "version = 1\ninclude = ['other.toml']\n[images.i]\nfrom = 'x:1'\n",
        ] {
            kiln_graph::conformance::frontend(&frontend, right, wrong).unwrap();
        }
    }
}
