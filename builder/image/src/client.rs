//! Fetches images from registries and OCI layouts.
//!
//! The methods block; the network runs on a runtime of the client's own, started at its first use.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kiln_graph::BlobDigest;
use kiln_tree::host;
use reqwest::header::ACCEPT;
use reqwest::{Method, Response, redirect};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::answer_body::{encoding, limited};
use crate::auth::Challenge;
use crate::certificate::{authorities, given};
use crate::credentials::{CredentialSource, Logins};
use crate::daemon::save_from_daemon;
use crate::document::media_type;
use crate::error::wrong_digest;
use crate::http_client::{build, certificates, plain_builder};
use crate::layer::decompress::{decompressed, is_compressed};
use crate::layout::Layout;
use crate::registry::{self, Registries};
use crate::request::{Ask, MAX_REDIRECTS, unreachable};
use crate::{Documents, ImageError, Reference};

/// Manifests and configurations are no larger (distribution specification, "Pushing manifests").
const MAX_DOCUMENT: usize = 8 << 20;

/// What a client is told.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// How long to wait before the second try; it doubles with each try. Zero: half a second.
    pub first_wait: Duration,
    /// How registries are spoken to.
    pub registries: Registries,
    /// Whether no registry's certificate is checked, and plain HTTP is spoken to those without TLS.
    pub insecure: bool,
    /// A directory with certificates of authorities (`*.crt`) to trust besides the usual ones, and
    /// a certificate of the client's own (`NAME.cert`) with its key (`NAME.key`), all PEM.
    pub certificates: Option<PathBuf>,
    /// Where credentials for registries are looked for.
    pub credentials: CredentialSource,
    /// Credentials that come before those.
    pub logins: Logins,
    /// Keeps what was fetched.
    pub documents: Option<Arc<dyn Documents>>,
}

/// What clients on behalf of several users share: connections, never what lets anybody in.
#[derive(Debug)]
struct Shared {
    options: ClientOptions,
    runtime: OnceLock<tokio::runtime::Runtime>,
    http: OnceLock<reqwest::Client>,
    plain_http: OnceLock<reqwest::Client>,
    staying_http: OnceLock<reqwest::Client>,
    insecure_http: OnceLock<reqwest::Client>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// Credentials in place of those that the options name.
    credentials: Option<CredentialSource>,
    closed: CancellationToken,
    /// Registries whose certificates are not checked, besides those that the options name.
    unchecked: Mutex<HashSet<String>>,
    /// Registries that may be spoken to in plain HTTP and turned out to speak nothing else.
    plain: Mutex<HashSet<String>>,
    /// `Authorization` headers by registry, repository and rights.
    tokens: Mutex<HashMap<String, String>>,
    /// Why the user's credentials for a registry can't be had, by its name.
    problems: Mutex<HashMap<String, String>>,
    /// Archives that were fetched from the Docker daemon, by name.
    saved: Mutex<HashMap<String, Arc<NamedTempFile>>>,
    /// The images whose manifests were read, by their layers' blobs.
    by_layer: Mutex<HashMap<BlobDigest, Reference>>,
}

/// Fetches and sends images. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

impl Default for Client {
    fn default() -> Self {
        Self::new(ClientOptions::default())
    }
}

