//! What a program asks for: a build file or a graph, and what becomes of the result.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_attest::provenance::Provenance;
use kiln_engine::{
    CacheSource, CacheTarget, Cancel, DefaultNetwork, Engine, Event, EventSink, ImageOptions,
    LayerPlan, Request, SecretProvider, Solved,
};
use kiln_graph::{Build, Platform};
use kiln_image::Reference;

use crate::attest::Recorder;
use crate::output::{self, Attester, Output, Wanted};
use crate::{
    AttestOptions, BuildFacts, BuildOutcome, ContextFrom, DockerfileRequest, Error, Prepared,
    prepare,
};

/// A build to be run by [`Kiln::build`](crate::Kiln::build).
#[derive(Clone)]
pub struct BuildRequest {
    what: What,
    tags: Vec<String>,
    outputs: Vec<Output>,
    options: ImageOptions,
    attest: AttestOptions,
    cache_from: Vec<CacheSource>,
    cache_to: Vec<CacheTarget>,
    secrets: Option<Arc<dyn SecretProvider>>,
    events: Arc<dyn EventSink>,
    cancel: Cancel,
    no_cache: bool,
    jobs: Option<usize>,
}

#[derive(Clone)]
enum What {
    File(Box<DockerfileRequest>),
    Graph {
        build: Box<Build>,
        contexts: BTreeMap<String, PathBuf>,
    },
}

impl std::fmt::Debug for BuildRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildRequest")
            .field("tags", &self.tags)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

impl BuildRequest {
    /// The build file of a directory: `kiln.toml`, `Dockerfile` or `Containerfile`.
    #[must_use]
    pub fn dockerfile(context: impl Into<PathBuf>) -> Self {
        Self::of_file(DockerfileRequest {
            context: ContextFrom::Directory(context.into()),
            ..DockerfileRequest::default()
        })
    }

    /// A build file with everything that can be said of it. Secrets and the receiver of events are
    /// those of this request.
    #[must_use]
    pub fn of_file(request: DockerfileRequest) -> Self {
        Self::new(What::File(Box::new(request)))
    }

    /// A graph, as [`GraphBuilder`](kiln_graph::GraphBuilder) or a frontend makes it.
    #[must_use]
    pub fn graph(build: Build) -> Self {
        Self::new(What::Graph {
            build: Box::new(build),
            contexts: BTreeMap::new(),
        })
    }

    fn new(what: What) -> Self {
        Self {
            what,
            tags: Vec::new(),
            outputs: Vec::new(),
            options: ImageOptions::default(),
            attest: AttestOptions::default(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            secrets: None,
            events: Arc::new(|_| {}),
            cancel: Cancel::new(),
            no_cache: false,
            jobs: None,
        }
    }

    /// Another build file than the context's own.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.change(|request| request.file = Some(path))
    }

    /// The stage, or image of a kiln.toml, to build.
    #[must_use]
    pub fn target(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.change(|request| request.options.target = Some(name))
    }

    /// The value of a build argument.
    #[must_use]
    pub fn build_arg(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.change(|request| _ = request.options.build_args.insert(name, value))
    }

    /// A platform to build for; each call adds one.
    #[must_use]
    pub fn platform(self, platform: Platform) -> Self {
        self.change(|request| {
            let options = &mut request.options;
            if !std::mem::replace(&mut options.platforms_are_given, true) {
                options.platforms.clear();
            }
            options.platforms.push(platform);
        })
    }

    fn change(mut self, change: impl FnOnce(&mut DockerfileRequest)) -> Self {
        if let What::File(request) = &mut self.what {
            change(request);
        }
        self
    }

