//! Fetches images from registries and OCI layouts.
//!
//! The methods block; the network runs on a runtime of the client's own, started at its first use.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kiln_graph::BlobDigest;
use reqwest::header::{ACCEPT, AUTHORIZATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, redirect};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::auth::{answer, challenge};
use crate::certificate::authorities;
use crate::daemon::save_from_daemon;
use crate::document::media_type;
use crate::layout::Layout;
use crate::registry::{self, Registries, RegistrySettings};
use crate::{Documents, ImageError, ImageName, Reference};

/// How often a request is tried in all.
const TRIES: u32 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Manifests and configurations are no larger (distribution specification, "Pushing manifests").
const MOST_DOCUMENT: usize = 8 << 20;

/// More redirections than this are a loop.
const MOST_REDIRECTS: usize = 10;
/// What is read of an answer that is shown to people.
const MOST_REFUSAL: usize = 4 << 10;

/// What a client is told.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// How long to wait before the second try; it doubles with each try. Zero: half a second.
    pub first_wait: Duration,
    /// How registries are spoken to.
    pub registries: Registries,
    /// Keeps what was fetched.
    pub documents: Option<Arc<dyn Documents>>,
}

#[derive(Debug)]
struct Inner {
    options: ClientOptions,
    runtime: OnceLock<tokio::runtime::Runtime>,
    closed: CancellationToken,
    http: OnceLock<reqwest::Client>,
    plain_http: OnceLock<reqwest::Client>,
    /// `Authorization` headers by registry, repository and rights.
    tokens: Mutex<HashMap<String, String>>,
    /// Archives that were fetched from the Docker daemon, by name.
    saved: Mutex<HashMap<String, Arc<NamedTempFile>>>,
}

/// Fetches and sends images. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

impl Default for Client {
    fn default() -> Self {
        Self::new(ClientOptions::default())
    }
}

/// What a request needs to be allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rights {
    #[default]
    Pull,
    Push,
    Delete,
}

impl Rights {
    /// In the words of Docker's registry token specification.
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "pull,delete",
        }
    }
}

/// One request to a registry, to be tried several times.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<&'a (dyn Fn() -> std::io::Result<reqwest::Body> + Sync)>,
    pub(crate) rights: Rights,
    /// Whether credentials are kept back: for mirrors, which have no right to them.
    pub(crate) anonymous: bool,
}

impl Ask<'_> {
    pub(crate) fn new(method: Method, url: String) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: None,
            rights: Rights::Pull,
            anonymous: false,
        }
    }
}

