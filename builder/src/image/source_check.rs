//! What whoever asks for a build says of its sources, beside the rules of policies.

use kiln_graph::{BlobDigest, Platform};

/// Decides on what a build takes from elsewhere, before anything of it is fetched.
pub trait SourceCheck: Send + Sync {
    /// Decides on a source, by the name of [`SourceName`](crate::SourceName); an image is for a platform.
    ///
    /// # Errors
    /// Why it may not be used.
    fn check(&self, source: &str, platform: Option<&Platform>) -> Result<SourceVerdict, String>;
}

/// What is to be done about a source that may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceVerdict {
    /// It is used as it is.
    #[default]
    AsItIs,
    /// Another image takes the place of an image: its name.
    Image(String),
    /// A file of a web server must have this digest, or what an image's name stands for.
    Checksum(BlobDigest),
}