    /// A directory of this machine under the name that the build has for it.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        let (name, directory) = (name.into(), directory.into());
        match &mut self.what {
            What::File(request) => {
                let local = kiln_frontend_dockerfile::ContextKind::Local;
                request.options.contexts.insert(name.clone(), local);
                request
                    .contexts
                    .insert(name, ContextFrom::Directory(directory));
            }
            What::Graph { contexts, .. } => _ = contexts.insert(name, directory),
        }
        self
    }

    /// A name for the image in the store, and on the way to registries; each call adds one. Without
    /// any, the image has the names that a kiln.toml gives it.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>) -> Self {
        self.tags.push(name.into());
        self
    }

    /// Somewhere for the result to go; each call adds one.
    #[must_use]
    pub fn output(mut self, output: Output) -> Self {
        self.outputs.push(output);
        self
    }

    /// How the image is made: layers, compression, annotations.
    #[must_use]
    pub fn image_options(mut self, options: ImageOptions) -> Self {
        self.options = options;
        self
    }

    /// The attestations that the image gets: lists of packages, provenance, signatures. Without this
    /// it gets none.
    #[must_use]
    pub fn attest(mut self, options: AttestOptions) -> Self {
        self.attest = options;
        self
    }

    /// A shared cache whose results are used; each call adds one.
    #[must_use]
    pub fn cache_from(mut self, source: CacheSource) -> Self {
        self.cache_from.push(source);
        self
    }

    /// A shared cache that gets the results; each call adds one. One that can't be written is a
    /// warning.
    #[must_use]
    pub fn cache_to(mut self, target: CacheTarget) -> Self {
        self.cache_to.push(target);
        self
    }

    /// Where steps get secrets and SSH agents.
    #[must_use]
    pub fn secrets(mut self, secrets: Arc<dyn SecretProvider>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Is told what happens, from many threads; must not block for long.
    #[must_use]
    pub fn progress(mut self, events: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.events = Arc::new(events);
        self
    }

    /// Something that stops the build when it is cancelled.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Run every step, whatever is stored.
    #[must_use]
    pub fn no_cache(mut self) -> Self {
        self.no_cache = true;
        self
    }

    /// How many steps run at once.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    pub(crate) fn run(mut self, engine: &Engine) -> Result<BuildOutcome, Error> {
        _ = self.names()?;
        output::check(&self.outputs)?;
        let recorder = Arc::new(Recorder::new(self.events.clone()));
        let (mut request, prepared) = self.request(engine)?;
        request.events = recorder.clone();
        let network = request.network;
        let tags = self.names()?;
        output::check_names(&self.outputs, &tags)?;
        let mut solved = engine.solve(request)?;
        let facts = self.facts(&recorder, prepared.as_ref(), &solved, network)?;
        let wanted = Wanted {
            outputs: &self.outputs,
            tags: &tags,
            options: &self.options,
            attester: Attester {
                options: &self.attest,
                facts: &facts,
            },
            digests: true,
            cancel: &self.cancel,
        };
        let written = output::write(&solved, &wanted, &*self.events)?;
        let outcome = BuildOutcome::of(&solved, &written)?;
        for failed in solved.exported().into_iter().filter_map(Result::err) {
            let message = format!("the build's results are not shared: {failed}");
            self.events.event(Event::Warning { message });
        }
        Ok(outcome)
    }

    /// What is known of the build, if provenance is wanted.
    fn facts(
        &self,
        recorder: &Recorder,
        prepared: Option<&Prepared>,
        solved: &Solved,
        network: DefaultNetwork,
    ) -> Result<Provenance, Error> {
        if self.attest.provenance.is_none() {
            return Ok(Provenance::default());
        }
        let source = match (&self.what, prepared) {
            (What::File(request), Some(prepared)) => Some((&**request, prepared)),
            _ => None,
        };
        let facts = BuildFacts {
            source,
            solved,
            network,
            invocation: recorder.invocation(),
            started: recorder.started,
            steps: &recorder.steps(),
            reproducible: false,
        };
        facts.provenance()
    }

    fn names(&self) -> Result<Vec<Reference>, Error> {
        let names = self.tags.iter().map(|name| name.parse());
        let names = names.collect::<Result<_, _>>();
        Ok(names.map_err(kiln_image::ImageError::from)?)
    }

    /// What the engine is asked for; takes what the build file says of the image.
    fn request(&mut self, engine: &Engine) -> Result<(Request, Option<Prepared>), Error> {
        let (mut request, prepared) = match &mut self.what {
            What::File(file) => {
                file.events = Some(self.events.clone());
                file.secrets.clone_from(&self.secrets);
                let prepared = prepare(engine, file).map_err(|failed| failed.0)?;
                suit_options(&mut self.options, &prepared);
                if self.tags.is_empty() {
                    self.tags.clone_from(&prepared.settings.tags);
                }
                (prepared.request(), Some(prepared))
            }
            What::Graph { build, contexts } => {
                let mut request = Request::new((**build).clone());
                request.contexts.clone_from(contexts);
                (request, None)
            }
        };
        request.events = self.events.clone();
        request.cancel = self.cancel.clone();
        request.cache_from.clone_from(&self.cache_from);
        request.cache_to.clone_from(&self.cache_to);
        request.no_cache = self.no_cache;
        request.jobs = self.jobs.unwrap_or(request.jobs);
        if let Some(secrets) = &self.secrets {
            request.secrets = secrets.clone();
        }
        Ok((request, prepared))
    }
}

/// Takes what a build file says of how its image is made, where nothing else was asked for:
/// `SOURCE_DATE_EPOCH`, and layers by path.
pub fn suit_options(options: &mut ImageOptions, prepared: &Prepared) {
    let epoch = prepared.options.build_args.get("SOURCE_DATE_EPOCH");
    options.epoch = epoch.and_then(|text| text.parse().ok());
    if !prepared.layers.is_empty() && options.plan == LayerPlan::default() {
        options.plan = LayerPlan::Paths(prepared.layers.clone());
    }
}
