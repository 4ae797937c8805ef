//! HTTP clients, as all of a client's connections want them.

use std::path::PathBuf;
use std::time::Duration;

use kiln_tree::host;

use crate::RegistrySettings;

/// More redirections than this are a loop.
pub(crate) const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const READ_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) fn plain_builder() -> reqwest::ClientBuilder {
    // Another provider may be installed by the embedding program: then that one serves.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .dns_resolver(crate::host_name::Resolver)
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
}

pub(crate) fn build(builder: reqwest::ClientBuilder) -> reqwest::Client {
    #[expect(
        clippy::expect_used,
        reason = "a TLS provider is installed, and the options are fixed"
    )]
    builder.build().expect("the client's options are valid")
}

/// The certificates of a registry's own authorities. A file that can't be read is told of when the
/// connection fails.
pub(crate) fn certificates(settings: &RegistrySettings) -> Vec<reqwest::Certificate> {
    let read = |path: &PathBuf| {
        let pem = host::read(path).unwrap_or_default();
        reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default()
    };
    settings.ca.iter().flat_map(read).collect()
}
