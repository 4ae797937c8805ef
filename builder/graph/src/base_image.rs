//! Base images: what a frontend asks for, and what it is told.

use std::collections::BTreeMap;

use crate::{ImageConfig, ImageSource, Platform};

/// An image that must be known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRequest {
    /// As people write it.
    pub name: String,
    /// For which platform.
    pub platform: Platform,
}

/// What is known of an image.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// Its layers.
    pub source: ImageSource,
    /// Its configuration.
    pub config: ImageConfig,
    /// Whether that is what the image says; otherwise it couldn't be asked for, and an empty one
    /// stands in for it.
    pub is_known: bool,
}

/// The images that are known.
pub type ImageTable = BTreeMap<ImageRequest, ResolvedImage>;
