//! What the targets of a bake file may have: the file may be a stranger's.
//!
//! As with `docker buildx bake`, entitlements, SSH agents, and files outside of the working directory
//! need the user's `--allow`. Commands and other places that secrets come from can't be allowed here:
//! they are given to `kiln build`.

use std::path::{Path, PathBuf};

use kiln::output::Output;
use kiln::{ContextFrom, Error, SecretPlace, Secrets};
use kiln_bake::{Target, linked_target};
use kiln_graph::address::IMAGE_SCHEME;
use kiln_graph::{Entitlement, Entitlements};
use kiln_image::ImageName;

use super::cache_spec::{self, Place, Wanted};
use super::file_settings::real;

/// What `--allow` says.
#[derive(Debug)]
pub(super) struct Permissions {
    /// What the builds of targets are allowed.
    words: Vec<String>,
    /// Whether targets may have SSH agents.
    ssh: bool,
    /// The directories are without links; the working directory is one of them.
    allowed: Entitlements,
}

impl Permissions {
    /// Reads the values of `--allow`. Files below the working directory are always allowed.
    pub(super) fn new(allow: &[String]) -> Result<Self, Error> {
        let here = std::env::current_dir().map_err(Error::file("find", Path::new(".")))?;
        let here = place(&here);
        let mut all = Self {
            words: Vec::new(),
            ssh: false,
            allowed: Entitlements::default(),
        };
        all.allowed.allow(Entitlement::Read(here.clone()));
        all.allowed.allow(Entitlement::Write(here));
        for word in allow.iter().flat_map(|words| words.split(',')) {
            match word.split_once('=') {
                None if word == "ssh" => all.ssh = true,
                Some(("fs", directory)) => {
                    all.add("fs.read", directory);
                    all.add("fs.write", directory);
                }
                Some((key, directory)) => all.add(key, directory),
                None => all.words.push(word.to_owned()),
            }
        }
        Ok(all)
    }

    fn add(&mut self, key: &str, directory: &str) {
        let directory = if directory == "*" { "/" } else { directory };
        let word = format!("{key}={directory}");
        // What is no entitlement is refused by the build.
        if let Ok(entitlement) = word.parse() {
            self.allowed.allow(match entitlement {
                Entitlement::Read(directory) => Entitlement::Read(place(&directory)),
                Entitlement::Write(directory) => Entitlement::Write(place(&directory)),
                other => other,
            });
        }
        self.words.push(word);
    }

    /// The values of `--allow` for the builds of targets.
    pub(super) fn of_build(&self) -> &[String] {
        &self.words
    }

    /// Whether a target asks for nothing else.
    ///
    /// # Errors
    /// With what it asks for, and how to allow it.
    pub(super) fn check(&self, name: &str, target: &Target) -> Result<(), Error> {
        let checked = self
            .entitlements(target)
            .and_then(|()| self.contexts(target))
            .and_then(|()| self.secrets(target))
            .and_then(|()| self.caches(target))
            .and_then(|()| self.outputs(target));
        checked.map_err(|asked| Error::Usage(format!("the target {name} {asked}")))
    }

    fn entitlements(&self, target: &Target) -> Result<(), String> {
        let host = target.text("network") == Some("host");
        let host = host.then(|| "network.host".to_owned());
        let ssh = (!target.list("ssh").is_empty()).then(|| "ssh".to_owned());
        let asked = target.list("entitlements").into_iter();
        for word in asked.chain(host).chain(ssh) {
            let is_allowed = (word == "ssh" && self.ssh) || self.words.contains(&word);
            if !is_allowed {
                return Err(format!("asks for {word}: allow it with --allow {word}"));
            }
        }
        Ok(())
    }

    fn contexts(&self, target: &Target) -> Result<(), String> {
        self.context(target.text("context").unwrap_or("."))?;
        for (_, source) in target.pairs("contexts") {
            if linked_target(&source).is_none() {
                self.context(&source)?;
            }
        }
        match target.text("dockerfile-inline") {
            Some(_) => Ok(()),
            None => super::bake_words::build_file(target).map_or(Ok(()), |path| self.reads(&path)),
        }
    }

    fn context(&self, source: &str) -> Result<(), String> {
        if source.starts_with(IMAGE_SCHEME) || source.starts_with("target:") {
            return Ok(());
        }
        match source.parse() {
            Ok(
                ImageName::Layout {
                    directory: path, ..
                }
                | ImageName::Archive { file: path, .. },
            ) => return self.reads(&path),
            Ok(ImageName::Daemon(_)) => return self.reads(Path::new("/")),
            Ok(ImageName::Registry(_)) | Err(_) => {}
        }
        match ContextFrom::from(source) {
            ContextFrom::Directory(directory) => self.reads(&directory),
            _ => Ok(()),
        }
    }

    fn secrets(&self, target: &Target) -> Result<(), String> {
        let secrets = Secrets::default();
        for text in target.list("secret") {
            // What can't be read is refused by the build.
            match secrets.reads(&text) {
                Ok(Some(SecretPlace::File(path))) => self.reads(&path)?,
                Ok(Some(SecretPlace::Provider(provider))) => {
                    return Err(format!(
                        "takes a secret from {provider}, which a bake file can't: give --secret to kiln build"
                    ));
                }
                Ok(None) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn caches(&self, target: &Target) -> Result<(), String> {
        for text in target.list("cache-from") {
            if let Some(directory) = cache_directory("--cache-from", &text)? {
                self.reads(&directory)?;
            }
        }
        for text in target.list("cache-to") {
            if let Some(directory) = cache_directory("--cache-to", &text)? {
                self.writes(&directory)?;
            }
        }
        Ok(())
    }

    fn outputs(&self, target: &Target) -> Result<(), String> {
        for text in target.list("output") {
            let output = text.parse::<Output>().ok();
            let dest = output.as_ref().and_then(Output::dest);
            if let Some(dest) = dest.filter(|dest| *dest != Path::new("-")) {
                self.writes(dest)?;
            }
        }
        Ok(())
    }

    pub(super) fn reads(&self, path: &Path) -> Result<(), String> {
        match real(path) {
            Some(real) if self.allowed.may_read(&real) => Ok(()),
            found => Err(outside("reads", "fs.read", &found, path)),
        }
    }

    fn writes(&self, path: &Path) -> Result<(), String> {
        match real(path) {
            Some(real) if self.allowed.may_write(&real) => Ok(()),
            found => Err(outside("writes", "fs.write", &found, path)),
        }
    }
}

/// A directory's path without links, as far as it is there.
fn place(directory: &Path) -> PathBuf {
    real(directory).unwrap_or_else(|| directory.to_owned())
}

/// What a target does with a path that isn't allowed, which is named as it really is.
fn outside(does: &str, word: &str, real: &Option<PathBuf>, path: &Path) -> String {
    let at = real.as_deref().unwrap_or(path).display();
    format!("{does} {at}: allow it with --allow {word}={at}")
}

/// The directory of a shared cache, if it is one. Servers whose clients run or read what the spec
/// names are for the user to name.
fn cache_directory(flag: &str, text: &str) -> Result<Option<PathBuf>, String> {
    let Ok(Wanted::Place(spec)) = cache_spec::read(flag, text) else {
        return Ok(None);
    };
    match spec.place {
        Place::Directory(directory) => Ok(Some(directory)),
        #[cfg(feature = "reapi")]
        Place::Reapi(server) if server.names_files() => Err(format!(
            "names files or a program of this machine in {flag} {}, which a bake file can't: give it to kiln build",
            cache_spec::hidden(text)
        )),
        _ => Ok(None),
    }
}
