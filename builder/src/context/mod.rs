//! Build contexts: directories, what comes on standard input, git repositories, files on web servers.
//!
//! What isn't a directory is fetched by a small build of its own, so that the store keeps it and
//! asks only whether it has changed.

mod given;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_engine::{Engine, EventSink, Pins, Request, SecretProvider, Solved};
use kiln_frontend_dockerfile::{is_remote, read_remote};
use kiln_graph::{
    Build, ContextSource, CopyFiles, Entitlements, FileAction, Files, GitSource, ImagePath, Input,
    Op, Owner, Platform, Step, StepId, Target, UnixId,
};
use kiln_image::layer::is_tar;

pub(crate) use given::Given;

use crate::{DockerfileRequest, Error};

/// Where a build's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextFrom {
    /// A directory of this machine.
    Directory(PathBuf),
    /// Standard input: a tar archive, or a Dockerfile that needs no files.
    Stdin,
    /// A file of this machine with what else standard input would give. It is needed until the
    /// context is fetched.
    File(PathBuf),
    /// A git repository, or a tar archive or Dockerfile on a web server.
    Remote(String),
}

impl Default for ContextFrom {
    fn default() -> Self {
        Self::Directory(".".into())
    }
}

impl From<&str> for ContextFrom {
    fn from(text: &str) -> Self {
        match text {
            "-" => Self::Stdin,
            text if is_remote(text) => Self::Remote(text.to_owned()),
            text if text.starts_with("github.com/") => Self::Remote(github(text)),
            text => Self::Directory(text.into()),
        }
    }
}

/// `github.com/OWNER/NAME`, as `docker build` takes it.
fn github(text: &str) -> String {
    let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
    let suffix = if address.ends_with(".git") {
        ""
    } else {
        ".git"
    };
    let mark = if fragment.is_empty() { "" } else { "#" };
    format!("https://{address}{suffix}{mark}{fragment}")
}

/// A context whose files are there.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The directory with its files.
    pub(crate) directory: PathBuf,
    /// The build file's text, when the context is nothing else.
    pub(crate) text: Option<String>,
    /// When it was made, for contexts that say so, in seconds since 1970.
    pub(crate) time: Option<i64>,
    /// Keeps the directory from being collected.
    pub(crate) kept: Option<Solved>,
}

/// Brings contexts here.
pub(crate) struct Fetcher<'a> {
    engine: &'a Engine,
    events: Arc<dyn EventSink>,
    allowed: &'a Entitlements,
    secrets: Option<Arc<dyn SecretProvider>>,
    pins: &'a Pins,
    is_foreign: bool,
    /// What standard input gives, in place of this process's own.
    input: Option<&'a str>,
}

/// Whose idea an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// The user's, who typed it: it is reached with what is theirs.
    ByUser,
    ByBuildFile,
}

