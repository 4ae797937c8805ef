//! Packages as detectors find them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Where packages of a kind come from; as text, the package URL's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the package URL types")]
pub enum Ecosystem {
    Apk,
    Cargo,
    Composer,
    Deb,
    Gem,
    Golang,
    Maven,
    Npm,
    Nuget,
    Pypi,
    Rpm,
}

impl Ecosystem {
    /// The package URL's type.
    #[must_use]
    pub fn purl_type(self) -> &'static str {
        match self {
            Self::Apk => "apk",
            Self::Cargo => "cargo",
            Self::Composer => "composer",
            Self::Deb => "deb",
            Self::Gem => "gem",
            Self::Golang => "golang",
            Self::Maven => "maven",
            Self::Npm => "npm",
            Self::Nuget => "nuget",
            Self::Pypi => "pypi",
            Self::Rpm => "rpm",
        }
    }

    /// Whether its packages are a distribution's own.
    #[must_use]
    pub fn is_distribution(self) -> bool {
        matches!(self, Self::Apk | Self::Deb | Self::Rpm)
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.purl_type())
    }
}

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Where packages of its kind come from.
    pub ecosystem: Ecosystem,
    /// The name with what stands before it: `@scope/name`, `group:artifact`, a module's path.
    pub name: String,
    /// The version; empty when the package doesn't say.
    pub version: String,
    /// The package URL's qualifiers, but for `distro`, which depends on the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub qualifiers: BTreeMap<String, String>,
    /// The licence it declares, as an SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Who distributes it, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<String>,
}

impl Package {
    /// A package that says nothing but its name and version.
    #[must_use]
    pub fn new(ecosystem: Ecosystem, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            ecosystem,
            name: name.into(),
            version: version.into(),
            qualifiers: BTreeMap::new(),
            license: None,
            supplier: None,
        }
    }

    pub(crate) fn qualify(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.qualifiers.insert(name.to_owned(), value.to_owned());
        }
        self
    }
}

/// What `/etc/os-release` says (os-release(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// `ID`: `debian`, `alpine`.
    pub id: String,
    /// `VERSION_ID`; empty for rolling ones.
    pub version: String,
    /// `PRETTY_NAME`.
    pub name: String,
}

impl Distribution {
    /// The package URL's `distro`.
    pub(crate) fn qualifier(&self) -> String {
        match self.version.as_str() {
            "" => self.id.clone(),
            version => format!("{}-{version}", self.id),
        }
    }

    /// The package URL's namespace.
    pub(crate) fn namespace(&self) -> &str {
        match self.id.as_str() {
            "rhel" => "redhat",
            id => id,
        }
    }
}
