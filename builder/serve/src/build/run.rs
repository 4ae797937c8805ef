//! One call of a frontend: reads the build file, brings contexts here, solves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use kiln::{
    About, Assume, AttestOptions, BuildFacts, BuildFileText, ContextFrom, DockerfileRequest, Error,
    Journal, Locking, Opened, Prepared, Provenance, Texts, open_build_file,
};
use kiln_engine::{
    DefaultNetwork, Engine, EngineError, EventSink, ImageOptions, Request, SecretProvider, Solved,
    write_directory,
};
use kiln_frontend_dockerfile::{ContextKind, is_remote};
use kiln_graph::address::redact;
use kiln_graph::{
    BlobDigest, Entitlements, ImageConfig, ImagePath, ImageRequest, ImageTable, Platform,
};
use kiln_image::{CredentialSource, Provider};
use kiln_llb::{image_of_ref, results_in};
use kiln_sandbox::{CgroupParent, Cgroups, SandboxError};
use tonic::Status;

use super::attributes::{Attributes, LayoutName, Source};
use super::contexts::{Client, Local};
use super::sources::Sources;
use super::{
    Answer, Asked, Built, Scratch, cache, definition, frontend, image_config, layout, question,
    source_meta,
};
use crate::bridge::{new_id, ref_of};
use crate::control::entitlements;
use crate::control::workers::DOCKERFILE;
use crate::error::{BuildError, with_details};
use crate::job::Job;
use crate::progress::{Contexts, Progress};
use crate::proto::control::CacheOptionsEntry;
use crate::proto::pb::Definition;
use crate::proto::sourcepolicy::Policy;
use crate::server::Server;
use crate::session::{
    ClientStore, FileLookup, ImageLookup, Lookups, SessionCredentials, SessionPolicy,
    SessionSecrets, pull, upload_of,
};

/// Runs a frontend.
pub(crate) async fn build(
    server: Arc<Server>,
    job: Arc<Job>,
    asked: Asked,
) -> Result<Answer, BuildError> {
    if asked.definition.is_none() {
        frontend::check(&asked, &server.frontends)?;
    }
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method by itself is for one lifetime only"
    )]
    let work = move || run(&server, &job, &asked, |run| run.answer());
    apart(work).await
}

/// What an image's name stands for.
pub(crate) struct Image {
    /// Its name, or that of the image that a policy puts in its place.
    pub(crate) name: String,
    pub(crate) digest: BlobDigest,
    /// Its configuration, as JSON.
    pub(crate) config: Vec<u8>,
}

/// Finds out what an image's name stands for.
pub(crate) async fn resolve_image(
    server: Arc<Server>,
    job: Arc<Job>,
    mode: String,
    policies: Vec<Policy>,
    wanted: ImageRequest,
) -> Result<Image, BuildError> {
    let mode = (!mode.is_empty()).then(|| ("image-resolve-mode".to_owned(), mode));
    let asked = Asked {
        attributes: mode.into_iter().collect(),
        policies,
        ..Asked::default()
    };
    apart(move || run(&server, &job, &asked, |run| run.image_config(&wanted))).await
}

/// Finds out what a file on a web server is.
pub(crate) async fn resolve_file(
    server: Arc<Server>,
    job: Arc<Job>,
    policies: Vec<Policy>,
    url: String,
) -> Result<BlobDigest, BuildError> {
    let asked = Asked {
        policies,
        ..Asked::default()
    };
    apart(move || run(&server, &job, &asked, |run| run.file(&url))).await
}

/// Does something that blocks on a thread of its own.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    let (sender, answer) = tokio::sync::oneshot::channel();
    let work = move || {
        _ = sender.send(work());
    };
    let thread = std::thread::Builder::new().name("build".to_owned());
    thread.spawn(work).map_err(|source| BuildError::Host {
        what: "cannot start a thread",
        source,
    })?;
    let early = || BuildError::from(Status::internal("the build ended early"));
    answer.await.map_err(|_| early())?
}

