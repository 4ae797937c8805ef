//! How registries are spoken to: mirrors, plain HTTP, certificates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::Reference;

/// One registry's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistrySettings {
    /// Registries that have copies, asked first and in order; each `HOST[:PORT][/PATH]`. What is said
    /// of that host counts, unless `http://` or `https://` is before it.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Whether it speaks plain HTTP.
    #[serde(default)]
    pub http: bool,
    /// Whether its certificate isn't checked; without TLS it is spoken to in plain HTTP.
    #[serde(default)]
    pub insecure: bool,
    /// Files with certificates to trust besides the usual ones (PEM); in a file of settings, one path or a
    /// list of them.
    #[serde(default, deserialize_with = "one_or_several")]
    pub ca: Vec<PathBuf>,
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Paths {
        One(PathBuf),
        Several(Vec<PathBuf>),
    }
    Ok(match Paths::deserialize(deserializer)? {
        Paths::One(path) => vec![path],
        Paths::Several(paths) => paths,
    })
}

/// All registries' settings, by host.
pub type Registries = BTreeMap<String, RegistrySettings>;

/// Where a repository is to be read from: its mirrors in order, then the registry itself.
pub(crate) fn sources(registries: &Registries, reference: &Reference) -> Vec<String> {
    let settings = registries.get(&reference.host);
    let mirrors = settings.iter().flat_map(|settings| &settings.mirrors);
    let mirror = |mirror: &String| {
        let (scheme, rest) = mirror.split_once("://").unwrap_or(("", mirror));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let scheme = match scheme.is_empty() {
            true => scheme_of(registries, host),
            false => scheme,
        };
        let path = path.trim_matches('/');
        let join = if path.is_empty() { "" } else { "/" };
        format!("{scheme}://{host}/v2/{path}{join}{}", reference.repository)
    };
    mirrors
        .map(mirror)
        .chain([home(registries, reference)])
        .collect()
}

/// Where a repository is written to.
pub(crate) fn home(registries: &Registries, reference: &Reference) -> String {
    let scheme = scheme_of(registries, &reference.host);
    let (host, repository) = (reference.api_host(), &reference.repository);
    format!("{scheme}://{host}/v2/{repository}")
}

/// Plain HTTP is for registries of which that is said, and for those of this machine.
fn scheme_of(registries: &Registries, host: &str) -> &'static str {
    let is_plain = registries.get(host).is_some_and(|settings| settings.http);
    match is_plain || is_loopback(host) {
        true => "http",
        false => "https",
    }
}

/// Whether a host (`NAME[:PORT]`, `[ADDRESS][:PORT]`) is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address
            .split_once(']')
            .map_or(address, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    ["localhost", "127.0.0.1", "::1"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first() {
        let settings = RegistrySettings {
            mirrors: vec![
                "m.example/dir".to_owned(),
                "http://n.example:5000".to_owned(),
                "p.example/copies".to_owned(),
                "127.0.0.1:5000".to_owned(),
            ],
            ..RegistrySettings::default()
        };
        let plain = RegistrySettings {
            http: true,
            ..RegistrySettings::default()
        };
        let registries: Registries = [
            ("docker.io".to_owned(), settings),
            ("p.example".to_owned(), plain),
        ]
        .into();
        let of = |name: &str| sources(&registries, &name.parse().unwrap());
        assert_eq!(
            of("debian"),
            [
                "https://m.example/v2/dir/library/debian",
                "http://n.example:5000/v2/library/debian",
                "http://p.example/v2/copies/library/debian",
                "http://127.0.0.1:5000/v2/library/debian",
                "https://registry-1.docker.io/v2/library/debian",
            ]
        );
        assert_eq!(of("p.example/a"), ["http://p.example/v2/a"]);
        assert_eq!(of("q.example/a"), ["https://q.example/v2/a"]);
        assert_eq!(of("localhost:5000/a"), ["http://localhost:5000/v2/a"]);
    }
}
