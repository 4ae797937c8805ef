//! Why no connection comes about, as the libraries below say it: what the user can mend.

use std::error::Error;

use rustls::{AlertDescription as Alert, CertificateError};

/// By which servers refuse a certificate.
const REFUSALS: [Alert; 7] = [
    Alert::BadCertificate,
    Alert::UnsupportedCertificate,
    Alert::CertificateRevoked,
    Alert::CertificateExpired,
    Alert::CertificateUnknown,
    Alert::UnknownCA,
    Alert::AccessDenied,
];

/// What is wrong with how a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Handshake {
    /// It wants a certificate of its client.
    #[error("it wants this client's certificate: name that and its key by cert=FILE,key=FILE")]
    NoCertificate,
    /// It doesn't take the certificate that it was given.
    #[error(
        "it refuses this client's certificate: is it from an authority that the server knows, and still valid?"
    )]
    Certificate,
    /// No authority that is known vouches for its own certificate.
    #[error("its certificate is from an authority that isn't known here: name that by ca=FILE")]
    Authority,
    /// Its own certificate is for another name, or out of date.
    #[error("its certificate is for another name, or out of date")]
    ServerCertificate,
    /// It speaks no TLS.
    #[error("it speaks no TLS: such a server's address begins with grpc://")]
    Plain,
    /// It speaks nothing but TLS, or an older HTTP.
    #[error(
        "it doesn't speak HTTP/2 without encryption: a server with TLS has an address with grpcs://"
    )]
    Encrypted,
}

impl Handshake {
    /// What an error is about, if it is about this.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref() {
                return Self::of_tls(tls);
            }
            if let Some(handshake) = Self::of_text(&error.to_string()) {
                return Some(handshake);
            }
            next = cause(error);
        }
        None
    }

    /// HTTP/2's errors have only the text of what broke a connection.
    fn of_text(text: &str) -> Option<Self> {
        let alerts = REFUSALS.iter().chain([&Alert::CertificateRequired]);
        let mut alerts = alerts.map(|alert| rustls::Error::AlertReceived(*alert));
        let told = alerts.find(|alert| text.contains(&alert.to_string()));
        match told {
            Some(alert) => Self::of_tls(&alert),
            None => text
                .contains("frame with invalid size")
                .then_some(Self::Encrypted),
        }
    }

    fn of_tls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::AlertReceived(Alert::CertificateRequired) => Some(Self::NoCertificate),
            rustls::Error::AlertReceived(alert) if REFUSALS.contains(alert) => {
                Some(Self::Certificate)
            }
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                Some(Self::Authority)
            }
            rustls::Error::InvalidCertificate(_) => Some(Self::ServerCertificate),
            rustls::Error::InvalidMessage(_) => Some(Self::Plain),
            _ => None,
        }
    }
}

/// What is below an error. One of input and output skips what it encloses when it is asked for its source.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let enclosing = error.downcast_ref::<std::io::Error>();
    match enclosing.and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn errors_of_tls_are_found_where_they_are_enclosed() {
        let alert = |alert| rustls::Error::AlertReceived(alert);
        let invalid = rustls::Error::InvalidCertificate;
        for (error, want) in [
            (
                alert(Alert::CertificateRequired),
                Some(Handshake::NoCertificate),
            ),
            (alert(Alert::UnknownCA), Some(Handshake::Certificate)),
            (alert(Alert::DecodeError), None),
            (
                invalid(CertificateError::UnknownIssuer),
                Some(Handshake::Authority),
            ),
            (
                invalid(CertificateError::Expired),
                Some(Handshake::ServerCertificate),
            ),
            (
                rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
                Some(Handshake::Plain),
            ),
        ] {
            assert_eq!(Handshake::of(&error), want, "{error}");
            let enclosed = io::Error::new(io::ErrorKind::InvalidData, error.clone());
            assert_eq!(Handshake::of(&enclosed), want, "{error}");
            let twice = tonic::Status::from_error(Box::new(io::Error::other(enclosed)));
            let below = Error::source(&twice).unwrap();
            assert_eq!(Handshake::of(below), want, "{error}");
        }
        let text = alert(Alert::UnknownCA).to_string();
        let told = Handshake::of(&io::Error::other(text));
        assert_eq!(told, Some(Handshake::Certificate));
        assert_eq!(Handshake::of(&io::Error::other("no route")), None);
    }
}