impl Client {
    /// A client.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        let shared = Shared {
            options,
            runtime: OnceLock::new(),
            http: OnceLock::new(),
            plain_http: OnceLock::new(),
            staying_http: OnceLock::new(),
            insecure_http: OnceLock::new(),
        };
        Self::over(Arc::new(shared), None, CancellationToken::new())
    }

    fn over(
        shared: Arc<Shared>,
        credentials: Option<CredentialSource>,
        closed: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            shared,
            credentials,
            closed,
            unchecked: Mutex::default(),
            plain: Mutex::default(),
            tokens: Mutex::default(),
            problems: Mutex::default(),
            saved: Mutex::default(),
            by_layer: Mutex::default(),
        }))
    }

    /// A client for somebody else: over the same connections and settings, with their credentials
    /// only, and with nothing of what this one was let in with. It is closed with this one.
    #[must_use]
    pub fn on_behalf(&self, credentials: CredentialSource) -> Self {
        let closed = self.0.closed.child_token();
        Self::over(self.0.shared.clone(), Some(credentials), closed)
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.0.shared.runtime.get_or_init(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(2).enable_all().build();
            #[expect(
                clippy::expect_used,
                reason = "fails only when no thread can be started"
            )]
            runtime.expect("threads can be started")
        })
    }

    /// Waits for an answer, unless the client is closed before.
    pub(crate) fn wait_for<T>(
        &self,
        work: impl Future<Output = Result<T, ImageError>>,
    ) -> Result<T, ImageError> {
        self.runtime().block_on(async {
            tokio::select! {
                biased;
                () = self.0.closed.cancelled() => Err(ImageError::Cancelled),
                done = work => done,
            }
        })
    }

    /// Ends everything that this client and its clones wait for, and all that they are asked for
    /// from now on, with [`ImageError::Cancelled`].
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// The way to speak to any server.
    pub(crate) fn http(&self) -> &reqwest::Client {
        let shared = &self.0.shared;
        shared
            .http
            .get_or_init(|| self.with_certificates(plain_builder()))
    }

    /// The way to send what is for one server alone: no redirection is followed.
    pub(crate) fn staying_http(&self) -> &reqwest::Client {
        let builder = || plain_builder().redirect(redirect::Policy::none());
        let shared = &self.0.shared;
        shared
            .staying_http
            .get_or_init(|| self.with_certificates(builder()))
    }

    fn with_certificates(&self, builder: reqwest::ClientBuilder) -> reqwest::Client {
        let registries = self.0.shared.options.registries.values();
        let given = given(self.0.shared.options.certificates.as_deref());
        let all = authorities()
            .into_iter()
            .chain(registries.flat_map(certificates))
            .chain(given.authorities);
        let builder = builder.tls_certs_only(all);
        build(match given.own {
            Some(own) => builder.identity(own),
            None => builder,
        })
    }

    /// The way to speak to a registry whose certificate isn't checked. It follows no redirection:
    /// where one leads is another server.
    fn insecure_http(&self) -> &reqwest::Client {
        self.0.shared.insecure_http.get_or_init(|| {
            let builder = plain_builder().redirect(redirect::Policy::none());
            build(builder.tls_danger_accept_invalid_certs(true))
        })
    }

    /// The way to speak to the server at an address.
    pub(crate) fn http_to(&self, url: &str) -> &reqwest::Client {
        match url.starts_with("http://") {
            true => self.plain_http(),
            false if self.is_insecure(url) => self.insecure_http(),
            false => self.http(),
        }
    }

    /// Checks the certificate of a registry (`HOST[:PORT]`) no longer, and speaks plain HTTP to it
    /// when it has no TLS.
    pub fn allow_insecure(&self, host: &str) {
        let unchecked = &self.0.unchecked;
        let mut unchecked = unchecked.lock().unwrap_or_else(PoisonError::into_inner);
        unchecked.insert(host.to_owned());
    }

    /// Whether the certificate of the server at an address isn't checked.
    pub(crate) fn is_insecure(&self, url: &str) -> bool {
        let host = authority(url).unwrap_or_default();
        let settings = self.0.shared.options.registries.get(host);
        let unchecked = &self.0.unchecked;
        let unchecked = unchecked.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.shared.options.insecure
            || unchecked.contains(host)
            || settings.is_some_and(|settings| settings.insecure)
    }

    /// An address as it is reached: in plain HTTP, when that is all that its server speaks.
    pub(crate) fn reached(&self, url: &str) -> String {
        let plain = self.0.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let is_plain = authority(url).is_some_and(|host| plain.contains(host));
        match url.strip_prefix("https://") {
            Some(rest) if is_plain => format!("http://{rest}"),
            _ => url.to_owned(),
        }
    }

    /// Notes that the server at an address speaks plain HTTP only.
    pub(crate) fn note_plain(&self, url: &str) {
        let mut plain = self.0.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.extend(authority(url).map(str::to_owned));
    }

    pub(crate) fn credentials(&self) -> (&CredentialSource, &Logins) {
        static NO_LOGINS: Logins = Logins::new();
        let options = &self.0.shared.options;
        match &self.0.credentials {
            Some(own) => (own, &NO_LOGINS),
            None => (&options.credentials, &options.logins),
        }
    }

    /// The way to speak to a server without encryption. Reading the system's certificates takes
    /// longer than all else in a build with nothing to do.
    pub(crate) fn plain_http(&self) -> &reqwest::Client {
        self.0.shared.plain_http.get_or_init(|| {
            let stay = |attempt: redirect::Attempt<'_>| match attempt.url().scheme() {
                "https" => attempt.stop(),
                _ if attempt.previous().len() > MAX_REDIRECTS => {
                    attempt.error("it redirects again and again")
                }
                _ => attempt.follow(),
            };
            let builder = plain_builder().redirect(redirect::Policy::custom(stay));
            build(builder.tls_certs_only(std::iter::empty()))
        })
    }

    pub(crate) fn tokens(&self) -> &Mutex<HashMap<String, String>> {
        &self.0.tokens
    }

    pub(crate) fn problems(&self) -> &Mutex<HashMap<String, String>> {
        &self.0.problems
    }

    /// How long the second try waits.
    pub(crate) fn first_wait(&self) -> Duration {
        match self.0.shared.options.first_wait {
            Duration::ZERO => Duration::from_millis(500),
            given => given,
        }
    }

    /// The way to speak to whoever gives tokens.
    pub(crate) fn http_for(&self, challenge: &Challenge) -> &reqwest::Client {
        match challenge.is_encrypted() {
            true => self.http(),
            false => self.plain_http(),
        }
    }

    /// What it was told.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.0.shared.options
    }

    /// A manifest's bytes, whatever kind of manifest it is.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn manifest_bytes(&self, reference: &Reference) -> Result<Vec<u8>, ImageError> {
        let name = reference.manifest_name();
        let (_, bytes) = self.wait_for(self.manifest(reference, &name))?;
        Ok(bytes)
    }

    /// The names of the images in an archive.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn names_in_archive(&self, file: &Path) -> Result<Vec<String>, ImageError> {
        Ok(self.archive(file)?.names())
    }

    /// The only manifest of an archive, when it is an artifact of that type rather than an image.
    ///
    /// # Errors
    /// When the archive can't be read.
    pub fn artifact_in_archive(
        &self,
        file: &Path,
        artifact_type: &str,
    ) -> Result<Option<Vec<u8>>, ImageError> {
        self.archive(file)?.artifact(artifact_type)
    }

    /// An archive of images. One that is compressed as a whole is decompressed once.
    pub(crate) fn archive(&self, file: &Path) -> Result<Layout, ImageError> {
        let failed = |source| ImageError::Io {
            what: file.display().to_string(),
            source,
        };
        let opened = host::open(file).map_err(failed)?;
        let modified = opened.metadata().and_then(|about| about.modified());
        if !is_compressed(&opened).map_err(failed)? {
            return Layout::open_tar(file);
        }
        let key = format!("{} {:?}", file.display(), modified.map_err(failed)?);
        let plain = self.kept_file(&key, |out| {
            let mut plain = decompressed(opened).map_err(failed)?;
            std::io::copy(&mut plain, out).map(drop).map_err(failed)
        })?;
        Layout::open_tar(plain.path())
    }

    /// An image of the Docker daemon's as an archive, fetched once.
    pub(crate) fn saved(&self, name: &str) -> Result<Arc<NamedTempFile>, ImageError> {
        self.kept_file(name, |out| save_from_daemon(self, name, out))
    }

    /// A file that is written once, and there as long as this client is.
    fn kept_file(
        &self,
        key: &str,
        write: impl FnOnce(&mut std::fs::File) -> Result<(), ImageError>,
    ) -> Result<Arc<NamedTempFile>, ImageError> {
        let mut saved = self.0.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = saved.get(key) {
            return Ok(file.clone());
        }
        let mut file = NamedTempFile::new().map_err(|source| ImageError::Io {
            what: "a temporary file".to_owned(),
            source,
        })?;
        write(file.as_file_mut())?;
        let file = Arc::new(file);
        saved.insert(key.to_owned(), file.clone());
        Ok(file)
    }

    /// The image of a registry that has a layer, by the digest of its manifest; of those whose
    /// manifests this client has read.
    #[must_use]
    pub fn image_with_layer(&self, blob: &BlobDigest) -> Option<Reference> {
        let by_layer = &self.0.by_layer;
        let by_layer = by_layer.lock().unwrap_or_else(PoisonError::into_inner);
        by_layer.get(blob).cloned()
    }

    /// Notes which image, named by its digest, has which layers.
    pub fn note_layers(&self, image: &Reference, layers: &[crate::Descriptor]) {
        let by_layer = &self.0.by_layer;
        let mut by_layer = by_layer.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in layers {
            by_layer.insert(layer.digest, image.clone());
        }
    }

    pub(crate) fn documents(&self) -> Option<&dyn Documents> {
        self.0.shared.options.documents.as_deref()
    }

    /// A document that was fetched before, and is what its digest says.
    pub(crate) fn kept(&self, digest: &BlobDigest) -> Option<Vec<u8>> {
        let bytes = self.documents()?.get(digest)?;
        let actual = BlobDigest::of(&bytes);
        (actual == *digest).then_some(bytes)
    }

    pub(crate) fn keep(&self, bytes: &[u8]) {
        if let Some(documents) = self.documents() {
            documents.put(bytes);
        }
    }

    /// A manifest with its digest, checked when the name is one.
    pub(crate) async fn manifest(
        &self,
        reference: &Reference,
        name: &str,
    ) -> Result<(BlobDigest, Vec<u8>), ImageError> {
        let accept = [
            media_type::INDEX,
            media_type::MANIFEST,
            media_type::DOCKER_LIST,
            media_type::DOCKER_MANIFEST,
        ];
        let accept = vec![(ACCEPT.as_str(), accept.join(", "))];
        let bytes = self
            .document(reference, &format!("manifests/{name}"), &accept)
            .await?;
        let actual = BlobDigest::of(&bytes);
        if let Ok(expected) = name.parse::<BlobDigest>()
            && expected != actual
        {
            return Err(wrong_digest(reference, "its manifest", expected, actual));
        }
        Ok((actual, bytes))
    }

    /// Asks mirrors first; what they can't give, the registry itself is asked for.
    pub(crate) async fn send_anywhere(
        &self,
        reference: &Reference,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Response, ImageError> {
        let mut bases = self.sources(reference);
        let home = bases.pop().unwrap_or_default();
        let ask = |base: &str| Ask {
            headers: headers.to_vec(),
            ..Ask::new(Method::GET, format!("{base}/{path}"))
        };
        for mirror in bases {
            let mut ask = ask(&mirror);
            ask.anonymous = true;
            if let Ok(answer) = self.once(reference, &ask).await
                && answer.status().is_success()
            {
                return Ok(answer);
            }
        }
        self.send(reference, &ask(&home)).await
    }

    fn sources(&self, reference: &Reference) -> Vec<String> {
        registry::sources(&self.0.shared.options.registries, reference)
    }

    /// Where a repository is written to.
    pub(crate) fn home(&self, reference: &Reference) -> String {
        self.reached(&registry::home(
            &self.0.shared.options.registries,
            reference,
        ))
    }

    pub(crate) async fn document(
        &self,
        reference: &Reference,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Vec<u8>, ImageError> {
        let answer = self.send_anywhere(reference, path, headers).await?;
        read_document(reference, answer).await
    }
}

/// `HOST[:PORT]` of an address, as settings name it.
fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    Some(match host {
        "registry-1.docker.io" => "docker.io",
        host => host,
    })
}

impl Drop for Shared {
    /// A runtime can't be ended by a thread of another one, but it can be left to end by itself.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A document that was compressed on the way; `None` when it isn't one, or is too large.
fn unzipped(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let most = MAX_DOCUMENT as u64 + 1;
    let read = flate2::read::GzDecoder::new(bytes)
        .take(most)
        .read_to_end(&mut plain);
    read.ok()
        .filter(|count| *count <= MAX_DOCUMENT)
        .map(|_| plain)
}

/// The bytes of a document that a registry sends.
pub(crate) async fn read_document(
    reference: &Reference,
    answer: Response,
) -> Result<Vec<u8>, ImageError> {
    let encoding = encoding(&answer);
    let bytes = limited(answer, MAX_DOCUMENT)
        .await
        .map_err(|error| unreachable(reference, &error))?;
    let bytes = match encoding.as_deref() {
        Some("gzip" | "x-gzip") => bytes.and_then(|bytes| unzipped(&bytes)),
        _ => bytes,
    };
    bytes.ok_or_else(|| ImageError::Document {
        image: reference.to_string(),
        reason: "a document is larger than any manifest may be".to_owned(),
    })
}
