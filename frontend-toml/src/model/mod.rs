//! A file as it is written: the tables and their keys. Unknown keys are errors.

mod image;
mod step;
mod value;
mod verify;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::TomlError;
use crate::files::Files;
use crate::group;
use crate::text::{Name, Placed, Text};
pub(crate) use image::{Healthcheck, Image, Layer, Policy, Port};
pub(crate) use step::{Cache, Copy, Limit, NetworkKind, Run, Secret, SharingKind, Step, Tmpfs};
pub(crate) use value::{ParamType, Scalar};
pub(crate) use verify::Verify;

/// A whole file.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildFile {
    /// The language's version: 1.
    pub version: Placed<u32>,
    /// Other files whose tables are added to this one's.
    #[serde(default)]
    pub include: Vec<Placed<Include>>,
    /// What the file can be told with `--build-arg`.
    #[serde(default)]
    pub params: BTreeMap<Name, Param>,
    /// Where files come from.
    #[serde(default)]
    pub sources: BTreeMap<Name, Source>,
    /// What is done.
    #[serde(default)]
    pub steps: BTreeMap<Name, Step>,
    /// Steps that must pass before an image is made, and leave nothing in it.
    #[serde(default)]
    pub tests: BTreeMap<Name, Step>,
    /// The images.
    #[serde(default)]
    pub images: BTreeMap<Name, Image>,
    /// What is built together: images, steps and other groups; `default` when nothing is named.
    #[serde(default)]
    pub groups: BTreeMap<Name, Vec<Text>>,
    /// What all steps and images of this file have, where they don't say otherwise.
    pub defaults: Option<Defaults>,
    /// The steps and images that are only there to be extended.
    #[serde(skip)]
    pub(crate) templates: BTreeMap<Name, &'static str>,
    /// What was read: the spans above are places in it.
    #[serde(skip)]
    pub(crate) files: Files,
}

/// Another file.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(test, schemars(untagged))]
pub enum Include {
    /// A path in the context.
    File(String),
    /// A file of a git repository.
    Git(GitInclude),
}

/// A file of a git repository, at a commit.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitInclude {
    /// The repository's address.
    pub git: Text,
    /// The commit, in full.
    pub commit: Text,
    /// The file's path in the repository.
    pub path: Text,
}

impl<'de> Deserialize<'de> for Include {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IncludeVisitor)
    }
}

/// An untagged enum would lose places, and say nothing of unknown keys.
struct IncludeVisitor;

impl<'de> serde::de::Visitor<'de> for IncludeVisitor {
    type Value = Include;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a path, or a table with git, commit and path")
    }

    fn visit_str<E>(self, text: &str) -> Result<Include, E> {
        Ok(Include::File(text.to_owned()))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Include, A::Error> {
        let deserializer = serde::de::value::MapAccessDeserializer::new(map);
        GitInclude::deserialize(deserializer).map(Include::Git)
    }
}

/// What all steps and images of a file have, where they don't say otherwise.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Keys of steps and tests.
    pub step: Option<Box<Step>>,
    /// Keys of images.
    pub image: Option<Box<Image>>,
}

impl BuildFile {
    /// The names of its images.
    pub fn image_names(&self) -> impl Iterator<Item = &str> {
        self.images.keys().map(Name::as_str)
    }

    /// What a target stands for: an image or step for itself, a group for what is in it. Without
    /// one, it is the group `default`, else all images.
    ///
    /// # Errors
    /// When a group can't be expanded.
    pub fn targets(&self, target: Option<&str>) -> Result<Vec<String>, TomlError> {
        let members = group::members(self, target);
        members.map_err(|wrong| self.files.error(wrong))
    }
}

/// A parameter.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// What its values are; as the default, or the first choice, unless given; else a string.
    #[serde(rename = "type")]
    pub kind: Option<ParamType>,
    /// Its value unless another is given; without one, it must be given.
    pub default: Option<Placed<Scalar>>,
    /// The values that it may have.
    #[serde(default)]
    pub choices: Vec<Placed<Scalar>>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// Where files come from: exactly one of `context`, `image`, `git` and `http`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A directory, from the build context on.
    pub context: Option<Text>,
    /// Patterns of what alone is taken.
    #[serde(default)]
    pub include: Vec<Text>,
    /// Patterns of what is left out, as in `.dockerignore`.
    #[serde(default)]
    pub exclude: Vec<Text>,
    /// An image's name.
    pub image: Option<Text>,
    /// A git repository's address.
    pub git: Option<Text>,
    /// Branch, tag or commit.
    #[serde(rename = "ref")]
    pub reference: Option<Text>,
    /// A directory of the repository.
    pub subdir: Option<Text>,
    /// A file's address.
    pub http: Option<Text>,
    /// What the file is called; as the address says unless given.
    pub file: Option<Text>,
    /// The file's digest, or the start of the commit's.
    pub checksum: Option<Text>,
    /// Signatures that the image must have.
    pub verify: Option<Placed<Verify>>,
}
