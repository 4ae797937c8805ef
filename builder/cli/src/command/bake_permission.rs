//! What the targets of a bake file may have: the file may be a stranger's.
//!
//! As with `docker buildx bake`, entitlements, SSH agents, and files outside of the working directory
//! need the user's `--allow`. Commands and other places that secrets come from can't be allowed here:
//! they are given to `kiln build`.

use std::path::{Path, PathBuf};

use kiln::output::Output;
use kiln::{ContextFrom, Error, SecretPlace, Secrets};
use kiln_bake::{Target, linked_target};

use super::cache_spec::{self, Place, Wanted};
use super::file_settings::real;

/// Beginnings of contexts that are images of this machine.
const IMAGES: [&str; 4] = ["oci-layout://", "oci-archive:", "docker-archive:", "oci:"];

/// What `--allow` says.
#[derive(Debug)]
pub(super) struct Permissions {
    /// `network.host` and the like.
    words: Vec<String>,
    /// Directories that may be read, without links.
    read: Vec<PathBuf>,
    /// Directories that may be written, without links.
    write: Vec<PathBuf>,
    here: PathBuf,
}

impl Permissions {
    /// Reads the values of `--allow`. Files below the working directory are always allowed.
    pub(super) fn new(allow: &[String]) -> Result<Self, Error> {
        let here = std::env::current_dir().map_err(Error::file("find", Path::new(".")))?;
        let here = real(&here).unwrap_or(here);
        let mut all = Self {
            words: Vec::new(),
            read: Vec::new(),
            write: Vec::new(),
            here,
        };
        for word in allow.iter().flat_map(|words| words.split(',')) {
            all.add(word);
        }
        Ok(all)
    }

    fn add(&mut self, word: &str) {
        let place = |directory: &str| match directory {
            "*" => PathBuf::from("/"),
            directory => real(Path::new(directory)).unwrap_or_else(|| directory.into()),
        };
        match word.split_once('=') {
            Some(("fs", directory)) => {
                self.read.push(place(directory));
                self.write.push(place(directory));
            }
            Some(("fs.read", directory)) => self.read.push(place(directory)),
            Some(("fs.write", directory)) => self.write.push(place(directory)),
            _ => self.words.push(word.to_owned()),
        }
    }

    /// The values of `--allow` for the builds of targets.
    pub(super) fn of_build(&self) -> impl Iterator<Item = String> {
        let words = self.words.iter().filter(|word| *word != "ssh").cloned();
        let read = self
            .read
            .iter()
            .map(|at| format!("fs.read={}", at.display()));
        let write = self
            .write
            .iter()
            .map(|at| format!("fs.write={}", at.display()));
        words.chain(read).chain(write)
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
        for asked in target
            .list("entitlements")
            .into_iter()
            .chain(host)
            .chain(ssh)
        {
            if !self.words.contains(&asked) {
                return Err(format!("asks for {asked}: allow it with --allow {asked}"));
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
            None => super::bake::build_file(target).map_or(Ok(()), |path| self.reads(&path)),
        }
    }

    fn context(&self, source: &str) -> Result<(), String> {
        if source.starts_with("docker-image://") || source.starts_with("target:") {
            return Ok(());
        }
        if source.starts_with("docker-daemon:") {
            return self.reads(Path::new("/"));
        }
        if let Some(path) = IMAGES.iter().find_map(|start| source.strip_prefix(start)) {
            return self.reads(Path::new(path));
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

    fn reads(&self, path: &Path) -> Result<(), String> {
        self.inside(&self.read, path)
            .map_err(|at| format!("reads {at}: allow it with --allow fs.read={at}"))
    }

    fn writes(&self, path: &Path) -> Result<(), String> {
        self.inside(&self.write, path)
            .map_err(|at| format!("writes {at}: allow it with --allow fs.write={at}"))
    }

    /// An error with the path as it really is, unless it is in an allowed directory.
    fn inside(&self, allowed: &[PathBuf], path: &Path) -> Result<(), String> {
        let real = real(path).ok_or_else(|| path.display().to_string())?;
        let mut allowed = allowed.iter().chain([&self.here]);
        match allowed.any(|directory| real.starts_with(directory)) {
            true => Ok(()),
            false => Err(real.display().to_string()),
        }
    }
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
            "names files or a program of this machine in {flag} {text}, which a bake file can't: give it to kiln build"
        )),
        _ => Ok(None),
    }
}