impl Client {
    /// A client.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        Self(Arc::new(Inner {
            options,
            runtime: OnceLock::new(),
            closed: CancellationToken::new(),
            http: OnceLock::new(),
            plain_http: OnceLock::new(),
            tokens: Mutex::default(),
            saved: Mutex::default(),
        }))
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.0.runtime.get_or_init(|| {
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
        self.0.http.get_or_init(|| {
            let registries = self.0.options.registries.values();
            let all = authorities()
                .into_iter()
                .chain(registries.flat_map(certificates));
            build(plain_builder().tls_certs_only(all))
        })
    }

    /// The way to speak to a server without encryption. Reading the system's certificates takes
    /// longer than all else in a build with nothing to do.
    fn plain_http(&self) -> &reqwest::Client {
        self.0.plain_http.get_or_init(|| {
            let stay = |attempt: redirect::Attempt<'_>| match attempt.url().scheme() {
                "https" => attempt.stop(),
                _ if attempt.previous().len() > MOST_REDIRECTS => {
                    attempt.error("it redirects again and again")
                }
                _ => attempt.follow(),
            };
            let builder = plain_builder().redirect(redirect::Policy::custom(stay));
            build(builder.tls_certs_only(std::iter::empty()))
        })
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
        Ok(Layout::open_tar(file)?.names())
    }

    /// An image of the Docker daemon's as an archive, fetched once.
    pub(crate) fn saved(&self, name: &str) -> Result<Arc<NamedTempFile>, ImageError> {
        let mut saved = self.0.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = saved.get(name) {
            return Ok(file.clone());
        }
        let mut file = NamedTempFile::new().map_err(|source| ImageError::Io {
            what: "a temporary file".to_owned(),
            source,
        })?;
        save_from_daemon(self, name, file.as_file_mut())?;
        let file = Arc::new(file);
        saved.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    pub(crate) fn documents(&self) -> Option<&dyn Documents> {
        self.0.options.documents.as_deref()
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
        let actual = BlobDigest::from_sha256(Sha256::digest(&bytes).into());
        if let Ok(expected) = name.parse::<BlobDigest>()
            && expected != actual
        {
            return Err(wrong_digest(reference, "its manifest", expected, actual));
        }
        Ok((actual, bytes))
    }

    /// Asks mirrors first; what they can't give, the registry itself is asked for.
    async fn send_anywhere(
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
        registry::sources(&self.0.options.registries, reference)
    }

    /// Where a repository is written to.
    pub(crate) fn home(&self, reference: &Reference) -> String {
        registry::home(&self.0.options.registries, reference)
    }

    pub(crate) async fn document(
        &self,
        reference: &Reference,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Vec<u8>, ImageError> {
        let answer = self.send_anywhere(reference, path, headers).await?;
        let bytes = limited(answer, MOST_DOCUMENT)
            .await
            .map_err(|error| unreachable(reference, &error))?;
        bytes.ok_or_else(|| ImageError::Document {
            image: reference.to_string(),
            reason: "a document is larger than any manifest may be".to_owned(),
        })
    }

    /// Fetches a blob of an image; `progress` is told the bytes so far. The digest is the
    /// caller's to check, the length is checked here.
    ///
    /// # Errors
    /// When it can't be had whole, or `out` can't be written.
    pub fn fetch_blob(
        &self,
        image: &str,
        digest: &BlobDigest,
        size: u64,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> Result<(), ImageError> {
        match image.parse()? {
            ImageName::Registry(reference) => {
                let fetch = self.fetch_remote(&reference, digest, size, out, progress);
                self.wait_for(fetch)
            }
            ImageName::Layout { folder, .. } => Layout::open(&folder)?.copy_blob(digest, out),
            ImageName::Archive { file, .. } => Layout::open_tar(&file)?.copy_blob(digest, out),
            ImageName::Daemon(name) => {
                Layout::open_tar(self.saved(&name)?.path())?.copy_blob(digest, out)
            }
        }
    }

    /// A transfer that breaks is taken up again where it broke.
    async fn fetch_remote(
        &self,
        reference: &Reference,
        digest: &BlobDigest,
        size: u64,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> Result<(), ImageError> {
        let path = format!("blobs/{digest}");
        let mut done = 0;
        for attempt in 0..TRIES {
            let mut headers = Vec::new();
            if done > 0 {
                headers.push(("range", format!("bytes={done}-")));
            }
            let answer = self.send_anywhere(reference, &path, &headers).await?;
            let skip = if answer.status() == StatusCode::PARTIAL_CONTENT {
                0
            } else {
                done
            };
            let before = done;
            match copy_body(answer, skip, &mut done, size, out, progress).await {
                Ok(()) if done == size => return Ok(()),
                Err(Broken::Write(source)) => {
                    return Err(ImageError::Io {
                        what: format!("layer {digest}"),
                        source,
                    });
                }
                Ok(()) | Err(Broken::Read) if done > before && attempt + 1 < TRIES => {}
                Ok(()) | Err(Broken::Read) => self.wait(attempt, None).await,
            }
            if done > size {
                break;
            }
        }
        let (image, what) = (reference.to_string(), format!("layer {digest}"));
        Err(ImageError::WrongSize {
            image,
            what,
            expected: size,
            actual: done,
        })
    }

    pub(crate) async fn wait(&self, attempt: u32, server_wish: Option<Duration>) {
        let first = match self.0.options.first_wait {
            Duration::ZERO => Duration::from_millis(500),
            given => given,
        };
        let wait = server_wish
            .unwrap_or(first * 2u32.pow(attempt))
            .min(Duration::from_secs(60));
        tokio::time::sleep(wait).await;
    }

    /// Sends a request: answers challenges, waits when told to, tries again what may succeed.
    pub(crate) async fn send(
        &self,
        reference: &Reference,
        ask: &Ask<'_>,
    ) -> Result<Response, ImageError> {
        let mut refreshed = false;
        let mut last = None;
        for attempt in 0..TRIES {
            let answer = match self.once(reference, ask).await {
                Ok(answer) => answer,
                Err(error) if error.is_builder() => return Err(unreachable(reference, &error)),
                Err(error) => {
                    let refused = error.is_connect();
                    last = Some(unreachable(reference, &error));
                    if refused && attempt >= 1 {
                        break;
                    }
                    self.wait(attempt, None).await;
                    continue;
                }
            };
            let status = answer.status();
            if status == StatusCode::UNAUTHORIZED && !refreshed {
                refreshed = true;
                self.log_in(reference, &answer, ask.rights).await?;
                continue;
            }
            if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
                let wish = retry_after(&answer);
                last = Some(refusal(reference, answer).await);
                self.wait(attempt, wish).await;
                continue;
            }
            if status.is_success() || status.is_redirection() {
                return Ok(answer);
            }
            return Err(refusal(reference, answer).await);
        }
        Err(last.unwrap_or_else(|| ImageError::Denied {
            image: reference.to_string(),
            host: reference.host.clone(),
            status: 401,
        }))
    }

    async fn once(&self, reference: &Reference, ask: &Ask<'_>) -> reqwest::Result<Response> {
        if ask.url.starts_with("http://") {
            let answer = self.once_by(self.plain_http(), reference, ask).await?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
        }
        self.once_by(self.http(), reference, ask).await
    }

    async fn once_by(
        &self,
        http: &reqwest::Client,
        reference: &Reference,
        ask: &Ask<'_>,
    ) -> reqwest::Result<Response> {
        let mut request = http.request(ask.method.clone(), &ask.url);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let token = {
            let tokens = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.get(&token_name(reference, ask.rights)).cloned()
        };
        if let Some(token) = token.filter(|_| !ask.anonymous && self.is_home(reference, &ask.url)) {
            request = request.header(AUTHORIZATION, token);
        }
        if let Some(body) = ask.body
            && let Ok(body) = body()
        {
            request = request.body(body);
        }
        request.send().await
    }

    /// Whether an address is at the registry itself, spoken to as safely as it is.
    fn is_home(&self, reference: &Reference, url: &str) -> bool {
        let place = |url: &str| {
            let url = reqwest::Url::parse(url).ok()?;
            let port = url.port_or_known_default();
            Some((url.scheme().to_owned(), url.host_str()?.to_owned(), port))
        };
        place(url).is_some_and(|at| Some(at) == place(&self.home(reference)))
    }

    async fn log_in(
        &self,
        reference: &Reference,
        refused: &Response,
        rights: Rights,
    ) -> Result<(), ImageError> {
        let denied = || ImageError::Denied {
            image: reference.to_string(),
            host: reference.host.clone(),
            status: 401,
        };
        // Whoever a registry redirects to has no right to its credentials.
        let asked = refused.url();
        if !self.is_home(reference, asked.as_str()) {
            return Err(denied());
        }
        let challenge = challenge(refused.headers()).ok_or_else(denied)?;
        if asked.scheme() == "https" && !challenge.is_encrypted() {
            return Err(denied());
        }
        let scope = format!("repository:{}:{}", reference.repository, rights.actions());
        let header = answer(self.http(), &reference.host, &challenge, &scope).await;
        let header = header
            .map_err(|error| unreachable(reference, &error))?
            .ok_or_else(denied)?;
        let mut tokens = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(token_name(reference, rights), header);
        Ok(())
    }
}

fn plain_builder() -> reqwest::ClientBuilder {
    // Another provider may be installed by the embedding program: then that one serves.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
}

fn build(builder: reqwest::ClientBuilder) -> reqwest::Client {
    #[expect(
        clippy::expect_used,
        reason = "a TLS provider is installed, and the options are fixed"
    )]
    builder.build().expect("the client's options are valid")
}

