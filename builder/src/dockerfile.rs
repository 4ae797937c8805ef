//! From a folder with a Dockerfile to a solved build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_engine::{Engine, Request, Solved};
use kiln_frontend_dockerfile::ast::Dockerfile;
use kiln_frontend_dockerfile::{
    Compiled, DockerfileError, ImageRequest, ImageTable, Options, Outcome, ResolvedImage, compile,
    parse, read_ignore_file,
};
use kiln_graph::ImageSource;

use crate::Error;

/// A Dockerfile to be built.
#[derive(Clone, Debug, Default)]
pub struct DockerfileRequest {
    /// The main context's folder.
    pub context: PathBuf,
    /// The build file; `None`: `Dockerfile` or `dockerfile` in the context.
    pub file: Option<PathBuf>,
    /// What the frontend is told. Its file name and main ignore list are filled in.
    pub options: Options,
    /// Named local folders.
    pub folders: BTreeMap<String, PathBuf>,
}

/// A Dockerfile that has been read, with all that the frontend needs.
#[derive(Debug)]
pub struct Prepared {
    /// The file's text.
    pub text: String,
    /// What became of it.
    pub compiled: Compiled,
    /// All local folders by name.
    pub folders: BTreeMap<String, PathBuf>,
}

/// Reads and compiles a Dockerfile, asking registries about base images.
///
/// # Errors
/// When it can't be read or compiled, or a base image can't be had.
pub fn prepare(
    engine: &Engine,
    request: &DockerfileRequest,
) -> Result<Prepared, Box<(Error, String)>> {
    let plain = |error: Error| Box::new((error, String::new()));
    let path = find_file(request).map_err(plain)?;
    let text = std::fs::read_to_string(&path).map_err(|source| {
        plain(Error::File {
            what: format!("cannot read {}", path.display()),
            source,
        })
    })?;
    prepare_text(engine, request, &path, &text)
        .map_err(|error| Box::new((error, text.clone())))
        .map(|(compiled, folders)| Prepared {
            text: text.clone(),
            compiled,
            folders,
        })
}

fn prepare_text(
    engine: &Engine,
    request: &DockerfileRequest,
    path: &Path,
    text: &str,
) -> Result<(Compiled, BTreeMap<String, PathBuf>), Error> {
    let mut options = request.options.clone();
    let shown = path.strip_prefix(&request.context).unwrap_or(path);
    options.file_name = shown.display().to_string();
    let mut folders = request.folders.clone();
    folders.insert("context".to_owned(), request.context.clone());
    options
        .ignore
        .insert("context".to_owned(), ignore_list(&request.context, path)?);
    for (name, folder) in &request.folders {
        options.ignore.insert(
            name.clone(),
            ignore_list(folder, &folder.join("Dockerfile"))?,
        );
    }
    let file = parse(&options.file_name, text)?;
    let compiled = compile_with_images(engine, &file, &options)?;
    Ok((compiled, folders))
}

fn compile_with_images(
    engine: &Engine,
    file: &Dockerfile,
    options: &Options,
) -> Result<Compiled, Error> {
    let mut images = ImageTable::new();
    loop {
        match compile(file, options, &images)? {
            Outcome::Done(compiled) => return Ok(*compiled),
            Outcome::Needs(requests) => {
                let found: Vec<(ImageRequest, Result<ResolvedImage, Error>)> =
                    std::thread::scope(|scope| {
                        let asked: Vec<_> = requests
                            .into_iter()
                            .map(|request| {
                                scope.spawn(move || {
                                    let image = resolve(engine, &request);
                                    (request, image)
                                })
                            })
                            .collect();
                        asked
                            .into_iter()
                            .filter_map(|thread| thread.join().ok())
                            .collect()
                    });
                for (request, image) in found {
                    images.insert(request, image?);
                }
            }
        }
    }
}

fn resolve(engine: &Engine, request: &ImageRequest) -> Result<ResolvedImage, Error> {
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
    let mut request = Request::new(prepared.compiled.build);
    request.contexts = prepared.folders;
    prepare_request(&mut request);
    Ok(engine.solve(request)?)
}

fn find_file(request: &DockerfileRequest) -> Result<PathBuf, Error> {
    if let Some(file) = &request.file {
        let lower = file.with_file_name("dockerfile");
        let fall_back = file.ends_with("Dockerfile") && !file.exists() && lower.exists();
        return Ok(if fall_back { lower } else { file.clone() });
    }
    if !request.context.is_dir() {
        let text = format!(
            "the build context {} is no folder",
            request.context.display()
        );
        return Err(DockerfileError::whole(text)
            .with_help("give the folder that holds the Dockerfile")
            .into());
    }
    let candidates = ["Dockerfile", "dockerfile"].map(|name| request.context.join(name));
    candidates
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| {
            let text = format!(
                "failed to read dockerfile: there is no Dockerfile in {}",
                request.context.display()
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
        match std::fs::read(&path) {
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
