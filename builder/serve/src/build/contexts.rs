//! The client's directories that a build needs, brought here: the build file and ignore lists first,
//! then what the compiled build reads of each context.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln::BuildFileText;
use kiln_frontend_dockerfile::read_ignore_file;
use kiln_graph::{FileAction, Graph, ImagePath, Input, MountKind, Op};
use kiln_llb::LocalSource;
use kiln_tree::TreeRoot;
use tonic::Status;

use super::attributes::Attributes;
use crate::error::BuildError;
use crate::progress::{Contexts, Progress};
use crate::server::Server;
use crate::session::{Filter, Mirror, Session, mirror, read_files};

/// The client's directories.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) server: &'a Arc<Server>,
    pub(super) attributes: Attributes<'a>,
    /// The build's session.
    pub(super) session: &'a Arc<Session>,
    pub(super) progress: &'a Progress,
}

/// A directory of the client's that a build reads.
pub(super) struct Local {
    /// The client's name for it.
    directory: String,
    session: Arc<Session>,
    mirror: Mirror,
    /// The patterns of what is left out of it.
    pub(super) ignore: Vec<String>,
    /// The patterns of what is wanted of it; all, when there are none.
    include: Vec<String>,
    /// The context's line in the display.
    line: String,
}

impl Local {
    /// Where its files will be.
    pub(super) fn directory(&self) -> PathBuf {
        self.mirror.files()
    }
}

const IGNORE_FILE: &str = ".dockerignore";
/// A build file that another build made is no larger, in bytes.
const MAX_BUILD_FILE: u64 = 16 << 20;
/// Transfers are told of this often.
const INTERVAL: Duration = Duration::from_millis(100);

