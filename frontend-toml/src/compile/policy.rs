//! `[images.NAME.policy]`: what an image must keep to.

use super::Policy;
use super::compiler::View;
use super::limits::size;
use super::source::patterns;
use crate::error::Wrong;
use crate::model;
use crate::text::Text;

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
