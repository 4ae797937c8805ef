//! TLS for connections over TCP.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kiln_tree::host;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, crypto};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A client that hasn't shown its certificate by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The files of a server's TLS, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate, with those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Certificates of the authorities of clients: only clients with a certificate of one of them may
    /// connect. `None`: anybody may.
    pub clients: Option<PathBuf>,
}

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} for TLS: {reason}", path.display())]
pub struct BadTls {
    path: PathBuf,
    reason: String,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one can't be read, or they don't belong together.
    pub(crate) fn acceptor(&self) -> Result<Acceptor, BadTls> {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| bad(&self.certificate, error))?;
        let builder = match &self.clients {
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| bad(path, error))?)
            }
            None => builder.with_no_client_auth(),
        };
        let key = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| bad(&self.key, error))?;
        let config = builder.with_single_cert(certificates(&self.certificate)?, key);
        let mut config = config.map_err(|error| bad(&self.certificate, error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Speaks TLS with clients.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// The connection once both sides have shown who they are; nothing when the client doesn't.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let accepted = tokio::time::timeout(PATIENCE, self.0.accept(stream)).await;
        accepted.ok()?.ok()
    }
}

fn bad(path: &Path, reason: impl std::fmt::Display) -> BadTls {
    BadTls {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BadTls> {
    host::read(path).map_err(|error| bad(path, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| bad(path, error))?;
    match all.is_empty() {
        true => Err(bad(path, "there is no certificate in it")),
        false => Ok(all),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| bad(path, error))?;
    }
    Ok(roots)
}
