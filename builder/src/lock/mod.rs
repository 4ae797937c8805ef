//! `kiln.lock`: what the mutable names in a build file stand for.
//!
//! Version 1 is a TOML file beside the build file: `kiln.lock` for `kiln.toml` and `Dockerfile`,
//! `NAME.lock` for other names. Unknown keys and newer versions are refused.
//!
//! ```toml
//! version = 1
//!
//! [[image]]                  # the digest of the manifest or index that the name stands for
//! name = "debian:bookworm"
//! digest = "sha256:…"
//! verify = { key = "k.pub" } # signatures it must have, written by hand and kept (`SignatureRule`),
//!                            # also while the build file doesn't name the image
//!
//! [[git]]
//! remote = "https://git.example/code"
//! ref = "main"
//! commit = "40 hexadecimal digits, or 64 by SHA-256"
//!
//! [[http]]
//! url = "https://example.org/file"
//! checksum = "sha256:…"
//! ```

mod change;
mod locker;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use kiln_engine::Pins;
use kiln_graph::{BlobDigest, is_commit};
use kiln_image::ImageName;
use serde::{Deserialize, Serialize};

use crate::{Error, SignatureRule};
pub use change::changes;
pub use locker::{Locker, Open};

/// The version of the form that is written.
const VERSION: u32 = 1;

/// What is locked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Digests by the images' names.
    pub images: BTreeMap<String, BlobDigest>,
    /// Signatures that images must have, by their names.
    pub signatures: BTreeMap<String, SignatureRule>,
    /// Commits and checksums.
    pub sources: Pins,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    image: Vec<Image>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    git: Vec<Git>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    http: Vec<Http>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    name: String,
    digest: BlobDigest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verify: Option<SignatureRule>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Git {
    remote: String,
    #[serde(rename = "ref", default, skip_serializing_if = "String::is_empty")]
    reference: String,
    commit: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    url: String,
    checksum: BlobDigest,
}

impl Lock {
    /// Reads a lock; `shown` is the file's name for messages.
    ///
    /// # Errors
    /// When it is none, or of a newer version.
    pub fn parse(shown: &str, text: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::Usage(format!("{shown}: {why}"));
        let version: Version =
            toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        if version.version != VERSION {
            return Err(wrong(format!(
                "version {} was written by a newer kiln: use that one, or remove the file and run 'kiln lock'",
                version.version
            )));
        }
        let document: Document = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let mut signatures = BTreeMap::new();
        let mut names = BTreeSet::new();
        for image in &document.image {
            if !names.insert(full_name(&image.name)) {
                let name = &image.name;
                return Err(wrong(format!(
                    "the image {name} is there twice: keep one entry"
                )));
            }
            if let Some(rule) = &image.verify {
                rule.check()
                    .map_err(|reason| wrong(format!("verify of {}: {reason}", image.name)))?;
                signatures.insert(image.name.clone(), rule.clone());
            }
        }
        let images = document.image.into_iter();
        let (mut git, mut http) = (BTreeMap::new(), BTreeMap::new());
        for entry in document.git {
            if !is_commit(&entry.commit) {
                return Err(wrong(format!("'{}' is no commit", entry.commit)));
            }
            git.insert((entry.remote, entry.reference), entry.commit);
        }
        for entry in document.http {
            http.insert(entry.url, entry.checksum);
        }
        Ok(Self {
            images: images.map(|image| (image.name, image.digest)).collect(),
            signatures,
            sources: Pins { git, http },
        })
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let image = |(name, digest): (&String, &BlobDigest)| Image {
            name: name.clone(),
            digest: *digest,
            verify: self.signatures.get(name).cloned(),
        };
        let git = |((remote, reference), commit): (&(String, String), &String)| Git {
            remote: remote.clone(),
            reference: reference.clone(),
            commit: commit.clone(),
        };
        let http = |(url, checksum): (&String, &BlobDigest)| Http {
            url: url.clone(),
            checksum: *checksum,
        };
        let document = Document {
            version: VERSION,
            image: self.images.iter().map(image).collect(),
            git: self.sources.git.iter().map(git).collect(),
            http: self.sources.http.iter().map(http).collect(),
        };
        let text = toml::to_string(&document).unwrap_or_default();
        format!("# Written by 'kiln lock'; keep it beside the build file.\n{text}")
    }
}

/// Where the lock of a build file lies.
#[must_use]
pub fn beside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default();
    let usual = ["kiln.toml", "Dockerfile", "dockerfile"].map(OsStr::new);
    if usual.contains(&name) {
        return file.with_file_name("kiln.lock");
    }
    let mut name = name.to_owned();
    name.push(".lock");
    file.with_file_name(name)
}

/// The one full spelling of an image's name: `debian:12` and `docker.io/library/debian:12` are the
/// same image. A tag says which image is meant, whatever digest is beside it.
fn full_name(name: &str) -> String {
    match name.parse() {
        Ok(ImageName::Registry(mut reference)) => {
            if reference.tag.is_some() {
                reference.digest = None;
            }
            reference.to_string()
        }
        _ => name.to_owned(),
    }
}

/// The entry of an image, whichever of its spellings the entry has.
fn find<'a, T>(all: &'a BTreeMap<String, T>, name: &str) -> Option<(&'a String, &'a T)> {
    let exact = all.get_key_value(name);
    exact.or_else(|| {
        let name = full_name(name);
        all.iter().find(|(own, _)| full_name(own) == name)
    })
}

