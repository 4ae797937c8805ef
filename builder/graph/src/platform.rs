//! Platforms: `os[(version)]/architecture[/variant]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and processor, normalised as containerd's `platforms` package does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Go's name of the architecture, such as `amd64`.
    pub architecture: String,
    /// Such as `v7`; empty where the architecture needs none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Such as `10.0.20348.1006`, of Windows; empty where any will do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
}

/// Operating systems that images are made for, as Go calls them.
const SYSTEMS: &[&str] = &[
    "linux",
    "windows",
    "darwin",
    "freebsd",
    "netbsd",
    "openbsd",
    "dragonfly",
    "solaris",
    "illumos",
    "aix",
    "android",
    "plan9",
    "js",
    "wasip1",
];
/// Processors, as Go calls them, with their variants; of those with none, any is taken.
const ARCHITECTURES: &[(&str, &[&str])] = &[
    ("amd64", &["v1", "v2", "v3", "v4"]),
    ("arm64", &["v8", "v9"]),
    ("arm", &["v5", "v6", "v7", "v8"]),
    ("386", &[]),
    ("ppc64le", &[]),
    ("ppc64", &[]),
    ("s390x", &[]),
    ("riscv64", &[]),
    ("loong64", &[]),
    ("mips", &[]),
    ("mipsle", &[]),
    ("mips64", &[]),
    ("mips64le", &[]),
    ("sparc64", &[]),
    ("wasm", &[]),
];

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPlatform(pub String);

impl std::error::Error for BadPlatform {}

impl fmt::Display for BadPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        let is_good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let is_bad = |part: &&str| part.is_empty() || !part.chars().all(is_good);
        match text.split('/').find(is_bad) {
            // In containerd's words, which tools look for.
            Some(part) => write!(
                f,
                "\"{part}\" is an invalid component of \"{text}\": platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
            ),
            None => write!(
                f,
                "\"{text}\" is an invalid platform: write OS/ARCHITECTURE[/VARIANT], such as linux/arm64"
            ),
        }
    }
}

impl Platform {
    /// A platform from its parts, which are normalised.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", v) => ("amd64", v),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64", v) => ("arm64", v),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        Self {
            os,
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            os_version: String::new(),
        }
    }

    /// The same with a version of the operating system; an empty one is none.
    #[must_use]
    pub fn with_os_version(self, os_version: &str) -> Self {
        Self {
            os_version: os_version.to_owned(),
            ..self
        }
    }

    /// The platform this program runs on.
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    /// What of the platform no machine is known to have, with what there is instead: a misspelt
    /// architecture, say.
    #[must_use]
    pub fn unknown_part(&self) -> Option<(&str, Vec<&'static str>)> {
        if !SYSTEMS.contains(&self.os.as_str()) {
            return Some((&self.os, SYSTEMS.to_vec()));
        }
        let names = || ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        let known = ARCHITECTURES.iter();
        let Some((_, variants)) = known.clone().find(|(name, _)| *name == self.architecture) else {
            return Some((&self.architecture, names()));
        };
        let variant = self.variant.as_str();
        let main = variant.split_once('.').map_or(variant, |(main, _)| main);
        let is_known = variant.is_empty() || variants.is_empty() || variants.contains(&main);
        (!is_known).then(|| (variant, variants.to_vec()))
    }

    /// Whether a machine of this platform runs programs for another by itself.
    #[must_use]
    pub fn runs(&self, wanted: &Self) -> bool {
        let pair = (self.architecture.as_str(), wanted.architecture.as_str());
        self.os == wanted.os
            && (pair.0 == pair.1 || pair == ("amd64", "386") || pair == ("arm64", "arm"))
    }

    /// How well an image for `self` serves someone who wants `wanted`: `None` if it can't run,
    /// otherwise higher is better.
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> Option<u32> {
        if self.os != wanted.os || self.architecture != wanted.architecture {
            return None;
        }
        if !self.os_version.is_empty() && !is_version(&self.os_version, &wanted.os_version) {
            return None;
        }
        let level = |variant: &str| variant.trim_start_matches('v').parse::<u32>().unwrap_or(1);
        let (have, want) = (level(&self.variant), level(&wanted.variant));
        match self.architecture.as_str() {
            _ if self.variant == wanted.variant => Some(100),
            "arm" | "amd64" if have <= want => Some(have),
            "arm64" if self.variant.is_empty() || wanted.variant.is_empty() => Some(1),
            _ => None,
        }
    }
}

