//! From a directory with a kiln.toml to a compiled build.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_engine::{Engine, Event, Request, Solved};
use kiln_frontend_dockerfile::{Compiled, ContextKind, Options};
use kiln_frontend_toml::{
    self as toml_frontend, BuildFile, Included, NamedContext, ValueRequest, ValueSteps, ValueTable,
};
use kiln_graph::{ImageTable, Platform};

use super::base_image::BaseImages;
use crate::context::Fetcher;
use crate::image::source_guard::SourceGuard;
use crate::{Assume, DockerfileRequest, Error, PathRule, Policy, SignatureRule, Texts};

/// What a kiln.toml says.
pub(crate) struct Read {
    pub(crate) compiled: Compiled,
    /// The image's layers by path.
    pub(crate) layers: Vec<PathRule>,
    /// What the image must keep to.
    pub(crate) policy: Option<Policy>,
    /// Where the image goes.
    pub(crate) settings: toml_frontend::Settings,
    /// What it is built for.
    pub(crate) platforms: Vec<Platform>,
    /// The directories that the graph names.
    pub(crate) directories: BTreeMap<String, PathBuf>,
    /// What was run to read it, for as long as the build needs it.
    pub(crate) kept: Vec<Arc<Solved>>,
}

/// Compiles a kiln.toml, asking about base images.
pub(crate) fn read(
    base: &BaseImages<'_>,
    request: &DockerfileRequest,
    options: &Options,
    context: &Path,
    texts: &mut Texts,
) -> Result<Read, Error> {
    let (file, mut kept) = parse(base.engine, request, options, context, texts)?;
    let mut told = told(options);
    if !options.platforms_are_given {
        told.platforms = toml_frontend::platforms(&file, &told)?;
    }
    let mut images = ImageTable::new();
    loop {
        match toml_frontend::compile(&file, &told, &images)? {
            toml_frontend::Outcome::Needs(requests) => base.add_to(&mut images, requests)?,
            toml_frontend::Outcome::Values(steps) if request.assume_images != Assume::Nothing => {
                told.values.extend(assumed(*steps));
            }
            toml_frontend::Outcome::Values(steps) => {
                verify(base, &steps.signatures, context)?;
                let solved = values(base, request, *steps, context, &mut told.values)?;
                kept.push(Arc::new(solved));
            }
            toml_frontend::Outcome::Done(compiled) => {
                verify(base, &compiled.signatures, context)?;
                return finish(*compiled, told.platforms, context, kept);
            }
        }
    }
}

/// Parses a file with those it includes, whose texts are noted; and what keeps these.
fn parse(
    engine: &Engine,
    request: &DockerfileRequest,
    options: &Options,
    context: &Path,
    texts: &mut Texts,
) -> Result<(BuildFile, Vec<Arc<Solved>>), Error> {
    let includes = Includes::new(engine, request, context);
    let included = RefCell::new(Vec::new());
    let include = |file: &Included<'_>| {
        let text = includes.read(file)?;
        included.borrow_mut().push((file.to_string(), text.clone()));
        Ok(text)
    };
    let file = toml_frontend::parse(&options.file_name, texts.main(), &include);
    for (name, text) in included.take() {
        texts.include(&name, &text);
    }
    Ok((file?, includes.kept.take()))
}

/// What the compiler is told, in its own words.
fn told(options: &Options) -> toml_frontend::Options {
    let contexts = options.contexts.iter();
    toml_frontend::Options {
        params: options.build_args.clone(),
        target: options.target.clone(),
        platforms: options.platforms.clone(),
        build_platform: options.build_platform.clone(),
        ignore: options.ignore.get("context").cloned().unwrap_or_default(),
        labels: options.labels.clone(),
        contexts: contexts.map(|given| named(given, options)).collect(),
        no_cache_filter: options.no_cache_filter.clone(),
        extra_hosts: options.extra_hosts.clone(),
        ulimits: options.ulimits.clone(),
        shm_size: options.shm_size,
        values: ValueTable::new(),
    }
}

/// What stands for the outputs of steps where nothing is run.
fn assumed(steps: ValueSteps) -> ValueTable {
    let name = |wanted: &ValueRequest| format!("{{{{ steps.{}.stdout }}}}", wanted.step);
    let wanted = steps.wanted.into_iter();
    wanted
        .map(|(wanted, _)| (wanted.clone(), name(&wanted)))
        .collect()
}

/// A kiln.toml as it is written, with the files that it includes.
pub(crate) fn file(
    engine: &Engine,
    request: &DockerfileRequest,
    options: &Options,
    context: &Path,
    texts: &mut Texts,
) -> Result<BuildFile, Error> {
    parse(engine, request, options, context, texts).map(|(file, _)| file)
}

/// Where nobody listens.
const NO_EVENTS: fn(Event) = |_| {};

/// Reads included files.
struct Includes<'a> {
    guard: SourceGuard<'a>,
    fetcher: Fetcher<'a>,
    context: &'a Path,
    /// The repositories that were fetched.
    kept: RefCell<Vec<Arc<Solved>>>,
}

