//! Layers of things that change together, so that the next version of an image shares as many of
//! them as possible.
//!
//! What was added is cut into units: a package of dpkg or apk, a package folder of a language,
//! else a folder. Packages are spread over the layers by a hash of their names, so that the same
//! package lands in the same layer on any machine and an update touches only its own layer;
//! everything else goes on top. What changed in most of the builds that the store remembers moves
//! to the top as well, and stays there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use kiln_graph::encode::Encoder;
use kiln_graph::{Digest, Entry, ImagePath, Node, Target};
use serde::{Deserialize, Serialize};

use super::{LayerContent, PlannedLayer, split};
use crate::EngineError;
use crate::solve::Solved;

/// Folders in which each entry is a package of its own.
const PACKAGE_FOLDERS: &[&str] = &["site-packages", "dist-packages", "node_modules", "gems"];
/// After how many builds it is known what changes often.
const ENOUGH_BUILDS: u32 = 3;

/// Something that changes as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Package(String),
    Other,
}

/// What is remembered of the units of one image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Remembered {
    builds: u32,
    units: BTreeMap<String, Seen>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    content: Digest,
    changes: u32,
}

impl Remembered {
    fn note(&mut self, name: &str, content: Digest) {
        match self.units.get_mut(name) {
            Some(seen) if seen.content == content => {}
            Some(seen) => {
                seen.changes += 1;
                seen.content = content;
            }
            None => {
                let seen = Seen {
                    content,
                    changes: 0,
                };
                _ = self.units.insert(name.to_owned(), seen);
            }
        }
    }

    /// What changed in more than half of the builds.
    fn restless(&self) -> BTreeSet<&str> {
        let often = |seen: &Seen| self.builds >= ENOUGH_BUILDS && seen.changes * 2 > self.builds;
        let units = self.units.iter().filter(|(_, seen)| often(seen));
        units.map(|(name, _)| name.as_str()).collect()
    }
}

impl Solved {
    /// Up to `most` layers, the one that changes most on top.
    pub(super) fn auto(
        &self,
        target: &Target,
        content: &LayerContent,
        most: usize,
    ) -> Result<Vec<PlannedLayer>, EngineError> {
        let packages = Packages::find(content);
        let mut encoders: BTreeMap<String, Encoder> = BTreeMap::new();
        for entry in content
            .entries()
            .iter()
            .filter(|entry| !entry.is_directory())
        {
            if let Unit::Package(name) = packages.unit(&entry.path) {
                let new = || Encoder::new("kiln-unit", 1);
                let out = encoders.entry(name).or_insert_with(new);
                out.path(&entry.path);
                entry.encode_attributes(out);
            }
        }
        let key = self.auto_key(target);
        let store = &self.engine.store;
        let mut remembered = store
            .memo::<Remembered>("auto-layers", &key)?
            .unwrap_or_default();
        remembered.builds += 1;
        for (name, out) in encoders {
            remembered.note(&name, out.finish());
        }
        store.put_memo("auto-layers", &key, &remembered)?;
        let restless = remembered.restless();
        let top = most.max(2) - 1;
        let layer_of = |path: &ImagePath| match packages.unit(path) {
            Unit::Package(name) if !restless.contains(name.as_str()) => bucket(&name, top),
            _ => top,
        };
        let mut names: Vec<String> = (1..=top).map(|n| format!("packages {n}")).collect();
        names.push("the rest".to_owned());
        Ok(split::by(content, &names, layer_of))
    }

    /// Names an image across its versions: the place in the build file that it is made by.
    fn auto_key(&self, target: &Target) -> Digest {
        let step = self.build.graph.step(target.root);
        let file = step.location.as_ref().map(|at| at.file.to_string());
        let mut out = Encoder::new("kiln-auto-layers", 1);
        out.str(&file.unwrap_or_default())
            .str(&step.name.stage)
            .str(&target.platform.to_string());
        out.finish()
    }
}

fn bucket(name: &str, count: usize) -> usize {
    usize::from(Digest::of(name.as_bytes()).as_bytes()[0]) % count.max(1)
}

/// Which package files belong to, as far as the databases in the tree say.
struct Packages {
    owners: BTreeMap<ImagePath, String>,
}

impl Packages {
    fn find(content: &LayerContent) -> Self {
        let mut owners = BTreeMap::new();
        for entry in content.entries() {
            let path = entry.path.to_string();
            if let Some(name) = dpkg_list(&path) {
                let text = text(content, entry);
                let own = |line: &str| (ImagePath::new(line), format!("dpkg {name}"));
                owners.extend(text.lines().map(own));
            } else if path == "/lib/apk/db/installed" {
                owners.extend(apk_owners(&text(content, entry)));
            }
        }
        Self { owners }
    }

