//! What makes builds of build files.

use crate::{Build, ImageRequest, ImageTable};

/// Compiles build files of one language. Whoever adds a language implements this; a build of the `kiln`
/// library can then be asked for with `Kiln::compile`, which finds the images out.
///
/// A frontend is pure: it reads no files, asks no registry, runs nothing and looks at no clock. The same
/// input gives the same build, step by step, and images that it didn't ask for change nothing.
/// [`conformance::frontend`](crate::conformance::frontend) tries one.
pub trait Frontend {
    /// What is compiled: a text, or a message.
    type Input: ?Sized;
    /// Why it can't be: what whoever wrote the input can mend.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Compiles a build file as far as the images that are known allow.
    ///
    /// # Errors
    /// When it isn't one, or asks for something that can't be. The same input fails with the same text.
    fn compile(&self, input: &Self::Input, images: &ImageTable)
    -> Result<Compilation, Self::Error>;
}

/// How far a frontend came.
#[derive(Clone, Debug)]
pub enum Compilation {
    /// These images must be known first: at least one, and none that was given. The frontend is then
    /// called again with them.
    Needs(Vec<ImageRequest>),
    /// The build: with at least one target, and no image but those that were given.
    Done(Box<Build>),
}