/// A small build that brings files here.
struct Small<'s> {
    name: &'s str,
    source: Op,
    /// The directory of the source, when it is a local one.
    directory: Option<&'s Path>,
    unpack: bool,
    named: Named,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(engine: &'a Engine, request: &'a DockerfileRequest) -> Self {
        Self {
            engine,
            events: request.events(),
            allowed: &request.allowed,
            secrets: request.secrets.clone(),
            pins: &request.context_pins,
            is_foreign: request.is_foreign,
            input: request.input.as_deref(),
        }
    }

    /// Brings a context here. `keep_git_dir` is for repositories that don't say it themselves.
    pub(crate) fn fetch(&self, from: &ContextFrom, keep_git_dir: bool) -> Result<Fetched, Error> {
        match from {
            ContextFrom::Directory(directory) => Ok(Fetched {
                directory: directory.clone(),
                text: None,
                time: None,
                kept: None,
            }),
            ContextFrom::Stdin => match self.input {
                Some(text) => self.copied(&mut text.as_bytes(), "standard input"),
                None => self.copied(&mut std::io::stdin().lock(), "standard input"),
            },
            ContextFrom::File(path) => {
                let file = std::fs::File::open(path).map_err(Error::file("read", path))?;
                self.copied(&mut &file, "a file")
            }
            ContextFrom::Remote(address) => self.remote(address, keep_git_dir),
        }
    }

    fn copied(&self, from: &mut dyn std::io::Read, name: &str) -> Result<Fetched, Error> {
        let scratch = self.engine.store().scratch_directory()?;
        let file = scratch.join("context");
        let fail = |source| Error::File {
            what: format!("cannot read the build context from {name}"),
            source,
        };
        let copied = std::fs::File::create(&file).and_then(|mut out| std::io::copy(from, &mut out));
        let fetched = copied.map_err(fail).and_then(|_| {
            let source = Op::Context(ContextSource {
                name: "stdin".to_owned(),
                ignore: Vec::new(),
            });
            self.as_context(&file, source, Some(&scratch), None)
        });
        _ = std::fs::remove_dir_all(&scratch);
        fetched
    }

    fn remote(&self, address: &str, keep_git_dir: bool) -> Result<Fetched, Error> {
        let keep_git_dir = keep_git_dir.then_some(true);
        let source = read_remote(address, None, keep_git_dir).map_err(Error::Usage)?;
        let is_git = matches!(source, Op::Git(_));
        let (solved, root) = self.solve(&Small {
            name: address,
            source: source.clone(),
            directory: None,
            unpack: false,
            named: Named::ByUser,
        })?;
        let (directory, time) = (solved.directory(root)?, solved.latest_time(root)?);
        if is_git {
            return Ok(Fetched {
                directory,
                text: None,
                time,
                kept: Some(solved),
            });
        }
        self.as_context(&only_file(&directory), source, None, time)
    }

    /// Brings a commit of a repository that a build file names here: its files, for as long as the
    /// build is kept.
    pub(crate) fn commit(&self, remote: &str, commit: &str) -> Result<(Solved, PathBuf), Error> {
        let source = Op::Git(GitSource {
            remote: remote.to_owned(),
            reference: commit.to_owned(),
            subdir: ImagePath::root(),
            keep_git_dir: false,
            checksum: Some(commit.to_owned()),
            submodules: false,
        });
        let (solved, root) = self.solve(&Small {
            name: remote,
            source,
            directory: None,
            unpack: false,
            named: Named::ByBuildFile,
        })?;
        let directory = solved.directory(root)?;
        Ok((solved, directory))
    }

    /// An archive is unpacked; anything else is a Dockerfile that needs no files. `time` is when the
    /// file was made; of an archive without it, the latest time in it counts.
    fn as_context(
        &self,
        file: &Path,
        source: Op,
        scratch: Option<&Path>,
        time: Option<i64>,
    ) -> Result<Fetched, Error> {
        let is_archive = std::fs::File::open(file).is_ok_and(is_tar);
        let (name, source, directory) = match is_archive {
            true => ("build context", source, scratch),
            false => ("no files", Op::Scratch, None),
        };
        let text = match is_archive {
            true => None,
            false => Some(read_text(file)?),
        };
        let (solved, root) = self.solve(&Small {
            name,
            source,
            directory,
            unpack: is_archive,
            named: Named::ByUser,
        })?;
        let latest = match is_archive {
            true => solved.latest_time(root)?,
            false => None,
        };
        Ok(Fetched {
            directory: solved.directory(root)?,
            text,
            time: time.or(latest),
            kept: Some(solved),
        })
    }

    /// When a source that a build file names was made; of an archive that its server says no time of, the
    /// latest time in it. `settle` pins the source, and refuses what may not be used.
    pub(crate) fn time(
        &self,
        name: &str,
        source: &Op,
        settle: &dyn Fn(&mut Request) -> Result<(), Error>,
    ) -> Result<Option<i64>, Error> {
        let solve = |unpack| {
            let (mut request, root) = self.request(&Small {
                name,
                source: source.clone(),
                directory: None,
                unpack,
                named: Named::ByBuildFile,
            })?;
            settle(&mut request)?;
            Ok::<_, Error>((self.engine.solve(request)?, root))
        };
        let (solved, root) = solve(false)?;
        let time = solved.latest_time(root)?;
        if time.is_some() || matches!(source, Op::Git(_)) {
            return Ok(time);
        }
        if !std::fs::File::open(only_file(&solved.directory(root)?)).is_ok_and(is_tar) {
            return Ok(None);
        }
        let (solved, root) = solve(true)?;
        Ok(solved.latest_time(root)?)
    }

    fn solve(&self, small: &Small<'_>) -> Result<(Solved, StepId), Error> {
        let (request, root) = self.request(small)?;
        Ok((self.engine.solve(request)?, root))
    }

    fn request(&self, small: &Small<'_>) -> Result<(Request, StepId), Error> {
        let mut build = Build::default();
        let mut root = add(&mut build, small.name, small.source.clone(), Vec::new())?;
        if small.unpack {
            let name = "unpack the build context";
            root = add(&mut build, name, unpacked(), vec![root])?;
        }
        build.targets.push(Target {
            platform: Platform::host(),
            root,
            config: kiln_graph::ImageConfig::scratch(&Platform::host()),
            history: Vec::new(),
        });
        let mut request = Request::new(build);
        request.events = self.events.clone();
        request.allowed = self.allowed.clone();
        if small.named == Named::ByUser {
            request.pins.clone_from(self.pins);
        }
        request.own_git = small.named == Named::ByUser && !self.is_foreign;
        if let Some(secrets) = &self.secrets {
            request.secrets = secrets.clone();
        }
        if let Some(directory) = small.directory {
            let name = "stdin".to_owned();
            request.contexts.insert(name, directory.to_owned());
        }
        Ok((request, root))
    }
}

