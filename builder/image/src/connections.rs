//! Connections to servers, which clients on behalf of several users share: settings and ways to speak, never
//! what lets anybody in.

use std::sync::OnceLock;

use reqwest::redirect;
use tokio::runtime::{Builder, Runtime};

use crate::certificate::{authorities, given};
use crate::client_options::ClientOptions;
use crate::http_client::{MAX_REDIRECTS, build, certificates, plain_builder};

/// Connections, each made at its first use.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) options: ClientOptions,
    runtime: OnceLock<Runtime>,
    http: OnceLock<reqwest::Client>,
    plain_http: OnceLock<reqwest::Client>,
    staying_http: OnceLock<reqwest::Client>,
    insecure_http: OnceLock<reqwest::Client>,
}

impl Connections {
    pub(crate) fn new(options: ClientOptions) -> Self {
        Self {
            options,
            runtime: OnceLock::new(),
            http: OnceLock::new(),
            plain_http: OnceLock::new(),
            staying_http: OnceLock::new(),
            insecure_http: OnceLock::new(),
        }
    }

    /// What the network runs on.
    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.get_or_init(|| {
            let runtime = Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build();
            #[expect(
                clippy::expect_used,
                reason = "fails only when no thread can be started"
            )]
            runtime.expect("threads can be started")
        })
    }

    /// The way to speak to any server.
    pub(crate) fn http(&self) -> &reqwest::Client {
        self.http
            .get_or_init(|| self.with_certificates(plain_builder()))
    }

    /// The way to send what is for one server alone: no redirection is followed.
    pub(crate) fn staying_http(&self) -> &reqwest::Client {
        let builder = || plain_builder().redirect(redirect::Policy::none());
        self.staying_http
            .get_or_init(|| self.with_certificates(builder()))
    }

    fn with_certificates(&self, builder: reqwest::ClientBuilder) -> reqwest::Client {
        let registries = self.options.registries.values();
        let given = given(self.options.certificates.as_deref());
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
    pub(crate) fn insecure_http(&self) -> &reqwest::Client {
        self.insecure_http.get_or_init(|| {
            let builder = plain_builder().redirect(redirect::Policy::none());
            build(builder.tls_danger_accept_invalid_certs(true))
        })
    }

    /// The way to speak to a server without encryption. Reading the system's certificates takes
    /// longer than all else in a build with nothing to do.
    pub(crate) fn plain_http(&self) -> &reqwest::Client {
        self.plain_http.get_or_init(|| {
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
}

impl Drop for Connections {
    /// A runtime can't be ended by a thread of another one, but it can be left to end by itself.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
