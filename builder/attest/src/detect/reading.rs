//! What is read of one file, and what it says.

use std::io::{Read, Seek};

use kiln_graph::ImagePath;
use serde::{Deserialize, Serialize};

use crate::{Distribution, Package};

/// A file that is read from any place.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// What a path says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// These packages are installed.
    Packages(Vec<Package>),
    /// The same as another path.
    Link(ImagePath),
    /// The licence of the Debian package whose copyright file this is.
    Copyright(Option<String>),
    /// Which distribution the image is of.
    Distribution(Distribution),
}

/// What a detector makes of one file.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(super) claim: Option<Claim>,
    pub(super) problems: Vec<String>,
}

impl Reading {
    pub(super) fn of(claim: Claim) -> Self {
        Self {
            claim: Some(claim),
            problems: Vec::new(),
        }
    }

    pub(super) fn packages(packages: Vec<Package>) -> Self {
        Self::of(Claim::Packages(packages))
    }

    pub(super) fn problem(reason: impl Into<String>) -> Self {
        Self {
            claim: Some(Claim::Packages(Vec::new())),
            problems: vec![reason.into()],
        }
    }
}
