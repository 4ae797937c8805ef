//! Which authorities' certificates are trusted: the machine's, or where it has none (an empty
//! container) those of Mozilla's that were compiled in.

use std::path::{Path, PathBuf};

use kiln_tree::host;
use reqwest::{Certificate, Identity};

/// The trusted authorities' certificates, in DER: for whoever connects in another way than by
/// [`crate::Client`].
#[must_use]
pub fn authorities_der() -> Vec<Vec<u8>> {
    let machine = rustls_native_certs::load_native_certs().certs;
    let machine: Vec<_> = machine.iter().map(|der| der.to_vec()).collect();
    match machine.is_empty() {
        true => compiled_in(),
        false => machine,
    }
}

/// The trusted authorities.
pub(crate) fn authorities() -> Vec<Certificate> {
    let read = authorities_der().into_iter();
    read.filter_map(|der| Certificate::from_der(&der).ok())
        .collect()
}

/// What a directory of certificates holds.
#[derive(Default)]
pub(crate) struct Given {
    /// Authorities to trust: `*.crt`.
    pub(crate) authorities: Vec<Certificate>,
    /// The client's own certificate and key: `NAME.cert` and `NAME.key`.
    pub(crate) own: Option<Identity>,
}

/// Reads a directory of certificates, in the form of Docker's `certs.d/HOST`. What can't be read is
/// told of when the connection fails.
pub(crate) fn given(directory: Option<&Path>) -> Given {
    let mut given = Given::default();
    let entries = directory.and_then(|directory| host::read_dir(directory).ok());
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    for path in paths {
        let end = path.extension().and_then(|end| end.to_str());
        let pem = host::read(&path).unwrap_or_default();
        match end {
            Some("crt") => {
                let found = Certificate::from_pem_bundle(&pem);
                given.authorities.extend(found.unwrap_or_default());
            }
            Some("cert") => {
                let key = host::read(path.with_extension("key")).unwrap_or_default();
                let own = Identity::from_pem(&[pem, key].concat());
                given.own = given.own.or(own.ok());
            }
            _ => {}
        }
    }
    given
}

fn compiled_in() -> Vec<Vec<u8>> {
    let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    all.iter().map(|der| der.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_that_is_compiled_in_can_be_read() {
        let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS.len();
        assert!(all > 100, "{all}");
        let read = compiled_in().into_iter();
        let read = read.filter(|der| Certificate::from_der(der).is_ok());
        assert_eq!(read.count(), all);
    }
}
