//! From a folder with a Dockerfile to a solved build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_engine::{Engine, EventSink, Pins, Request, SecretProvider, Solved};
use kiln_frontend_dockerfile::ast::{Dockerfile, Kind};
use kiln_frontend_dockerfile::{
    Checked, Compiled, ImageTable, Options, Outcome, Target, check, parse, parse_partial, targets,
};
use kiln_graph::Entitlements;

use crate::base_image::BaseImages;
use crate::build_file;
use crate::context::{ContextFrom, Fetcher, text_of};
use crate::given::Given;
use crate::lock::{Lock, Locker, Open};
use crate::toml_file;
use crate::{Error, PathRule, Policy, Texts};

/// A Dockerfile to be built.
#[derive(Clone, Default)]
pub struct DockerfileRequest {
    /// The main context.
    pub context: ContextFrom,
    /// The build file; `None`: `kiln.toml`, `Dockerfile` or `dockerfile` in the context; `-`:
    /// standard input. One that ends in `.toml` is read as a kiln.toml.
    /// In a context that is no folder of this machine, a path in the context.
    pub file: Option<PathBuf>,
    /// What the frontend is told. Its file name and main ignore list are filled in.
    pub options: Options,
    /// Named contexts that hold files.
    pub contexts: BTreeMap<String, ContextFrom>,
    /// When registries are asked for images.
    pub pull: Pull,
    /// Which base images are taken to be empty. Good enough to look at a file, not to build it.
    pub assume_images: Assume,
    /// What the build file may ask for beyond what every build may. Directories that may be read
    /// are whole paths without links.
    pub allowed: Entitlements,
    /// Lets git into repositories: the ones that contexts and included files are in.
    pub secrets: Option<Arc<dyn SecretProvider>>,
    /// Is told what happens while contexts are fetched.
    pub events: Option<Arc<dyn EventSink>>,
    /// What `kiln.lock` is for.
    pub locking: Locking,
    /// Prepares the builds of steps that run while the file is read, for what they write: gives
    /// them secrets, say.
    pub configure: Option<Arc<Configure>>,
}

/// Which base images are taken to be empty rather than asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assume {
    /// None: one that can't be had is an error.
    #[default]
    Nothing,
    /// Those that can't be had.
    Missing,
    /// All; nobody is asked.
    All,
}

/// When registries are asked for base images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// Even for those that the store has under the name.
    Always,
    /// For those that the store doesn't have under the name.
    #[default]
    Missing,
    /// Never: what isn't in the store is an error.
    Never,
}

/// Whether the lock beside a build file counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locking {
    /// When it is there; what isn't in it is asked for.
    #[default]
    IfThere,
    /// What can change must be in it.
    Required,
    /// It doesn't.
    Off,
}

/// Prepares a build.
pub type Configure = dyn Fn(&mut Request) -> Result<(), Error> + Send + Sync;

impl std::fmt::Debug for DockerfileRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerfileRequest")
            .field("context", &self.context)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl DockerfileRequest {
    pub(crate) fn events(&self) -> Arc<dyn EventSink> {
        let events = self.events.clone();
        events.unwrap_or_else(|| Arc::new(|_| {}))
    }
}

/// A Dockerfile that has been read, with all that the frontend needs.
#[derive(Debug)]
pub struct Prepared {
    /// The file's text, and those it includes.
    pub texts: Texts,
    /// The syntax tree, when the file is a Dockerfile.
    pub file: Option<Dockerfile>,
    /// What the frontend was told.
    pub options: Options,
    /// What became of it.
    pub compiled: Compiled,
    /// Layers by path, when the file says which.
    pub layers: Vec<PathRule>,
    /// What the image must keep to, when the file says.
    pub policy: Option<Policy>,
    /// All folders by name.
    pub folders: BTreeMap<String, PathBuf>,
    /// Contexts that were fetched, for as long as the build needs them.
    _kept: Vec<Arc<Solved>>,
    /// What the lock says of sources.
    pins: Pins,
    /// What the build file may ask for.
    allowed: Entitlements,
}

/// What is wrong with a Dockerfile.
#[derive(Debug)]
pub struct CheckedFile {
    /// Warnings, and why it can't be built.
    pub checked: Checked,
    /// The file's name for messages.
    pub file_name: String,
    /// The file's text.
    pub texts: Texts,
}