impl<'a> Includes<'a> {
    fn new(engine: &'a Engine, request: &'a DockerfileRequest, context: &'a Path) -> Self {
        Self {
            guard: SourceGuard {
                engine,
                rules: &request.source_rules,
                check: request.source_check.as_deref(),
                events: request.events.as_deref().unwrap_or(&NO_EVENTS),
            },
            fetcher: Fetcher::new(engine, request),
            context,
            kept: RefCell::default(),
        }
    }

    fn read(&self, file: &Included<'_>) -> Result<String, String> {
        let bytes = match file {
            Included::File(path) => super::inside::read(self.context, Path::new(path)),
            Included::Git {
                remote,
                commit,
                path,
            } => {
                let allowed = self.guard.commit(remote, commit);
                allowed.map_err(|error| error.to_string())?;
                let fetched = self.fetcher.commit(remote, commit);
                let (solved, directory) = fetched.map_err(|error| error.to_string())?;
                self.kept.borrow_mut().push(Arc::new(solved));
                super::inside::read(&directory, Path::new(path))
            }
        };
        let bytes = bytes.map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|error| error.to_string())
    }
}

fn named((name, kind): (&String, &ContextKind), options: &Options) -> (String, NamedContext) {
    let context = match kind {
        ContextKind::Local => {
            NamedContext::Directory(options.ignore.get(name).cloned().unwrap_or_default())
        }
        ContextKind::Image(image) => NamedContext::Image(image.clone()),
        ContextKind::Target(step) => NamedContext::Step(step.clone()),
    };
    (name.clone(), context)
}

/// Runs steps for what they write.
fn values(
    base: &BaseImages<'_>,
    request: &DockerfileRequest,
    steps: ValueSteps,
    context: &Path,
    values: &mut ValueTable,
) -> Result<Solved, Error> {
    let mut build = Request::new(steps.build);
    build.allowed = request.allowed.clone();
    build.contexts = directories(steps.directories, context)?;
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
    base.settle(&mut build)?;
    let solved = base.engine.solve(build)?;
    for (wanted, step) in steps.wanted {
        let written = solved.written(step).unwrap_or_default().to_owned();
        values.insert(wanted, written);
    }
    Ok(solved)
}

/// Holds images to the signatures that the file wants; its keys lie in the context.
fn verify(
    base: &BaseImages<'_>,
    wanted: &[toml_frontend::RequiredSignature],
    context: &Path,
) -> Result<(), Error> {
    for wanted in wanted {
        let rule = signature_rule(&wanted.signers);
        base.verify(&wanted.image, &rule, context, wanted.location.as_ref())?;
    }
    Ok(())
}

fn signature_rule(signers: &toml_frontend::Signers) -> SignatureRule {
    let path = |text: &Option<String>| text.as_ref().map(PathBuf::from);
    SignatureRule {
        key: None,
        keys: signers.keys.iter().map(PathBuf::from).collect(),
        threshold: signers.threshold,
        identity: signers.identity.clone(),
        identity_regexp: signers.identity_regexp.clone(),
        issuer: signers.issuer.clone(),
        issuer_regexp: signers.issuer_regexp.clone(),
        trusted_root: path(&signers.trusted_root),
        roots: path(&signers.roots),
        log: path(&signers.log),
        timestamps: path(&signers.timestamps),
        attestations: signers.attestations.clone(),
    }
}

/// The directories of the context that sources name.
fn directories(
    named: BTreeMap<String, String>,
    context: &Path,
) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut directories = BTreeMap::new();
    for (name, directory) in named {
        let path = context.join(&directory);
        let is_inside = |path: &PathBuf| {
            let (path, context) = (path.canonicalize().ok()?, context.canonicalize().ok()?);
            Some(path.is_dir() && path.starts_with(context))
        };
        if is_inside(&path) != Some(true) {
            let text =
                format!("the source '{name}': there is no directory {directory} in the context");
            return Err(toml_frontend::TomlError::whole(text).into());
        }
        directories.insert(name, path);
    }
    Ok(directories)
}

fn finish(
    compiled: toml_frontend::Compiled,
    platforms: Vec<Platform>,
    context: &Path,
    kept: Vec<Arc<Solved>>,
) -> Result<Read, Error> {
    let directories = directories(compiled.directories, context)?;
    let rule = |rule: toml_frontend::LayerRule| PathRule {
        name: rule.name,
        paths: rule.paths,
    };
    let layers = compiled.layers.into_iter().map(rule).collect();
    let policy = compiled.policy.map(Policy::from);
    let build = Compiled {
        build: compiled.build,
        warnings: Vec::new(),
        warnings_are_errors: false,
        used_stages: Vec::new(),
        outline: kiln_frontend_dockerfile::Outline::default(),
    };
    Ok(Read {
        compiled: build,
        layers,
        policy,
        settings: compiled.settings,
        platforms,
        directories,
        kept,
    })
}
