//! From a folder with a Dockerfile to a solved build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_engine::{Engine, EventSink, Request, Solved};
use kiln_frontend_dockerfile::ast::Dockerfile;
use kiln_frontend_dockerfile::{
    Compiled, DockerfileError, ImageRequest, ImageTable, Options, Outcome, ResolvedImage, compile,
    parse, read_ignore_file,
};
use kiln_graph::ImageSource;

use crate::context::{ContextFrom, fetch, read_text, text_of};
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
    /// Ask registries even for images that the store has under the name.
    pub pull: bool,
    /// Don't ask for base images: take them to be empty. Good enough to look at a file, not to
    /// build it.
    pub assume_images: bool,
    /// Is told what happens while contexts are fetched.
    pub events: Option<Arc<dyn EventSink>>,
    /// Prepares the builds of steps that run while the file is read, for what they write: gives
    /// them secrets, say.
    pub configure: Option<Arc<Configure>>,
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
    _kept: Vec<Solved>,
}

/// The contexts of a request, on this machine.
struct Contexts {
    folders: BTreeMap<String, PathBuf>,
    /// The build file's text, when the main context is nothing else.
    text: Option<String>,
    /// When the main context was made, if that is known.
    time: Option<i64>,
    kept: Vec<Solved>,
}

/// Reads and compiles a Dockerfile, fetching contexts and asking registries about base images.
///
/// # Errors
/// When it can't be read or compiled, or something it needs can't be had.
pub fn prepare(
    engine: &Engine,
    request: &DockerfileRequest,
) -> Result<Prepared, Box<(Error, Texts)>> {
    let plain = |error: Error| Box::new((error, Texts::default()));
    let contexts = fetch_all(engine, request).map_err(plain)?;
    let main = contexts.folders["context"].clone();
    let (path, text) = match &contexts.text {
        Some(text) => (main.join("Dockerfile"), text.clone()),
        None => {
            let path = find_file(request, &main).map_err(plain)?;
            let text = read_build_file(request, &main, &path).map_err(plain)?;
            (path, text)
        }
    };
    let mut options = fill_options(request, &contexts, &main, &path).map_err(plain)?;
    if path
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        fix_epoch(&mut options, None, contexts.time);
        let mut texts = Texts::of(text);
        let read = toml_file::read(engine, request, &options, &main, &mut texts);
        let read = read.map_err(|error| Box::new((error, texts.clone())))?;
        return Ok(Prepared {
            texts,
            file: None,
            options,
            compiled: read.compiled,
            layers: read.layers,
            policy: read.policy,
            folders: contexts.folders.into_iter().chain(read.folders).collect(),
            _kept: contexts.kept.into_iter().chain(read.kept).collect(),
        });
    }
    let located = |error: Error| Box::new((error, Texts::of(text.as_str())));
    let file = parse(&options.file_name, &text)
        .map_err(Error::from)
        .map_err(located)?;
    fix_epoch(&mut options, Some(&file), contexts.time);
    let ask = |image: &ImageRequest| ask(engine, request, image);
    let compiled = compile_with_images(&ask, &file, &options).map_err(located)?;
    Ok(Prepared {
        texts: Texts::of(text),
        file: Some(file),
        options,
        compiled,
        layers: Vec::new(),
        policy: None,
        folders: contexts.folders,
        _kept: contexts.kept,
    })
}

fn fetch_all(engine: &Engine, request: &DockerfileRequest) -> Result<Contexts, Error> {
    let silent: Arc<dyn EventSink> = Arc::new(|_| {});
    let events = request.events.as_ref().unwrap_or(&silent);
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
        let fetched = fetch(engine, from, events)?;
        if name == "context" {
            (all.text, all.time) = (fetched.text, fetched.time);
        }
        all.folders.insert(name, fetched.folder);
        all.kept.extend(fetched.kept);
    }
    Ok(all)
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
            .insert(name.clone(), ignore_list(folder, &own)?);
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

/// Finds an image out.
pub(crate) type Ask<'a> =
    dyn Fn(&ImageRequest) -> Result<ResolvedImage, kiln_image::ImageError> + Sync + 'a;

fn compile_with_images(
    ask: &Ask<'_>,
    file: &Dockerfile,
    options: &Options,
) -> Result<Compiled, Error> {
    let mut images = ImageTable::new();
    loop {
        match compile(file, options, &images)? {
            Outcome::Done(compiled) => return Ok(*compiled),
            Outcome::Needs(requests) => {
                for (request, image) in resolve_all(ask, requests) {
                    images.insert(request, image?);
                }
            }
        }
    }
}

/// Compiles a Dockerfile, and keeps what was found out about base images.
pub(crate) fn compile_noting_images(
    engine: &Engine,
    request: &DockerfileRequest,
    file: &Dockerfile,
    options: &Options,
    images: &mut ImageTable,
) -> Result<Compiled, Error> {
    loop {
        match compile(file, options, images)? {
            Outcome::Done(compiled) => return Ok(*compiled),
            Outcome::Needs(requests) => {
                let ask = |image: &ImageRequest| ask(engine, request, image);
                for (request, image) in resolve_all(&ask, requests) {
                    images.insert(request, image?);
                }
            }
        }
    }
}

