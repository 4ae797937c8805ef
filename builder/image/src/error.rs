//! Why an image can't be had, read or written.

use std::io;

use kiln_graph::address::redact;
use kiln_graph::{BlobDigest, Fault};

/// A failure with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The name isn't one.
    #[error(transparent)]
    Name(#[from] crate::BadReference),
    /// The server can't be reached.
    #[error(
        "{}: cannot reach {host}: {}; check the name, the network, and whether the server runs",
        redact(image),
        redact(reason)
    )]
    Unreachable {
        /// The image wanted.
        image: String,
        /// The server.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// The server doesn't speak TLS.
    #[error(
        "{}: {host} answers in plain HTTP, where HTTPS was expected",
        redact(image)
    )]
    PlainHttp {
        /// The image wanted.
        image: String,
        /// The server.
        host: String,
    },
    /// The server's certificate isn't trusted.
    #[error("{}: the certificate of {host} isn't trusted: {reason}", redact(image))]
    Certificate {
        /// The image wanted.
        image: String,
        /// The server.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server refuses.
    #[error("{}: {host} refuses access ({status}){}{}", redact(image), said(reason), credentials_advice(host, credentials.as_deref()))]
    Denied {
        /// The image wanted.
        image: String,
        /// The server.
        host: String,
        /// Its answer.
        status: u16,
        /// What it said.
        reason: String,
        /// Why the user's credentials can't be had, where there are some.
        credentials: Option<String>,
    },
    /// The server doesn't have it.
    #[error(
        "{}: not found on {host}; check {}",
        redact(image),
        what_to_check(image)
    )]
    NotFound {
        /// The image wanted.
        image: String,
        /// The server.
        host: String,
    },
    /// It is not here, and no registry may be asked.
    #[error("{image}: not in kiln's store, and no registry may be asked")]
    NotStored {
        /// The image wanted.
        image: String,
    },
    /// The server answered something else.
    #[error("{}: {host} answered {status}{}", redact(image), said(body))]
    Answer {
        /// The image wanted.
        image: String,
        /// The server.
        host: String,
        /// Its answer.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// The server never deletes.
    #[error(
        "{image}: {host} allows no deletion; Docker's registry does with REGISTRY_STORAGE_DELETE_ENABLED=true"
    )]
    NoDeletion {
        /// What was to be deleted.
        image: String,
        /// The server.
        host: String,
    },
    /// What came is not what was asked for.
    #[error(
        "{}: the content of {what} is {actual}, but {expected} was expected: it was damaged on the way, or the server is not to be trusted",
        redact(image)
    )]
    WrongDigest {
        /// The image wanted.
        image: String,
        /// Which part of it.
        what: String,
        /// The digest asked for.
        expected: BlobDigest,
        /// The digest of what came.
        actual: BlobDigest,
    },
    /// A blob is shorter or longer than its manifest says.
    #[error(
        "{}: {what} has {actual} bytes instead of {expected}: the transfer was cut, or the server is not to be trusted",
        redact(image)
    )]
    WrongSize {
        /// The image wanted.
        image: String,
        /// Which part of it.
        what: String,
        /// The length asked for.
        expected: u64,
        /// The length of what came.
        actual: u64,
    },
    /// A manifest or configuration can't be understood.
    #[error("{image}: {reason}")]
    Document {
        /// The image wanted.
        image: String,
        /// What is wrong.
        reason: String,
    },
    /// No image for the platform wanted.
    #[error("{image}: no image for {wanted}; there are: {available}")]
    NoPlatform {
        /// The image wanted.
        image: String,
        /// The platform wanted.
        wanted: String,
        /// The platforms there are.
        available: String,
    },
    /// A local file can't be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The Docker daemon isn't there, or refuses.
    #[error("the Docker daemon at {place} can't be used: {reason}")]
    Daemon {
        /// Its socket, or its host and port.
        place: String,
        /// What it said.
        reason: String,
    },
    /// The client was closed before there was an answer.
    #[error("cancelled")]
    Cancelled,
}

impl ImageError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Name(_)
            | Self::NotFound { .. }
            | Self::NotStored { .. }
            | Self::NoPlatform { .. } => Fault::User,
            _ => Fault::Environment,
        }
    }
}

fn what_to_check(image: &str) -> &'static str {
    match image.contains("://") {
        true => "the address",
        false => "its name and tag",
    }
}

fn said(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

fn credentials_advice(host: &str, problem: Option<&str>) -> String {
    match problem {
        Some(problem) => format!("; your credentials were not used: {problem}"),
        None => format!(
            "; log in with 'docker login {host}', or check that the repository exists and you may use it"
        ),
    }
}

/// The innermost cause of a failed request: the outer ones only say that it failed.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        reason = inner.to_string();
        cause = inner.source();
    }
    reason
}

/// What came instead of what a digest names.
pub(crate) fn wrong_digest(
    reference: &crate::Reference,
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

/// The error of a registry that gave no answer.
pub(crate) fn unreachable(reference: &crate::Reference, error: &reqwest::Error) -> ImageError {
    let (image, host) = (reference.to_string(), reference.host.clone());
    let reason = cause(error);
    match () {
        () if speaks_http(error) => ImageError::PlainHttp { image, host },
        () if reason.starts_with("invalid peer certificate") => ImageError::Certificate {
            image,
            host,
            reason,
        },
        () => ImageError::Unreachable {
            image,
            host,
            reason,
        },
    }
}

/// Whether a server answered a TLS handshake with something else, as one does that speaks HTTP.
pub(crate) fn speaks_http(error: &reqwest::Error) -> bool {
    cause(error).contains("InvalidContentType")
}
