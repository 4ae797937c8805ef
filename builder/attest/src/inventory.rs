//! The packages of an image: what its layers' trees say, less what upper ones hide.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kiln_graph::ImagePath;
use serde::{Deserialize, Serialize};

use crate::detect::is_module_root;
use crate::{Claim, Distribution, Ecosystem, Package, TreeEvidence, Warning};

/// Links to copyright files lead no further than this.
const MAX_LINKS: usize = 8;

/// A layer of an image.
pub struct Layer<'a> {
    /// What its tree says.
    pub evidence: &'a TreeEvidence,
    /// Whether its tree replaces or removes what is at a path below it.
    pub hides: &'a (dyn Fn(&ImagePath) -> bool + Sync),
}

impl std::fmt::Debug for Layer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer")
            .field("evidence", &self.evidence)
            .finish_non_exhaustive()
    }
}

/// A package of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPackage {
    /// The package.
    pub package: Package,
    /// Its package URL, which names it within the image.
    pub purl: String,
    /// The layer that brought it, counted from the lowest.
    pub layer: usize,
    /// The paths that say so.
    pub paths: BTreeSet<ImagePath>,
}

/// The packages of an image, sorted by their URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Which distribution it is of.
    pub distribution: Option<Distribution>,
    /// Its packages.
    pub packages: Vec<FoundPackage>,
    /// What may hold packages but couldn't be read.
    pub warnings: Vec<Warning>,
}

impl Inventory {
    /// Merges what the layers of an image say, lowest first.
    #[must_use]
    pub fn merge(layers: &[Layer<'_>]) -> Self {
        let visible = Visible::of(layers);
        let distribution = visible.distribution();
        let mut packages: BTreeMap<String, FoundPackage> = BTreeMap::new();
        for (path, (top, claim)) in &visible.claims {
            let Claim::Packages(claimed) = claim else {
                continue;
            };
            if visible.is_fixture(path) {
                continue;
            }
            let origins = Origins::of(layers, *top, path);
            for package in claimed {
                let layer = origins.origin(package);
                let purl = package.purl(distribution);
                let found = packages
                    .entry(purl.clone())
                    .or_insert_with(|| FoundPackage {
                        package: visible.with_license(package),
                        purl,
                        layer,
                        paths: BTreeSet::new(),
                    });
                found.layer = found.layer.min(layer);
                found.paths.insert((*path).clone());
            }
        }
        Self {
            distribution: distribution.cloned(),
            packages: packages.into_values().collect(),
            warnings: visible.warnings(layers),
        }
    }

    /// What another image's packages have that these don't.
    #[must_use]
    pub fn missing_from<'a>(&self, other: &'a Self) -> Vec<&'a FoundPackage> {
        let own: BTreeSet<&str> = self.packages.iter().map(|found| &*found.purl).collect();
        let others = other.packages.iter();
        others.filter(|found| !own.contains(&*found.purl)).collect()
    }
}

/// What lower layers say at a path, from the one below the top on, up to where something else is there.
struct Origins<'a> {
    top: usize,
    below: Vec<(usize, HashSet<Identity<'a>>)>,
}

/// What makes a package the same in two layers.
type Identity<'a> = (Ecosystem, &'a str, &'a str, &'a BTreeMap<String, String>);

impl<'a> Origins<'a> {
    fn of(layers: &[Layer<'a>], top: usize, path: &ImagePath) -> Self {
        let mut below = Vec::new();
        for (number, layer) in layers.iter().enumerate().take(top).rev() {
            match claim_at(layer.evidence, path) {
                Some(Claim::Packages(packages)) => {
                    let packages = packages.iter().map(Package::identity);
                    below.push((number, packages.collect()));
                }
                Some(_) => break,
                None if (layer.hides)(path) => break,
                None => {}
            }
        }
        Self { top, below }
    }

    /// The lowest of the layers that have said so without a break.
    fn origin(&self, package: &Package) -> usize {
        let identity = package.identity();
        let below = self.below.iter();
        let same = below.take_while(|(_, packages)| packages.contains(&identity));
        same.last().map_or(self.top, |(number, _)| *number)
    }
}

fn claim_at<'a>(tree: &'a TreeEvidence, path: &ImagePath) -> Option<&'a Claim> {
    let at = tree
        .evidence
        .binary_search_by(|one| one.path.cmp(path))
        .ok()?;
    Some(&tree.evidence[at].claim)
}

