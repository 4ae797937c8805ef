//! How far a registry is believed while an image is sent to it, and which of its failures may pass.

use crate::ImageError;

/// How much of what a registry says of its blobs is believed: less with each time that it then
/// doesn't have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// What it has, and what it has mounted.
    All,
    /// What it has.
    Blobs,
    Nothing,
}

impl Trust {
    pub(crate) fn in_round(round: u32) -> Self {
        match round {
            0 => Self::All,
            _ => Self::Blobs,
        }
    }
}

/// Whether a new upload may succeed where this one did not: the connection broke, the server is
/// overloaded, or doesn't know the upload any more.
pub(crate) fn may_be_begun_anew(error: &ImageError) -> bool {
    match error {
        ImageError::Unreachable { .. } | ImageError::NotFound { .. } => true,
        ImageError::Answer { status, body, .. } => {
            matches!(status, 408 | 409 | 416 | 425 | 429 | 500 | 502..)
                || body.contains("BLOB_UPLOAD_")
                || body.contains("DIGEST_INVALID")
                || body.contains("SIZE_INVALID")
        }
        _ => false,
    }
}

/// Whether a registry doesn't find a blob that it has just said it has: so does Docker's for a
/// moment while another sends the same one.
pub(crate) fn is_race(error: &ImageError) -> bool {
    match error {
        ImageError::Answer { body, .. } => body.contains("BLOB_UNKNOWN"),
        // Some answer so when they lack a blob that they said they had.
        ImageError::NotFound { .. } => true,
        _ => false,
    }
}
