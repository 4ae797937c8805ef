//! `[images.NAME]`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Run, Verify};
use crate::text::{Name, Placed, Text};

/// An image.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Images whose keys it has, where it doesn't say otherwise; the last one counts first.
    #[serde(default)]
    pub extends: Vec<Text>,
    /// Whether it is only there to be extended.
    pub template: Option<Placed<bool>>,
    /// The step whose files it has.
    pub from: Option<Text>,
    /// Tests that must pass; all unless given.
    pub tests: Option<Vec<Text>>,
    /// The program that a container runs.
    pub entrypoint: Option<Vec<Text>>,
    /// Its arguments.
    pub cmd: Option<Vec<Text>>,
    /// Variables of a container.
    #[serde(default)]
    pub env: BTreeMap<Name, Text>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<Name, Text>,
    /// `USER[:GROUP]`.
    pub user: Option<Text>,
    /// The working directory.
    pub workdir: Option<Text>,
    /// Ports: `8080`, `"53/udp"`.
    #[serde(default)]
    pub expose: Vec<Placed<Port>>,
    /// Volumes of a container.
    #[serde(default)]
    pub volumes: Vec<Text>,
    /// The signal that stops a container.
    pub stop_signal: Option<Text>,
    /// How it is found out whether a container is well.
    pub healthcheck: Option<Healthcheck>,
    /// Layers by step or by path, lowest first.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// What it must keep to.
    pub policy: Option<Policy>,
    /// Signatures that the images must have which it is made from, unless their sources say.
    pub verify: Option<Placed<Verify>>,
    /// Its names, unless the command line gives some.
    #[serde(default)]
    pub tags: Vec<Text>,
    /// What it is built for, unless the command line says.
    #[serde(default)]
    pub platforms: Vec<Text>,
    /// Where it goes, as in `--output`, unless the command line says; `--allow fs.write=DIR` lets it.
    #[serde(default)]
    pub outputs: Vec<Text>,
    /// Shared caches to read, as in `--cache-from`; `--allow cache` lets it.
    #[serde(default)]
    pub cache_from: Vec<Text>,
    /// Shared caches to write, as in `--cache-to`; `--allow cache` lets it.
    #[serde(default)]
    pub cache_to: Vec<Text>,
}

impl Image {
    /// Whether it is only there to be extended.
    pub(crate) fn is_template(&self) -> bool {
        self.template.as_ref().is_some_and(|placed| placed.value)
    }
}

/// What an image must keep to, or no image is made.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Whether it only warns.
    #[serde(default)]
    pub warn: bool,
    /// The most that all its layers may have, compressed: `300MB`.
    #[serde(alias = "max-size")]
    pub max_size: Option<Text>,
    /// The most that a layer may have, compressed.
    #[serde(alias = "max-layer-size")]
    pub max_layer_size: Option<Text>,
    /// The most that files may have which are there more than once.
    #[serde(alias = "max-duplicates")]
    pub max_duplicates: Option<Text>,
    /// Patterns of paths that must not be there.
    #[serde(default)]
    pub forbid: Vec<Text>,
}

/// A port.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, or a string such as \"53/udp\""
)]
pub enum Port {
    /// Of TCP.
    Number(u16),
    /// With its protocol.
    Text(String),
}

impl Port {
    /// As the configuration has it.
    pub(crate) fn text(placed: &Placed<Self>) -> Text {
        Text {
            value: match &placed.value {
                Self::Number(number) => number.to_string(),
                Self::Text(text) => text.clone(),
            },
            span: placed.span.clone(),
        }
    }
}

/// How it is found out whether a container is well.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    /// The command.
    pub run: Run,
    /// The time between two checks.
    pub interval: Option<Text>,
    /// After how long a check has failed.
    pub timeout: Option<Text>,
    /// How long a container may take to start.
    pub start_period: Option<Text>,
    /// The time between two checks while it starts.
    pub start_interval: Option<Text>,
    /// After how many failures in a row a container isn't well.
    pub retries: Option<u32>,
}

/// A layer of an image: exactly one of `steps` and `paths`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Its name.
    pub name: Text,
    /// The steps whose changes are in it.
    #[serde(default)]
    pub steps: Vec<Text>,
    /// Patterns of the paths in it.
    #[serde(default)]
    pub paths: Vec<Text>,
}