/// The certificates of a registry's own authority. A file that can't be read is told of when the
/// connection fails.
fn certificates(settings: &RegistrySettings) -> Vec<reqwest::Certificate> {
    let read = |path: &PathBuf| std::fs::read(path).ok();
    let pem = settings.ca.as_ref().and_then(read).unwrap_or_default();
    reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default()
}

fn token_name(reference: &Reference, rights: Rights) -> String {
    format!(
        "{} {} {}",
        reference.host,
        reference.repository,
        rights.actions()
    )
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}

enum Broken {
    Read,
    Write(std::io::Error),
}

async fn copy_body(
    answer: Response,
    mut skip: u64,
    done: &mut u64,
    size: u64,
    out: &mut dyn Write,
    progress: &dyn Fn(u64),
) -> Result<(), Broken> {
    let mut body = answer.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Broken::Read)?;
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
        skip -= skipped as u64;
        let fresh = &chunk[skipped..];
        *done += fresh.len() as u64;
        if *done > size {
            return Ok(());
        }
        out.write_all(fresh).map_err(Broken::Write)?;
        progress(*done);
    }
    Ok(())
}

pub(crate) fn wrong_digest(
    reference: &Reference,
    what: &str,
    expected: BlobDigest,
    actual: BlobDigest,
) -> ImageError {
    ImageError::WrongDigest {
        image: reference.to_string(),
        what: what.to_owned(),
        expected,
        actual,
    }
}

pub(crate) fn unreachable(reference: &Reference, error: &reqwest::Error) -> ImageError {
    ImageError::Unreachable {
        image: reference.to_string(),
        host: reference.host.clone(),
        reason: crate::error::cause(error),
    }
}

/// An answer's body; `None` when it is longer than `most` bytes, whatever it said before.
pub(crate) async fn limited(answer: Response, most: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = answer.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() > most {
            return Ok(None);
        }
    }
    Ok(Some(bytes))
}

/// What an answer's body begins with.
async fn beginning(answer: Response, most: usize) -> Vec<u8> {
    let mut body = answer.bytes_stream();
    let mut bytes = Vec::new();
    while bytes.len() < most
        && let Some(Ok(chunk)) = body.next().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

async fn refusal(reference: &Reference, answer: Response) -> ImageError {
    let (image, host) = (reference.to_string(), reference.host.clone());
    let status = answer.status().as_u16();
    match status {
        401 | 403 => ImageError::Denied {
            image,
            host,
            status,
        },
        404 => ImageError::NotFound { image, host },
        _ => {
            let body = beginning(answer, MOST_REFUSAL).await;
            let body = String::from_utf8_lossy(&body).chars().take(500).collect();
            ImageError::Answer {
                image,
                host,
                status,
                body,
            }
        }
    }
}
