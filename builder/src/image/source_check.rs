//! What whoever asks for a build says of its sources, beside the rules of policies.

use kiln_graph::Platform;

/// Decides on what a build takes from elsewhere, before anything of it is fetched.
pub trait SourceCheck: Send + Sync {
    /// Decides on a source, by the name of [`SourceName`](crate::SourceName); an image is for a platform.
    ///
    /// # Errors
    /// Why it may not be used.
    fn check(&self, source: &str, platform: Option<&Platform>) -> Result<(), String>;
}