impl Package {
    fn identity(&self) -> Identity<'_> {
        (self.ecosystem, &self.name, &self.version, &self.qualifiers)
    }
}

/// What is said at paths that no upper layer hides, with the layer's number.
struct Visible<'a> {
    claims: BTreeMap<&'a ImagePath, (usize, &'a Claim)>,
    /// Directories outside of any `node_modules` that have a `package.json`.
    projects: BTreeSet<ImagePath>,
}

impl<'a> Visible<'a> {
    fn of(layers: &[Layer<'a>]) -> Self {
        let mut claims = BTreeMap::new();
        for (number, layer) in layers.iter().enumerate() {
            for one in &layer.evidence.evidence {
                if !is_hidden(layers, number, &one.path) {
                    claims.insert(&one.path, (number, &one.claim));
                }
            }
        }
        let projects = claims.keys().filter(|path| is_project(path));
        let projects = projects.filter_map(|path| path.parent()).collect();
        Self { claims, projects }
    }

    fn distribution(&self) -> Option<&'a Distribution> {
        let at = |path: &str| match self.claims.get(&ImagePath::new(path)) {
            Some((_, Claim::Distribution(distribution))) => Some(distribution),
            _ => None,
        };
        at("/etc/os-release").or_else(|| at("/usr/lib/os-release"))
    }

    /// Whether a path is a `package.json` somewhere inside of another project.
    fn is_fixture(&self, path: &ImagePath) -> bool {
        let Some(directory) = path.parent().filter(|_| is_project(path)) else {
            return false;
        };
        directory
            .ancestors()
            .any(|above| self.projects.contains(&above))
    }

    /// Debian's packages have their licences elsewhere.
    fn with_license(&self, package: &Package) -> Package {
        let mut package = package.clone();
        if package.ecosystem == Ecosystem::Deb {
            package.license = self.copyright(&package.name);
        }
        package
    }

    fn copyright(&self, package: &str) -> Option<String> {
        let directory = ImagePath::new(format!("/usr/share/doc/{package}"));
        let mut at = directory.join("copyright");
        if let Some((_, Claim::Link(target))) = self.claims.get(&directory) {
            at = target.clone();
        }
        for _ in 0..MAX_LINKS {
            match self.claims.get(&at)?.1 {
                Claim::Link(target) => at = target.clone(),
                Claim::Copyright(license) => return license.clone(),
                _ => return None,
            }
        }
        None
    }

