//! Names of git commits.

/// Whether a text is the whole name of a commit, by SHA-1 or SHA-256.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