/// The one file of a directory that a download is in.
fn only_file(directory: &Path) -> PathBuf {
    let only = std::fs::read_dir(directory)
        .ok()
        .and_then(|mut names| names.next()?.ok());
    only.map_or_else(|| directory.to_owned(), |entry| entry.path())
}

/// Reads a build file.
pub(crate) fn read_text(file: &Path) -> Result<String, Error> {
    if file != Path::new("-") {
        return text_of(file, std::fs::read(file));
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    text_of(file, read.map(|_| bytes))
}

/// A build file's text from its bytes.
pub(crate) fn text_of(file: &Path, read: std::io::Result<Vec<u8>>) -> Result<String, Error> {
    let text = read.and_then(|bytes| {
        let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        String::from_utf8(bytes).map_err(invalid)
    });
    text.map_err(Error::file("read", file))
}

fn add(build: &mut Build, name: &str, op: Op, inputs: Vec<StepId>) -> Result<StepId, Error> {
    let step = Step::plain(name, op, Platform::host());
    let added = build.graph.add(step, inputs);
    added.map_err(|error| Error::Defect(error.to_string()))
}

fn unpacked() -> Op {
    let copy = CopyFiles {
        owner: Some(Owner::Ids {
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
        }),
        unpack: true,
        ..CopyFiles::new(Input(0), "*", ImagePath::root())
    };
    Op::Files(Files {
        base: None,
        actions: vec![FileAction::Copy(Box::new(copy))],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_context_may_be() {
        let cases = [
            ("-", ContextFrom::Stdin),
            ("a/b", ContextFrom::Directory("a/b".into())),
            (
                "https://x.example/a.git#main:sub",
                ContextFrom::Remote("https://x.example/a.git#main:sub".into()),
            ),
            (
                "github.com/a/b#v1",
                ContextFrom::Remote("https://github.com/a/b.git#v1".into()),
            ),
        ];
        for (text, want) in cases {
            assert_eq!(ContextFrom::from(text), want);
        }
    }
}