pub(crate) type Resolutions = Vec<(ImageRequest, Result<ResolvedImage, Error>)>;

/// Asks for all images at once.
pub(crate) fn resolve_all(
    ask: &Ask<'_>,
    requests: Vec<(ImageRequest, Option<kiln_graph::Location>)>,
) -> Resolutions {
    std::thread::scope(|scope| {
        let start = |(request, location): (ImageRequest, Option<kiln_graph::Location>)| {
            scope.spawn(move || {
                let image = ask(&request).map_err(|source| Error::BaseImage {
                    source: Box::new(source),
                    location,
                });
                (request, image)
            })
        };
        let asked: Vec<_> = requests.into_iter().map(start).collect();
        asked
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    })
}

/// What an image is, as the request wants it found out.
pub(crate) fn ask(
    engine: &Engine,
    request: &DockerfileRequest,
    image: &ImageRequest,
) -> Result<ResolvedImage, kiln_image::ImageError> {
    match request.assume_images {
        true => Ok(assumed(image)),
        false => match stored(engine, image).filter(|_| !request.pull) {
            Some(found) => Ok(found),
            None => resolve(engine, image),
        },
    }
}

fn resolve(
    engine: &Engine,
    request: &ImageRequest,
) -> Result<ResolvedImage, kiln_image::ImageError> {
    let resolved = engine.client().resolve(&request.name, &request.platform)?;
    let source = ImageSource {
        name: request.name.clone(),
        manifest: resolved.manifest,
        layers: resolved.layers,
    };
    Ok(ResolvedImage {
        source,
        config: resolved.config,
    })
}

/// An image that was built or loaded under this name, when everything it needs is here.
fn stored(engine: &Engine, request: &ImageRequest) -> Option<ResolvedImage> {
    let found = engine
        .stored_image(&request.name, &request.platform)
        .ok()??;
    let source = ImageSource {
        name: request.name.clone(),
        manifest: found.manifest,
        layers: found.layers,
    };
    Some(ResolvedImage {
        source,
        config: found.config,
    })
}

fn assumed(request: &ImageRequest) -> ResolvedImage {
    let source = ImageSource {
        name: request.name.clone(),
        manifest: kiln_graph::BlobDigest::from_sha256([0; 32]),
        layers: Vec::new(),
    };
    let config = kiln_graph::ImageConfig::scratch(&request.platform);
    ResolvedImage { source, config }
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
    let mut request = Request::new(prepared.compiled.build.clone());
    request.contexts.clone_from(&prepared.folders);
    prepare_request(&mut request);
    Ok(engine.solve(request)?)
}

/// A file that the user named is read wherever it leads; any other only inside of the context.
fn read_build_file(
    request: &DockerfileRequest,
    context: &Path,
    path: &Path,
) -> Result<String, Error> {
    let is_here = matches!(request.context, ContextFrom::Folder(_));
    match path.strip_prefix(context) {
        Ok(inside) if request.file.is_none() || !is_here => {
            text_of(path, crate::inside::read(context, inside))
        }
        _ => read_text(path),
    }
}

fn find_file(request: &DockerfileRequest, context: &Path) -> Result<PathBuf, Error> {
    if let Some(file) = &request.file {
        let is_here = matches!(request.context, ContextFrom::Folder(_));
        if !is_here && file != Path::new("-") {
            return Ok(context.join(file));
        }
        let lower = file.with_file_name("dockerfile");
        let fall_back = file.ends_with("Dockerfile") && !file.exists() && lower.exists();
        return Ok(if fall_back { lower } else { file.clone() });
    }
    if !context.is_dir() {
        let text = format!("the build context {} is no folder", context.display());
        return Err(DockerfileError::whole(text)
            .with_help("give the folder that holds the Dockerfile")
            .into());
    }
    let candidates = ["kiln.toml", "Dockerfile", "dockerfile"].map(|name| context.join(name));
    candidates
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| {
            let text = format!(
                "failed to read dockerfile: there is no Dockerfile or kiln.toml in {}",
                context.display()
            );
            DockerfileError::whole(text)
                .with_help("give another file with -f")
                .into()
        })
}

/// The ignore file named after the build file, else the context's own.
fn ignore_list(context: &Path, file: &Path) -> Result<Vec<String>, Error> {
    let mut own = file.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        let read = match path.strip_prefix(context) {
            Ok(inside) => crate::inside::read(context, inside),
            Err(_) => std::fs::read(&path),
        };
        match read {
            Ok(bytes) => return Ok(read_ignore_file(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
            Err(source) => {
                return Err(Error::File {
                    what: format!("cannot read {}", path.display()),
                    source,
                });
            }
        }
    }
    Ok(Vec::new())
}
