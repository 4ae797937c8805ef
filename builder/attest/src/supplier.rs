//! Who distributes something. A package that names nobody comes from the owner of its name, where names
//! have owners, else from the registry of its kind (SPDX 2.3, section 7.5: "the actual distribution
//! source").

use crate::{Ecosystem, Package};

/// Who distributes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Supplier {
    is_person: bool,
    pub(crate) name: String,
    mail: Option<String>,
}

impl Supplier {
    fn organization(name: &str) -> Option<Self> {
        let name = clean(name);
        (!name.is_empty()).then_some(Self {
            is_person: false,
            name,
            mail: None,
        })
    }

    /// That of a package.
    pub(crate) fn of(package: &Package) -> Option<Self> {
        let named = package.supplier.as_deref().and_then(|text| {
            // Crates name the registry that they come from.
            let is_registry = package.ecosystem == Ecosystem::Cargo;
            let is_person = !package.ecosystem.is_distribution() && !is_registry;
            Self::read(text, is_person)
        });
        named.or_else(|| Self::organization(source(package)?))
    }

    /// That of an image, by its name: the repository's host and owner. What is in no registry has none.
    pub(crate) fn of_image(name: &str) -> Option<Self> {
        const LOCAL: [&str; 4] = ["oci:", "oci-archive:", "docker-archive:", "docker-daemon:"];
        if LOCAL.iter().any(|start| name.starts_with(start)) {
            return None;
        }
        let (owner, _) = name.rsplit_once('/')?;
        Self::organization(owner)
    }

    /// `NAME <EMAIL>`.
    fn read(text: &str, is_person: bool) -> Option<Self> {
        let (name, mail) = match text.split_once('<') {
            Some((name, mail)) => (name, mail.split('>').next()),
            None => (text, None),
        };
        let mail = mail.map(clean).filter(|mail| mail.contains('@'));
        // Some give nothing but an address.
        let name = match (clean(name), &mail) {
            (name, Some(mail)) if name.is_empty() => mail.clone(),
            (name, _) => name,
        };
        (!name.is_empty()).then_some(Self {
            is_person,
            name,
            mail,
        })
    }

    /// As SPDX has it: `Organization: NAME (EMAIL)`.
    pub(crate) fn spdx(&self) -> String {
        let kind = if self.is_person {
            "Person"
        } else {
            "Organization"
        };
        let mail = self.mail.as_ref();
        let mail = mail.map_or(String::new(), |mail| format!(" ({mail})"));
        format!("{kind}: {}{mail}", self.name)
    }
}

/// Without what would end a name in SPDX.
fn clean(text: &str) -> String {
    let kept = text
        .chars()
        .filter(|c| !c.is_control() && !"()".contains(*c));
    kept.collect::<String>().trim().to_owned()
}

/// The owner of a package's name, or the registry of its kind.
fn source(package: &Package) -> Option<&str> {
    let name = package.name.as_str();
    let found = match package.ecosystem {
        Ecosystem::Golang => owner(name),
        Ecosystem::Maven => name.split_once(':').map_or("", |(group, _)| group),
        Ecosystem::Composer => name.split_once('/').map_or("", |(vendor, _)| vendor),
        Ecosystem::Npm => match name.strip_prefix('@').and_then(|name| name.split_once('/')) {
            Some((scope, _)) => scope,
            None => "npmjs.com",
        },
        Ecosystem::Gem => "rubygems.org",
        Ecosystem::Nuget => "nuget.org",
        Ecosystem::Pypi => "pypi.org",
        // These say it themselves; where they don't, nobody else is known.
        Ecosystem::Apk | Ecosystem::Cargo | Ecosystem::Deb | Ecosystem::Rpm => "",
    };
    (!found.is_empty()).then_some(found)
}

/// The host and owner in a module's path: `github.com/owner`; of the standard library, Go.
fn owner(path: &str) -> &str {
    if path == "stdlib" {
        return "go.dev";
    }
    let second = path.match_indices('/').nth(1);
    &path[..second.map_or(path.len(), |(at, _)| at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_from_somebody() {
        let cases = [
            (
                Ecosystem::Deb,
                "a",
                Some("Jo (at home) <jo@x.org>"),
                "Organization: Jo at home (jo@x.org)",
            ),
            (Ecosystem::Pypi, "a", Some("Jo"), "Person: Jo"),
            (
                Ecosystem::Pypi,
                "a",
                Some("<jo@x.org>"),
                "Person: jo@x.org (jo@x.org)",
            ),
            (Ecosystem::Pypi, "a", Some("\n"), "Organization: pypi.org"),
            (Ecosystem::Npm, "@scope/a", None, "Organization: scope"),
            (Ecosystem::Npm, "a", None, "Organization: npmjs.com"),
            (
                Ecosystem::Golang,
                "github.com/o/r/v2",
                None,
                "Organization: github.com/o",
            ),
            (
                Ecosystem::Golang,
                "example.org/m",
                None,
                "Organization: example.org/m",
            ),
            (Ecosystem::Golang, "stdlib", None, "Organization: go.dev"),
            (Ecosystem::Maven, "org.x:y", None, "Organization: org.x"),
            (Ecosystem::Composer, "v/p", None, "Organization: v"),
            (Ecosystem::Cargo, "a", None, ""),
            (
                Ecosystem::Cargo,
                "a",
                Some("crates.io"),
                "Organization: crates.io",
            ),
            (Ecosystem::Apk, "a", None, ""),
        ];
        for (ecosystem, name, supplier, want) in cases {
            let mut package = Package::new(ecosystem, name, "1");
            package.supplier = supplier.map(str::to_owned);
            let found = Supplier::of(&package).map_or(String::new(), |found| found.spdx());
            assert_eq!(found, want, "{ecosystem} {name}");
        }
        let image = |name| Supplier::of_image(name).map(|found| found.name);
        assert_eq!(
            image("r.example/team/app:1").as_deref(),
            Some("r.example/team")
        );
        assert_eq!(image("image"), None);
        assert_eq!(image("oci-archive:/dir/a.tar"), None);
    }
}
