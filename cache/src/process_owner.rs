//! Whose things in the store are.

use crate::lock::Lock;

/// A process as those who share its store know it.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) _lock: Option<Lock>,
}