/// The contexts of a request, on this machine.
#[derive(Debug)]
struct Contexts {
    folders: BTreeMap<String, PathBuf>,
    /// The build file's text, when the main context is nothing else.
    text: Option<String>,
    /// When the main context was made, if that is known.
    time: Option<i64>,
    kept: Vec<Arc<Solved>>,
}

/// A build file, and all that the frontend is told besides.
#[derive(Debug)]
pub struct Opened {
    contexts: Contexts,
    /// The build file.
    pub path: PathBuf,
    text: String,
    options: Options,
}

/// A failure, with the texts that it may be in.
pub type Located = Box<(Error, Texts)>;

/// Reads and compiles a Dockerfile, fetching contexts and asking registries about base images.
///
/// # Errors
/// When it can't be read or compiled, or something it needs can't be had.
pub fn prepare(engine: &Engine, request: &DockerfileRequest) -> Result<Prepared, Located> {
    let plain = |error: Error| Box::new((error, Texts::default()));
    let opened = open_build_file(engine, request).map_err(plain)?;
    opened.prepare(engine, request)
}

/// Fetches contexts, and reads the build file.
///
/// # Errors
/// When a context can't be fetched or the file can't be read.
pub fn open_build_file(engine: &Engine, request: &DockerfileRequest) -> Result<Opened, Error> {
    let contexts = fetch_all(engine, request)?;
    let main = &contexts.folders["context"];
    let (path, text) = match &contexts.text {
        Some(text) => (main.join("Dockerfile"), text.clone()),
        None => {
            let path = build_file::find(request, main)?;
            let text = build_file::read(request, main, &path)?;
            (path, text)
        }
    };
    let options = fill_options(request, &contexts, main, &path)?;
    Ok(Opened {
        contexts,
        path,
        text,
        options,
    })
}

impl Opened {
    /// Compiles the file, with the lock beside it.
    ///
    /// # Errors
    /// When it can't be compiled, or something it needs can't be had.
    pub fn prepare(
        &self,
        engine: &Engine,
        request: &DockerfileRequest,
    ) -> Result<Prepared, Located> {
        let plain = |error: Error| Box::new((error, Texts::default()));
        let locker = self.locker(request).map_err(plain)?;
        self.compile(engine, request, &locker)
    }

    /// Whether the file is a kiln.toml.
    #[must_use]
    pub fn is_toml(&self) -> bool {
        let extension = self.path.extension();
        extension.is_some_and(|extension| extension == "toml")
    }

    /// The lock beside the build file, if it is there and wanted.
    fn locker(&self, request: &DockerfileRequest) -> Result<Locker, Error> {
        let open = match request.locking {
            _ if request.assume_images == Assume::All => return Ok(Locker::default()),
            Locking::Off => return Ok(Locker::default()),
            Locking::IfThere => Open::Ask,
            Locking::Required => Open::Refuse,
        };
        Ok(Locker::new(self.lock()?, open))
    }