/// Names of images that go with the build.
struct Lent<'a> {
    engine: &'a Engine,
    names: Vec<String>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            _ = self.engine.store().remove_image(name);
        }
    }
}

/// A graph that is ready to be solved.
pub(super) struct Ready<'a> {
    pub(super) request: Request,
    /// How its images are made.
    pub(super) options: ImageOptions,
    pub(super) texts: Texts,
    /// The build file that it was compiled from.
    pub(super) source: Option<(&'a DockerfileRequest, &'a Prepared)>,
    /// The lines of contexts in the display.
    pub(super) lines: &'a Contexts,
    pub(super) attest: AttestOptions,
}

/// How images are made that nothing is said of: times are kept unless an exporter says otherwise.
pub(super) fn image_options() -> ImageOptions {
    ImageOptions {
        keep_late_times: true,
        marks_rewritten: true,
        ..ImageOptions::default()
    }
}

/// One call of a frontend on its way.
pub(super) struct Run<'a> {
    pub(super) client: Client<'a>,
    job: &'a Job,
    asked: &'a Asked,
    pub(super) engine: Engine,
    scratch: Arc<Scratch>,
    lent: RefCell<Lent<'a>>,
    pub(super) progress: Arc<Progress>,
    secrets: Arc<dyn SecretProvider>,
    sources: Arc<Sources>,
}

