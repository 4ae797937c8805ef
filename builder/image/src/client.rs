//! Fetches images from registries and OCI layouts.
//!
//! The methods block; the network runs on a runtime of the client's own, started at its first use.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_graph::BlobDigest;
use kiln_tree::host;
use reqwest::header::ACCEPT;
use reqwest::{Method, Response};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::answer_body::read_document;
use crate::auth::Challenge;
use crate::client_options::ClientOptions;
use crate::connections::Connections;
use crate::credentials::{CredentialSource, Logins};
use crate::daemon::save_from_daemon;
use crate::document::media_type;
use crate::error::wrong_digest;
use crate::hosts::{Hosts, authority};
use crate::kept_files::KeptFiles;
use crate::layer::decompress::{decompressed, is_compressed};
use crate::layout::Layout;
use crate::registry;
use crate::request::Ask;
use crate::{Documents, ImageError, Reference};

#[derive(Debug)]
struct Inner {
    connections: Arc<Connections>,
    /// Credentials in place of those that the options name.
    credentials: Option<CredentialSource>,
    closed: CancellationToken,
    hosts: Hosts,
    /// `Authorization` headers by registry, repository and rights.
    tokens: Mutex<HashMap<String, String>>,
    /// Why the user's credentials for a registry can't be had, by its name.
    problems: Mutex<HashMap<String, String>>,
    /// Archives that were fetched from the Docker daemon, by name.
    saved: KeptFiles,
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
        let connections = Connections::new(options);
        Self::over(Arc::new(connections), None, CancellationToken::new())
    }

    fn over(
        connections: Arc<Connections>,
        credentials: Option<CredentialSource>,
        closed: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            connections,
            credentials,
            closed,
            hosts: Hosts::default(),
            tokens: Mutex::default(),
            problems: Mutex::default(),
            saved: KeptFiles::default(),
            by_layer: Mutex::default(),
        }))
    }

    /// A client for somebody else: over the same connections and settings, with their credentials
    /// only, and with nothing of what this one was let in with. It is closed with this one.
    #[must_use]
    pub fn on_behalf(&self, credentials: CredentialSource) -> Self {
        let closed = self.0.closed.child_token();
        Self::over(self.0.connections.clone(), Some(credentials), closed)
    }

    /// The connections that it shares with others.
    pub(crate) fn connections(&self) -> &Connections {
        &self.0.connections
    }

    /// What it found out of registries.
    pub(crate) fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }

    /// Waits for an answer, unless the client is closed before.
    pub(crate) fn wait_for<T>(
        &self,
        work: impl Future<Output = Result<T, ImageError>>,
    ) -> Result<T, ImageError> {
        self.connections().runtime().block_on(async {
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

    /// The way to speak to the server at an address.
    pub(crate) fn http_to(&self, url: &str) -> &reqwest::Client {
        let connections = self.connections();
        match url.starts_with("http://") {
            true => connections.plain_http(),
            false if self.is_insecure(url) => connections.insecure_http(),
            false => connections.http(),
        }
    }

    /// Checks the certificate of a registry (`HOST[:PORT]`) no longer, and speaks plain HTTP to it
    /// when it has no TLS.
    pub fn allow_insecure(&self, host: &str) {
        self.0.hosts.allow(host);
    }

    /// Whether the certificate of the server at an address isn't checked.
    pub(crate) fn is_insecure(&self, url: &str) -> bool {
        let host = authority(url).unwrap_or_default();
        let options = self.options();
        options.insecure
            || self.0.hosts.is_allowed(host)
            || options
                .registries
                .get(host)
                .is_some_and(|settings| settings.insecure)
    }

    pub(crate) fn credentials(&self) -> (&CredentialSource, &Logins) {
        static NO_LOGINS: Logins = Logins::new();
        let options = &self.0.connections.options;
        match &self.0.credentials {
            Some(own) => (own, &NO_LOGINS),
            None => (&options.credentials, &options.logins),
        }
    }

    pub(crate) fn tokens(&self) -> &Mutex<HashMap<String, String>> {
        &self.0.tokens
    }

    pub(crate) fn problems(&self) -> &Mutex<HashMap<String, String>> {
        &self.0.problems
    }

    /// The way to speak to whoever gives tokens.
    pub(crate) fn http_for(&self, challenge: &Challenge) -> &reqwest::Client {
        match challenge.is_encrypted() {
            true => self.connections().http(),
            false => self.connections().plain_http(),
        }
    }

    /// What it was told.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.0.connections.options
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
        let plain = self.0.saved.get(&key, |out| {
            let mut plain = decompressed(opened).map_err(failed)?;
            std::io::copy(&mut plain, out).map(drop).map_err(failed)
        })?;
        Layout::open_tar(plain.path())
    }

    /// An image of the Docker daemon's as an archive, fetched once.
    pub(crate) fn saved(&self, name: &str) -> Result<Arc<NamedTempFile>, ImageError> {
        self.0
            .saved
            .get(name, |out| save_from_daemon(self, name, out))
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
        self.0.connections.options.documents.as_deref()
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
        registry::sources(&self.0.connections.options.registries, reference)
    }

    /// Where a repository is written to.
    pub(crate) fn home(&self, reference: &Reference) -> String {
        let home = registry::home(&self.options().registries, reference);
        self.0.hosts.reached(&home)
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