    /// What the lock beside the build file says; nothing when there is none.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = crate::lock::beside(&self.path);
        let shown = path.file_name().unwrap_or_default().display().to_string();
        let main = &self.contexts.folders["context"];
        let read = match path.strip_prefix(main) {
            Ok(inside) => crate::inside::read(main, inside),
            Err(_) => std::fs::read(&path),
        };
        match read {
            Ok(bytes) => Lock::parse(&shown, &text_of(&path, Ok(bytes))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Lock::default()),
            Err(error) => Err(Error::File {
                what: format!("cannot read {}", path.display()),
                source: error,
            }),
        }
    }

    /// Everything that can be built: the images of a kiln.toml, the stages of a Dockerfile.
    ///
    /// # Errors
    /// When the file has a mistake.
    pub fn targets(
        &self,
        engine: &Engine,
        request: &DockerfileRequest,
    ) -> Result<Vec<Option<String>>, Located> {
        let located = |error: Error| Box::new((error, Texts::of(self.text.as_str())));
        if self.is_toml() {
            let main = &self.contexts.folders["context"];
            let (options, text) = (&self.options, &self.text);
            let images = toml_file::images(engine, request, options, main, text);
            return images.map_err(located);
        }
        let file = parse(&self.options.file_name, &self.text);
        let file = file.map_err(|error| located(error.into()))?;
        let stages = file
            .instructions
            .iter()
            .filter_map(|line| match &line.kind {
                Kind::From(from) => from.name.clone().map(Some),
                _ => None,
            });
        Ok(stages.chain([None]).collect())
    }

    /// Looks for what is wrong with a Dockerfile.
    ///
    /// # Errors
    /// When the lock can't be read, or an image can't be had that has to be.
    pub fn check(
        &self,
        engine: &Engine,
        request: &DockerfileRequest,
    ) -> Result<CheckedFile, Located> {
        let texts = Texts::of(self.text.as_str());
        let located = |error: Error| Box::new((error, texts.clone()));
        let locker = self.locker(request).map_err(located)?;
        let given = Given::of(request);
        let images = BaseImages {
            given: &given,
            events: request.events(),
            engine,
            pull: request.pull,
            assume: request.assume_images,
            locker: &locker,
        };
        let mut options = self.options_for(request);
        let (file, unread) = parse_partial(&options.file_name, &self.text);
        fix_epoch(&mut options, Some(&file), self.contexts.time);
        let checked = images.check(&file, unread.as_ref(), &options);
        Ok(CheckedFile {
            checked: checked.map_err(located)?,
            file_name: options.file_name,
            texts: texts.clone(),
        })
    }

    /// The stages of a Dockerfile.
    ///
    /// # Errors
    /// When it can't be parsed.
    pub fn stages(&self) -> Result<(Vec<Target>, Texts), Located> {
        let texts = Texts::of(self.text.as_str());
        match parse(&self.options.file_name, &self.text) {
            Ok(file) => Ok((targets(&file), texts)),
            Err(error) => Err(Box::new((error.into(), texts))),
        }
    }

    /// Compiles the file, resolving its base images and pinned sources by `locker`.
    ///
    /// # Errors
    /// When the file has a mistake, or something it needs can't be had or isn't locked and has to be.
    pub fn compile(
        &self,
        engine: &Engine,
        request: &DockerfileRequest,
        locker: &Locker,
    ) -> Result<Prepared, Located> {
        let given = Given::of(request);
        let images = BaseImages {
            given: &given,
            events: request.events(),
            engine,
            pull: request.pull,
            assume: request.assume_images,
            locker,
        };
        let mut prepared = match self.is_toml() {
            true => self.compile_toml(request, &images)?,
            false => self.compile_dockerfile(request, &images)?,
        };
        let mut build = prepared.request();
        match locker.settle(engine, &mut build) {
            Ok(()) => prepared.pins = build.pins,
            Err(error) => return Err(Box::new((error, prepared.texts))),
        }
        Ok(prepared)
    }

    fn compile_toml(
        &self,
        request: &DockerfileRequest,
        images: &BaseImages<'_>,
    ) -> Result<Prepared, Located> {
        let mut options = self.options_for(request);
        fix_epoch(&mut options, None, self.contexts.time);
        let mut texts = Texts::of(self.text.as_str());
        let main = &self.contexts.folders["context"];
        let read = toml_file::read(images, request, &options, main, &mut texts);
        let read = read.map_err(|error| Box::new((error, texts.clone())))?;
        let folders = self.contexts.folders.clone();
        Ok(Prepared {
            allowed: request.allowed.clone(),
            texts,
            file: None,
            options,
            compiled: read.compiled,
            layers: read.layers,
            policy: read.policy,
            folders: folders.into_iter().chain(read.folders).collect(),
            pins: Pins::default(),
            _kept: self
                .contexts
                .kept
                .iter()
                .cloned()
                .chain(read.kept)
                .collect(),
        })
    }

    fn compile_dockerfile(
        &self,
        request: &DockerfileRequest,
        images: &BaseImages<'_>,
    ) -> Result<Prepared, Located> {
        let located = |error: Error| Box::new((error, Texts::of(self.text.as_str())));
        let mut options = self.options_for(request);
        let (file, unread) = parse_partial(&options.file_name, &self.text);
        if let Some(error) = unread {
            let checked = check(&file, Some(&error), &options, &ImageTable::new());
            let warnings = match checked {
                Outcome::Done(checked) => checked.warnings,
                Outcome::Needs(_) => Vec::new(),
            };
            return Err(located(error.after(&warnings).into()));
        }
        fix_epoch(&mut options, Some(&file), self.contexts.time);
        let compiled = images.compile(&file, &options, &mut ImageTable::new());
        Ok(Prepared {
            allowed: request.allowed.clone(),
            texts: Texts::of(self.text.as_str()),
            file: Some(file),
            options,
            compiled: compiled.map_err(located)?,
            layers: Vec::new(),
            policy: None,
            folders: self.contexts.folders.clone(),
            pins: Pins::default(),
            _kept: self.contexts.kept.clone(),
        })
    }

    /// The options, with the target that the request has by now.
    fn options_for(&self, request: &DockerfileRequest) -> Options {
        Options {
            target: request.options.target.clone(),
            ..self.options.clone()
        }
    }
}

