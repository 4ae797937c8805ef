//! Why a definition can't be built.

/// Why a definition can't be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LlbError {
    /// It isn't one.
    #[error("invalid LLB definition: {0}")]
    Malformed(String),
    /// It asks for something that kiln doesn't have.
    #[error("LLB: {0} is not supported by kiln")]
    Unsupported(String),
}

pub(crate) fn malformed(reason: impl Into<String>) -> LlbError {
    LlbError::Malformed(reason.into())
}

pub(crate) fn unsupported(what: impl Into<String>) -> LlbError {
    LlbError::Unsupported(what.into())
}
