//! Layers of things that change together, so that the next version of an image shares as many of
//! them as possible.
//!
//! What was added is cut into units: a package of the distribution or of a language, else a file of
//! the system's or the application's. From the bottom: the distribution's packages, what no package
//! lists of it, packages of languages, the application. Packages are spread over their layers by a
//! hash of their names, so that the same package lands in the same layer on any machine and an
//! update touches only its own layer. What changed in most of the builds that the store remembers
//! moves to the top as well, and stays there.

use std::collections::{BTreeMap, BTreeSet};

use kiln_cache::Store;
use kiln_execute::EngineError;
use kiln_graph::encode::Encoder;
use kiln_graph::{Digest, Graph, ImagePath, Target};
use serde::{Deserialize, Serialize};

use super::package::{Packages, Unit};
use super::{LayerContent, PlannedLayer, split};

/// After how many builds it is known what changes often.
const ENOUGH_BUILDS: u32 = 3;

/// What is remembered of the units of one image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Remembered {
    builds: u32,
    units: BTreeMap<String, Seen>,
    /// What once changed too often to lie below: moving it back would change two layers.
    #[serde(default)]
    restless: BTreeSet<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    content: Digest,
    changes: u32,
}

impl Remembered {
    /// Notes a build that has these units, unless it is the same as the one before.
    fn note(&mut self, units: BTreeMap<String, Digest>) {
        let seen = |(name, content): (&String, &Digest)| {
            let known = self.units.get(name);
            known.is_some_and(|seen| seen.content == *content)
        };
        if self.builds > 0 && units.iter().all(seen) {
            return;
        }
        self.builds += 1;
        for (name, content) in units {
            self.note_unit(name, content);
        }
        let often = |seen: &Seen| self.builds >= ENOUGH_BUILDS && seen.changes * 2 > self.builds;
        let restless = self.units.iter().filter(|(_, seen)| often(seen));
        self.restless.extend(restless.map(|(name, _)| name.clone()));
    }

    fn note_unit(&mut self, name: String, content: Digest) {
        match self.units.get_mut(&name) {
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
                _ = self.units.insert(name, seen);
            }
        }
    }
}

/// Which layers there are, from the bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// Layers of the distribution's packages.
    system: usize,
    /// Layers of the system's other files: one, or none when there are too few layers.
    files: usize,
    /// Layers of languages' packages.
    languages: usize,
}

impl Layout {
    fn of(most: usize) -> Self {
        let below = most.max(2) - 1;
        let files = usize::from(below >= 3);
        let languages = (below - files) / 2;
        Self {
            system: below - files - languages,
            files,
            languages,
        }
    }

    fn top(self) -> usize {
        self.system + self.files + self.languages
    }

    fn layer(self, unit: &Unit, restless: &BTreeSet<String>) -> usize {
        match unit {
            Unit::System(name) | Unit::Language(name) if restless.contains(name) => self.top(),
            Unit::System(name) => bucket(name, self.system),
            Unit::Language(name) if self.languages > 0 => {
                self.system + self.files + bucket(name, self.languages)
            }
            Unit::Language(name) => bucket(name, self.system),
            Unit::SystemFile if self.files > 0 => self.system,
            Unit::SystemFile | Unit::Application => self.top(),
        }
    }

    fn names(self) -> Vec<String> {
        let numbered = |what: &'static str, count| (1..=count).map(move |n| format!("{what} {n}"));
        let mut names: Vec<String> = numbered("packages", self.system).collect();
        names.extend((0..self.files).map(|_| "system files".to_owned()));
        names.extend(numbered("dependencies", self.languages));
        names.push("application".to_owned());
        names
    }
}

/// Up to `most` layers, the one that changes most on top.
pub(super) fn split_up(
    store: &Store,
    graph: &Graph,
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
        if let Unit::System(name) | Unit::Language(name) = packages.unit(&entry.path) {
            let new = || Encoder::new("kiln-unit", 1);
            let out = encoders.entry(name).or_insert_with(new);
            out.path(&entry.path);
            entry.encode_attributes(out);
        }
    }
    let digests = encoders.into_iter().map(|(name, out)| (name, out.finish()));
    let key = image_key(graph, target);
    let remembered = store.memos().get::<Remembered>("auto-layers", &key)?;
    let mut remembered = remembered.unwrap_or_default();
    remembered.note(digests.collect());
    store.memos().put("auto-layers", &key, &remembered)?;
    let layout = Layout::of(most);
    let layer_of = |path: &ImagePath| layout.layer(&packages.unit(path), &remembered.restless);
    Ok(split::by(content, &layout.names(), layer_of))
}

/// Names an image across its versions: the place in the build file that it is made by.
fn image_key(graph: &Graph, target: &Target) -> Digest {
    let step = graph.step(target.root);
    let file = step.location.as_ref().map(|at| at.file.to_string());
    let mut out = Encoder::new("kiln-auto-layers", 1);
    out.str(&file.unwrap_or_default())
        .str(&step.name.stage)
        .str(&target.platform.to_string());
    out.finish()
}

fn bucket(name: &str, count: usize) -> usize {
    usize::from(Digest::of(name.as_bytes()).as_bytes()[0]) % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_most_of_the_time_is_restless_and_stays_so() {
        let mut remembered = Remembered::default();
        let mut note = |restless: u8| {
            let units = [
                ("calm", Digest::of(b"same")),
                ("restless", Digest::of(&[restless])),
            ];
            remembered.note(units.map(|(name, digest)| (name.to_owned(), digest)).into());
            remembered.restless.clone()
        };
        assert!(note(0).is_empty() && note(1).is_empty());
        let only = BTreeSet::from(["restless".to_owned()]);
        for build in [2, 3, 3, 3, 3, 3] {
            assert_eq!(note(build), only, "{build}");
        }
        assert_eq!(
            remembered.builds, 4,
            "builds that change nothing don't count"
        );
    }

    #[test]
    fn the_application_is_on_top() {
        for most in 1..12 {
            let layout = Layout::of(most);
            assert_eq!(layout.names().len(), most.max(2));
            assert_eq!(
                layout.layer(&Unit::Application, &BTreeSet::new()),
                layout.top()
            );
            let package = Unit::Language("site-packages flask".to_owned());
            assert!(layout.layer(&package, &BTreeSet::new()) < layout.top());
        }
    }
}