impl Prepared {
    /// The engine's request for the build.
    #[must_use]
    pub fn request(&self) -> Request {
        let mut request = Request::new(self.compiled.build.clone());
        request.contexts.clone_from(&self.folders);
        request.pins = self.pins.clone();
        request.allowed = self.allowed.clone();
        request
    }
}

fn fetch_all(engine: &Engine, request: &DockerfileRequest) -> Result<Contexts, Error> {
    let fetcher = Fetcher::new(engine, request);
    let mut all = Contexts {
        folders: BTreeMap::new(),
        text: None,
        time: None,
        kept: Vec::new(),
    };
    let main = ("context".to_owned(), &request.context);
    let named = request
        .contexts
        .iter()
        .map(|(name, from)| (name.clone(), from));
    for (name, from) in std::iter::once(main).chain(named) {
        let keep_git_dir = name == "context" && keeps_git_dir(request)?;
        let fetched = fetcher.fetch(from, keep_git_dir)?;
        if name == "context" {
            (all.text, all.time) = (fetched.text, fetched.time);
        }
        all.folders.insert(name, fetched.folder);
        all.kept.extend(fetched.kept.map(Arc::new));
    }
    Ok(all)
}

/// Whether the main context's `.git` is wanted, as BuildKit is told.
fn keeps_git_dir(request: &DockerfileRequest) -> Result<bool, Error> {
    const NAME: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
    match request
        .options
        .build_args
        .get(NAME)
        .map_or("", String::as_str)
    {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(Error::Usage(format!(
            "--build-arg {NAME}={other}: use 1 or 0"
        ))),
    }
}

fn fill_options(
    request: &DockerfileRequest,
    contexts: &Contexts,
    main: &Path,
    file: &Path,
) -> Result<Options, Error> {
    let mut options = request.options.clone();
    let shown = file.strip_prefix(main).unwrap_or(file);
    options.file_name = shown.display().to_string();
    for (name, folder) in &contexts.folders {
        let own = if name == "context" {
            file.to_owned()
        } else {
            folder.join("Dockerfile")
        };
        options
            .ignore
            .insert(name.clone(), build_file::ignore_list(folder, &own)?);
    }
    Ok(options)
}

/// Makes `SOURCE_DATE_EPOCH` a number, wherever it is given: `context` is the time of the main
/// context, and says nothing when that is a folder
/// (<https://github.com/moby/buildkit/pull/6602>).
fn fix_epoch(options: &mut Options, file: Option<&Dockerfile>, context: Option<i64>) {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let given = options.build_args.get(NAME).cloned();
    let value = given.or_else(|| file?.global_arg(NAME).map(str::to_owned));
    let value = match value.as_deref() {
        None => return,
        Some("context") => context.map_or_else(String::new, |time| time.to_string()),
        Some(value) => value.to_owned(),
    };
    options.build_args.insert(NAME.to_owned(), value);
}

/// Builds a Dockerfile. `prepare_request` may change the engine's request before it is solved.
///
/// # Errors
/// When anything fails.
pub fn build_dockerfile(
    engine: &Engine,
    request: &DockerfileRequest,
    prepare_request: impl FnOnce(&mut Request),
) -> Result<Solved, Error> {
    let prepared = prepare(engine, request).map_err(|failed| failed.0)?;
    let mut request = prepared.request();
    prepare_request(&mut request);
    Ok(engine.solve(request)?)
}