impl Client<'_> {
    /// The session that has a directory.
    fn session_of(&self, directory: &str) -> Result<Arc<Session>, Status> {
        let key = format!("local-sessionid:{directory}");
        match self.attributes.text(&key) {
            Some(id) => self.server.runtime.block_on(self.server.sessions.get(id)),
            None => Ok(self.session.clone()),
        }
    }

    /// Reads the build file, with its own ignore list when there is one; `given` is what it is in when
    /// that isn't a directory of the client's.
    pub(super) fn build_file(
        &self,
        given: Option<&Path>,
    ) -> Result<(BuildFileText, Option<Vec<String>>), BuildError> {
        let directory = self.attributes.text("dockerfilekey");
        let directory = directory.unwrap_or("dockerfile");
        let name = self.attributes.file_name();
        let own_list = format!("{name}{IGNORE_FILE}");
        let lower = name.strip_suffix("Dockerfile");
        let lower = lower.map(|start| format!("{start}dockerfile"));
        let mut names = vec![name.to_owned(), own_list.clone()];
        names.extend(lower.clone());
        let shown = name.rsplit('/').next().unwrap_or(name);
        let line = format!("[internal] load build definition from {shown}");
        let session = self.session_of(directory)?;
        self.progress.during(&line, |_| {
            let mut files = match given {
                Some(tree) => read_given(tree, &names),
                None => read_files(&self.server.runtime, &session, directory, &names)?,
            };
            let failed = |reason: &str| {
                let text = format!("failed to read dockerfile: open {shown}: {reason}");
                BuildError::from(Status::unknown(text))
            };
            let found = files.remove(name);
            let bytes = found.or_else(|| files.remove(&lower?));
            let bytes = bytes.ok_or_else(|| failed("no such file or directory"))?;
            let text = String::from_utf8(bytes).map_err(|_| failed("it is no text"))?;
            let file = BuildFileText {
                name: shown.to_owned(),
                text,
                ignore: BTreeMap::new(),
            };
            Ok((file, files.remove(&own_list).map(|bytes| patterns(&bytes))))
        })
    }

    /// Prepares a directory: reads its ignore list, unless there is another, and takes a place for
    /// its files.
    pub(super) fn local(
        &self,
        context: &str,
        directory: &str,
        ignore: Option<Vec<String>>,
    ) -> Result<Local, BuildError> {
        let session = self.session_of(directory)?;
        let (list, line) = match context {
            "context" => (
                "[internal] load .dockerignore".to_owned(),
                "[internal] load build context".to_owned(),
            ),
            name => (
                format!("[context {name}] load .dockerignore"),
                format!("[context {name}] load from client"),
            ),
        };
        let ignore = match ignore {
            Some(ignore) => ignore,
            None => self.progress.during(&list, |_| {
                let names = [IGNORE_FILE.to_owned()];
                let files = read_files(&self.server.runtime, &session, directory, &names);
                let files = match files {
                    // A build that takes nothing of a directory that isn't there doesn't need it.
                    Err(error) if error.is_absence() => BTreeMap::new(),
                    files => files?,
                };
                let list = files.get(IGNORE_FILE);
                Ok::<_, BuildError>(list.map_or_else(Vec::new, |bytes| patterns(bytes)))
            })?,
        };
        let hint = format!("sharedkey:localdir:{directory}");
        let hint = self.attributes.text(&hint).unwrap_or_default();
        let key = format!("{}\n{directory}\n{hint}", session.shared_key);
        let mirror = self.mirror(&key)?;
        Ok(Local {
            directory: directory.to_owned(),
            session,
            mirror,
            ignore,
            include: Vec::new(),
            line,
        })
    }

    fn mirror(&self, key: &str) -> Result<Mirror, BuildError> {
        let mirror = self.server.mirrors.lease(key);
        mirror.map_err(|source| BuildError::Host {
            what: "cannot keep the build context",
            source,
        })
    }

    /// Brings a directory here as a definition wants it. Gives the line that it has.
    pub(super) fn bring_source(&self, source: &LocalSource) -> Result<(Local, String), BuildError> {
        let session = match &source.session {
            Some(id) => self.server.runtime.block_on(self.server.sessions.get(id))?,
            None => self.session_of(&source.directory)?,
        };
        // What other patterns leave out of it is another copy; sessions have new names each time.
        let lasting = LocalSource {
            session: None,
            ..source.clone()
        };
        let key = format!("{}\n{lasting:?}", session.shared_key);
        let local = Local {
            directory: source.directory.clone(),
            session,
            mirror: self.mirror(&key)?,
            ignore: source.exclude.clone(),
            include: source.include.clone(),
            line: format!("local://{}", source.directory),
        };
        let line = self.transfer(&local, source.follow.clone())?;
        Ok((local, line))
    }

    /// Brings what the graph's steps need of the contexts here. Gives the lines they have.
    pub(super) fn bring(
        &self,
        graph: &Graph,
        locals: &BTreeMap<String, Local>,
    ) -> Result<Contexts, BuildError> {
        let mut lines = Contexts::new();
        for (context, local) in locals {
            let follow = match Wanted::of(graph, context) {
                Wanted::Nothing => continue,
                Wanted::All => Vec::new(),
                Wanted::Paths(paths) => paths.into_iter().collect(),
            };
            lines.insert(context.clone(), self.transfer(local, follow)?);
        }
        Ok(lines)
    }

    /// Brings some files of a directory here, or all when none are named.
    pub(super) fn transfer(
        &self,
        local: &Local,
        follow: Vec<String>,
    ) -> Result<String, BuildError> {
        const WHAT: &str = "transferring context:";
        let filter = Filter {
            follow,
            include: local.include.clone(),
            exclude: local.ignore.clone(),
        };
        let mut vertex = self.progress.begin(&local.line);
        let told = Cell::new(Instant::now());
        let progress = |bytes| {
            if told.get().elapsed() > INTERVAL {
                told.set(Instant::now());
                self.progress.transferred(&vertex, WHAT, bytes, false);
            }
        };
        let (runtime, session) = (&self.server.runtime, &local.session);
        let (directory, place) = (local.directory.as_str(), &local.mirror);
        let done = mirror(runtime, session, directory, &filter, place, &progress);
        if let Ok(bytes) = &done {
            self.progress.transferred(&vertex, WHAT, *bytes, true);
        }
        let error = done.as_ref().err().map(ToString::to_string);
        self.progress.end(&mut vertex, error);
        done?;
        Ok(vertex.digest)
    }
}