    fn warnings(&self, layers: &[Layer<'a>]) -> Vec<Warning> {
        let mut all = BTreeSet::new();
        for (number, layer) in layers.iter().enumerate() {
            let visible = layer.evidence.warnings.iter();
            let visible = visible.filter(|one| !is_hidden(layers, number, &one.path));
            all.extend(visible.filter(|one| !self.is_fixture(&one.path)).cloned());
        }
        all.into_iter().collect()
    }
}

fn is_hidden(layers: &[Layer<'_>], number: usize, path: &ImagePath) -> bool {
    layers[number + 1..].iter().any(|above| (above.hides)(path))
}

fn is_project(path: &ImagePath) -> bool {
    path.file_name() == Some(b"package.json") && is_module_root(&path.to_string()).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Evidence;

    fn tree(claims: &[(&str, Claim)]) -> TreeEvidence {
        let one = |(path, claim): &(&str, Claim)| Evidence {
            path: ImagePath::new(path),
            claim: claim.clone(),
        };
        let mut evidence: Vec<Evidence> = claims.iter().map(one).collect();
        evidence.sort_by(|a, b| a.path.cmp(&b.path));
        TreeEvidence {
            evidence,
            warnings: Vec::new(),
        }
    }

    fn packages(ecosystem: Ecosystem, names: &[&str]) -> Claim {
        Claim::Packages(
            names
                .iter()
                .map(|name| Package::new(ecosystem, *name, "1"))
                .collect(),
        )
    }

    fn merge(trees: &[(TreeEvidence, &[&str])]) -> Vec<(String, usize)> {
        let hides: Vec<_> = trees
            .iter()
            .map(|(tree, removed)| {
                move |path: &ImagePath| {
                    claim_at(tree, path).is_some()
                        || removed
                            .iter()
                            .any(|gone| path.starts_with(&ImagePath::new(gone)))
                }
            })
            .collect();
        let layers: Vec<Layer<'_>> = trees
            .iter()
            .zip(&hides)
            .map(|((evidence, _), hides)| Layer { evidence, hides })
            .collect();
        let found = Inventory::merge(&layers).packages.into_iter();
        found.map(|found| (found.purl, found.layer)).collect()
    }

    #[test]
    fn packages_come_from_the_layer_that_brought_them() {
        const STATUS: &str = "/var/lib/dpkg/status";
        let of = |names: &[&str]| tree(&[(STATUS, packages(Ecosystem::Deb, names))]);
        let found = merge(&[
            (of(&["a", "gone"]), &[]),
            (tree(&[]), &[]),
            (of(&["a", "b"]), &[]),
            (of(&["a", "b", "c", "gone"]), &[]),
        ]);
        let want = [
            ("pkg:deb/a@1", 0),
            ("pkg:deb/b@1", 2),
            ("pkg:deb/c@1", 3),
            ("pkg:deb/gone@1", 3),
        ];
        assert_eq!(found, want.map(|(purl, layer)| (purl.to_owned(), layer)));
    }

    #[test]
    fn what_upper_layers_remove_is_not_there() {
        let found = merge(&[
            (
                tree(&[
                    ("/a/x.dist-info/METADATA", packages(Ecosystem::Pypi, &["x"])),
                    ("/b/y.dist-info/METADATA", packages(Ecosystem::Pypi, &["y"])),
                ]),
                &[],
            ),
            (tree(&[]), &["/a"]),
        ]);
        assert_eq!(found, [("pkg:pypi/y@1".to_owned(), 0)]);
    }

    #[test]
    fn projects_inside_of_projects_are_fixtures() {
        let claim = |name: &str| packages(Ecosystem::Npm, &[name]);
        let found = merge(&[(
            tree(&[
                ("/app/package.json", claim("app")),
                ("/app/test/package.json", claim("fixture")),
                ("/app/node_modules/dep/package.json", claim("dep")),
                ("/usr/share/nodejs/x/package.json", claim("x")),
            ]),
            &[],
        )]);
        let names: Vec<String> = found.into_iter().map(|(purl, _)| purl).collect();
        assert_eq!(names, ["pkg:npm/app@1", "pkg:npm/dep@1", "pkg:npm/x@1"]);
    }

    #[test]
    fn licences_of_debian_packages() {
        let text = Some("MIT".to_owned());
        let layer = tree(&[
            (
                "/usr/lib/os-release",
                Claim::Distribution(Distribution {
                    id: "debian".into(),
                    version: "12".into(),
                    name: String::new(),
                }),
            ),
            (
                "/usr/share/doc/a",
                Claim::Link("/usr/share/doc/b/copyright".into()),
            ),
            (
                "/usr/share/doc/b/copyright",
                Claim::Link("/usr/share/doc/c/copyright".into()),
            ),
            ("/usr/share/doc/c/copyright", Claim::Copyright(text.clone())),
            (
                "/var/lib/dpkg/status",
                packages(Ecosystem::Deb, &["a", "d"]),
            ),
        ]);
        let layers = [Layer {
            evidence: &layer,
            hides: &|_| false,
        }];
        let found = Inventory::merge(&layers);
        assert_eq!(found.packages[0].package.license, text);
        assert_eq!(
            found.packages[0].purl,
            "pkg:deb/debian/a@1?distro=debian-12"
        );
        assert_eq!(found.packages[1].package.license, None);
    }
}