    fn unit(&self, path: &ImagePath) -> Unit {
        let text = path.to_string();
        if let Some(name) = dpkg_info(&text) {
            return Unit::Package(format!("dpkg {name}"));
        }
        if let Some(name) = self.owners.get(path) {
            return Unit::Package(name.clone());
        }
        folder_package(&text).map_or(Unit::Other, Unit::Package)
    }
}

fn text(content: &LayerContent, entry: &Entry) -> String {
    let mut bytes = Vec::new();
    if let (Node::File { .. }, Ok(mut file)) = (&entry.node, content.open(entry)) {
        _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The package whose files `/var/lib/dpkg/info/NAME.list` lists.
fn dpkg_list(path: &str) -> Option<&str> {
    dpkg_info(path).filter(|_| path.ends_with(".list"))
}

/// The package that a file of dpkg's own belongs to; `NAME:ARCH` without the architecture.
fn dpkg_info(path: &str) -> Option<&str> {
    let file = path.strip_prefix("/var/lib/dpkg/info/")?;
    let (name, _) = file.rsplit_once('.')?;
    Some(name.split(':').next().unwrap_or(name))
}

/// apk's database: `P:` names a package, `F:` a folder, `R:` a file in it.
fn apk_owners(text: &str) -> Vec<(ImagePath, String)> {
    let (mut package, mut folder) = (String::new(), String::new());
    let mut owners = Vec::new();
    for line in text.lines() {
        match line.split_once(':') {
            Some(("P", name)) => package = format!("apk {name}"),
            Some(("F", path)) => folder = format!("/{path}"),
            Some(("R", file)) => {
                owners.push((ImagePath::new(format!("{folder}/{file}")), package.clone()));
            }
            _ => {}
        }
    }
    owners
}

/// `site-packages/NAME`, `node_modules/@SCOPE/NAME`, `registry/src/INDEX/CRATE`.
fn folder_package(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(at) = parts
        .windows(2)
        .position(|pair| pair == ["registry", "src"])
    {
        return parts.get(at + 3).map(|name| format!("crate {name}"));
    }
    let at = parts
        .iter()
        .position(|part| PACKAGE_FOLDERS.contains(part))?;
    let (folder, name) = (parts[at], parts.get(at + 1)?);
    if name.starts_with('@') {
        return parts
            .get(at + 2)
            .map(|own| format!("{folder} {name}/{own}"));
    }
    // `NAME-1.0.dist-info` changes with `NAME`.
    let name = match name.strip_suffix(".dist-info") {
        Some(name) => name.split('-').next().unwrap_or(name),
        None => name.trim_end_matches(".py"),
    };
    Some(format!("{folder} {}", name.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_by_their_paths() {
        let cases = [
            (
                "/usr/lib/python3/dist-packages/Yaml/x.py",
                "dist-packages yaml",
            ),
            (
                "/v/lib/python3.11/site-packages/flask-3.0.dist-info/RECORD",
                "site-packages flask",
            ),
            ("/app/node_modules/@a/b/index.js", "node_modules @a/b"),
            ("/app/node_modules/c/node_modules/d/x", "node_modules c"),
            (
                "/root/.cargo/registry/src/index-1/serde-1.0/lib.rs",
                "crate serde-1.0",
            ),
        ];
        for (path, want) in cases {
            assert_eq!(folder_package(path).as_deref(), Some(want));
        }
        assert_eq!(folder_package("/app/src/main.py"), None);
        assert_eq!(
            dpkg_info("/var/lib/dpkg/info/libc6:amd64.md5sums"),
            Some("libc6")
        );
        let owners = apk_owners("P:musl\nF:lib\nR:libc.so\n\nP:zlib\nF:usr/lib\nR:z.so\n");
        assert_eq!(owners[0], ("/lib/libc.so".into(), "apk musl".into()));
        assert_eq!(owners[1], ("/usr/lib/z.so".into(), "apk zlib".into()));
    }

    #[test]
    fn what_changes_most_of_the_time_is_restless() {
        let mut remembered = Remembered::default();
        for build in 0..4u8 {
            remembered.builds += 1;
            remembered.note("calm", Digest::of(b"same"));
            remembered.note("restless", Digest::of(&[build]));
        }
        assert_eq!(remembered.restless(), BTreeSet::from(["restless"]));
    }
}
