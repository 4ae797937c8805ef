//! Why no connection comes about, as the libraries below say it: what the user can mend.

use std::error::Error;

use rustls::{AlertDescription, CertificateError};

/// What is wrong with how a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handshake {
    /// It wants a certificate of its client.
    NoCertificate,
    /// It doesn't take the certificate that it was given.
    Certificate,
    /// No authority that is known vouches for its own certificate.
    Authority,
    /// Its own certificate is for another name, or out of date.
    ServerCertificate,
    /// It speaks no TLS.
    Plain,
    /// It speaks nothing but TLS, or an older HTTP.
    Encrypted,
}

impl Handshake {
    /// What an error is about, if it is about this.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = tls_error(error) {
                return Self::of_tls(tls);
            }
            if error.to_string().contains("frame with invalid size") {
                return Some(Self::Encrypted);
            }
            next = error.source();
        }
        None
    }

    fn of_tls(error: &rustls::Error) -> Option<Self> {
        use AlertDescription as Alert;
        match error {
            rustls::Error::AlertReceived(alert) => match alert {
                Alert::CertificateRequired => Some(Self::NoCertificate),
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied => Some(Self::Certificate),
                _ => None,
            },
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                Some(Self::Authority)
            }
            rustls::Error::InvalidCertificate(_) => Some(Self::ServerCertificate),
            rustls::Error::InvalidMessage(_) => Some(Self::Plain),
            _ => None,
        }
    }
}

/// What TLS says, which errors of input and output enclose.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let enclosed = error.downcast_ref::<std::io::Error>();
    match enclosed.and_then(std::io::Error::get_ref) {
        Some(inner) => inner.downcast_ref(),
        None => error.downcast_ref(),
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
                alert(AlertDescription::CertificateRequired),
                Some(Handshake::NoCertificate),
            ),
            (
                alert(AlertDescription::UnknownCA),
                Some(Handshake::Certificate),
            ),
            (alert(AlertDescription::DecodeError), None),
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
            let cause = Error::source(&twice).unwrap();
            assert_eq!(Handshake::of(cause), want, "{error}");
        }
        assert_eq!(Handshake::of(&io::Error::other("no route")), None);
    }
}
