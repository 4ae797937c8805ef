//! `[images.NAME.policy]`: what an image must keep to.

use super::compiler::View;
use super::limits::size;
use super::source::patterns;
use crate::error::Wrong;
use crate::model;
use crate::text::Text;

/// What an image must keep to. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether it only warns.
    pub warn: bool,
    /// The most that all its layers may have, compressed.
    pub max_size: Option<u64>,
    /// The most that a layer may have, compressed.
    pub max_layer_size: Option<u64>,
    /// The most that files may have which are there more than once.
    pub max_duplicates: Option<u64>,
    /// Patterns of paths that must not be there.
    pub forbid: Vec<String>,
}

impl Policy {
    pub(super) fn of(policy: &model::Policy, view: &View<'_>) -> Result<Self, Wrong> {
        let bytes = |text: &Option<Text>| text.as_ref().map(|text| size(text, view)).transpose();
        Ok(Self {
            warn: policy.warn,
            max_size: bytes(&policy.max_size)?,
            max_layer_size: bytes(&policy.max_layer_size)?,
            max_duplicates: bytes(&policy.max_duplicates)?,
            forbid: patterns(&policy.forbid, view)?,
        })
    }
}
