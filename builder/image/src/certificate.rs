//! Which authorities' certificates are trusted: the machine's, or where it has none (an empty
//! container) those of Mozilla's that were compiled in.

use reqwest::Certificate;

/// The trusted authorities.
pub(crate) fn authorities() -> Vec<Certificate> {
    let machine = rustls_native_certs::load_native_certs().certs;
    let of = |der: &[u8]| Certificate::from_der(der).ok();
    match machine.is_empty() {
        true => compiled_in(),
        false => machine.iter().filter_map(|der| of(der)).collect(),
    }
}

fn compiled_in() -> Vec<Certificate> {
    let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    let read = all.iter().map(|der| Certificate::from_der(der));
    read.filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_that_is_compiled_in_can_be_read() {
        let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS.len();
        assert!(all > 100, "{all}");
        assert_eq!(compiled_in().len(), all);
    }
}