/// Reads some files of a tree; what is no file there is left out.
fn read_given(tree: &Path, names: &[String]) -> BTreeMap<String, Vec<u8>> {
    let tree = TreeRoot::at(tree);
    let read = |name: &String| {
        let mut bytes = Vec::new();
        let file = tree.open_file(&ImagePath::new(name)).ok()?;
        file.take(MAX_BUILD_FILE).read_to_end(&mut bytes).ok()?;
        Some((name.clone(), bytes))
    };
    names.iter().filter_map(read).collect()
}

fn patterns(bytes: &[u8]) -> Vec<String> {
    read_ignore_file(&String::from_utf8_lossy(bytes))
}

/// What a build needs of a context.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    All,
    /// These, and what they link to.
    Paths(BTreeSet<String>),
}

impl Wanted {
    /// What the graph's steps name of a context.
    fn of(graph: &Graph, context: &str) -> Self {
        let mut wanted = Self::Nothing;
        for id in graph.ids() {
            let is_from = |input: Input| match &graph.step(graph.input(id, input)).op {
                Op::Context(source) => source.name == context,
                _ => false,
            };
            for (input, path) in named(&graph.step(id).op) {
                if is_from(input) {
                    wanted.add(path);
                }
            }
        }
        wanted
    }

    fn add(&mut self, path: Option<String>) {
        match (&mut *self, path) {
            (Self::All, _) => {}
            (_, None) => *self = Self::All,
            (Self::Nothing, Some(path)) => *self = Self::Paths(BTreeSet::from([path])),
            (Self::Paths(paths), Some(path)) => _ = paths.insert(path),
        }
    }
}

/// What an operation reads of its inputs: a path, or everything.
fn named(op: &Op) -> Vec<(Input, Option<String>)> {
    match op {
        Op::Files(files) => {
            let copies = files.actions.iter().filter_map(|action| match action {
                FileAction::Copy(copy) => Some(copy),
                _ => None,
            });
            let copied = copies.flat_map(|copy| {
                let paths = copy.sources.iter().map(|source| follow_path(source));
                paths.map(|path| (copy.from, path))
            });
            let compared = files.actions.iter().filter_map(|action| match action {
                FileAction::Difference { lower, upper } => Some([*lower, *upper]),
                _ => None,
            });
            let whole = files.base.into_iter().chain(compared.flatten());
            copied.chain(whole.map(|input| (input, None))).collect()
        }
        Op::Exec(exec) => {
            let mounts = exec.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, source, .. } => Some((*from, fixed(source))),
                MountKind::Cache(cache) => Some((cache.from?, fixed(&cache.source))),
                _ => None,
            });
            mounts.chain([(exec.root, None)]).collect()
        }
        other => {
            let inputs = other.inputs().into_iter();
            inputs.map(|input| (input, None)).collect()
        }
    }
}

fn fixed(path: &ImagePath) -> Option<String> {
    let text = String::from_utf8(path.relative_bytes().to_vec()).ok()?;
    (!text.is_empty()).then_some(text)
}

/// A source as the client follows it; nothing where it is everything. Clients know neither `**` nor
/// escaped characters.
fn follow_path(source: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part if part.contains("**") || part.contains('\\') => break,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_as_clients_follow_them() {
        for (source, want) in [
            ("a", Some("a")),
            ("/a/b/", Some("a/b")),
            ("./a/./b", Some("a/b")),
            ("a/../b", Some("b")),
            ("../x", Some("x")),
            ("*.go", Some("*.go")),
            ("a/**/b", Some("a")),
            ("a/\\*", Some("a")),
            ("**/b", None),
            (".", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(follow_path(source).as_deref(), want, "{source}");
        }
    }
}
