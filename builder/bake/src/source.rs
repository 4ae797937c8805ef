//! Files, and mistakes in them.

/// A mistake in a bake file, or in what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BakeError(pub String);

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name: one that ends in `.json` is read as JSON, in `.yaml` or `.yml` as a compose file, any
    /// other as HCL.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Source {
    pub(crate) fn is_compose(&self) -> bool {
        [".yaml", ".yml"].iter().any(|end| self.name.ends_with(end))
    }
}