/// Whether a version is the one that is wanted, or says more of it: 10.0.20348.1006 where 10.0.20348 is.
fn is_version(have: &str, wanted: &str) -> bool {
    let rest = have.strip_prefix(wanted);
    rest.is_some_and(|rest| wanted.is_empty() || rest.is_empty() || rest.starts_with('.'))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.os_version.as_str() {
            "" => write!(f, "{}/{}", self.os, self.architecture)?,
            version => write!(f, "{}({version})/{}", self.os, self.architecture)?,
        }
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

impl FromStr for Platform {
    type Err = BadPlatform;

    fn from_str(text: &str) -> Result<Self, BadPlatform> {
        let valid = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let mut parts: Vec<&str> = text.split('/').collect();
        let version = match parts[0].strip_suffix(')').and_then(|os| os.split_once('(')) {
            Some((os, version)) => {
                parts[0] = os;
                version
            }
            None => "",
        };
        if !version.is_empty() && !valid(version) || !parts.iter().all(|part| valid(part)) {
            return Err(BadPlatform(text.to_owned()));
        }
        let platform = match parts[..] {
            [only] => {
                let system = Self {
                    os: Self::new(only, "", "").os,
                    ..Self::host()
                };
                let is_known = SYSTEMS.contains(&system.os.as_str());
                match is_known {
                    true => system,
                    false => Self::new("linux", only, ""),
                }
            }
            [os, architecture] => Self::new(os, architecture, ""),
            [os, architecture, variant] => Self::new(os, architecture, variant),
            _ => return Err(BadPlatform(text.to_owned())),
        };
        Ok(platform.with_os_version(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        let cases = [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("Linux/arm/v6", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("windows(10.0.17763)/x86_64", "windows(10.0.17763)/amd64"),
            ("windows()/amd64", "windows/amd64"),
        ];
        for (given, want) in cases {
            assert_eq!(given.parse::<Platform>().unwrap().to_string(), want);
        }
        for bad in [
            "",
            "/",
            "linux/",
            "a/b/c/d",
            "linux/am d64",
            "windows(1",
            "windows(1)x/amd64",
            "windows((1)/amd64",
            "(1)/amd64",
            "linux/amd64(1)",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_no_machine_has_is_found() {
        for (text, part) in [
            ("linux/amd64", None),
            ("linux/amd64/v3", None),
            ("linux/arm64/v8.2", None),
            ("linux/ppc64le", None),
            ("windows/amd64", None),
            ("Linux", None),
            ("macos", None),
            ("arm65", Some("arm65")),
            ("linux/arm65", Some("arm65")),
            ("linus/arm64", Some("linus")),
            ("linux/arm/v99", Some("v99")),
        ] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(
                platform.unknown_part().map(|(part, _)| part),
                part,
                "{text}"
            );
        }
    }

    #[test]
    fn versions_of_a_system_are_of_one_kind() {
        let windows = |text: &str| Platform::new("windows", "amd64", "").with_os_version(text);
        let serves = |have, wanted| windows(have).serves(&windows(wanted)).is_some();
        for wanted in ["", "10.0.20348", "10.0.20348.1006"] {
            assert!(serves("10.0.20348.1006", wanted), "{wanted}");
            assert!(serves("", wanted), "{wanted}");
        }
        for wanted in ["10.0.2034", "10.0.17763", "10.0.20348.1006.1"] {
            assert!(!serves("10.0.20348.1006", wanted), "{wanted}");
        }
    }

    #[test]
    fn nearest_platform_wins() {
        let arm = |v: &str| Platform::new("linux", "arm", v);
        assert!(arm("v6").serves(&arm("v7")) < arm("v7").serves(&arm("v7")));
        assert_eq!(arm("v7").serves(&arm("v6")), None);
        assert_eq!(Platform::new("linux", "amd64", "").serves(&arm("v7")), None);
    }
}
