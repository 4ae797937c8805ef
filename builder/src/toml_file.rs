//! From a folder with a kiln.toml to a compiled build.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_engine::{Engine, Request, Solved};
use kiln_frontend_dockerfile::{Compiled, ContextKind, Options};
use kiln_frontend_toml::{
    self as toml_frontend, NamedContext, ValueRequest, ValueSteps, ValueTable,
};
use kiln_graph::{ImageRequest, ImageTable};

use crate::dockerfile::{ask, resolve_all};
use crate::{DockerfileRequest, Error, PathRule, Policy, Texts};

/// What a kiln.toml says.
pub(crate) struct Read {
    pub(crate) compiled: Compiled,
    /// The image's layers by path.
    pub(crate) layers: Vec<PathRule>,
    /// What the image must keep to.
    pub(crate) policy: Option<Policy>,
    /// The folders that the graph names.
    pub(crate) folders: BTreeMap<String, PathBuf>,
    /// What was run to read it, for as long as the build needs it.
    pub(crate) kept: Vec<Solved>,
}

/// Compiles a kiln.toml, asking about base images.
pub(crate) fn read(
    engine: &Engine,
    request: &DockerfileRequest,
    options: &Options,
    context: &Path,
    texts: &mut Texts,
) -> Result<Read, Error> {
    let included = RefCell::new(Vec::new());
    let include = |path: &str| {
        let bytes = crate::inside::read(context, Path::new(path));
        let bytes = bytes.map_err(|error| error.to_string())?;
        let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
        included.borrow_mut().push((path.to_owned(), text.clone()));
        Ok(text)
    };
    let file = toml_frontend::parse(&options.file_name, texts.main(), &include);
    for (name, text) in included.take() {
        texts.include(&name, &text);
    }
    let file = file?;
    let mut told = toml_frontend::Options {
        params: options.build_args.clone(),
        target: options.target.clone(),
        platforms: options.platforms.clone(),
        build_platform: options.build_platform.clone(),
        ignore: options.ignore.get("context").cloned().unwrap_or_default(),
        labels: options.labels.clone(),
        contexts: options
            .contexts
            .iter()
            .map(|given| named(given, options))
            .collect(),
        no_cache_filter: options.no_cache_filter.clone(),
        extra_hosts: options.extra_hosts.clone(),
        ulimits: options.ulimits.clone(),
        shm_size: options.shm_size,
        values: ValueTable::new(),
    };
    let mut kept = Vec::new();
    let mut images = ImageTable::new();
    loop {
        match toml_frontend::compile(&file, &told, &images)? {
            toml_frontend::Outcome::Needs(requests) => {
                let ask = |image: &ImageRequest| ask(engine, request, image);
                for (image, found) in resolve_all(&ask, requests) {
                    images.insert(image, found?);
                }
            }
            toml_frontend::Outcome::Values(steps) if request.assume_images => {
                let name =
                    |wanted: &ValueRequest| format!("{{{{ steps.{}.stdout }}}}", wanted.step);
                let assumed = steps
                    .wanted
                    .into_iter()
                    .map(|(wanted, _)| (name(&wanted), wanted));
                told.values
                    .extend(assumed.map(|(name, wanted)| (wanted, name)));
            }
            toml_frontend::Outcome::Values(steps) => {
                let solved = values(engine, request, *steps, context, &mut told.values)?;
                kept.push(solved);
            }
            toml_frontend::Outcome::Done(compiled) => return finish(*compiled, context, kept),
        }
    }
}

fn named((name, kind): (&String, &ContextKind), options: &Options) -> (String, NamedContext) {
    let context = match kind {
        ContextKind::Local => {
            NamedContext::Folder(options.ignore.get(name).cloned().unwrap_or_default())
        }
        ContextKind::Image(image) => NamedContext::Image(image.clone()),
        ContextKind::Target(step) => NamedContext::Step(step.clone()),
    };
    (name.clone(), context)
}

/// Runs steps for what they write.
fn values(
    engine: &Engine,
    request: &DockerfileRequest,
    steps: ValueSteps,
    context: &Path,
    values: &mut ValueTable,
) -> Result<Solved, Error> {
    let mut build = Request::new(steps.build);
    build.contexts = folders(steps.folders, context)?;
    build
        .contexts
        .insert("context".to_owned(), context.to_owned());
    build.outputs = steps.wanted.iter().map(|(_, step)| *step).collect();
    if let Some(events) = &request.events {
        build.events = events.clone();
    }
    if let Some(configure) = &request.configure {
        configure(&mut build)?;
    }
    let solved = engine.solve(build)?;
    for (wanted, step) in steps.wanted {
        let written = solved.written(step).unwrap_or_default().to_owned();
        values.insert(wanted, written);
    }
    Ok(solved)
}

/// The folders of the context that sources name.
fn folders(
    named: BTreeMap<String, String>,
    context: &Path,
) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut folders = BTreeMap::new();
    for (name, folder) in named {
        let path = context.join(&folder);
        let is_inside = |path: &PathBuf| {
            let (path, context) = (path.canonicalize().ok()?, context.canonicalize().ok()?);
            Some(path.is_dir() && path.starts_with(context))
        };
        if is_inside(&path) != Some(true) {
            let text = format!("the source '{name}': there is no folder {folder} in the context");
            return Err(toml_frontend::TomlError::whole(text).into());
        }
        folders.insert(name, path);
    }
    Ok(folders)
}

fn finish(
    compiled: toml_frontend::Compiled,
    context: &Path,
    kept: Vec<Solved>,
) -> Result<Read, Error> {
    let folders = folders(compiled.folders, context)?;
    let rule = |rule: toml_frontend::LayerRule| PathRule {
        name: rule.name,
        paths: rule.paths,
    };
    let layers = compiled.layers.into_iter().map(rule).collect();
    let policy = compiled.policy.map(Policy::from);
    let compiled = Compiled {
        build: compiled.build,
        warnings: Vec::new(),
        warnings_are_errors: false,
        used_stages: Vec::new(),
    };
    Ok(Read {
        compiled,
        layers,
        policy,
        folders,
        kept,
    })
}