/// Does something for a client as its build does.
fn run<T>(
    server: &Server,
    job: &Arc<Job>,
    asked: &Asked,
    work: impl FnOnce(&Run<'_>) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let rules = job.rules.with(&asked.policies)?;
    let id = &job.request.known.session;
    let session = server.runtime.block_on(server.sessions.get(id))?;
    let provider = SessionCredentials::new(server.runtime.clone(), session.clone());
    let provider = CredentialSource::Provider(Provider(Arc::new(provider)));
    let registries = server.engine.client().on_behalf(provider);
    let closing = registries.clone();
    let _close = job.cancel.on_cancel(move || closing.close());
    let engine = server.engine.clone().with_client(registries);
    let scratch = engine.store().scratch_directory().map_err(Error::from)?;
    let scratch = Arc::new(Scratch(scratch));
    let lent = Lent {
        engine: &server.engine,
        names: Vec::new(),
    };
    let secrets = SessionSecrets::new(server.runtime.clone(), session.clone(), scratch.0.clone());
    let progress = Arc::new(Progress::new(job.log.clone(), &job.reference));
    let policy = policy(server, job, &engine)?;
    let run = Run {
        client: Client {
            server,
            attributes: Attributes(&asked.attributes),
            session: &session,
            progress: &progress,
        },
        job,
        asked,
        engine,
        scratch,
        lent: RefCell::new(lent),
        progress: progress.clone(),
        secrets: Arc::new(secrets),
        sources: Arc::new(Sources::new(rules, policy)),
    };
    work(&run)
}

/// The policy that the client wants the build's sources to be held to.
fn policy(server: &Server, job: &Job, engine: &Engine) -> Result<Option<SessionPolicy>, Status> {
    let id = &job.request.known.source_policy_session;
    if id.is_empty() {
        return Ok(None);
    }
    let session = server.runtime.block_on(server.sessions.get(id))?;
    let client = engine.client().clone();
    let files = engine.clone();
    let image: ImageLookup = Box::new(move |image, platform| {
        let found = client.resolve(image, platform);
        let found = found.map_err(|error| error.to_string())?;
        let config = serde_json::to_vec(&found.config).map_err(|error| error.to_string())?;
        Ok((found.named.unwrap_or(found.manifest), config))
    });
    let file: FileLookup =
        Box::new(move |url| source_meta::checksum(&files, url).map_err(|error| error.to_string()));
    let lookups = Lookups { image, file };
    SessionPolicy::new(
        server.runtime.clone(),
        session,
        lookups,
        job.decisions.clone(),
    )
    .map(Some)
}

impl Run<'_> {
    fn answer(&self) -> Result<Answer, BuildError> {
        if let Some(definition) = &self.asked.definition {
            return self.definition(definition);
        }
        let attributes = self.client.attributes;
        let mut request = self.request()?;
        let locals = self.contexts(&mut request)?;
        if let Some(question) = attributes.text("requestid") {
            let said = question::answer(&self.engine, request, question)?;
            return Ok(Answer { result: None, said });
        }
        let opened = open_build_file(&self.engine, &request)?;
        let mut lines = Contexts::new();
        if opened.is_toml() {
            // What it includes is read while it is compiled.
            for (name, local) in &locals {
                lines.insert(name.clone(), self.client.transfer(local, Vec::new())?);
            }
        }
        let attest = attributes.attestations()?;
        let prepared = self.prepare(&opened, &request)?;
        if !opened.is_toml() {
            lines = self.client.bring(&prepared.compiled.build.graph, &locals)?;
        }
        let mut options = image_options();
        kiln::suit_options(&mut options, &prepared);
        self.solve(Ready {
            request: prepared.request(),
            options,
            texts: prepared.texts.clone(),
            source: Some((&request, &prepared)),
            lines: &lines,
            attest,
        })
    }

    fn image_config(&self, wanted: &ImageRequest) -> Result<Image, BuildError> {
        let asked = self.request()?;
        let mut found = ImageTable::new();
        let line = format!("[internal] load metadata for {}", wanted.name);
        self.progress.during(&line, |_| {
            kiln::resolve_images(&self.engine, &asked, vec![wanted.clone()], &mut found)
        })?;
        let found = found.remove(wanted);
        let found = found.ok_or_else(|| Status::not_found(wanted.name.clone()))?;
        let config = serde_json::to_vec(&found.config);
        let config = config.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Image {
            name: found.source.name,
            digest: found.source.manifest,
            config,
        })
    }

    /// What the frontend is asked for, but for the contexts.
    pub(super) fn request(&self) -> Result<DockerfileRequest, Status> {
        let attributes = self.client.attributes;
        let allowed = self.allowed()?;
        let mut options = attributes.options()?;
        options.allow_insecure = allowed.security_insecure;
        Ok(DockerfileRequest {
            options,
            pull: attributes.pull()?,
            assume_images: Assume::Nothing,
            allowed,
            secrets: Some(self.secrets.clone()),
            events: Some(self.progress.clone()),
            is_foreign: true,
            locking: Locking::Off,
            source_check: Some(self.sources.clone()),
            ..DockerfileRequest::default()
        })
    }

    /// What the client allows and the server grants.
    fn allowed(&self) -> Result<Entitlements, Status> {
        let asked = &self.job.request.known.entitlements;
        entitlements(asked, &self.client.server.granted)
    }

    /// Has the client's policy decide on a context.
    pub(super) fn check_context(&self, source: &str) -> Result<(), Status> {
        self.sources.context(source)
    }

    /// The network of steps that don't say which they want.
    fn network(&self) -> Result<DefaultNetwork, Status> {
        let own = self.client.server.network;
        match self.client.attributes.network()? {
            None => Ok(own),
            Some(DefaultNetwork::Host)
                if own != DefaultNetwork::Host && !self.allowed()?.network_host =>
            {
                let text = "the network of the host needs the entitlement network.host here";
                Err(Status::unknown(text))
            }
            Some(network) => Ok(network),
        }
    }

    /// Reads the build file, and prepares the contexts. Gives those that are the client's directories.
    fn contexts(
        &self,
        request: &mut DockerfileRequest,
    ) -> Result<BTreeMap<String, Local>, BuildError> {
        let attributes = self.client.attributes;
        let mut locals = BTreeMap::new();
        match attributes.text("context") {
            None => {
                let (file, own) = self.build_file()?;
                request.text = Some(file);
                let directory = attributes.text("contextkey").unwrap_or("context");
                match self.given_tree(directory)? {
                    Some(tree) => request.context = ContextFrom::Directory(tree),
                    None => {
                        self.check_context(directory)?;
                        let local = self.client.local("context", directory, own)?;
                        request.context = ContextFrom::Directory(local.directory());
                        locals.insert("context".to_owned(), local);
                    }
                }
            }
            Some(address) => self.remote(address, request)?,
        }
        for (name, source) in attributes.contexts()? {
            let kind = match source {
                Source::Client(directory) => {
                    self.check_context(&directory)?;
                    let local = self.client.local(&name, &directory, None)?;
                    let directory = ContextFrom::Directory(local.directory());
                    request.contexts.insert(name.clone(), directory);
                    locals.insert(name.clone(), local);
                    ContextKind::Local
                }
                Source::Remote(address) => {
                    self.check_context(&address)?;
                    let remote = ContextFrom::Remote(address);
                    request.contexts.insert(name.clone(), remote);
                    ContextKind::Local
                }
                Source::Input(input) => ContextKind::Image(self.input(&input)?),
                Source::Layout(layout) => ContextKind::Image(self.layout(&layout, None)?),
                Source::Known(kind) => kind,
            };
            request.options.contexts.insert(name, kind);
        }
        if let Some(file) = &mut request.text {
            let ignore = locals
                .iter()
                .map(|(name, local)| (name.clone(), local.ignore.clone()));
            file.ignore = ignore.collect();
        }
        Ok(locals)
    }

    /// Reads the build file, from a directory of the client's or from another build's result.
    fn build_file(&self) -> Result<(BuildFileText, Option<Vec<String>>), BuildError> {
        let attributes = self.client.attributes;
        let directory = attributes.text("dockerfilekey").unwrap_or("dockerfile");
        let given = self.given_tree(directory)?;
        if given.is_none() {
            self.check_context(directory)?;
        }
        let (file, own) = self.client.build_file(given.as_deref())?;
        if let Some(text) = frontend::foreign_syntax(&file, attributes) {
            return Err(BuildError::of(
                Error::from(text),
                Texts::of(file.text),
                attributes.file_name(),
            ));
        }
        Ok((file, own))
    }

    /// The files of an input that takes the place of a client's directory.
    fn given_tree(&self, name: &str) -> Result<Option<PathBuf>, BuildError> {
        let Some(definition) = self.asked.inputs.get(name) else {
            return Ok(None);
        };
        if definition.def.is_empty() {
            let text = "invalid nil input definition to definition op";
            return Err(Status::invalid_argument(text).into());
        }
        let built = self.built_input(name, definition)?;
        let directory = self.scratch.0.join(format!("input-{}", new_name()?));
        if let Some(target) = built.solved.build().targets.first() {
            let files = built.solved.root_files(target, &*built.journal);
            let files = files.map_err(Error::from)?;
            write_directory(&files, &directory, &|_| Ok(())).map_err(cannot_keep)?;
        }
        Ok(Some(directory))
    }

    /// Brings an image of a client's layout here; gives the name that it has here. `session` has the
    /// layout, if the definition says so.
    pub(super) fn layout(
        &self,
        layout: &LayoutName,
        session: Option<&str>,
    ) -> Result<String, BuildError> {
        let server = self.client.server;
        let session = match session {
            Some(id) => server.runtime.block_on(server.sessions.get(id))?,
            None => self.client.session.clone(),
        };
        self.check_context(&format!("oci-layout://{}@{}", layout.store, layout.digest))?;
        let name = format!("oci:{}", layout.store);
        let store = ClientStore::new(server.runtime.clone(), session, name);
        let directory = self.scratch.0.join(format!("layout-{}", new_name()?));
        let mut platforms = self.client.attributes.options()?.platforms;
        platforms.push(Platform::host());
        let line = format!("[internal] load oci-layout://{}", layout.store);
        self.progress.during(&line, |_| {
            layout::fetch(&store, &layout.digest, &platforms, &directory)
        })?;
        Ok(format!("oci:{}", directory.display()))
    }

    /// A main context that is no directory of the client's.
    fn remote(&self, address: &str, request: &mut DockerfileRequest) -> Result<(), BuildError> {
        self.check_context(address)?;
        let attributes = self.client.attributes;
        if let Some(directory) = attributes.text("contextsubdir") {
            request.context_directory = ImagePath::new(directory);
        }
        if attributes.text("dockerfilekey").is_some() {
            request.text = Some(self.build_file()?.0);
        } else {
            request.file = Some(attributes.file_name().into());
        }
        if let Some(name) = upload_of(address) {
            let file = self.scratch.0.join("upload");
            let runtime = &self.client.server.runtime;
            self.progress
                .during("[internal] load remote build context", |_| {
                    runtime.block_on(pull(self.client.session, name, &file))
                })?;
            request.context = ContextFrom::File(file);
            return Ok(());
        }
        if !is_remote(address) {
            let text = format!("invalid build context {address:?}: an address is needed");
            return Err(Status::invalid_argument(text).into());
        }
        request.context = ContextFrom::Remote(address.to_owned());
        Ok(())
    }

    /// Gives another build's result a name in the store, for as long as this build takes.
    fn input(&self, name: &str) -> Result<String, BuildError> {
        let inputs = &self.asked.inputs;
        // An input of one platform has the platform behind its name.
        let is_it = |(own, _): &(&String, _)| {
            own.split("::").next() == Some(name.split("::").next().unwrap_or(name))
        };
        let found = inputs
            .get(name)
            .or_else(|| inputs.iter().find(is_it).map(|(_, found)| found));
        let found =
            found.ok_or_else(|| Status::invalid_argument(format!("there is no input {name}")))?;
        let built = self.built_input(name, found)?;
        let id = new_id().map_err(|error| Status::internal(error.to_string()))?;
        let tag = image_of_ref(&id).map_err(|error| Status::internal(error.to_string()))?;
        let config = match built.is_definition {
            true => self.input_config(name)?,
            false => None,
        };
        self.lend(&built, tag.clone(), config)?;
        Ok(tag)
    }

    /// The configuration that an input has as an image, when the client says it.
    fn input_config(&self, name: &str) -> Result<Option<ImageConfig>, Status> {
        let key = format!("input-metadata:{name}");
        let Some(about) = self.client.attributes.text(&key) else {
            return Ok(None);
        };
        let wrong = |reason: String| Status::invalid_argument(format!("{key}: {reason}"));
        let about: BTreeMap<String, String> =
            serde_json::from_str(about).map_err(|error| wrong(error.to_string()))?;
        let Some(config) = about.get("containerimage.config") else {
            return Ok(None);
        };
        let json = base64::engine::general_purpose::STANDARD.decode(config);
        let json = json.map_err(|error| wrong(error.to_string()))?;
        image_config(&json).map(Some)
    }

    /// The result that an input is.
    fn built_input(&self, name: &str, input: &Definition) -> Result<Arc<Built>, BuildError> {
        match ref_of(input) {
            Some(id) => Ok(self.client.server.jobs.result(&id)?),
            None => self.input_definition(name, input),
        }
    }

    /// Gives a result the name of an image in the store while this build takes.
    fn lend(
        &self,
        built: &Built,
        name: String,
        config: Option<ImageConfig>,
    ) -> Result<(), BuildError> {
        let solved = &built.solved;
        let options = ImageOptions {
            config: config.map(Box::new),
            ..built.options.clone()
        };
        let targets = solved.build().targets.iter();
        let images = targets.map(|target| solved.image(target, &options, &*self.progress));
        let images = images.collect::<Result<Vec<_>, _>>().map_err(Error::from)?;
        // Layers that no step has asked for yet are brought here: what is lent is used from the store.
        let brought = solved.bring(&images, &*self.progress);
        brought.map_err(Error::from)?;
        solved.tag(&images, &name).map_err(Error::from)?;
        self.sources.admit(&name);
        self.lent.borrow_mut().names.push(name);
        Ok(())
    }

    /// Lends the results that a definition is made from.
    pub(super) fn lend_refs(&self, definition: &Definition) -> Result<(), BuildError> {
        for id in results_in(definition).map_err(|error| definition::status(&error))? {
            let built = self.client.server.jobs.result(&id)?;
            let name = image_of_ref(&id).map_err(|error| Status::unknown(error.to_string()))?;
            self.lend(&built, name, None)?;
        }
        Ok(())
    }

    /// Builds an input that is a definition.
    fn input_definition(
        &self,
        name: &str,
        definition: &Definition,
    ) -> Result<Arc<Built>, BuildError> {
        let empty = || Status::invalid_argument(format!("the input {name} is empty"));
        let answer = self.definition(definition)?;
        Ok(answer.result.ok_or_else(empty)?)
    }

    fn prepare(
        &self,
        opened: &Opened,
        request: &DockerfileRequest,
    ) -> Result<Prepared, BuildError> {
        let file = self.client.attributes.file_name();
        let located = |at: kiln::Located| BuildError::of(at.0, at.1, file);
        let prepared = opened.prepare(&self.engine, request);
        let prepared = prepared.map_err(|at| {
            if let Error::Dockerfile(error) = &at.0 {
                self.progress.warn(&error.warnings, file, at.1.main());
            }
            located(at)
        })?;
        let compiled = &prepared.compiled;
        self.progress
            .warn(&compiled.warnings, file, prepared.texts.main());
        match compiled.violations() {
            Some(text) => Err(with_details(text, Vec::new()).into()),
            None => Ok(prepared),
        }
    }

    /// Solves what was compiled.
    pub(super) fn solve(&self, ready: Ready<'_>) -> Result<Answer, BuildError> {
        let Ready {
            mut request,
            mut options,
            texts,
            source,
            lines,
            attest,
        } = ready;
        let attributes = self.client.attributes;
        let file = attributes.file_name();
        let exports = match &self.job.request.known.cache {
            Some(cache) => &cache.exports[..],
            None => &[],
        };
        let targets = cache::exports(&self.engine, &self.client, exports)?;
        options.inline = targets.inline;
        request.no_cache = attributes.no_cache();
        request.network = self.network()?;
        request.jobs = self.client.server.jobs_at_once.unwrap_or(request.jobs);
        request.secrets = self.secrets.clone();
        let journal = self.journal(source.is_none());
        request.events = journal.clone();
        request.cancel = self.job.cancel.clone();
        request.cache_from = cache::imports(&self.engine, &self.client, &self.imports()?)?;
        request.cache_to = targets.remotes;
        request.cgroups = self.cgroups()?;
        let several = request.build.targets.len() > 1;
        let is_map = attributes.is_map()? || several;
        self.progress.plan(&request.build, lines, several);
        let solved = self.engine.solve(request);
        let message = solved.as_ref().err().map(ToString::to_string);
        let vertex = self.progress.finish(message.as_deref());
        let mut solved = solved.map_err(|error| BuildError::Kiln {
            error: Box::new(error.into()),
            texts: texts.clone(),
            file: file.to_owned(),
            vertex,
        })?;
        let cache_manifest = self.share(&mut solved, &targets.exports)?;
        let facts = self.facts(source, &solved, &journal)?;
        let built = Built {
            solved,
            options,
            texts,
            file: file.to_owned(),
            is_map,
            cache_manifest,
            is_definition: source.is_none(),
            attest,
            facts,
            journal,
            _scratch: self.scratch.clone(),
        };
        Ok(Answer {
            result: Some(Arc::new(built)),
            ..Answer::default()
        })
    }

    /// What steps may use, if the client limits it: nothing of it leads out of what the server may use.
    fn cgroups(&self) -> Result<Option<Arc<Cgroups>>, BuildError> {
        let attributes = self.client.attributes;
        let parent = CgroupParent::Own(attributes.cgroup_parent()?);
        let cgroups = Cgroups::new(attributes.resources()?, &parent);
        let cgroups = cgroups.map_err(|error| Error::from(SandboxError::from(error)))?;
        Ok(cgroups.map(Arc::new))
    }

    /// Begins to note what happens, for `kiln history` and `explain`.
    fn journal(&self, is_definition: bool) -> Arc<Journal> {
        let attributes = self.client.attributes;
        let file = match is_definition {
            true => "LLB definition",
            false => attributes.file_name(),
        };
        let context = attributes.text("context");
        // Clients give the name of their directory before a colon.
        let shared = self.client.session.shared_key.split(':').next();
        let context = context.or(shared).filter(|name| !name.is_empty());
        let target = attributes.text("target").unwrap_or_default();
        let mut title = match context {
            Some(context) => format!("{file} of {context}"),
            None => format!("{file} of a client"),
        };
        if !target.is_empty() {
            title.push_str(&format!(" ({target})"));
        }
        let subject = format!("client\n{}\n{file}\n{target}", context.unwrap_or_default());
        let about = About {
            subject: redact(&subject).into_owned(),
            title: redact(&title).into_owned(),
            // It can't be asked for without the client.
            plan: serde_json::Value::Null,
        };
        let store = self.engine.store().clone();
        let journal = Arc::new(Journal::new(store, self.progress.clone(), about));
        // What clients ask for besides a build, such as a bake file in a repository, is no build.
        if !self.job.request.known.internal {
            self.job.remember(journal.clone());
        }
        journal
    }

    /// What provenance tells.
    fn facts(
        &self,
        source: Option<(&DockerfileRequest, &Prepared)>,
        solved: &Solved,
        journal: &Journal,
    ) -> Result<Provenance, BuildError> {
        let began = self
            .job
            .begun
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let facts = BuildFacts {
            source,
            solved,
            network: self.network()?,
            invocation: self.job.reference.clone(),
            started: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
            steps: &journal.results(),
            reproducible: false,
        };
        let attributes = self.client.attributes;
        let vcs = ["source", "revision"].into_iter().filter_map(|name| {
            let value = attributes.text(&format!("vcs:{name}"))?;
            Some((name.to_owned(), value.to_owned()))
        });
        Ok(Provenance {
            // The directory is a copy in this server's store: of its repository the client knows.
            vcs: vcs.collect(),
            dockerfile_version: source.map(|_| DOCKERFILE.to_owned()),
            ..facts.provenance()?
        })
    }

    /// The caches to take results from: clients name them in up to three places.
    fn imports(&self) -> Result<Vec<CacheOptionsEntry>, Status> {
        let mut all = self.asked.imports.clone();
        let cache = self.job.request.known.cache.clone().unwrap_or_default();
        let attributes = cache::imports_of(self.client.attributes)?;
        for entry in cache.imports.into_iter().chain(attributes) {
            if !all.contains(&entry) {
                all.push(entry);
            }
        }
        Ok(all)
    }

    /// Waits until shared caches have what they lacked. Gives what the client is told of a cache in its directory.
    fn share(
        &self,
        solved: &mut Solved,
        exports: &[cache::CacheExport],
    ) -> Result<Option<String>, BuildError> {
        let mut told = None;
        for (export, sent) in exports.iter().zip(solved.exported()) {
            let (name, is_tolerant) = (&export.name, export.is_tolerant);
            let line = format!("exporting cache to {name}");
            let done = self.progress.during(&line, |_| {
                _ = sent.map_err(failed)?;
                export.finish()
            });
            match done {
                Err(error) if is_tolerant => self.progress.event(kiln_engine::Event::Warning {
                    message: format!("the cache was not exported to {name}: {error}"),
                }),
                done => told = done?.or(told),
            }
        }
        Ok(told)
    }
}

/// A name for a directory.
fn new_name() -> Result<String, Status> {
    let id = new_id().map_err(|error| Status::internal(error.to_string()))?;
    Ok(id.chars().take(16).collect())
}

fn cannot_keep(source: std::io::Error) -> BuildError {
    BuildError::Host {
        what: "cannot keep another build's result",
        source,
    }
}

fn failed(error: EngineError) -> BuildError {
    Error::from(error).into()
}
