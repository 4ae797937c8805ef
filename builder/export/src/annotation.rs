//! Annotations of an image's documents, as `docker build --annotation` takes them:
//! `[KIND[[PLATFORM]],…:]NAME=VALUE`. A kind says which document is annotated; without one it is the
//! manifest, of every platform.

use std::collections::BTreeMap;

use kiln_graph::Platform;

/// What an annotation is of (BuildKit's `exptypes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Annotation {
    kind: Kind,
    /// `None`: every platform.
    platform: Option<Platform>,
    name: String,
    value: String,
}

/// All annotations that an image is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

impl Annotations {
    /// Adds `[KIND[[PLATFORM]],…:]NAME=VALUE`.
    ///
    /// # Errors
    /// In words, when it is none.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let bad = || format!("'{text}' is no annotation: write [KIND:]NAME=VALUE");
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let (kinds, name) = match key.split_once(':') {
            Some((kinds, name)) => (kinds, name),
            None => ("manifest", key),
        };
        if name.is_empty() {
            return Err(bad());
        }
        for kind in kinds.split(',') {
            let (kind, platform) = read_kind(kind)?;
            self.0.push(Annotation {
                kind,
                platform,
                name: name.to_owned(),
                value: value.to_owned(),
            });
        }
        Ok(())
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Whether some are of an index, which only images of several platforms have.
    #[must_use]
    pub fn want_index(&self) -> bool {
        let of_index = |it: &Annotation| matches!(it.kind, Kind::Index | Kind::IndexDescriptor);
        self.0.iter().any(of_index)
    }

    fn of(&self, kind: Kind, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let wanted = self.0.iter().filter(|annotation| {
            annotation.kind == kind
                && (annotation.platform.is_none() || annotation.platform.as_ref() == platform)
        });
        wanted
            .map(|annotation| (annotation.name.clone(), annotation.value.clone()))
            .collect()
    }

    pub(crate) fn of_manifest(&self, platform: &Platform) -> BTreeMap<String, String> {
        self.of(Kind::Manifest, Some(platform))
    }

    pub(crate) fn of_manifest_descriptor(&self, platform: &Platform) -> BTreeMap<String, String> {
        self.of(Kind::ManifestDescriptor, Some(platform))
    }

    pub(crate) fn of_index(&self) -> IndexAnnotations {
        IndexAnnotations {
            index: self.of(Kind::Index, None),
            descriptor: self.of(Kind::IndexDescriptor, None),
        }
    }
}

/// What is said of the index that names several images.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexAnnotations {
    pub(crate) index: BTreeMap<String, String>,
    pub(crate) descriptor: BTreeMap<String, String>,
}

fn read_kind(text: &str) -> Result<(Kind, Option<Platform>), String> {
    let (name, platform) = match text.split_once('[') {
        Some((name, rest)) => {
            let platform = rest.strip_suffix(']');
            let platform = platform.ok_or_else(|| format!("'{text}' has no closing bracket"))?;
            let platform = platform.parse::<Platform>();
            (name, Some(platform.map_err(|error| error.to_string())?))
        }
        None => (text, None),
    };
    let kind = match name {
        "manifest" => Kind::Manifest,
        "manifest-descriptor" => Kind::ManifestDescriptor,
        "index" => Kind::Index,
        "index-descriptor" => Kind::IndexDescriptor,
        other => {
            return Err(format!(
                "unknown kind of annotation '{other}': use manifest, manifest-descriptor, index or index-descriptor"
            ));
        }
    };
    if platform.is_some() && matches!(kind, Kind::Index | Kind::IndexDescriptor) {
        return Err(format!("'{text}': an index is of no platform"));
    }
    Ok((kind, platform))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_say_where_they_go() {
        let mut all = Annotations::default();
        for text in [
            "plain=0",
            "manifest:m=1",
            "manifest[linux/arm64]:arm=2",
            "index,manifest:both=3",
            "index-descriptor:id=4",
            "manifest-descriptor[linux/amd64],manifest:url=http://x:1/?a=b",
        ] {
            all.add(text).unwrap();
        }
        let (amd, arm): (Platform, Platform) = (
            "linux/amd64".parse().unwrap(),
            "linux/arm64".parse().unwrap(),
        );
        let names = |map: BTreeMap<String, String>| map.into_keys().collect::<Vec<_>>().join(" ");
        assert_eq!(names(all.of_manifest(&amd)), "both m plain url");
        assert_eq!(names(all.of_manifest(&arm)), "arm both m plain url");
        assert_eq!(all.of_manifest(&amd)["url"], "http://x:1/?a=b");
        assert_eq!(names(all.of_manifest_descriptor(&amd)), "url");
        assert_eq!(names(all.of_manifest_descriptor(&arm)), "");
        assert_eq!(names(all.of_index().index), "both");
        assert_eq!(names(all.of_index().descriptor), "id");
        assert!(all.want_index());
        for bad in [
            "x",
            "=1",
            "manifest:=1",
            "bogus:a=1",
            "manifest[:a=1",
            "manifest[x y]:a=1",
            "index[linux/amd64]:a=1",
            "manifest,:a=1",
        ] {
            assert!(Annotations::default().add(bad).is_err(), "{bad}");
        }
    }
}
