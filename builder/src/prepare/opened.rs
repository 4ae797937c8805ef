//! A build file that was read, and what can be asked of it without compiling it.

use std::path::{Path, PathBuf};

use kiln_engine::Engine;
use kiln_frontend_dockerfile::ast::Kind;
use kiln_frontend_dockerfile::{Options, Target, parse, targets};
use kiln_frontend_toml::BuildFile;

use super::contexts::{Contexts, fetch_all};
use super::{Located, Prepared};
use crate::build_file::{self, Texts, kiln_toml};
use crate::context::text_of;
use crate::lock::{Lock, Locker, Open};
use crate::{Assume, DockerfileRequest, Error, Locking};

/// A build file, and all that the frontend is told besides.
#[derive(Debug)]
pub struct Opened {
    pub(super) contexts: Contexts,
    /// The build file.
    pub path: PathBuf,
    pub(super) text: String,
    options: Options,
    /// Whether the user named the file.
    is_named: bool,
}

/// Fetches contexts, and reads the build file.
///
/// # Errors
/// When a context can't be fetched or the file can't be read.
pub fn open_build_file(engine: &Engine, request: &DockerfileRequest) -> Result<Opened, Error> {
    let contexts = fetch_all(engine, request)?;
    let main = &contexts.directories["context"];
    let (path, text) = match (&request.text, &contexts.text) {
        (Some(given), _) => {
            let path = build_file::below(main, Path::new(&given.name));
            (path, given.text.clone())
        }
        (None, Some(text)) => (main.join("Dockerfile"), text.clone()),
        (None, None) => {
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
        is_named: build_file::is_named(request),
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

    /// The directory that the lock lies in, with the files that it names.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Whether the file is a kiln.toml.
    #[must_use]
    pub fn is_toml(&self) -> bool {
        let extension = self.path.extension();
        extension.is_some_and(|extension| extension == "toml")
    }

    /// The lock beside the build file, if it is there and wanted.
    pub(super) fn locker(&self, request: &DockerfileRequest) -> Result<Locker, Error> {
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
        let main = &self.contexts.directories["context"];
        let read = build_file::read_beside(main, &path, self.is_named);
        match read {
            Ok(bytes) => Lock::parse(&shown, &text_of(&path, Ok(bytes))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Lock::default()),
            Err(error) => Err(Error::file("read", &path)(error)),
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
            let file = self.kiln_toml(engine, request)?;
            let names = file.image_names();
            return Ok(names.map(|name| Some(name.to_owned())).collect());
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

    /// What is built for the target of the request: the target itself, or what is in a group, or in
    /// all of a kiln.toml.
    ///
    /// # Errors
    /// When the file has a mistake.
    pub fn wanted(
        &self,
        engine: &Engine,
        request: &DockerfileRequest,
    ) -> Result<Vec<Option<String>>, Located> {
        let target = &request.options.target;
        if !self.is_toml() {
            return Ok(vec![target.clone()]);
        }
        let file = self.kiln_toml(engine, request)?;
        let targets = file.targets(target.as_deref());
        let texts = || Texts::of(self.text.as_str());
        let targets = targets.map_err(|error| Box::new((error.into(), texts())))?;
        Ok(targets.into_iter().map(Some).collect())
    }

    fn kiln_toml(
        &self,
        engine: &Engine,
        request: &DockerfileRequest,
    ) -> Result<BuildFile, Located> {
        let main = &self.contexts.directories["context"];
        let mut texts = Texts::of(self.text.as_str());
        let file = kiln_toml::file(engine, request, &self.options, main, &mut texts);
        file.map_err(|error| Box::new((error, texts)))
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

    /// The options, with the target that the request has by now.
    pub(super) fn options_for(&self, request: &DockerfileRequest) -> Options {
        Options {
            target: request.options.target.clone(),
            ..self.options.clone()
        }
    }
}

fn fill_options(
    request: &DockerfileRequest,
    contexts: &Contexts,
    main: &Path,
    file: &Path,
) -> Result<Options, Error> {
    let mut options = request.options.clone();
    if let Some(given) = &request.text {
        options.file_name.clone_from(&given.name);
        options.ignore.clone_from(&given.ignore);
        return Ok(options);
    }
    let shown = file.strip_prefix(main).unwrap_or(file);
    options.file_name = match &request.input_name {
        Some(name) if file == Path::new("-") => name.clone(),
        _ => shown.display().to_string(),
    };
    for (name, directory) in &contexts.directories {
        let own = if name == "context" {
            file.to_owned()
        } else {
            directory.join("Dockerfile")
        };
        let ignored = build_file::ignore_list(request, directory, &own)?;
        options.ignore.insert(name.clone(), ignored);
    }
    Ok(options)
}
