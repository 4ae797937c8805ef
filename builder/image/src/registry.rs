//! How registries are spoken to: mirrors, plain HTTP, certificates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::Reference;

/// One registry's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistrySettings {
    /// Registries that have copies, asked first and in order; each `HOST[:PORT][/PATH]`, behind
    /// `http://` when it speaks plain HTTP.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Whether it speaks plain HTTP.
    #[serde(default)]
    pub http: bool,
    /// A file with certificates to trust besides the usual ones (PEM).
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// All registries' settings, by host.
pub type Registries = BTreeMap<String, RegistrySettings>;

/// Where a repository is to be read from: its mirrors in order, then the registry itself.
pub(crate) fn sources(registries: &Registries, reference: &Reference) -> Vec<String> {
    let settings = registries.get(&reference.host);
    let mirrors = settings.iter().flat_map(|settings| &settings.mirrors);
    let mirror = |mirror: &String| {
        let (scheme, rest) = mirror.split_once("://").unwrap_or(("https", mirror));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
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
    let url = reference.base_url();
    let is_plain = registries
        .get(&reference.host)
        .is_some_and(|settings| settings.http);
    match url.strip_prefix("https://") {
        Some(rest) if is_plain => format!("http://{rest}"),
        _ => url,
    }
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
            ],
            http: false,
            ca: None,
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
                "https://registry-1.docker.io/v2/library/debian",
            ]
        );
        assert_eq!(of("p.example/a"), ["http://p.example/v2/a"]);
        assert_eq!(of("q.example/a"), ["https://q.example/v2/a"]);
    }
}
