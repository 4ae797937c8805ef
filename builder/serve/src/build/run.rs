//! What all of a frontend's call works with, and whom it asks.

use std::cell::RefCell;
use std::sync::Arc;

use kiln::{Assume, DockerfileRequest, Error, Locking};
use kiln_engine::{DefaultNetwork, Engine, SecretProvider};
use kiln_graph::{BlobDigest, Entitlements};
use kiln_image::{CredentialSource, Provider};
use tonic::Status;

use super::attributes::Attributes;
use super::contexts::Client;
use super::sources::Sources;
use super::{Asked, Scratch, source_meta};
use crate::entitlement::entitlements;
use crate::error::BuildError;
use crate::job::Job;
use crate::progress::Progress;
use crate::server::Server;
use crate::session::{
    FileLookup, ImageLookup, Lookups, SessionCredentials, SessionPolicy, SessionSecrets,
};

/// One call of a frontend on its way.
pub(super) struct Run<'a> {
    pub(super) client: Client<'a>,
    pub(super) job: &'a Arc<Job>,
    pub(super) asked: &'a Asked,
    pub(super) engine: Engine,
    pub(super) scratch: Arc<Scratch>,
    pub(super) lent: RefCell<Lent<'a>>,
    pub(super) progress: Arc<Progress>,
    pub(super) secrets: Arc<dyn SecretProvider>,
    pub(super) sources: Arc<Sources>,
}

/// Names of images that go with the build.
pub(super) struct Lent<'a> {
    pub(super) engine: &'a Engine,
    pub(super) names: Vec<String>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            _ = self.engine.store().images().remove(name);
        }
    }
}

/// Does something for a client as its build does.
pub(super) fn run<T>(
    server: &Arc<Server>,
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
    let runtime = server.runtime.clone();
    SessionPolicy::new(runtime, session, lookups, job.decisions.clone()).map(Some)
}

impl Run<'_> {
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
    pub(super) fn allowed(&self) -> Result<Entitlements, Status> {
        let asked = &self.job.request.known.entitlements;
        entitlements(asked, &self.client.server.granted)
    }

    /// Has the client's policy decide on a context. Gives the digest that a file must have.
    pub(super) fn check_context(&self, source: &str) -> Result<Option<BlobDigest>, Status> {
        self.sources.context(source)
    }

    /// The network of steps that don't say which they want.
    pub(super) fn network(&self) -> Result<DefaultNetwork, Status> {
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
}
