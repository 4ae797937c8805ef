//! Build contexts: folders, what comes on standard input, git repositories, files on web servers.
//!
//! What isn't a folder is fetched by a small build of its own, so that the store keeps it and
//! asks only whether it has changed.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_engine::{Engine, EventSink, Request, Solved};
use kiln_frontend_dockerfile::{is_remote, read_remote};
use kiln_graph::{
    Build, ContextSource, CopyFiles, FileAction, Files, GitSource, ImagePath, Input, Op, Owner,
    Platform, Step, StepId, StepName, Target, UnixId,
};
use kiln_image::layer::is_tar;

use crate::Error;

/// Where a build's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextFrom {
    /// A folder of this machine.
    Folder(PathBuf),
    /// Standard input: a tar archive, or a Dockerfile that needs no files.
    Stdin,
    /// A git repository, or a tar archive or Dockerfile on a web server.
    Remote(String),
}

impl Default for ContextFrom {
    fn default() -> Self {
        Self::Folder(".".into())
    }
}

impl From<&str> for ContextFrom {
    fn from(text: &str) -> Self {
        match text {
            "-" => Self::Stdin,
            text if is_remote(text) => Self::Remote(text.to_owned()),
            text if text.starts_with("github.com/") => Self::Remote(github(text)),
            text => Self::Folder(text.into()),
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
    /// The folder with its files.
    pub(crate) folder: PathBuf,
    /// The build file's text, when the context is nothing else.
    pub(crate) text: Option<String>,
    /// When it was made, for contexts that say so, in seconds since 1970.
    pub(crate) time: Option<i64>,
    /// Keeps the folder from being collected.
    pub(crate) kept: Option<Solved>,
}

/// Brings a context here.
pub(crate) fn fetch(
    engine: &Engine,
    from: &ContextFrom,
    events: &Arc<dyn EventSink>,
) -> Result<Fetched, Error> {
    match from {
        ContextFrom::Folder(folder) => Ok(Fetched {
            folder: folder.clone(),
            text: None,
            time: None,
            kept: None,
        }),
        ContextFrom::Stdin => from_stdin(engine, events),
        ContextFrom::Remote(address) => from_remote(engine, address, events),
    }
}

fn from_stdin(engine: &Engine, events: &Arc<dyn EventSink>) -> Result<Fetched, Error> {
    let scratch = engine.store().scratch_folder()?;
    let file = scratch.join("context");
    let fail = |source| Error::File {
        what: "cannot read the build context from standard input".to_owned(),
        source,
    };
    let copied = std::fs::File::create(&file)
        .and_then(|mut out| std::io::copy(&mut std::io::stdin().lock(), &mut out));
    let fetched = copied.map_err(fail).and_then(|_| {
        let source = Op::Context(ContextSource {
            name: "stdin".to_owned(),
            ignore: Vec::new(),
        });
        as_context(engine, &file, source, Some(&scratch), None, events)
    });
    _ = std::fs::remove_dir_all(&scratch);
    fetched
}

fn from_remote(
    engine: &Engine,
    address: &str,
    events: &Arc<dyn EventSink>,
) -> Result<Fetched, Error> {
    let source = read_remote(address, None, None).map_err(Error::Usage)?;
    let is_git = matches!(source, Op::Git(_));
    let (solved, root) = solve(engine, address, source.clone(), None, false, events)?;
    let (folder, time) = (solved.folder(root)?, solved.latest_time(root)?);
    if is_git {
        return Ok(Fetched {
            folder,
            text: None,
            time,
            kept: Some(solved),
        });
    }
    let only = std::fs::read_dir(&folder)
        .ok()
        .and_then(|mut names| names.next()?.ok());
    let file = only.map_or_else(|| folder.clone(), |entry| entry.path());
    as_context(engine, &file, source, None, time, events)
}

/// Brings a commit of a repository here: its files, for as long as the build is kept.
pub(crate) fn fetch_commit(
    engine: &Engine,
    remote: &str,
    commit: &str,
    events: &Arc<dyn EventSink>,
) -> Result<(Solved, PathBuf), Error> {
    let source = Op::Git(GitSource {
        remote: remote.to_owned(),
        reference: commit.to_owned(),
        subdir: ImagePath::root(),
        keep_git_dir: false,
        checksum: Some(commit.to_owned()),
        submodules: false,
    });
    let (solved, root) = solve(engine, remote, source, None, false, events)?;
    let folder = solved.folder(root)?;
    Ok((solved, folder))
}

/// An archive is unpacked; anything else is a Dockerfile that needs no files. `time` is when the
/// file was made; of an archive without it, the latest time in it counts.
fn as_context(
    engine: &Engine,
    file: &Path,
    source: Op,
    scratch: Option<&Path>,
    time: Option<i64>,
    events: &Arc<dyn EventSink>,
) -> Result<Fetched, Error> {
    if std::fs::File::open(file).is_ok_and(is_tar) {
        let (solved, root) = solve(engine, "build context", source, scratch, true, events)?;
        return Ok(Fetched {
            folder: solved.folder(root)?,
            text: None,
            time: time.or(solved.latest_time(root)?),
            kept: Some(solved),
        });
    }
    let text = read_text(file)?;
    let (solved, root) = solve(engine, "no files", Op::Scratch, None, false, events)?;
    Ok(Fetched {
        folder: solved.folder(root)?,
        text: Some(text),
        time,
        kept: Some(solved),
    })
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
    let fail = |source| Error::File {
        what: format!("cannot read {}", file.display()),
        source,
    };
    String::from_utf8(read.map_err(fail)?)
        .map_err(|error| fail(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))
}

fn solve(
    engine: &Engine,
    name: &str,
    source: Op,
    folder: Option<&Path>,
    unpack: bool,
    events: &Arc<dyn EventSink>,
) -> Result<(Solved, StepId), Error> {
    let mut build = Build::default();
    let mut root = add(&mut build, name, source, Vec::new())?;
    if unpack {
        root = add(
            &mut build,
            "unpack the build context",
            unpacked(),
            vec![root],
        )?;
    }
    let config = kiln_graph::ImageConfig::scratch(&Platform::host());
    build.targets.push(Target {
        platform: Platform::host(),
        root,
        config,
        history: Vec::new(),
    });
    let mut request = Request::new(build);
    request.events = events.clone();
    if let Some(folder) = folder {
        request
            .contexts
            .insert("stdin".to_owned(), folder.to_owned());
    }
    Ok((engine.solve(request)?, root))
}

fn add(build: &mut Build, name: &str, op: Op, inputs: Vec<StepId>) -> Result<StepId, Error> {
    let name = StepName {
        stage: String::new(),
        number: 0,
        of: 0,
        text: name.to_owned(),
    };
    let step = Step {
        op,
        name,
        location: None,
        platform: Platform::host(),
        reuse: kiln_graph::Reuse::Always,
    };
    let added = build.graph.add(step, inputs);
    added.map_err(|error| Error::Usage(format!("{error}; this is a bug in kiln")))
}

fn unpacked() -> Op {
    let copy = CopyFiles {
        from: Input(0),
        sources: vec!["*".to_owned()],
        dest: ImagePath::root(),
        to_directory: true,
        owner: Some(Owner::Ids {
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
        }),
        chmod: None,
        parents: false,
        exclude: Vec::new(),
        unpack: true,
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
            ("a/b", ContextFrom::Folder("a/b".into())),
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
