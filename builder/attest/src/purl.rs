//! Package URLs (<https://github.com/package-url/purl-spec>): `pkg:TYPE/NAMESPACE/NAME@VERSION?Q=V`.

use crate::{Distribution, Ecosystem, Package};

impl Package {
    /// The package's URL; `distribution` is that of the image it is in.
    #[must_use]
    pub fn purl(&self, distribution: Option<&Distribution>) -> String {
        let (namespace, name) = self.split_name(distribution);
        let mut url = format!("pkg:{}/", self.ecosystem);
        for part in namespace.split('/').filter(|part| !part.is_empty()) {
            url.push_str(&encode(part));
            url.push('/');
        }
        url.push_str(&encode(&name));
        if !self.version.is_empty() {
            url.push('@');
            url.push_str(&encode(&self.version));
        }
        let mut qualifiers = self.qualifiers.clone();
        if let Some(distribution) = distribution.filter(|_| self.ecosystem.is_distribution()) {
            qualifiers.insert("distro".to_owned(), distribution.qualifier());
        }
        for (number, (name, value)) in qualifiers.iter().enumerate() {
            url.push(if number == 0 { '?' } else { '&' });
            url.push_str(&format!("{name}={}", encode(value)));
        }
        url
    }

    /// Namespace and name as the type's rules have them.
    fn split_name(&self, distribution: Option<&Distribution>) -> (String, String) {
        let name = self.name.as_str();
        let before = |separator: char| match name.rsplit_once(separator) {
            Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
            None => (String::new(), name.to_owned()),
        };
        match self.ecosystem {
            Ecosystem::Deb | Ecosystem::Apk | Ecosystem::Rpm => {
                let namespace = distribution.map(Distribution::namespace);
                let lower = self.ecosystem != Ecosystem::Rpm;
                let name = if lower {
                    name.to_lowercase()
                } else {
                    name.to_owned()
                };
                (namespace.unwrap_or_default().to_lowercase(), name)
            }
            Ecosystem::Golang | Ecosystem::Composer => {
                let (namespace, name) = before('/');
                (namespace.to_lowercase(), name.to_lowercase())
            }
            Ecosystem::Npm => before('/'),
            Ecosystem::Maven => before(':'),
            Ecosystem::Pypi => (String::new(), normal_python_name(name)),
            Ecosystem::Cargo | Ecosystem::Gem | Ecosystem::Nuget => {
                (String::new(), name.to_owned())
            }
        }
    }
}

/// A Python project's name as the index compares it (PEP 503).
fn normal_python_name(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_lowercase()
}

/// Percent-encodes everything but what the specification leaves as it is.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_by_the_rules_of_their_types() {
        let debian = Distribution {
            id: "debian".to_owned(),
            version: "12".to_owned(),
            name: String::new(),
        };
        let cases = [
            (
                Ecosystem::Npm,
                "@angular/core",
                "1.0",
                "pkg:npm/%40angular/core@1.0",
            ),
            (
                Ecosystem::Pypi,
                "Zope.Interface_x",
                "2",
                "pkg:pypi/zope-interface-x@2",
            ),
            (
                Ecosystem::Maven,
                "org.apache:commons",
                "1",
                "pkg:maven/org.apache/commons@1",
            ),
            (
                Ecosystem::Golang,
                "github.com/Azure/go-x",
                "v1+incompatible",
                "pkg:golang/github.com/azure/go-x@v1%2Bincompatible",
            ),
            (Ecosystem::Cargo, "serde", "", "pkg:cargo/serde"),
        ];
        for (ecosystem, name, version, want) in cases {
            assert_eq!(
                Package::new(ecosystem, name, version).purl(Some(&debian)),
                want
            );
        }
        let deb = Package::new(Ecosystem::Deb, "libc6", "2:2.36-9+deb12u1");
        let deb = deb
            .qualify("arch", Some("amd64"))
            .qualify("upstream", Some("glibc"));
        assert_eq!(
            deb.purl(Some(&debian)),
            "pkg:deb/debian/libc6@2:2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=glibc"
        );
        assert_eq!(
            deb.purl(None),
            "pkg:deb/libc6@2:2.36-9%2Bdeb12u1?arch=amd64&upstream=glibc"
        );
    }
}