/// Whether what an image's name stands for can change.
pub(crate) fn is_mutable(name: &str) -> bool {
    match name.parse() {
        Ok(ImageName::Registry(reference)) => reference.digest.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(byte: u8) -> BlobDigest {
        BlobDigest::from_sha256([byte; 32])
    }

    #[test]
    fn what_is_written_is_read() {
        let lock = Lock {
            images: [("debian:12".to_owned(), sum(1))].into(),
            signatures: [(
                "debian:12".to_owned(),
                SignatureRule {
                    keys: vec!["a.pub".into(), "b.pub".into()],
                    threshold: Some(2),
                    ..SignatureRule::default()
                },
            )]
            .into(),
            sources: Pins {
                git: [(
                    ("https://git.example/a".to_owned(), String::new()),
                    "0123456789".repeat(4),
                )]
                .into(),
                http: [("https://example.org/a".to_owned(), sum(2))].into(),
            },
        };
        assert_eq!(Lock::parse("kiln.lock", &lock.text()).unwrap(), lock);
        insta::assert_snapshot!(lock.text(), @r#"
        # Written by 'kiln lock'; keep it beside the build file.
        version = 1

        [[image]]
        name = "debian:12"
        digest = "sha256:0101010101010101010101010101010101010101010101010101010101010101"

        [image.verify]
        keys = ["a.pub", "b.pub"]
        threshold = 2

        [[git]]
        remote = "https://git.example/a"
        commit = "0123456789012345678901234567890123456789"

        [[http]]
        url = "https://example.org/a"
        checksum = "sha256:0202020202020202020202020202020202020202020202020202020202020202"
        "#);
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        let entry = |name: &str| format!("[[image]]\nname = '{name}'\ndigest = '{}'\n", sum(1));
        let twice = format!(
            "version = 1\n{}{}",
            entry("a"),
            entry("docker.io/library/a:latest")
        );
        let cases = [
            ("", "missing field `version`"),
            ("version = 2\nnew = 1\n", "written by a newer kiln"),
            ("version = 1\nimages = []\n", "unknown field `images`"),
            (
                "version = 1\n[[image]]\nname = 'a'\ndigest = 'sha256:1'\n",
                "digest",
            ),
            (
                "version = 1\n[[image]]\nname = 'a'\ndigest = 'sha256:0101010101010101010101010101010101010101010101010101010101010101'\nverify = { threshold = 2 }\n",
                "verify of a: name who must have signed",
            ),
            (
                &twice,
                "the image docker.io/library/a:latest is there twice",
            ),
            (
                "version = 1\n[[git]]\nremote = 'a'\ncommit = 'main'\n",
                "'main' is no commit",
            ),
        ];
        for (text, want) in cases {
            let error = Lock::parse("kiln.lock", text).unwrap_err().to_string();
            assert!(
                error.starts_with("kiln.lock: ") && error.contains(want),
                "{error}"
            );
        }
    }

    #[test]
    fn an_image_has_one_entry_however_it_is_spelled() {
        let digest = format!("debian:12@{}", sum(3));
        let all = [("debian:12".to_owned(), 1), ("oci:dir".to_owned(), 2)].into();
        for (name, want) in [
            ("debian:12", Some(1)),
            ("docker.io/library/debian:12", Some(1)),
            (&digest, Some(1)),
            ("oci:dir", Some(2)),
            ("debian", None),
            ("docker.io/debian:13", None),
        ] {
            assert_eq!(find(&all, name).map(|(_, found)| *found), want, "{name}");
        }
    }

    #[test]
    fn signatures_outlive_names() {
        let rule = SignatureRule {
            key: Some("a.pub".into()),
            ..SignatureRule::default()
        };
        let lock = |name: &str, byte: u8| Lock {
            images: [(name.to_owned(), sum(byte))].into(),
            ..Lock::default()
        };
        let mut before = lock("debian:12", 1);
        before
            .signatures
            .insert("debian:12".to_owned(), rule.clone());
        // Spelled otherwise now: one entry, with the new digest.
        let mut after = lock("docker.io/library/debian:12", 2);
        after.keep_signatures(&before);
        after.add(before.clone());
        assert_eq!(after.images, lock("docker.io/library/debian:12", 2).images);
        assert_eq!(
            after.signatures.keys().collect::<Vec<_>>(),
            ["docker.io/library/debian:12"]
        );
        // Not named any more.
        let mut after = lock("alpine", 3);
        after.keep_signatures(&before);
        assert_eq!(after.images["debian:12"], sum(1));
        assert!(after.text().contains("a.pub"));
        before.forget("docker.io/library/debian:12").unwrap();
        assert!(before.images.is_empty() && before.signatures.len() == 1);
    }

    #[test]
    fn names_of_locks() {
        let cases = [
            ("a/kiln.toml", "a/kiln.lock"),
            ("a/Dockerfile", "a/kiln.lock"),
            ("a/web.Dockerfile", "a/web.Dockerfile.lock"),
        ];
        for (file, want) in cases {
            assert_eq!(beside(Path::new(file)), Path::new(want));
        }
        let digest = format!("a@{}", sum(0));
        for (name, want) in [
            ("a", true),
            ("a:1", true),
            (digest.as_str(), false),
            ("oci:a", false),
        ] {
            assert_eq!(is_mutable(name), want, "{name}");
        }
    }
}
